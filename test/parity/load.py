# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""Whether transformers loads what moue_convert writes, and computes the same from it.

Usage: load.py make FOLDER          writes whole tiny models, FOLDER/<case>/plain
       load.py check FOLDER         loads every FOLDER/<case>/<variant>, and compares with <case>/plain

Between the two moue_convert makes variants. Tensors called "moue.*" are the only ones that a model may not know. Families of
NEWER are left out where transformers is older than version 5; no other may be unknown.
"""

import json
import os
import pathlib
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import check
import torch
import transformers

TOKENS = torch.tensor([[1, 5, 2, 7, 3, 0]])
CASES = ("mixtral", "qwen3_moe", "deepseek_v3", "granitemoeshared", "gpt_oss", "glm4_moe", "ernie4_5_moe", "qwen3_next",
         "minimax_m2")
NEWER = ("minimax_m2",)
OLD = int(transformers.__version__.split(".")[0]) < 5


def make(folder):
    import generate
    for case in CASES:
        torch.manual_seed(1)
        stem, settings = {**generate.CASES, **generate.CASES_OF_5_24, **generate.REST}[case]
        common = generate.COMMON if case in generate.CASES else generate.SMALL
        model = generate.build(stem, settings, torch.Generator().manual_seed(2), common)
        model.save_pretrained(folder / case / "plain")


def logits(path):
    options = {}
    if OLD:  # does not know the newer keys, nor Qwen's newer name
        config = json.loads((path / "config.json").read_text())
        settings = {k: v for k, v in config.items() if k not in check.NEWER}
        if config["model_type"] == "qwen3_next":  # whose layers are not all alike
            settings["layer_types"] = config["layer_types"]
        if config["model_type"] == "qwen3_moe":
            settings["num_experts"] = settings.pop("num_local_experts")
        options["config"] = transformers.AutoConfig.for_model(**settings)
    model, report = transformers.AutoModelForCausalLM.from_pretrained(path, output_loading_info=True, **options)
    unknown = [name for name in report["unexpected_keys"] if not name.startswith("moue.")]
    wrong = [*report["missing_keys"], *unknown, *report["mismatched_keys"]]
    if wrong:
        sys.exit(f"{path}: transformers {transformers.__version__} does not find or know {wrong[0]}")
    with torch.no_grad():  # the cache of 4.57 needs a layer of Qwen3-Next that these models lack
        return model.eval()(TOKENS, use_cache=False).logits


def compare(folder):
    within, cases = True, sorted(folder.iterdir())
    if {case.name for case in cases} != set(CASES):
        sys.exit(f"{folder}: holds {[case.name for case in cases]}, not {CASES}")
    for case in cases:
        if OLD and case.name in NEWER:
            if case.name in transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES:
                sys.exit(f"transformers {transformers.__version__} knows {case.name}: compare it")
            print(f"transformers {transformers.__version__}: does not know {case.name}")
            continue
        want, variants = logits(case / "plain"), sorted(case.iterdir())
        if len(variants) < 2:
            sys.exit(f"{case}: there is nothing to compare with 'plain'")
        for variant in variants:
            found = ((logits(variant) - want).abs().max() / want.abs().max()).item()
            within = within and found <= 1e-5  # also false of what is no number
            print(f"transformers {transformers.__version__}: {case.name}/{variant.name} {found:.1e}")
    return not (within and cases)


if __name__ == "__main__":
    work = pathlib.Path(sys.argv[2])
    sys.exit(make(work) if sys.argv[1] == "make" else compare(work))
