# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""What Doxygen reads of the headers. Usage: prepare.py INCLUDE COPY; lines keep their numbers.

- The namespace of the version is left out: `moue::inline v0_1` is `moue`.
- Symbols join the page of their header's family (families.dox).
- Members that a contract asks of every model, and that say nothing of their own, refer to the contract; so do copies and
  moves to their class. All else has to be documented where it is declared: Doxygen's warnings are errors.
"""

import pathlib
import re
import sys

# Path below include/moue/ -> page, and the contract with its members. The first row that fits is taken.
PERFORMS = "linear linear_pair input_gradient input_gradient_pair weight_gradient weight_gradient_pair column_sum " \
           "each_row each_element"
BACKEND = "workers operations dispatch needs each_block upload download host_memory"
PASS = "tokens first_layer layers valid_tokens rebind position begin forward route replay run ran balance queue_balance arm counts statistics " \
       "backward run_backward route_backward rewind rebind_input state_in state_out dstate_out dstate_in assignments " \
       "logits selected state plan outputs"
MIXTURE = "width layers experts state_width connections layout workspace_bytes initialize start resume"
STAGES = {"ScoreStage": "parameters temporaries saved state_width advance advance_backward width close",
          "SelectStage": "max_selected table drop", "router": "forward backward operator()"}
FAMILIES = [
    (r"topology", "topologies", {"Topology": "layers experts candidates always parameter_layer"}),
    (r"expert/activation", "experts", {"Activation": "value derivative", "PairActivation": "gate_derivative up_derivative"}),
    (r"expert[./]|grouped|token_rows", "experts", {"Expert": "width parameters saved temporaries forward backward"}),
    (r"router", "routers", STAGES),
    (r"balance|layer_loss", "losses", {"DepthLoss": "value gradient", "TokenLoss": "token_value token_gradient",
                                     "LayerLoss": "layer_value layer_gradient sees_outputs"}),
    (r"backend/cuda/cuda_runtime|adapt/torch/cuda", "backends",
     {"Runtime": "policy launch upload download copy zero synchronise allocate release multiprocessors blas choice scratch"}),
    (r"backend/cuda/memory", "backends", {"gradients": "reset zero finish"}),
    (r"backend|operations|lanes|cuda|dispatch|store", "backends", {"Backend": BACKEND, "Operations": PERFORMS}),
    (r"train", "training", {"Optimiser": "step adopt visit steps"}),
    (r"analysis", "analysis", {}),
    (r"convert/schedule", "conversion", {"convert::OpeningSchedule": "operator() last_step end"}),
    (r"convert/universal", "conversion", {"convert::UniversalChoice": "operator()"}),
    (r"convert/rows", "conversion", {"convert::RowPolicy": "operator()"}),
    (r"convert", "conversion", {"Topology": "layers experts candidates always parameter_layer"}),
    (r"io/layouts/router", "files", STAGES),
    (r"io", "files", {}),
    (r"testing/model_laws", "testing", {"testing::LayerHost": "forward backward"}),
    (r"testing", "testing", {}),
    (r"any", "running", {"pass": PASS, "mixture": MIXTURE}),
    (r"mixture|pass|executor|routing", "running", {}),
    (r"", "data", {}),
]

NAMESPACE = re.compile(r"^namespace moue::inline v\d+_\d+((?:::\w+)*) \{")
MEMBER = re.compile(r"^(?:  )?(?:[\w:<>,&*~ ]|\[\[\w+\]\])*?(?<![.\w>])(operator ?(?:\(\)|\[\]|[-+*=!]=?)|~?\w+)(?:\(| = |;)")
ALIAS = re.compile(r"^  using (C|compute_type|value_type|type) = ")
GUIDE = re.compile(r"^\w+\(.*\)\s*->")


def remark(line, contract_of, last):
    """What stands for the comment of a symbol, if it needs none of its own, and its name."""
    if ALIAS.match(line):
        return "The type of numbers, or that of arithmetic with them.", None
    if GUIDE.match(line):
        return "The type follows from the arguments.", None
    found = MEMBER.match(line)
    if not found or line.lstrip().startswith(("return", "using", "static_assert", "///", "throw", "namespace")):
        return None, None
    member = found[1]
    if member in contract_of:
        return f"See moue::{contract_of[member]}.", member
    if member == "operator=" or member.startswith("~") or re.match(rf"^  {member}\((const )?{member}&&?", line):
        return "Copies, moves and ends as the class says.", member
    if member == last:
        return "As the overload above.", member
    return None, member


def prepared(text, name):
    page, contracts = next((page, contracts) for start, page, contracts in FAMILIES if re.match(start, name))
    contract_of = {member: contract for contract, members in contracts.items() for member in members.split()}
    lines = text.splitlines()
    ends = [number for number, line in enumerate(lines) if line.startswith("}  // namespace moue")]
    documented, template = False, None  # the line of a template head that has no comment
    opened, last = False, None
    for number, line in enumerate(lines):
        if match := NAMESPACE.match(line):
            group = "" if opened else f" /** @addtogroup {page} */ /** @{{ */"
            opened = True
            lines[number] = f"namespace moue{match[1]} {{{group}"
        elif opened and number == ends[-1]:
            lines[number] = "/** @} */ " + line
        if line.lstrip().startswith("///"):
            documented = True
        elif re.match(r"^ *(template <|requires)", line):
            template = number if template is None else template
        else:
            text, member = remark(line, contract_of, last)
            if text and not documented and "///<" not in line:
                at = number if template is None else template
                lines[at] = f"/** {text} */ " + lines[at].lstrip()
            if member or line.startswith("}"):
                last = member
            documented, template = False, None
    return "\n".join(lines) + "\n"


include, copy = map(pathlib.Path, sys.argv[1:3])
for header in sorted(p for p in (include / "moue").rglob("*") if p.suffix in (".hpp", ".cuh")):
    to = copy / header.relative_to(include)
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(prepared(header.read_text(), header.relative_to(include / "moue").as_posix()))
