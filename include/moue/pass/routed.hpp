// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What a pass needs its weights for outside the experts: routing, layer losses, and what its router made of a layer when
/// somebody asks.

#include <algorithm>
#include <string>
#include <string_view>
#include <type_traits>

#include "moue/pass/checks.hpp"
#include "moue/pass/layer_losses.hpp"
#include "moue/pass/route.hpp"
#include "moue/pass/shown.hpp"

namespace moue::inline v0_1::detail {

/// The members of `pass` that hold weights and look at routers.
template <class MixtureT, Storage S>
class routed_pass : public shown_pass<MixtureT, S> {
 protected:
  using base_type = shown_pass<MixtureT, S>;
  using base_type::base_type;
  using base_type::checks;
  using base_type::state_;
  using loss_type = typename MixtureT::loss_type;

 public:
  using C = compute_t<S>;

  /// Uses other weights of the same layout from now on, such as weights that were gathered again for backward. They
  /// must outlive the pass.
  void rebind(const parameters<S>& weights) {
    require(
        layout_of(weights, "pass")->same_shapes(*state_.model->layout()), "pass",
        [] { return std::string("the weights belong to another layout"); }, "create them from this mixture's layout()");
    if constexpr (!on_host<typename MixtureT::backend_type>)
      check_external(weights.owned() && weights.layout().elements() > 0, "pass", "the weights", "make_parameters");
    weights_ = &weights;
  }
  void rebind(const parameters<S>&&) = delete;

  // --- what the router made of a layer, worked out again from what is there anyway ------------------------------------

  /// Assigns what the score of `layer` read, [tokens, features], to `into`; there as long as the layer's `assignments`, but
  /// in inference, if the router reads the input itself, between `route` and `run` alone. Like the next two it does the
  /// stages' work again, with the weights as they are now, and nothing is done for it before.
  void features(index_t layer, matrix_view<C> into) {
    checks().shown("the features", layer);
    require(
        !state_.at.halfway || state_.at.backward || layer == state_.at.next, "pass",
        [] { return std::string("the features of a layer were asked for between route and run of another"); },
        "ask before route or after run");
    const auto x = routed(layer);
    if (state_.training())
      checks().there(layer, x);
    else
      require(
          router_steps().keeps_features() || (state_.at.halfway && x.data != nullptr) || state_.at.tokens == 0, "pass",
          [] {
            return std::string("the features of a layer were asked for in inference after its input was given back");
          },
          "ask between route and run, or in training");
    const auto made = router_steps().features(layer, *weights_, x);
    check_into("the features", into, made.cols);
    state_.operations().each_element(made.rows, made.cols, begin_with<C>{made, into});
  }
  /// Assigns the scores that selection read at `layer`, [tokens, candidates], to `into`: minus infinity where a candidate
  /// was closed, and in padding.
  void scores(index_t layer, matrix_view<C> into) {
    checks().shown("the scores", layer);
    check_into("the scores", into, state_.candidates(layer));
    router_steps().scores(layer, *weights_, into);
  }
  /// Assigns the probabilities at `layer`, [tokens, candidates], to `into`: zeros in padding. There without a balancing loss
  /// as well.
  void probabilities(index_t layer, matrix_view<C> into) {
    checks().shown("the probabilities", layer);
    check_into("the probabilities", into, state_.candidates(layer));
    router_steps().probabilities(layer, into);
  }

 protected:
  using also_type = routing_gradient<const C>;
  static constexpr bool sees_layers = detail::sees_layers<loss_type>;
  static constexpr bool shows = detail::sees_outputs<loss_type>;

  detail::router_steps<MixtureT, S> router_steps() { return {state_}; }
  template <class Given = router_selects>
  void route_rows(index_t layer, const matrix_view<const S>& x, const Given& given = {}) {
    routed_ = x;
    router_steps().forward(layer, *weights_, state_.save_router(layer, x), given);
    state_.at.halfway = true;
  }
  void check_also(index_t layer, const also_type& also) const {
    const index_t entries = state_.assignments(layer).entries();
    checks().also(also, state_.candidates(layer), state_.extra(layer).cols, entries,
                  (std::min)(entries, state_.record(layer).run.plan.row_token.size),
                  !std::is_same_v<loss_type, no_balancing>, shows);
  }
  /// What the router of a layer read, as far as it is known.
  matrix_view<const S> routed(index_t layer) const { return state_.training() ? state_.saved(layer).router : routed_; }
  auto layer_losses(index_t layer, const matrix_view<const S>& x, bool again) {
    return detail::layer_losses<MixtureT, S>{state_, router_steps().seen(layer, *weights_, x, again)};
  }
  /// `also` and the gradients of layer losses, if these are armed.
  also_type with_losses([[maybe_unused]] index_t layer, const also_type& also) {
    if constexpr (sees_layers)
      if (state_.at.armed) return layer_losses(layer, routed(layer), true).gradient(also);
    return also;
  }

  const parameters<S>* weights_ = nullptr;
  matrix_view<const S> routed_;  // the input of the layer that was routed last; unknown once picked up

 private:
  void check_into(std::string_view what, const matrix_view<C>& into, index_t cols) const {
    if (into.rows != state_.at.tokens || into.cols != cols || (into.data == nullptr && !into.empty()))
      throw error("pass",
                  std::string(what) + " were to be written to a matrix of shape " + shape_text(into.rows, into.cols) +
                      (into.data == nullptr ? ", which is null" : ""),
                  "give " + shape_text(state_.at.tokens, cols));
  }
};

}  // namespace moue::inline v0_1::detail
