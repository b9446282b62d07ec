// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Balancing losses: what they see of a whole depth, and what they must provide.

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

#include "moue/config.hpp"
#include "moue/error.hpp"
#include "moue/lanes.hpp"
#include "moue/layer_loss.hpp"
#include "moue/scalar.hpp"
#include "moue/view.hpp"
#include "moue/visit.hpp"

namespace moue::inline v0_1 {

/// What routing did, over all layers of a depth at once, formed from counts (`routing_counts`) in layer order. Only
/// valid (unpadded) tokens count. Layer `l`'s candidates stand at `[offsets[l], offsets[l + 1])` of the per-candidate
/// tables. Candidates that were closed to every token, and all candidates of a layer that did not run, are listed with
/// zeros.
template <class C>
struct depth_statistics {
  index_t layers = 0;                          ///< of the mixture, whether or not they ran
  index_t experts = 0;                         ///< physical
  index_t tokens = 0;                          ///< valid tokens; 0 makes every table zero
  vector_view<const index_t> offsets;          ///< [layers + 1]
  vector_view<const std::int32_t> candidates;  ///< [columns] physical ids
  vector_view<const C> exposure;               ///< [experts] c_e, layers it was open to; 0 for always-on experts
  vector_view<const C> share;                  ///< [columns] f: share of what the layer's router selected; no gradient
  vector_view<const C> probability;            ///< [columns] P: mean over tokens of p
  vector_view<const C> expert_share;           ///< [experts] F_e: f summed over layers
  vector_view<const C> expert_probability;     ///< [experts] G_e: P summed over layers
  vector_view<const std::uint8_t> open;  ///< [columns] 0 where the logit was minus infinity for every token, else 1
  visit at = {};                         ///< which batch, of no layer

  /// Candidates of `layer` that were open to some token, counted by all lanes.
  template <class Lanes = one_lane>
  MOUE_HD index_t open_candidates(index_t layer, const Lanes& lanes = {}) const {
    index_t count = 0;
    for (index_t i = offsets[layer] + lanes.first(); i < offsets[layer + 1]; i += lanes.step()) count += open[i];
    return lanes.sum(count);
  }
};

namespace detail {

template <class L, class C = double>
concept has_depth_value = requires(const L loss, const depth_statistics<C>& s) {
  { loss.value(s) } -> std::convertible_to<C>;
};
template <class L, class C = double>
concept has_depth_gradient = requires(const L loss, const depth_statistics<C>& s, vector_view<C> d) {
  loss.gradient(s, d);
};
template <class L, class C = double>
concept has_token_value = callable_by_row<call_token_value, one_lane, L, vector_view<const C>, vector_view<const C>>;
template <class L, class C = double>
concept has_token_gradient =
    callable_by_row<call_token_gradient, one_lane, L, vector_view<const C>, vector_view<const C>, C, vector_view<C>>;

/// False if a member is there in float, but not in double, which concepts try.
template <class L>
concept loss_takes_double = (has_depth_value<L> || !has_depth_value<L, float>)&&(
    has_depth_gradient<L> ||
    !has_depth_gradient<L, float>)&&(has_token_value<L> || !has_token_value<L, float>)&&(has_token_gradient<L> ||
                                                                                         !has_token_gradient<L, float>);

template <class L>
concept has_any_loss_member = has_depth_value<L> || has_depth_gradient<L> || has_token_value<L> ||
    has_token_gradient<L> || has_layer_value<L> || has_layer_gradient<L> || sees_layers<L>;

/// The loss of a depth by lanes, all of which get the value; by the leading lane alone if the loss takes none.
template <class L, class C, class Lanes>
MOUE_HD C depth_value(const L& loss, const depth_statistics<C>& s, const Lanes& lanes) {
  if constexpr (requires { loss.value(s, lanes); })
    return loss.value(s, lanes);
  else
    return lanes.sum(lanes.leads() ? static_cast<C>(loss.value(s)) : C(0));
}
/// Its gradient; when this ends every lane sees it.
template <class L, class C, class Lanes>
MOUE_HD void depth_gradient(const L& loss, const depth_statistics<C>& s, vector_view<C> d, const Lanes& lanes) {
  if constexpr (requires { loss.gradient(s, d, lanes); })
    loss.gradient(s, d, lanes);
  else if (lanes.leads())
    loss.gradient(s, d);
  lanes.wait();
}

/// The same for the loss of one row.
template <class L, class C, class Lanes>
MOUE_HD C token_value(const L& loss, vector_view<const C> logits, vector_view<const C> p, const row_context& at,
                      const Lanes& lanes) {
  return value_by_row<C>(call_token_value{}, at, lanes, loss, logits, p);
}
template <class L, class C, class Lanes>
MOUE_HD void token_gradient(const L& loss, vector_view<const C> logits, vector_view<const C> p, C scale,
                            vector_view<C> dlogits, const row_context& at, const Lanes& lanes) {
  call_by_row(call_token_gradient{}, at, lanes, loss, logits, p, scale, dlogits);
  lanes.wait();
}

/// Calls `f(part, position)` for every loss that a loss is the sum of; one that is no sum is its only part.
template <class L, class F>
MOUE_HD void each_part(const L& loss, const F& f) {
  if constexpr (requires { loss.each_part(f); })
    loss.each_part(f);
  else
    f(loss, index_t{0});
}
template <class L>
inline constexpr index_t part_count = 1;
template <class L>
  requires requires { L::part_count; }
inline constexpr index_t part_count<L> = L::part_count;

[[noreturn]] inline void refuse_weight(double weight) {
  throw error("mixture", "a balancing loss has the weight " + std::to_string(weight),
              "give it a finite weight of 0 or more");
}
/// A loss with a member `weight` would, with a negative one, drive what it is to even out apart.
template <class L>
void check_weight(const L& loss) {
  if constexpr (requires {
                  { loss.weight } -> std::convertible_to<double>;
                })
    if (!(static_cast<double>(loss.weight) >= 0 && is_finite(static_cast<double>(loss.weight))))
      refuse_weight(static_cast<double>(loss.weight));
}

}  // namespace detail

/// A function of the depth's statistics: `C value(const depth_statistics<C>&) const`, and `void gradient(const
/// depth_statistics<C>&, vector_view<C> d) const`, which adds d value / d P to `d` [columns]. Device-callable. Both may
/// take `lanes` at the end, see lanes.hpp.
template <class L>
concept DepthLoss = std::copyable<L> && detail::has_depth_value<L> && detail::has_depth_gradient<L>;

/// A mean over valid tokens, averaged over layers, of a function of one row: `C token_value(logits, p) const`, and
/// `void token_gradient(logits, p, scale, dlogits) const`, which adds scale times its derivative. Device-callable. Both
/// may take a `const row_context&` and lanes at the end, see visit.hpp and lanes.hpp.
template <class L>
concept TokenLoss = std::copyable<L> && detail::has_token_value<L> && detail::has_token_gradient<L>;

/// No loss at all: nothing is gathered and nothing computed.
struct no_balancing {};
namespace detail {
template <>
inline constexpr index_t part_count<no_balancing> = 0;
}  // namespace detail

/// The value of a balancing loss, and those of the losses that it is the sum of, in their order; all with their
/// weights.
template <class C, index_t Parts>
struct loss_value {
  C total = C(0);  ///< the loss
  /// of a sum, one per term
  std::array<C, static_cast<std::size_t>(Parts)> parts = {};

