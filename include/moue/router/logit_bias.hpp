// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// A bias on the logits that a controller sets.

#include <array>

#include "moue/router.hpp"

namespace moue::inline v0_1 {
namespace detail {

/// Minus infinity is a mark and no number: `close_by_bias` reads it.
template <class C, class W>
struct add_logit_bias {
  matrix_view<C> logits;
  W bias;
  MOUE_HD void operator()(index_t t, index_t j) const {
    const C b = static_cast<C>(bias(0, j));
    if (b != minus_infinity<C>()) logits(t, j) += b;
  }
};
template <class C, class W>
struct close_by_bias {
  matrix_view<C> logits;
  W bias;
  MOUE_HD void operator()(index_t t, index_t j) const {
    if (static_cast<C>(bias(0, j)) == minus_infinity<C>()) logits(t, j) = minus_infinity<C>();
  }
};

template <class C, class W>
add_logit_bias(matrix_view<C>, W) -> add_logit_bias<C, W>;
template <class C, class W>
close_by_bias(matrix_view<C>, W) -> close_by_bias<C, W>;

}  // namespace detail

/// z_e += b_{l,e}: moves selection, gates and probabilities alike. The buffer `bias` [1, candidates] per layer is not
/// trained. Minus infinity closes a candidate, whatever its logit would be: it is never selected, and has probability and
/// gradient zero. To move selection only, use `biased_logits`.
struct logit_bias {
  auto parameters(router_shape s) const {
    return std::array{parameter_spec{"bias", 1, s.candidates, {}, scope::layer, false}};
  }
  template <class C>
  void forward(const auto& ops, const router_frame<C>& frame, const auto& p, const auto&) const {
    ops.each_element(frame.logits.rows, frame.logits.cols, detail::add_logit_bias{frame.logits, p[0]});
  }
  template <class C>
  void close(const auto& ops, const router_frame<C>& frame, const auto& p, const auto&) const {
    ops.each_element(frame.logits.rows, frame.logits.cols, detail::close_by_bias{frame.logits, p[0]});
  }
  template <class C>
  void backward(const auto&, const router_frame<C>&, const router_gradient<C>&, const auto&, const auto&,
                const auto&) const {}
};

}  // namespace moue::inline v0_1
