# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""Mixtures of universal experts. A composition is C++, compiled when it is first asked for:

    model = moue.compile("moue::mixture{moue::swiglu{.width = 8, .hidden = 16},"
                         " moue::shared_pool{.depth = 3, .pool = 4}, moue::linear_router(2)}")
    weights, gradients = model.initialize(seed=7), model.zeros()
    run = model.start(weights, tokens=32, gradients=gradients)
    run.begin(32)
    run.forward(0, x, y)    # x, y [32, 8]

`moue.torch` has it as a module of PyTorch.
"""

from ._compile import CompileError, cache_folder, compile
from ._error import Error

__all__ = ["CompileError", "Error", "cache_folder", "compile"]
