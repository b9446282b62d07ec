# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""A topology of one's own, inside PyTorch: edit it, wait some seconds, train."""

import torch

import moue
import moue.torch

RING = """
/// Layer l reaches the experts l, l + 1 and l + 3 of a ring.
struct ring {
  moue::index_t depth, pool;
  moue::index_t layers() const { return depth; }
  moue::index_t experts() const { return pool; }
  void candidates(moue::index_t layer, auto append) const {
    for (const moue::index_t step : {0, 1, 3}) append((layer + step) % pool);
  }
};
"""

model = moue.compile(
    "moue::mixture{moue::swiglu{.width = 16, .hidden = 32}, ring{.depth = 4, .pool = 6},"
    " moue::universal_router(2), moue::universal_balance{.weight = 0.01}}",
    preamble=RING,
)
mixture = moue.torch.Mixture(model, seed=7)
head = torch.nn.Linear(16, 1)
optimiser = torch.optim.AdamW([*mixture.parameters(), *head.parameters()], lr=0.01)

torch.manual_seed(1)
x = torch.randn(64, 16)
target = x[:, :1] * x[:, 1:2]
for step in range(201):
    trip, h = mixture.start(64), x
    for layer in range(mixture.layers):
        h = h + trip(layer, h)
    loss = torch.nn.functional.mse_loss(head(h), target)
    optimiser.zero_grad()
    (loss + trip.balance()).backward()
    optimiser.step()
    if step % 100 == 0:
        print(f"step {step}: loss {loss.item():.4f}")
