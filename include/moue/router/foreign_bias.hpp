// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// A learned bias on the logits of experts that a layer gained.

#include <array>

#include "moue/router.hpp"
#include "moue/router/logit_bias.hpp"

namespace moue::inline v0_1 {

/// z_e += a_{l,e} for the candidates after the first `home` of a layer, with `foreign_bias` a [1, candidates - home] per
/// layer, trained. Beside `extended_score` in a `score_sum` it lets every layer learn how much of its traffic each foreign
/// expert is to get, whatever the token. Minus infinity closes one. Home logits are not touched.
struct foreign_bias {
  index_t home = 0;    ///< candidates of each layer that have no bias
  double initial = 0;  ///< of every bias

  auto parameters(router_shape s) const {
    return std::array{
        parameter_spec{"foreign_bias", 1, s.candidates - home, initializer::constant(initial), scope::layer}};
  }
  template <class C>
  void forward(const auto& ops, const router_frame<C>& frame, const auto& p, const auto&) const {
    const auto logits = foreign(frame.logits);
    ops.each_element(logits.rows, logits.cols, detail::add_logit_bias{logits, p[0]});
  }
  template <class C>
  void close(const auto& ops, const router_frame<C>& frame, const auto& p, const auto&) const {
    const auto logits = foreign(frame.logits);
    ops.each_element(logits.rows, logits.cols, detail::close_by_bias{logits, p[0]});
  }
  template <class C>
  void backward(const auto& ops, const router_frame<C>&, const router_gradient<C>& gradient, const auto&, const auto&,
                const auto& dp) const {
    ops.column_sum(foreign(gradient.logits), dp[0]);
  }

 private:
  template <class M>
  M foreign(const M& m) const {
    return m.column_block(home, m.cols - home);
  }
};

}  // namespace moue::inline v0_1
