# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""Trips in all the ways in which autograd goes back over a graph."""

import gc

import pytest
import torch  # before the extension, which takes its libraries
import moue_torch
from layers import Mixture, gradients, loss_of, run, same, tokens

ROUNDING = 1e-13  # other orders of the same sums, in fp64


def test_gradcheck():
    m = Mixture()
    x = tokens(5).requires_grad_()

    def depth(x, *weights):
        trip = m.model.start(list(weights), len(x))
        h = x
        for layer in range(m.model.layers):
            h = h + trip.forward(layer, torch.tanh(h))
        return h, trip.balance(), trip.state()

    assert torch.autograd.gradcheck(depth, (x, *m.parameters()))


def test_gradcheck_of_the_experts_alone():
    experts = moue_torch.Experts_double()
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(s, generator=generator, dtype=torch.double).requires_grad_() for s in experts.shapes]
    x, gates = tokens(4).requires_grad_(), tokens(4, seed=5)[:, :2].requires_grad_()  # gates with strides
    ids = torch.tensor([[0, 1], [1, -1], [3, 0], [2, 2]])
    assert torch.autograd.gradcheck(lambda x, g, *w: experts(x, ids, g, list(w)), (x, gates, *weights))
    y = experts(x, ids.to(torch.int32), gates, weights)
    y.sum().backward(retain_graph=True)
    first = weights[0].grad.clone()
    y.sum().backward()
    assert torch.equal(weights[0].grad, 2 * first)
    assert weights[-1].grad is None  # nobody went to expert 4
    with pytest.raises(RuntimeError, match="give one gate per id"):
        experts(x, ids, gates[:, :1], weights)
    with pytest.raises(RuntimeError, match="ids have shape"):
        experts(x, ids[:3], gates, weights)


def test_retained_graph():
    m = Mixture()
    x = tokens(7).requires_grad_()
    loss = loss_of(m, x)
    first = gradients(m, loss, x, retain_graph=True)
    same(gradients(m, loss, x, retain_graph=True), first)
    same(gradients(m, loss, x), first)
    with pytest.raises(RuntimeError, match="a second time"):
        loss.backward()


def test_several_losses_of_one_graph():
    m = Mixture()
    x = tokens(7).requires_grad_()
    trip, hidden = run(m, x)
    output, balance = hidden[-1].square().sum(), trip.balance()
    both = gradients(m, output + 3 * balance, x, retain_graph=True)
    of_output = gradients(m, output, x, retain_graph=True)
    of_balance = gradients(m, balance + 2 * trip.balance(), x)
    zero = torch.zeros(())
    parts = [(zero if a is None else a) + (zero if b is None else b) for a, b in zip(of_output, of_balance)]
    same([zero if a is None else a for a in both], parts, ROUNDING)


def test_two_trips_alive():
    m = Mixture()
    x = [tokens(7, seed).requires_grad_() for seed in (1, 2)]
    alone = [gradients(m, loss_of(m, x[i]), x[i]) for i in (0, 1)]
    for order in ((0, 1), (1, 0)):
        losses = [loss_of(m, x[0]), loss_of(m, x[1])]
        for i in order:
            same(gradients(m, losses[i], x[i]), alone[i])


def test_a_loss_that_reads_one_layer():
    m = Mixture("local")
    x = tokens(20).requires_grad_()
    trip, hidden = run(m, x)
    some = gradients(m, hidden[1].square().sum(), x)
    short = m.start(20, count=1)
    expected = gradients(m, (x + short.forward(0, torch.tanh(x))).square().sum(), x)
    same(some, expected)
    for name, g in zip(m.model.names, some):  # the second layer's experts and router have no part in it
        assert (g is None) == (name.startswith(("layers.1", "experts.3", "experts.4", "experts.5"))), name


def test_the_gradient_of_what_is_hidden():
    m = Mixture()
    x = tokens(7).requires_grad_()
    hidden = run(m, x)[1]
    loss = hidden[-1].square().sum()
    only = torch.autograd.grad(loss, hidden[1], retain_graph=True)[0]
    hidden[1].retain_grad()
    gradients(m, loss, x)
    assert torch.equal(only, hidden[1].grad)


