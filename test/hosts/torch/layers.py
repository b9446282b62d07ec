# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""What the tests share: a module over the extension, and host models around its trips."""

import torch  # before the extension, which takes its libraries
import moue_torch

WIDTH = 8


class Mixture(torch.nn.Module):
    """Holds the weights that trips read and send gradients to."""

    def __init__(self, name="universal", dtype="double", seed=1):
        super().__init__()
        self.model = getattr(moue_torch, f"Model_{dtype}")(name)
        generator = torch.Generator().manual_seed(seed)
        for name, tensor in zip(self.model.names, self.model.initial(seed)):
            if name.endswith("map"):  # zero at the start, which would hide gradients
                tensor = torch.randn(tensor.shape, generator=generator, dtype=torch.double).to(tensor.dtype)
            self.register_parameter(name.replace(".", "_"), torch.nn.Parameter(tensor))

    def start(self, tokens, **batch):
        return self.model.start(list(self.parameters()), tokens, **batch)


def run(mixture, h, layers=None, trip=None, maps=None):
    """A residual stack around the layers, with work of the host's own between them. Returns the trip and all hidden
    activations, the input first."""
    trip = trip or mixture.start(h.shape[:-1].numel())
    hidden = [h]
    for layer in range(mixture.model.layers) if layers is None else layers:
        x = torch.tanh(hidden[-1] if maps is None else maps[layer](hidden[-1]))
        hidden.append(hidden[-1] + trip.forward(layer, x))
    return trip, hidden


def loss_of(mixture, h, **how):
    trip, hidden = run(mixture, h, **how)
    return hidden[-1].square().sum() + trip.balance()


def tokens(count, seed=3, dtype=torch.double):
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.double).to(dtype)


def gradients(module, loss, *inputs, **how):
    """Of the loss by all parameters and inputs, None where there is none."""
    for p in module.parameters():
        p.grad = None
    for x in inputs:
        x.grad = None
    loss.backward(**how)
    return [None if t.grad is None else t.grad.clone() for t in (*module.parameters(), *inputs)]


def same(a, b, tolerance=0.0):
    assert len(a) == len(b)
    for x, y in zip(a, b):
        if tolerance and (x is None) != (y is None):  # no number, or zeros
            assert (y if x is None else x).abs().max() <= tolerance
            continue
        assert (x is None) == (y is None)
        if x is not None:
            assert (x - y).abs().max() <= tolerance
