# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""The snippets of docs/embedding/python.md, word for word, and what the page says about arrays."""

import numpy as np
import torch
from compositions import universal


def test_snippets():
    h = torch.sin(torch.arange(64 * 16, dtype=torch.float32)).view(4, 16, 16)

    def loss(h):
        return (h**2).mean()

    import moue, moue.torch

    model = moue.compile("moue::mixture{moue::swiglu{.width = 16, .hidden = 32}, moue::shared_pool{.depth = 4, .pool = 6},"
                         " moue::universal_router(2), moue::universal_balance{.weight = 0.01}}")
    mixture = moue.torch.Mixture(model, seed=7)
    trip = mixture.start(64)
    for layer in range(mixture.layers):
        h = h + trip(layer, h)                       # h: [.., 16], 64 rows in all
    (loss(h) + trip.balance()).backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in mixture.parameters())

    x, y, d, dx = (np.full((64, 16), 0.5, np.float32) for _ in range(4))
    weights, gradients = model.initialize(seed=7), model.zeros()      # dicts of arrays [rows, cols]
    run = model.start(weights, tokens=64, gradients=gradients)
    run.begin(64)
    for layer in range(model.layers):
        run.forward(layer, x, y)                                      # x, y: [64, 16]
        x = x + y
    run.arm()
    for layer in reversed(range(model.layers)):
        run.backward(layer, d, dx)
        d = d + dx
    assert any(run.live(i) and np.abs(g).max() > 0 for i, g in enumerate(gradients.values()))


def test_arrays_of_any_library():
    """Tensors by DLPack and memory by the buffer protocol, in and out, as NumPy's arrays are."""
    model = universal()
    weights, x = model.initialize(1), np.sin(np.arange(28.0)).reshape(7, 4)
    expected = np.empty_like(x)
    run = model.start(weights, 7)
    run.begin(7)
    run.forward(0, x, expected)
    tensors = model.start({name: torch.from_numpy(w) for name, w in weights.items()}, 7)
    tensors.begin(7)
    y = torch.zeros(7, 4, dtype=torch.float64)
    tensors.forward(0, torch.from_numpy(x), y)
    assert (y.numpy() == expected).all()
    memory = bytearray(7 * 4 * 8)
    run.begin(7)
    run.forward(0, memoryview(x.tobytes()).cast("d", (7, 4)), memoryview(memory).cast("B").cast("d", (7, 4)))
    assert (np.frombuffer(memory).reshape(7, 4) == expected).all()
