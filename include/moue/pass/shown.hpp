// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What a pass lets people see: the depth state at both ends of its range and what each layer did.

#include <cstdint>

#include "moue/pass/balance.hpp"
#include "moue/pass/checks.hpp"
#include "moue/pass/state.hpp"
#include "moue/routing.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::detail {

/// The members of `pass` that show the depth state and what routing did. Nothing is copied.
template <class MixtureT, Storage S>
class shown_pass : public balanced_pass<MixtureT, S> {
 protected:
  using base_type = balanced_pass<MixtureT, S>;
  using base_type::base_type;
  using base_type::checks;
  using base_type::state_;

 public:
  using C = compute_t<S>;

  // --- depth state --------------------------------------------------------------------------------------------------

  /// The depth state [tokens, state_width] before the range's first layer: zeros from `begin` on, or what the caller
  /// writes there before that layer runs, such as the `state_out` of the range before.
  matrix_view<C> state_in() {
    checks().state(state_.memory.first);
    return state_.depth_state(state_.memory.first);
  }
  /// That after the last layer that ran; valid until the next `forward`.
  matrix_view<const C> state_out() const { return state_.depth_state(state_.at.reached); }
  /// The gradient of `state_out` [tokens, state_width]: zeros from `begin` on, or what the caller writes there before
  /// `backward` begins, such as the `dstate_in` of the range behind or the gradient of a loss that reads the state.
  /// The state of padding belongs to nobody: its rows are to stay zero.
  matrix_view<C> dstate_out() {
    checks().state_gradient("last", true);
    return state_.shaped(state_.memory.dstate_out, state_.memory.dstate_out.cols);
  }
  /// The gradient of `state_in`, after the first layer's `backward`.
  matrix_view<const C> dstate_in() const {
    const auto& at = state_.at;
    checks().state_gradient("first",
                            at.next == state_.memory.first && !at.halfway && (at.backward || at.reached == at.next));
    return state_.depth_gradient(state_.memory.first);
  }

  // --- what a layer did ---------------------------------------------------------------------------------------------

  /// Layer `layer`'s assignments: those of the router or, once edited ones have run, those that ran. Valid until the
  /// next `begin`; in inference, until the next `forward`.
  routing<C> assignments(index_t layer) const {
    checks().shown("the assignments", layer);
    return state_.assignments(layer);
  }
  /// Layer `layer`'s logits [tokens, candidates]; valid as long as its `assignments`.
  matrix_view<const C> logits(index_t layer) const {
    checks().shown("the logits", layer);
    return state_.logits(layer);
  }
  /// Selected columns [tokens, max_selected], best first, −1 where fewer were taken; valid as long as the
  /// `assignments`.
  matrix_view<const std::int32_t> selected(index_t layer) const {
    checks().shown("the selected columns", layer);
    return state_.selected(layer);
  }
  /// The rows that layer `layer`'s assignments became: which expert has which token where. Valid as long as these.
  const dispatch_plan& plan(index_t layer) const {
    checks().ran("the plan", layer);
    return state_.record(layer).run.plan;
  }
  /// What the experts of `layer` said [rows, width], in the order of its plan; behind its last row stands nothing. For
  /// mixtures with a loss that looks at outputs, such as `show_outputs`. Valid as long as the plan.
  matrix_view<const C> outputs(index_t layer) const {
    static_assert(sees_outputs<typename MixtureT::loss_type>,
                  "moue: the outputs of experts are shown if a loss of the mixture looks at them; add "
                  "'moue::show_outputs{}' to its losses");
    checks().ran("the outputs", layer);
    return state_.outputs(layer);
  }
  /// The depth state [tokens, state_width] on entry to `layer`; one past the range asks for the last. In inference only
  /// those before and after the last layer that ran are there. Empty if no stage keeps state.
  matrix_view<const C> state(index_t layer) const {
    checks().state(layer);
    return state_.depth_state(layer);
  }
};

}  // namespace moue::inline v0_1::detail