  /// The total, so that it can be used like a number.
  constexpr operator C() const { return total; }
};

/// A depth loss, a token loss, a layer loss (moue/layer_loss.hpp), several of them, or `no_balancing`. Values include the loss's own weight.
///
/// Laws (`testing::check_balance_laws`): gradients agree with central differences; the value does not depend on the
/// order of tokens nor on padding; relabelling experts changes nothing.
template <class L>
concept BalancingLoss = std::same_as<L, no_balancing> || DepthLoss<L> || TokenLoss<L> || detail::sees_layers<L>;

/// Names the missing parts of a balancing loss, one sentence each.
template <class L>
consteval bool check_balance() {
  if constexpr (!std::same_as<L, no_balancing>) {
    static_assert(
        detail::loss_takes_double<L>,
        "moue: the members of a balancing loss are needed for every arithmetic type C; tried with double, one "
        "is there for float alone");
    static_assert(detail::has_any_loss_member<L>,
                  "moue: a balancing loss needs 'value(statistics)' with 'gradient(statistics, d)', or "
                  "'token_value(logits, p)' with 'token_gradient(logits, p, scale, dlogits)', or 'layer_value(ops, "
                  "frame, value, temporary)' with 'layer_gradient(ops, frame, scale, add, temporary)'");
    static_assert(
        detail::has_depth_value<L> == detail::has_depth_gradient<L> || !detail::has_depth_value<L>,
        "moue: a balancing loss with 'value(statistics)' needs the member 'void gradient(statistics, d) const'");
    static_assert(detail::has_depth_value<L> == detail::has_depth_gradient<L> || detail::has_depth_value<L>,
                  "moue: a balancing loss with 'gradient(statistics, d)' needs the member 'C value(statistics) const'");
    static_assert(detail::has_token_value<L> == detail::has_token_gradient<L> || !detail::has_token_value<L>,
                  "moue: a balancing loss with 'token_value(logits, p)' needs the member 'void token_gradient(logits, "
                  "p, scale, dlogits) const'");
    static_assert(detail::has_token_value<L> == detail::has_token_gradient<L> || detail::has_token_value<L>,
                  "moue: a balancing loss with 'token_gradient(logits, p, scale, dlogits)' needs the member 'C "
                  "token_value(logits, p) const'");
    static_assert(detail::has_layer_value<L> == detail::has_layer_gradient<L> || !detail::has_layer_value<L>,
                  "moue: a balancing loss with 'layer_value(ops, frame, value, temporary)' needs the member 'void "
                  "layer_gradient(ops, frame, scale, add, temporary) const'");
    static_assert(detail::has_layer_value<L> == detail::has_layer_gradient<L> || detail::has_layer_value<L>,
                  "moue: a balancing loss with 'layer_gradient(ops, frame, scale, add, temporary)' needs the member "
                  "'void layer_value(ops, frame, value, temporary) const'");
  }
  return true;
}

}  // namespace moue::inline v0_1
