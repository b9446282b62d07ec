// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// A bias on the logits that is learned.

#include <array>

#include "moue/router.hpp"
#include "moue/router/logit_bias.hpp"

namespace moue::inline v0_1 {

/// z_e += b_{l,e} with `candidate_bias` [1, candidates] per layer, trained and zero at the start: beside `linear_score` in
/// a `score_sum` it makes a linear map with bias (gpt-oss's router). Minus infinity closes a candidate, as pruned
/// checkpoints have it. For a bias that a controller sets, use `logit_bias`.
struct candidate_bias {
  auto parameters(router_shape s) const {
    return std::array{parameter_spec{"candidate_bias", 1, s.candidates, {}, scope::layer}};
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
  void backward(const auto& ops, const router_frame<C>&, const router_gradient<C>& gradient, const auto&, const auto&,
                const auto& dp) const {
    ops.column_sum(gradient.logits, dp[0]);
  }
};

}  // namespace moue::inline v0_1
