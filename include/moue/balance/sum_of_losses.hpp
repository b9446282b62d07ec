// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Several balancing losses at once.

#include <tuple>
#include <type_traits>
#include <utility>

#include "moue/balance.hpp"

namespace moue::inline v0_1 {

/// The sum of its parts, each with its own weight. A pass shows their values apart and may weigh their gradients apart.
template <class... Losses>
class sum_of_losses {
  static_assert((check_balance<Losses>() && ...));

 public:
  static constexpr index_t part_count = sizeof...(Losses);  ///< terms, and so values in `loss_value::parts`
  static constexpr bool sees_layers = (detail::sees_layers<Losses> || ...);    ///< whether a term does
  static constexpr bool sees_outputs = (detail::sees_outputs<Losses> || ...);  ///< whether a term does

  /// Each term comes with its own weight.
  constexpr explicit sum_of_losses(Losses... losses) : losses_(std::move(losses)...) {}

  template <class C, class Lanes = one_lane>
  MOUE_HD C value(const depth_statistics<C>& s, const Lanes& lanes = {}) const requires(DepthLoss<Losses> || ...) {
    C sum = C(0);
    each_part([&](const auto& loss, index_t) {
      if constexpr (DepthLoss<std::remove_cvref_t<decltype(loss)>>) sum += detail::depth_value(loss, s, lanes);
    });
    return sum;
  }
  template <class C, class Lanes = one_lane>
  MOUE_HD void gradient(const depth_statistics<C>& s, vector_view<C> d, const Lanes& lanes = {}) const
      requires(DepthLoss<Losses> || ...) {
    each_part([&](const auto& loss, index_t) {
      if constexpr (DepthLoss<std::remove_cvref_t<decltype(loss)>>) detail::depth_gradient(loss, s, d, lanes);
    });
  }
  template <class C, class Lanes = one_lane>
  MOUE_HD C token_value(vector_view<const C> logits, vector_view<const C> p, const row_context& at,
                        const Lanes& lanes = {}) const requires(TokenLoss<Losses> || ...) {
    C sum = C(0);
    each_part([&](const auto& loss, index_t) {
      if constexpr (TokenLoss<std::remove_cvref_t<decltype(loss)>>)
        sum += detail::token_value(loss, logits, p, at, lanes);
    });
    return sum;
  }
  template <class C, class Lanes = one_lane>
  MOUE_HD void token_gradient(vector_view<const C> logits, vector_view<const C> p, C scale, vector_view<C> dlogits,
                              const row_context& at, const Lanes& lanes = {}) const requires(TokenLoss<Losses> || ...) {
    each_part([&](const auto& loss, index_t) {
      if constexpr (TokenLoss<std::remove_cvref_t<decltype(loss)>>)
        detail::token_gradient(loss, logits, p, scale, dlogits, at, lanes);
    });
  }

  /// Calls `f(loss, position)` for every part.
  template <class F>
  MOUE_HD void each_part(const F& f) const {
    index_t position = 0;
    std::apply([&](const auto&... loss) { (f(loss, position++), ...); }, losses_);
  }

 private:
  std::tuple<Losses...> losses_;
};

}  // namespace moue::inline v0_1
