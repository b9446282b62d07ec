# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""Transformers' balancing loss over the logits of all layers, and its gradient.

Usage: balance.py [FILE]        (default: test/data/pooled_loss.json; test/unit/balance.cpp compares ours with it)
"""

import json
import math
import pathlib
import sys

import torch
import transformers
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

LAYERS, TOKENS, EXPERTS, K = 3, 10, 4, 2
KEPT = pathlib.Path(__file__).resolve().parent.parent / "data" / "pooled_loss.json"

logits = torch.tensor([[[math.sin(7 + 3 * i + 0.7 * t * i + 2.1 * l) * (1 + l) for i in range(EXPERTS)]
                        for t in range(TOKENS)] for l in range(LAYERS)], dtype=torch.float64, requires_grad=True)
loss = load_balancing_loss_func(tuple(logits), EXPERTS, K)
loss.backward()
found = {"transformers": transformers.__version__, "k": K, "logits": logits.tolist(), "loss": loss.item(),
         "gradient": logits.grad.tolist()}
(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else KEPT).write_text(json.dumps(found) + "\n")
