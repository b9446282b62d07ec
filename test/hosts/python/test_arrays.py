# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""Models and passes with NumPy's arrays: gradients, memory, what is refused."""

import gc
import threading
import time

import numpy as np
import pytest
from compositions import small, told, universal

import moue

TOKENS = 7


def forward(run, x, valid=None):
    """All layers with residuals between them. Returns the input of every layer and the last output."""
    run.begin(len(x), valid)
    inputs = [x]
    for layer in range(universal().layers):
        y = np.empty_like(inputs[-1])
        run.forward(layer, inputs[-1], y)
        inputs.append(inputs[-1] + np.tanh(y))
    return inputs


def batch():
    return np.sin(np.arange(TOKENS * 4, dtype=np.float64) * 1.7).reshape(TOKENS, 4)


def test_gradients_agree_with_central_differences():
    model = universal()
    weights, gradients = model.initialize(3), model.zeros()
    for values in weights.values():  # the trajectory's maps begin at zero
        values += 0.05 * np.cos(np.arange(values.size)).reshape(values.shape)
    run = model.start(weights, TOKENS, gradients=gradients)

    def loss():
        return (forward(run, x) [-1] ** 2).sum() + run.balance()

    x = batch()
    run.begin(TOKENS)
    h, ys = x, []
    for layer in range(model.layers):
        ys.append(np.empty_like(h))
        run.forward(layer, h, ys[-1])
        h = h + np.tanh(ys[-1])
    run.arm(1)
    d = 2 * h
    for layer in reversed(range(model.layers)):
        dx = np.empty_like(d)
        run.backward(layer, d * (1 - np.tanh(ys[layer]) ** 2), dx)
        d = d + dx
    run.finish_gradients()

    step, compared = 1e-6, 0
    for i, (name, values) in enumerate(weights.items()):
        for place in [(0, 0), (values.shape[0] - 1, values.shape[1] - 1)]:
            before = values[place]
            values[place] = before + step
            up = loss()
            values[place] = before - step
            down = loss()
            values[place] = before
            # Rounding of a loss of order 30 over 2e-6, and second-order terms: below 1e-7.
            assert abs((up - down) / (2 * step) - gradients[name][place]) < 1e-6, name
            compared += run.live(i)
    assert compared > 10
    before = x[2, 1]
    x[2, 1] = before + step
    up = loss()
    x[2, 1] = before - step
    assert abs((up - loss()) / (2 * step) - d[2, 1]) < 1e-6


def test_arrays_are_used_where_they_lie():
    model = small()
    weights = model.initialize()
    run = model.start(weights, 3)
    wide = np.arange(24, dtype=np.float32).reshape(3, 8)
    out = np.zeros((6, 4), np.float32)
    run.begin(3)
    run.forward(0, wide[:, 2:6], out[::2])
    assert (out[::2] == wide[:, 2:6]).all()  # one expert, whose gate is 1, copies
    assert (out[1::2] == 0).all()
    weights["layers.0.router.weight"][:] = [[1, 0, 0, 0], [-1, 0, 0, 0]]
    run.begin(3)
    run.forward(0, wide[:, 2:6], out[::2])
    assert run.assignments(0)[1].tolist() == [0, 0, 0]
    weights["layers.0.router.weight"] *= -1
    run.begin(3)
    run.forward(0, wide[:, 2:6], out[::2])
    assert run.assignments(0)[1].tolist() == [1, 1, 1]
    assert run.logits(0).shape == (3, 2)


def test_memory_lives_as_long_as_it_is_used():
    model = universal()
    run = model.start(model.initialize(1), TOKENS, gradients=model.zeros())
    expected = forward(model.start(model.initialize(1), TOKENS), batch())[-1]
    gc.collect()
    garbage = [np.full(1000, 1e300) for _ in range(200)]
    assert (forward(run, batch())[-1] == expected).all()
    offsets, experts, gates = run.assignments(0)
    kept = experts.copy()
    del run, garbage
    gc.collect()
    assert offsets[-1] == len(experts) == len(gates) == 2 * TOKENS
    assert (experts == kept).all()


def test_padding_and_read_only_input():
    model = universal()
    run = model.start(model.initialize(1), TOKENS)
    x = batch()
    x.flags.writeable = False
    for kind in (np.uint8, bool):
        valid = np.array([1, 1, 0, 1, 0, 1, 1], kind)
        run.begin(TOKENS, valid)
        y = np.ones_like(x)
        run.forward(0, x, y)
        assert (y[2] == 0).all() and (y[4] == 0).all() and (y[0] != 0).any()


