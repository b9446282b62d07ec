# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""Whether transformers' balancing loss over the logits of all layers is still what test/data/pooled_loss.json says.

Usage: balance.py [--write]        with --write the file is made anew; test/unit/balance.cpp reads it
"""

import json
import math
import pathlib
import sys

import torch
import transformers
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

LAYERS, TOKENS, EXPERTS, K = 3, 10, 4, 2
FILE = pathlib.Path(__file__).resolve().parent.parent / "data" / "pooled_loss.json"

logits = torch.tensor([[[math.sin(7 + 3 * i + 0.7 * t * i + 2.1 * l) * (1 + l) for i in range(EXPERTS)]
                        for t in range(TOKENS)] for l in range(LAYERS)], dtype=torch.float64, requires_grad=True)
loss = load_balancing_loss_func(tuple(logits), EXPERTS, K)
loss.backward()
found = {"transformers": transformers.__version__, "k": K, "logits": logits.tolist(), "loss": loss.item(),
         "gradient": logits.grad.tolist()}
if "--write" in sys.argv:
    FILE.write_text(json.dumps(found) + "\n")
known = json.loads(FILE.read_text())
difference = max(abs(known["loss"] - found["loss"]),
                 (torch.tensor(known["gradient"], dtype=torch.float64) - logits.grad).abs().max().item())
print(f"pooled balancing loss: transformers {known['transformers']} and {found['transformers']} differ by {difference:.1e}")
sys.exit(difference > 1e-7)  # the shares are formed in single precision
