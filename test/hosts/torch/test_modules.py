# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""Trips inside what torch has for modules: checkpoints, modes, threads, processes, autocast, compile."""

import os
import threading

import pytest
import torch  # before the extension, which takes its libraries
import moue_torch
import torch.distributed as dist
import torch.multiprocessing as mp
from layers import WIDTH, Mixture, gradients, loss_of, run, same, tokens
from torch.utils.checkpoint import checkpoint

ROUNDING = 1e-13


class Stack(torch.nn.Module):
    """A host model with layers of its own."""

    def __init__(self, name="universal", dtype="double"):
        super().__init__()
        torch.manual_seed(7)
        self.mixture = Mixture(name, dtype)
        self.maps = torch.nn.ModuleList(
            torch.nn.Linear(WIDTH, WIDTH, dtype=getattr(torch, dtype)) for _ in range(self.mixture.model.layers))

    def forward(self, h):
        trip, hidden = run(self.mixture, h, maps=self.maps)
        return hidden[-1], trip.balance()


# --- checkpoints ------------------------------------------------------------------------------------------------------


def blocks(m, x, wrap):
    """Each layer is a block of its own, with the depth state between."""
    def block(layer, h, state):
        trip = m.start(len(h), first=layer, count=1, state=state)
        h = h + trip.forward(layer, torch.tanh(h))
        return h, trip.state(), trip.end()

    h, state, ends = x, torch.zeros(len(x), m.model.state_width, dtype=torch.double), []
    for layer in range(m.model.layers):
        h, state, end = wrap(block, layer, h, state)
        ends.append(end)
    return h.square().sum() + moue_torch.balance(ends)


def test_checkpointed_blocks():
    m = Mixture()
    x = tokens(9).requires_grad_()
    loss = loss_of(m, x)
    expected = gradients(m, loss, x)
    for how in ({}, {"use_reentrant": False}):
        again = blocks(m, x, lambda f, *a: checkpoint(f, *a, **how) if how else f(*a))
        assert torch.equal(again, loss)
        same(gradients(m, again, x, retain_graph=True), expected, ROUNDING)
        same(gradients(m, again, x), expected, ROUNDING)


def test_checkpointed_blocks_of_the_older_form():
    """It gives gradients through tensors alone, so that every block brings its own part of the loss."""
    m = Mixture("local")
    x = tokens(9).requires_grad_()
    expected = gradients(m, loss_of(m, x), x)

    def block(layer, h):
        trip = m.start(len(h), first=layer, count=1)
        return h + trip.forward(layer, torch.tanh(h)), trip.balance()

    h, balance = x, 0
    for layer in range(m.model.layers):
        h, part = checkpoint(block, layer, h, use_reentrant=True)
        balance = balance + part
    same(gradients(m, h.square().sum() + balance, x), expected, ROUNDING)


def test_a_checkpointed_model():
    m = Stack()
    x = tokens(9).requires_grad_()
    loss = lambda result: result[0].square().sum() + result[1]
    expected = gradients(m, loss(m(x)), x)
    for reentrant in (False, True):
        same(gradients(m, loss(checkpoint(m, x, use_reentrant=reentrant)), x), expected)


def test_a_layer_that_is_run_again_in_one_trip():
    m = Mixture()
    trip = m.start(4)
    layer = lambda x: trip.forward(0, x)
    x = tokens(4).requires_grad_()
    y = checkpoint(layer, x, use_reentrant=False)
    with pytest.raises(RuntimeError, match="starts a trip of its own"):
        y.sum().backward()


def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_checkpoints_save_memory():
    m = Mixture()
    x = tokens(100000).requires_grad_()
    held = {}
    for name, wrap in (("kept", lambda f, *a: f(*a)), ("saved", lambda f, *a: checkpoint(f, *a, use_reentrant=False))):
        for _ in range(2):  # the first run also fills torch's own pools
            before = resident()
            h = x.detach().requires_grad_()
            loss = blocks(m, h, wrap)
            after = resident()
            gradients(m, loss)
            del loss, h
        held[name] = after - before
    # A layer saves 100000 tokens with 2 rows of 2 · 12 numbers of the experts, and more.
    one = 100000 * 2 * 24 * 8
    assert held["kept"] > 3 * one
    assert held["saved"] < held["kept"] - 2 * one


def test_saved_tensors_elsewhere():
    m = Mixture()
    x = tokens(9).requires_grad_()
    expected = gradients(m, loss_of(m, x), x)
    with torch.autograd.graph.save_on_cpu():
        loss = loss_of(m, x)
    same(gradients(m, loss, x, retain_graph=True), expected)
    same(gradients(m, loss, x), expected)


# --- modes and shapes -------------------------------------------------------------------------------------------------