def test_what_does_not_fit_is_refused():
    model = universal()
    weights = model.initialize(1)
    run = model.start(weights, TOKENS)
    run.begin(TOKENS)
    x, y = batch(), np.empty((TOKENS, 4))

    def refused(kind, part, act):
        with pytest.raises(kind, match=part) as caught:
            act()
        return caught.value

    error = refused(moue.Error, "x is float32, not float64", lambda: run.forward(0, x.astype(np.float32), y))
    assert error.kind == "misuse"
    refused(moue.Error, "y is float32, not float64", lambda: run.forward(0, x, y.astype(np.float32)))
    refused(moue.Error, "x is int64, not float64", lambda: run.forward(0, x.astype(np.int64), y))
    refused(moue.Error, "x has elements that lie 7 apart", lambda: run.forward(0, np.asfortranarray(x), y))
    refused(moue.Error, "x has 1 dimensions, not 2", lambda: run.forward(0, x.ravel(), y))
    refused(moue.Error, "layer 1", lambda: run.forward(1, x, y))
    refused(moue.Error, "moue: ", lambda: run.forward(0, x[:, :3], y))
    refused(moue.Error, "moue: ", lambda: run.forward(0, x[:3], y))
    refused(TypeError, "incompatible", lambda: run.forward(0, x.tolist(), y))
    y.flags.writeable = False
    refused(TypeError, "incompatible", lambda: run.forward(0, x, y))
    refused(moue.Error, "5 weights were given for", lambda: model.start([x] * 5, TOKENS))
    name = list(weights)[-1]
    refused(moue.Error, f"'{name}' of the weights is", lambda: model.start({**weights, name: x}, TOKENS))
    refused(moue.Error, f"'{name}' of the weights is None", lambda: model.start({**weights, name: None}, TOKENS))
    refused(moue.Error, "float32, not float64", lambda: model.start({**weights, name: weights[name].astype(np.float32)}, 1))
    refused(moue.Error, "give one array per tensor", lambda: model.start(weights, 1, gradients=[None]))
    run.forward(0, x, np.empty_like(x))  # nothing of all that changed the pass


def test_unwanted_gradients_and_live_ones():
    model = universal()
    weights, gradients = model.initialize(1), model.zeros()
    wanted = {name: g if ".router" not in name else None for name, g in gradients.items()}
    run = model.start(weights, TOKENS, gradients=wanted)
    forward(run, batch())
    d = np.ones((TOKENS, 4))
    for layer in reversed(range(3)):
        run.backward(layer, d, d)
    names = [t.name for t in model.tensors]
    assert any(run.live(i) for i, n in enumerate(names) if "experts" in n)
    assert not any(run.live(i) for i, n in enumerate(names) if ".router" in n)
    run.reset_gradients()
    assert not any(run.live(i) for i in range(len(names)))


def test_threads_share_a_model():
    model, weights, x = universal(), universal().initialize(1), batch()
    expected = forward(model.start(weights, TOKENS), x)[-1]
    results = [None] * 8

    def work(i):
        run = model.start(weights, TOKENS)
        results[i] = all((forward(run, x)[-1] == expected).all() for _ in range(20))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert results == [True] * 8


def test_documentation_is_there():
    run = universal().start(universal().initialize(), 1)
    for owner in (universal(), run):
        for name in dir(type(owner)):
            if not name.startswith("_"):
                assert getattr(type(owner), name).__doc__, name


def test_python_runs_while_a_layer_does():
    model, weights = universal(), universal().initialize(1)
    x = np.resize(batch(), (20000, 4))
    run, y, span, seen = model.start(weights, len(x), training=False), np.empty_like(x), [], []

    def work():
        run.begin(len(x))
        span.append(time.perf_counter())
        run.forward(0, x, y)
        span.append(time.perf_counter())

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        seen.append(time.perf_counter())
    start, length = span[0], span[1] - span[0]
    assert any(start + length / 4 < t < start + length * 3 / 4 for t in seen)


def test_what_a_batch_brings_reaches_the_router():
    model = told()
    run = model.start(model.initialize(1), TOKENS, training=False)
    x, y = batch(), np.empty((TOKENS, 4))

    def logits(**brought):
        run.begin(TOKENS, **brought)
        run.forward(0, x, y)
        return np.array(run.logits(0))

    plain = logits(step=2, seed=5)
    assert np.array_equal(plain, logits(step=2, seed=5))
    assert not np.array_equal(plain, logits(step=3, seed=5))
    assert not np.array_equal(plain, logits(step=2, seed=6))
    assert np.array_equal(plain[1:], logits(step=2, seed=5, first_token=1)[:-1])
    side = np.arange(TOKENS, dtype=np.float32).reshape(TOKENS, 1)
    assert np.allclose(logits(step=2, seed=5, side=side) - plain, side * [1, 0, 0], atol=1e-12)
    later = (np.arange(TOKENS) >= 4).reshape(TOKENS, 1)
    given = logits(step=2, seed=5, sequences=np.array([0, 4, TOKENS]))
    assert np.allclose(given - plain, 3 * later * [0, 1, 0], atol=1e-12)
    with pytest.raises(moue.Error, match="side"):
        run.begin(TOKENS, side=side.astype(np.float64))
