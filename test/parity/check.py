# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""Whether the installed version of transformers still gives what the files of test/data/parity expect.

Usage: check.py [DIRECTORY]        prints the largest differences, as shares of the largest number; fails above 1e-5

For versions before 5, such as 4.57.1, whose modules have the published names: they read the files without conversion
and so tell whether the names mean what we think. For version 5 use generate.py, which goes through its conversion.
"""

import json
import pathlib
import sys

import torch
import transformers
from safetensors.torch import load_file

STEMS = {"mixtral": "Mixtral", "olmoe": "Olmoe", "qwen2_moe": "Qwen2Moe", "qwen3_moe": "Qwen3Moe",
         "deepseek_v2_lite": "DeepseekV2", "deepseek_v2": "DeepseekV2", "deepseek_v3": "DeepseekV3", "phimoe": "Phimoe",
         "granitemoe": "GraniteMoe", "granitemoeshared": "GraniteMoeShared", "gpt_oss": "GptOss"}
NEWER = ("rope_parameters", "transformers_version", "dtype", "architectures", "layer_types")


def load(folder, stem):
    settings = {k: v for k, v in json.loads((folder / "config.json").read_text()).items() if k not in NEWER}
    if stem == "Qwen3Moe":
        settings["num_experts"] = settings.pop("num_local_experts")
    model = getattr(transformers, stem + "ForCausalLM")(getattr(transformers, stem + "Config")(**settings)).eval()
    missing, unexpected = model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    missing = [name for name in missing if "mlp." in name or "moe." in name]
    if missing or unexpected:
        sys.exit(f"{folder.name}: {transformers.__version__} has no module for {(missing + unexpected)[0]}")
    return model


def difference(got, want):
    return ((got - want).abs().max() / want.abs().max()).item()


def main(directory):
    within = True
    for case, stem in STEMS.items():
        expected = load_file(directory / case / "expected.safetensors")
        m = 0
        for layer in load(directory / case, stem).model.layers:
            block = getattr(layer, "block_sparse_moe", None) or layer.mlp
            if not isinstance(getattr(block, "gate", getattr(block, "router", None)), torch.nn.Module):
                continue
            x = expected[f"layers.{m}.x"][None].requires_grad_()
            y = block(x)
            y = y[0] if isinstance(y, tuple) else y
            if getattr(layer, "shared_mlp", None):
                y = y + layer.shared_mlp(x)
            (y[0] * expected[f"layers.{m}.dy"]).sum().backward()
            found = difference(y[0], expected[f"layers.{m}.y"]), difference(x.grad[0], expected[f"layers.{m}.dx"])
            print(f"{case} layer {m}: y {found[0]:.1e} dx {found[1]:.1e}")
            within = within and all(x <= 1e-5 for x in found)  # also false of what is no number
            m += 1
        if f"layers.{m}.x" in expected or m == 0:
            sys.exit(f"{case}: {m} mixture layers were found")
    return not within


if __name__ == "__main__":
    here = pathlib.Path(__file__).resolve().parent
    sys.exit(main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here.parent / "data" / "parity"))