def test_nothing_but_the_balance():
    m = Mixture()
    x = tokens(7).requires_grad_()
    trip, _ = run(m, x)
    g = gradients(m, trip.balance(), x)
    assert g[-1].abs().max() > 0
    last = dict(zip(m.model.names, g))["experts.2.up"]  # the last layer's own: no router comes after it
    assert last is None or last.abs().max() == 0


def test_frozen_weights():
    m = Mixture()
    x = tokens(7).requires_grad_()
    every = gradients(m, loss_of(m, x), x)
    for name, p in zip(m.model.names, m.parameters()):
        p.requires_grad_(not name.startswith("experts"))
    some = gradients(m, loss_of(m, x), x)
    for name, a, b in zip([*m.model.names, "x"], some, every):
        assert a is None if name.startswith("experts") else torch.equal(a, b)
    m.requires_grad_(False)
    same(gradients(m, loss_of(m, x), x)[-1:], every[-1:])
    # A leaf behind the first layer: nothing below it is in the graph.
    trip = m.start(7)
    trip.forward(0, x.detach())
    h = tokens(7, 9).requires_grad_()
    trip.forward(1, h).sum().backward()
    assert h.grad.abs().max() > 0


def test_nobody_reached():
    m = Mixture()
    loss_of(m, tokens(1)).backward()
    reached = {name.split(".")[1] for name, p in zip(m.model.names, m.parameters())
               if name.startswith("experts") and p.grad is not None}
    assert 1 < len(reached) < 7
    before = [p.detach().clone() for p in m.parameters()]
    torch.optim.AdamW(m.parameters(), weight_decay=0.5).step()
    for name, p, b in zip(m.model.names, m.parameters(), before):
        if name.startswith("experts"):
            assert torch.equal(p, b) == (name.split(".")[1] not in reached)


def test_a_pipeline_in_two():
    m = Mixture()
    x = tokens(9).requires_grad_()
    whole = loss_of(m, x)
    expected = gradients(m, whole, x)
    for cut in (1, 2):
        front, hidden = run(m, x, layers=range(cut), trip=m.start(9, count=cut))
        back, behind = run(m, hidden[-1], layers=range(cut, 3), trip=m.start(9, first=cut, state=front.state()))
        loss = behind[-1].square().sum() + moue_torch.balance([front.end(), back.end()])
        assert torch.equal(loss, whole)
        same(gradients(m, loss, x), expected, ROUNDING)


def test_a_leaf_between_stages():
    m = Mixture()
    x = tokens(9).requires_grad_()
    expected = gradients(m, run(m, x)[1][-1].square().sum(), x)
    front, hidden = run(m, x, layers=range(1), trip=m.start(9, count=1))
    inner = [hidden[-1].detach().requires_grad_(), front.state().detach().requires_grad_()]
    back, behind = run(m, inner[0], layers=(1, 2), trip=m.start(9, first=1, state=inner[1]))
    for p in m.parameters():
        p.grad = None
    x.grad = None
    behind[-1].square().sum().backward()
    torch.autograd.backward([hidden[-1], front.state()], [t.grad for t in inner])
    same([p.grad for p in (*m.parameters(), x)], expected, ROUNDING)


def test_nothing_leaks():
    m = Mixture()
    x = tokens(7).requires_grad_()
    owners = m.model.owners

    def use(how):
        trip, hidden = run(m, x)
        loss = hidden[-1].sum() + trip.balance() + trip.state().sum()
        assert m.model.owners > owners
        if how == "back":
            loss.backward()
        if how == "kept":
            loss.backward(retain_graph=True)
        if how == "part":
            torch.autograd.grad(loss, hidden[1])
        if how == "failed":
            hidden[1].register_hook(lambda g: g[:, :1].expand(3, 3))
            with pytest.raises(RuntimeError):
                loss.backward()

    gc.disable()  # what a collector of circles finds is a leak
    for how in ("dropped", "back", "kept", "part", "failed"):
        use(how)
        assert m.model.owners == owners, how
    gc.enable()