def test_modes():
    m = Mixture()
    x = tokens(9)
    y, balance = run(m, x)[1][-1], run(m, x)[0].balance()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            trip, hidden = run(m, x)
            assert torch.equal(hidden[-1], y) and torch.equal(trip.balance(), balance)
            assert not hidden[-1].requires_grad and hidden[-1].grad_fn is None
    with torch.no_grad():
        trip = m.start(9)
    with pytest.raises(RuntimeError, match="started without gradients, and x needs one"):
        trip.forward(0, x.clone().requires_grad_())
    trip = m.start(9)
    with torch.no_grad(), pytest.raises(RuntimeError, match="started with gradients, and a layer ran without"):
        trip.forward(0, x)


def test_numbers_of_tokens():
    m = Mixture()
    alone = [loss_of(m, tokens(n)).item() for n in (5, 1, 12)]
    assert len(set(alone)) == 3
    x = tokens(0).requires_grad_()
    trip, hidden = run(m, x)
    assert hidden[-1].shape == (0, WIDTH)
    g = gradients(m, hidden[-1].sum() + trip.balance(), x)
    assert g[-1].shape == (0, WIDTH)
    assert all(t is None or t.abs().max() == 0 for t in g[:-1])


def test_padding():
    m = Mixture()
    x = tokens(6)
    valid = torch.tensor([True, False, True, True, False, True])
    a = x.clone().requires_grad_()
    trip, hidden = run(m, a, trip=m.start(6, valid=valid))
    masked = gradients(m, hidden[-1][valid].square().sum() + trip.balance(), a)
    b = x[valid].clone().requires_grad_()
    plain = gradients(m, loss_of(m, b), b)
    same(masked[:-1], plain[:-1], ROUNDING)
    same([masked[-1][valid]], plain[-1:], ROUNDING)


def test_strides():
    m = Mixture()
    x = tokens(6)
    expected = run(m, x)[1][-1]
    wide = torch.zeros(6, 2 * WIDTH, dtype=torch.double)
    wide[:, WIDTH:] = x
    for view in (wide[:, WIDTH:], x.t().contiguous().t(), x.view(2, 3, WIDTH), x.view(3, 2, WIDTH)):
        assert torch.equal(run(m, view)[1][-1].reshape(6, WIDTH), expected)
    # One row for all tokens, and the one number that is the gradient of a sum.
    row = x[:1].clone().requires_grad_()
    trip, dense = m.start(6), row.detach().repeat(6, 1).requires_grad_()
    y = trip.forward(0, row.expand(6, WIDTH))
    other = m.start(6).forward(0, dense)
    assert torch.equal(y, other)
    y.sum().backward()
    other.backward(torch.ones_like(other))
    same([row.grad], [dense.grad.sum(0, keepdim=True)], ROUNDING)
    # Gradients with strides of their own.
    dy = tokens(WIDTH)[:, :6].t()
    assert not dy.is_contiguous()
    a, b = tokens(6).requires_grad_(), tokens(6).requires_grad_()
    m.start(6).forward(0, a).backward(dy)
    m.start(6).forward(0, b).backward(dy.contiguous())
    same([a.grad], [b.grad])


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("x, message", [
    (tokens(4, dtype=torch.float), "x has dtype Float; give one of Double"),
    (torch.empty(4, WIDTH, dtype=torch.double, device="meta"), "x is on device meta"),
    (tokens(4).to_sparse(), "not dense"),
    (tokens(5), r"x has shape \[5, 8\], not \[4, 8\]"),
    (tokens(4)[:, :7], r"x has shape \[4, 7\]; give \[..., 8\]"),
    (torch.zeros((), dtype=torch.double), "x has shape"),
])
def test_refused_inputs(x, message):
    with pytest.raises(RuntimeError, match=message):
        Mixture().start(4).forward(0, x)


def test_refused_orders():
    m = Mixture()
    x = tokens(4).requires_grad_()
    trip = m.start(4)
    with pytest.raises(RuntimeError, match="layer 1 was to run when layer 0 was due; run the layers in order"):
        trip.forward(1, x)
    trip.forward(0, x)
    early = trip.balance()
    state = trip.state()
    trip.forward(1, x)
    with pytest.raises(RuntimeError, match="the balancing loss was asked for before layer 1 ran, which then did"):
        early.backward()
    with pytest.raises(RuntimeError, match="the depth state was asked for before layer 1 ran, which then did"):
        state.sum().backward()
    trip.forward(2, x)
    with pytest.raises(RuntimeError, match="layer 3 was to run when none was due"):
        trip.forward(3, x)


def test_refused_weights():
    m = Mixture()
    x = tokens(4).requires_grad_()
    loss = loss_of(m, x)
    with torch.no_grad():
        next(m.parameters()).mul_(2)
    with pytest.raises(RuntimeError, match="'[a-z_.0-9]+' was changed since forward read it"):
        loss.backward()
    weights = list(m.parameters())
    with pytest.raises(RuntimeError, match="weights were given for"):
        m.model.start(weights[1:], 4)
    with pytest.raises(RuntimeError, match="has shape"):
        m.model.start([weights[0].t(), *weights[1:]], 4)
    with pytest.raises(RuntimeError, match="has dtype Float"):
        Mixture().float().start(4)


