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


TOLD = """struct told {
  template <class C>
  void forward(const auto& ops, const moue::router_frame<C>& f, const auto&, const auto&) const {
    ops.each_element(f.logits.rows, f.logits.cols, [f](moue::index_t t, moue::index_t j) {
      f.logits(t, j) += static_cast<C>(moue::normal_at(f.at, t, j));
      if (!f.batch.side.empty() && j == 0) f.logits(t, j) += static_cast<C>(f.batch.side(t, 0));
      if (f.batch.sequences.size > 1 && j == 1 && t >= f.batch.sequences[1]) f.logits(t, j) += C(3);
    });
  }
  template <class C>
  void backward(const auto&, const moue::router_frame<C>&, const moue::router_gradient<C>&, const auto&, const auto&,
                const auto&) const {}
};"""


@functools.cache
def told():
    """One layer whose router is noise, a number beside each token, and whether the first sequence is over."""
    return moue.compile(
        "moue::mixture{moue::copy_expert{4}, moue::shared_pool{1, 3}, moue::router{told{}, moue::top_k{2}, "
        "moue::softmax_then_select{}}}",
        dtype="float64",
        preamble=TOLD,
        flags=FLAGS,
    )
