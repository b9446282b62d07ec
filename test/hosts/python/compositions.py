# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""What the tests compile, once each: unoptimised, since they look at behaviour alone."""

import functools

import moue

FLAGS = ("-O0",)
SMALL = "moue::mixture{moue::copy_expert{4}, moue::shared_pool{1, 2}, moue::linear_router(1)}"
UNIVERSAL = """moue::mixture{moue::swiglu{.width = 4, .hidden = 6},
             moue::staggered_rotation{.depth = 3, .pool = 6, .window = 4, .stride = 1},
             moue::universal_router(2, moue::trajectory{.rank = 2}), moue::universal_balance{.weight = 0.3}}"""


@functools.cache
def universal():
    """Three layers over six experts in float64, with a state that follows tokens through the depth."""
    return moue.compile(UNIVERSAL, dtype="float64", flags=FLAGS)


@functools.cache
def small():
    """One layer that copies, in float32."""
    return moue.compile(SMALL, flags=FLAGS)