def test_refused_gradients_of_gradients():
    m = Mixture()
    x = tokens(4).requires_grad_()
    with pytest.raises(RuntimeError, match="create_graph"):
        torch.autograd.grad(loss_of(m, x), x, create_graph=True)
    same(gradients(m, loss_of(m, x), x), gradients(m, loss_of(m, x), x))  # and all goes on


# --- weights ----------------------------------------------------------------------------------------------------------


def test_state_dict(tmp_path):
    a, b = Mixture(seed=1), Mixture(seed=2)
    x = tokens(6)
    assert "experts_0_gate" in a.state_dict() and len(a.state_dict()) == len(a.model.names)
    assert loss_of(a, x) != loss_of(b, x)
    torch.save(a.state_dict(), tmp_path / "weights.pt")
    b.load_state_dict(torch.load(tmp_path / "weights.pt"))
    assert torch.equal(loss_of(a, x), loss_of(b, x))


def test_training():
    m = Stack(dtype="float")
    x = tokens(64, dtype=torch.float)
    optimiser = torch.optim.AdamW(m.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        y, balance = m(x)
        loss = (y - x.abs()).square().mean() + balance
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_half_precision():
    m, exact = Mixture(dtype="bf16"), Mixture()
    exact.load_state_dict({k: v.double() for k, v in m.state_dict().items()})
    x = tokens(64, dtype=torch.bfloat16).requires_grad_()
    y = x.detach().double().requires_grad_()
    m.start(64).forward(0, x).sum().backward()
    exact.start(64).forward(0, y).sum().backward()
    for name, a, b in zip([*m.model.names, "x"], [*m.parameters(), x], [*exact.parameters(), y]):
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None:
            assert a.grad.dtype == torch.bfloat16
            assert (a.grad.double() - b.grad).norm() <= 0.02 * b.grad.norm() + 1e-6, name  # 8 bits of fraction


# --- threads and processes --------------------------------------------------------------------------------------------


def test_eight_threads():
    m = Mixture()
    inputs = [tokens(50, seed) for seed in range(8)]
    expected = []
    for x in inputs:
        expected.append(torch.autograd.grad(loss_of(m, x), list(m.parameters()), allow_unused=True))
    results = [None] * 8

    def work(i):
        for _ in range(5):
            results[i] = torch.autograd.grad(loss_of(m, inputs[i]), list(m.parameters()), allow_unused=True)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for a, b in zip(results, expected):
        same(a, b)


def test_threads_of_torch():
    x = tokens(300)
    plain, shared = Mixture(), Mixture("threads")
    assert torch.get_num_threads() > 1 or os.cpu_count() == 1
    same(gradients(shared, loss_of(shared, x)), gradients(plain, loss_of(plain, x)))


def rank_of_two(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    m = Stack()
    parallel = torch.nn.parallel.DistributedDataParallel(m)
    x = tokens(1, seed=rank)  # a token per rank: some experts are reached by neither
    for _ in range(2):
        parallel.zero_grad()
        y, balance = parallel(x)
        (y.square().sum() + balance).backward()
    torch.save([p.grad for p in m.parameters()], f"{folder}/rank{rank}")
    dist.destroy_process_group()


def test_two_processes(tmp_path):
    mp.spawn(rank_of_two, args=(str(tmp_path),), nprocs=2)
    a, b = (torch.load(tmp_path / f"rank{rank}") for rank in (0, 1))
    same(a, b)
    m = Stack()
    mean = [torch.zeros_like(p) for p in m.parameters()]
    reached = [False] * len(mean)
    for rank in (0, 1):
        y, balance = m(tokens(1, seed=rank))
        for i, g in enumerate(gradients(m, y.square().sum() + balance)):
            if g is not None:
                reached[i] = True
                mean[i] += g / 2
    assert not all(reached)
    same(a, mean, ROUNDING)


def test_autocast():
    m = Stack(dtype="float")
    x = tokens(32, dtype=torch.float)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trip = m.mixture.start(32)
        inner = m.maps[0](x)
        assert inner.dtype == torch.bfloat16
        y = trip.forward(0, inner)
        assert y.dtype == torch.float
        assert torch.equal(y, m.mixture.start(32).forward(0, inner.float()))
        out, balance = m(x)
    gradients(m, out.square().sum() + balance)
    assert all(torch.isfinite(p.grad).all() for p in m.parameters() if p.grad is not None)
    with pytest.raises(RuntimeError, match="x has dtype BFloat16"):
        m.mixture.start(32).forward(0, inner)


def test_compile():
    m = Stack()
    x = tokens(9).requires_grad_()
    result = m(x)
    expected = gradients(m, result[0].square().sum() + result[1], x)
    compiled = torch.compile(m, backend="aot_eager")
    for _ in range(2):
        again = compiled(x)
        assert torch.equal(again[0], result[0])
        same(gradients(m, again[0].square().sum() + again[1], x), expected, ROUNDING)
