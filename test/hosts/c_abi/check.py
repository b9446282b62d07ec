# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""The C interface from Python's ctypes, which needs nothing beside Python. Usage: check.py LIBRARY"""

import ctypes as c
import math
import sys
import threading

lib = c.CDLL(sys.argv[1])
lib.moue_last_error.restype = c.c_char_p
for name in ("layers", "tensors"):
    getattr(lib, f"moue_{name}").restype = c.c_ssize_t
    getattr(lib, f"moue_{name}").argtypes = [c.c_void_p]
lib.moue_arm.argtypes = [c.c_void_p, c.c_float]
lib.moue_create_frozen.argtypes = [c.c_ssize_t, c.POINTER(c.c_void_p)]
lib.moue_adamw_create.argtypes = [c.c_void_p, c.c_void_p, c.c_double, c.POINTER(c.c_void_p)]
lib.moue_adamw_step.argtypes = [c.c_void_p, c.c_void_p, c.c_double]
TOKENS, WIDTH = 32, 8


class Tensor(c.Structure):
    _fields_ = [("name", c.c_char_p), ("rows", c.c_ssize_t), ("cols", c.c_ssize_t), ("layer", c.c_ssize_t),
                ("expert", c.c_ssize_t), ("trained", c.c_int32)]


class Rows(c.Structure):
    _fields_ = [("data", c.c_void_p), ("rows", c.c_ssize_t), ("cols", c.c_ssize_t), ("stride", c.c_ssize_t)]


lib.moue_forward.argtypes = lib.moue_backward.argtypes = [c.c_void_p, c.c_ssize_t, Rows, Rows]


def must(status):
    if status != 0:
        raise RuntimeError(lib.moue_last_error().decode())


def frozen():
    model = c.c_void_p()
    must(lib.moue_create_frozen(WIDTH, c.byref(model)))
    return model


def memory(model):
    """One array per tensor, and the array of pointers to them."""
    arrays = []
    for i in range(lib.moue_tensors(model)):
        tensor = Tensor()
        must(lib.moue_tensor_at(model, c.c_ssize_t(i), c.byref(tensor)))
        arrays.append((c.c_float * (tensor.rows * tensor.cols))())
    return arrays, (c.c_void_p * len(arrays))(*map(c.addressof, arrays))


def train(model, steps):
    (weights, at), (gradients, gradients_at) = memory(model), memory(model)
    must(lib.moue_initialize(model, c.c_uint64(7), at))
    size = c.c_size_t()
    must(lib.moue_workspace_bytes(model, c.c_ssize_t(TOKENS), 1, c.byref(size)))
    scratch = (c.c_char * size.value)()
    run, optimiser, balance = c.c_void_p(), c.c_void_p(), c.c_float()
    must(lib.moue_start(model, at, gradients_at, c.c_ssize_t(TOKENS), 1, scratch, size, c.byref(run)))
    must(lib.moue_adamw_create(model, at, 0.0, c.byref(optimiser)))
    n, layers, losses = TOKENS * WIDTH, lib.moue_layers(model), []
    given = [math.sin(i) for i in range(n)]
    x, y = (c.c_float * n)(), (c.c_float * n)()
    rows = [Rows(c.addressof(a), TOKENS, WIDTH, WIDTH) for a in (x, y)]
    for _ in range(steps):
        x[:] = given
        must(lib.moue_begin(run, c.c_ssize_t(TOKENS), None))
        for layer in range(layers):
            must(lib.moue_forward(run, layer, *rows))
            x[:] = [a + b for a, b in zip(x, y)]
        must(lib.moue_balance(run, c.byref(balance)))
        distance = [a - abs(b) for a, b in zip(x, given)]
        losses.append(sum(d * d for d in distance) / n + balance.value)
        x[:] = [2 * d / n for d in distance]
        must(lib.moue_arm(run, 1))
        for layer in reversed(range(layers)):
            must(lib.moue_backward(run, layer, *rows))
            x[:] = [a + b for a, b in zip(x, y)]
        must(lib.moue_adamw_step(optimiser, run, 0.01))
        must(lib.moue_reset_gradients(run))
    lib.moue_adamw_destroy(optimiser)
    lib.moue_end(run)
    return losses


assert lib.moue_c_version() == 1
model = frozen()
losses = train(model, 100)
assert losses[-1] < losses[0] / 2, losses

# Threads share a model, and each has an error of its own.
results, errors = {}, {}


def worker(i):
    results[i] = train(model, 5)
    assert lib.moue_create_frozen(-1 - i, c.byref(c.c_void_p())) == 1
    errors[i] = lib.moue_last_error().decode()


threads = [threading.Thread(target=worker, args=(i,)) for i in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
assert all(results[i] == losses[:5] for i in range(4)), results
assert all(str(-1 - i) in errors[i] for i in range(4)), errors
assert lib.moue_last_error() == b"", lib.moue_last_error()
lib.moue_destroy(model)
print("ctypes: trained, and four threads with errors of their own")
