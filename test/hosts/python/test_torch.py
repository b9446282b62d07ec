# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""The module of PyTorch: gradients, graphs that autograd can make, memory."""

import gc
import weakref

import pytest
import torch
from compositions import universal

import moue
import moue.torch

TOKENS = 6


def mixture(seed=3):
    result = moue.torch.Mixture(universal(), seed)
    with torch.no_grad():
        for i, p in enumerate(result.parameters()):  # the trajectory's maps begin at zero
            p += 0.05 * torch.cos(torch.arange(p.numel(), dtype=p.dtype) + i).view_as(p)
    return result


def batch():
    return torch.sin(torch.arange(TOKENS * 4, dtype=torch.float64) * 1.7).view(TOKENS, 4)


def through(module, x, layers=3):
    trip = module.start(x.numel() // 4)
    for layer in range(layers):
        x = x + torch.tanh(trip(layer, x))
    return trip, x


def test_gradcheck():
    module = mixture()
    names = [n for n, _ in module.named_parameters()]

    def function(x, *values):
        trip, y = through(module, x)
        return y, trip.balance()

    # gradcheck changes the module's own parameters, and goes back over each graph many times.
    assert torch.autograd.gradcheck(function, (batch().requires_grad_(), *module.parameters()), atol=1e-6)
    assert any("trajectory" in n for n in names)


def test_a_second_backward_has_the_same_bits():
    module = mixture()
    trip, y = through(module, batch())
    loss = (y**2).sum() + trip.balance()
    first = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True, allow_unused=True)
    second = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
    assert any(a is not None for a in first)
    assert all((a is None and b is None) or (a == b).all() for a, b in zip(first, second))


def test_a_loss_that_reads_one_layer_only():
    module = mixture()
    trip, x = module.start(TOKENS), batch().requires_grad_()
    first = trip(0, x)
    trip(2, trip(1, first))
    whole = torch.autograd.grad((first**2).sum(), [x, *module.parameters()], allow_unused=True)
    alone = module.start(TOKENS)
    expected = torch.autograd.grad((alone(0, x) ** 2).sum(), [x, *module.parameters()], allow_unused=True)
    for a, b in zip(whole, expected):
        if b is None:
            assert a is None or (a == 0).all()
        else:
            assert torch.allclose(a, b, atol=1e-13)


def test_a_way_back_that_stops_is_not_gone_on_with():
    module, x = mixture(), batch().requires_grad_()
    trip = module.start(TOKENS)
    first = trip(0, x)
    second = trip(1, first)
    third = trip(2, second)
    torch.autograd.grad((third**2).sum(), second, retain_graph=True)  # stops before layer 1
    got = torch.autograd.grad((first**2).sum(), [x, *module.parameters()], allow_unused=True)
    expected = torch.autograd.grad((module.start(TOKENS)(0, x) ** 2).sum(), [x, *module.parameters()], allow_unused=True)
    assert all((a is None or (a == 0).all()) if b is None else torch.allclose(a, b, atol=1e-13) for a, b in zip(got, expected))


def test_two_trips_alive_and_balance_scaled():
    module, x = mixture(), batch()
    expected = []
    for scale in (1, 2.5):
        trip, y = through(module, x * scale)
        expected.append(torch.autograd.grad(y.sum() + scale * trip.balance(), list(module.parameters()), allow_unused=True))
    trips = [(scale, *through(module, x * scale)) for scale in (1, 2.5)]
    for i in (1, 0):
        scale, trip, y = trips[i]
        grads = torch.autograd.grad(y.sum() + scale * trip.balance(), list(module.parameters()), allow_unused=True)
        assert all((a is None and b is None) or (a == b).all() for a, b in zip(grads, expected[i]))


def test_experts_that_nobody_reached_are_left_alone():
    module = mixture()
    trip, y = through(module, batch()[:1])
    y.sum().backward()
    reached = {e for layer in range(3) for e in trip.assignments(layer)[1].tolist()}
    for info, p in zip(module.model.tensors, module.parameters()):
        if info.expert >= 0:
            assert (p.grad is not None) == (info.expert in reached), info.name


def test_training_and_state():
    module, x = mixture(), batch()
    optimiser = torch.optim.AdamW(module.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        trip, y = through(module, x)
        loss = ((y - x.abs()) ** 2).mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        (loss + trip.balance()).backward()
        optimiser.step()
    assert losses[-1] < losses[0] / 4
    other = mixture(seed=9)
    other.load_state_dict(module.state_dict())
    with torch.no_grad():
        assert (through(other, x)[1] == through(module, x)[1]).all()
    assert "experts_0_down" in module.state_dict()


def test_inputs_of_any_form():
    module, x = mixture(), batch()
    expected = through(module, x)[1]
    assert (through(module, x.t().contiguous().t())[1] == expected).all()  # not contiguous
    assert (through(module, x.view(2, 3, 4))[1].view(TOKENS, 4) == expected).all()
    with torch.no_grad():
        trip, y = through(module, x)
        assert (y == expected).all() and not y.requires_grad
    one = through(module, x[:1].expand(TOKENS, 4))[1]
    assert (one == one[0]).all()
    assert through(module, x[:0])[1].shape == (0, 4)


def test_what_is_refused():
    module, x = mixture(), batch()
    trip, y = through(module, x)
    with torch.no_grad():
        next(module.parameters()).add_(1)
    with pytest.raises(RuntimeError, match="a weight was changed in place since forward"):
        y.sum().backward()
    with pytest.raises(moue.Error, match="x is float32, not float64"):
        module.start(TOKENS)(0, x.float())
    with pytest.raises(moue.Error, match="layer 1"):
        module.start(TOKENS)(1, x)
    trip, y = through(module, x.requires_grad_())
    with pytest.raises(RuntimeError, match="create_graph was asked for"):
        torch.autograd.grad((y**2).sum(), x, create_graph=True)


def test_nothing_leaks():
    module, seen = mixture(), []
    for _ in range(3):
        trip, y = through(module, batch())
        (y.sum() + trip.balance()).backward()
        seen.append(weakref.ref(trip._state))
    forgotten = through(module, batch())
    seen.append(weakref.ref(forgotten[0]._state))
    del trip, y, forgotten
    gc.collect()
    assert [s() for s in seen] == [None] * 4
