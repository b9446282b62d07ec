// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Router: features → score → transform → preference → select → gate, and the probabilities that balancing reads. The
/// contract of each stage and the type that joins them.

#include <concepts>

#include "moue/router/frame.hpp"
#include "moue/router/members.hpp"
#include "moue/router/row_members.hpp"

namespace moue::inline v0_1 {

/// What a router reads in place of the layer's input: `index_t width(index_t input) const`, `forward` that assigns
/// `frame.features`, `backward` that adds to `gradient.input`. Signatures otherwise as for `ScoreStage`.
template <class T>
concept FeatureStage = std::copyable<T> && detail::has_features_width<T> && detail::has_score_forward<T> &&
    detail::has_score_backward<T> && detail::keeps_state_whole<T>;

/// Logits for every candidate.
///
///     auto parameters(router_shape) const;       // optional: std::array<parameter_spec, N>
///     auto temporaries(router_shape) const;      // optional: std::array<matrix_shape, M>
///     void forward(const auto& ops, const auto& frame, const auto& p, const auto& temporary) const;
///     void backward(const auto& ops, const auto& frame, const auto& gradient, const auto& p, const auto& temporary,
///                   const auto& dp) const;
///
/// `forward` adds to `frame.logits`; `backward` reads `gradient.logits`, adds to `gradient.features` and writes `dp`, which
/// are targets (`moue/gradients/targets.hpp`): `ops.weight_gradient` and `ops.column_sum` assign or add as the tensor
/// needs, functors add to the matrix that `accumulate(ops, dp[i])` gives.
/// A stage that closes candidates also has `close(ops, frame, p, temporary)`, which assigns minus infinity to their logits
/// once all terms have been added, so that no sum can open them again. What `forward` itself makes that is no finite
/// number is an accident (`non_finite`), minus infinity included.
/// A stage that carries state from layer to layer also has `index_t state_width() const` (or of a `router_shape`, equal at
/// all layers), `advance(ops, frame, p, temporary)`, which assigns `frame.next_state` from `frame.state`, `frame.gates`,
/// logits and features, and `advance_backward(ops, frame, gradient, p, temporary, dp)`, which reads `gradient.next_state`
/// and adds to the gradients of what `advance` read. State starts at zero, never crosses tokens, and its gradient flows
/// through every layer. `std::array<index_t, N> saved(router_shape) const` asks for N matrices `frame.saved[i]` [tokens,
/// columns] that `forward` assigns and the others read.
/// `index_t extra(router_shape) const` asks for columns beside the logits, `frame.extra` [tokens, extra], which `forward`
/// assigns; `backward` reads `gradient.extra`: nothing selects them, and row stages and losses that ask are handed them.
template <class T>
concept ScoreStage =
    std::copyable<T> && detail::has_score_forward<T> && detail::has_score_backward<T> && detail::keeps_state_whole<T>;

/// What becomes of a token's logits before anything else reads them, per row and device-callable: `void operator()(logits,
/// transformed) const` assigns, `void backward(logits, transformed, dtransformed, dlogits) const` adds. A logit of minus
/// infinity is closed and takes part in nothing; it stays closed whatever is assigned. The score itself and its state see
/// logits as the score made them.
///
/// This and the stages below, if they work per row, may take a `const row_context&` (see visit.hpp) and then `lanes` (see
/// lanes.hpp) at the end of each member: on backends where several threads share a row they all call a member with lanes,
/// else one thread alone. A stage that says `static constexpr bool reads_extra = true` is handed the score's extra columns
/// behind the logits, `extra`, and in backward `dextra` behind `dlogits`, to which it adds. Transforms, gates and
/// selections may declare `parameters(router_shape)`, as preferences may; then the members take `p` before what they
/// assign, or in backward before what `forward` assigned, and backward `dp` at the end: one vector for each parameter, which
/// must have one row, to which it adds what this token contributes. A pass sums that over tokens in their order.
template <class T>
concept TransformStage = std::copyable<T> && detail::has_transform<T> && detail::has_transform_backward<T>;

/// The score that selection reads, per row: `void operator()(logits, p, scores) const`, device-callable. Has no
/// gradient.
template <class T>
concept PreferenceStage = std::copyable<T> && detail::has_prefer<T>;

/// Which candidates a token takes, per row and device-callable: `index_t max_selected(index_t candidates) const`, an
/// upper bound that never falls as candidates are added (optional beside it: `most_entries`, below), and `index_t operator()(scores, candidates, selected) const`,
/// which writes distinct columns and returns how many. A score of minus infinity closes a candidate. Ties go to the
/// lowest expert id.
///
/// A selection that must see all tokens at once (expert choice, balanced assignment) has in place of the call operator
/// `void table(ops, frame, selected, temporary) const`, of a `select_frame`: it fills `selected` [tokens, max_selected],
/// each row with distinct columns first and -1 after them, and only -1 where a token is not valid. `temporary` is scratch
/// that it declares as scores do.
///
/// A selection of either form may take entries back once their gates are known, for a capacity: `void drop(ops, frame,
/// selected, gates, experts, temporary) const` writes -1 to the places of `experts` [tokens, max_selected] that are to
/// run nowhere. Their gates stay, so that those of the others are what they were; they count as demand, not as load.
template <class T>
concept SelectStage = std::copyable<T> && detail::has_most<T> &&(detail::has_select<T> || detail::has_select_table<T>);

/// The weight of each selected candidate, per row and device-callable: `forward(logits, selected, gates)` assigns,
/// `backward(logits, selected, gates, dgates, dlogits)` adds.
template <class T>
concept GateStage = std::copyable<T> && detail::has_gate_forward<T> && detail::has_gate_backward<T>;

/// The distribution over candidates that balancing losses read, per row and device-callable: `forward(logits, p)`,
/// `backward(logits, p, dp, dlogits)`.
template <class T>
concept ProbabilityStage =
    std::copyable<T> && detail::has_probability_forward<T> && detail::has_probability_backward<T>;

/// Names the missing parts of a score stage, one sentence each.
template <class T>
consteval bool check_score() {
  static_assert(std::copyable<T>, "moue: a score stage must be copyable");
  static_assert(detail::score_takes_double<T>,
                "moue: the members of a score stage are needed for every arithmetic type C; tried with double, one "
                "is there for float alone");
  static_assert(detail::has_score_forward<T>,
                "moue: a score stage needs the member 'void forward(ops, frame, p, temporary) const'");
  static_assert(detail::has_score_backward<T>,
                "moue: a score stage needs the member 'void backward(ops, frame, gradient, p, temporary, dp) const'");
  static_assert(detail::keeps_state_whole<T>,
                "moue: a stage with depth state needs all of 'state_width', 'advance(ops, frame, p, temporary)' and "
                "'advance_backward(ops, frame, gradient, p, temporary, dp)'");
  return true;
}
/// Names the missing parts of a feature stage, one sentence each.
template <class T>
consteval bool check_features() {
  static_assert(std::copyable<T>, "moue: a feature stage must be copyable");
  static_assert(detail::score_takes_double<T>,
                "moue: the members of a feature stage are needed for every arithmetic type C; tried with double, one "
                "is there for float alone");
  static_assert(detail::has_features_width<T>, "moue: a feature stage needs the member 'index_t width(index_t) const'");
  static_assert(detail::has_score_forward<T>,
                "moue: a feature stage needs the member 'void forward(ops, frame, p, temporary) const'");
  static_assert(detail::has_score_backward<T>,
                "moue: a feature stage needs the member 'void backward(ops, frame, gradient, p, temporary, dp) const'");
  static_assert(detail::keeps_state_whole<T>,
                "moue: a stage with depth state needs all of 'state_width', 'advance(ops, frame, p, temporary)' and "
                "'advance_backward(ops, frame, gradient, p, temporary, dp)'");
  return true;
}
/// Names the missing parts of a transform stage, one sentence each.
template <class T>
consteval bool check_transform() {
  static_assert(detail::transform_takes_double<T>,
                "moue: the members of a transform stage are needed for every arithmetic type C; tried with double, one "
                "is there for float alone");
  static_assert(detail::has_transform<T>,
                "moue: a transform stage needs the member 'void operator()(logits, transformed) const'");
  static_assert(detail::has_transform_backward<T>,
                "moue: a transform stage needs the member 'void backward(logits, "
                "transformed, dtransformed, dlogits) const'");
  return true;
}
/// Names the missing part of a preference stage.
template <class T>
consteval bool check_preference() {
  static_assert(
      detail::prefer_takes_double<T>,
      "moue: the members of a preference stage are needed for every arithmetic type C; tried with double, one "
      "is there for float alone");
  static_assert(detail::has_prefer<T>,
                "moue: a preference stage needs the member 'void operator()(logits, p, scores) const'");
  return true;
}
/// Names the missing parts of a select stage, one sentence each.
template <class T>
consteval bool check_select() {
  static_assert(detail::select_takes_double<T>,
                "moue: the members of a select stage are needed for every arithmetic type C; tried with double, one "
                "is there for float alone");
  static_assert(detail::has_most<T>,
                "moue: a select stage needs the member 'index_t max_selected(index_t candidates) const'");
  static_assert(detail::has_select<T> || detail::has_select_table<T>,
                "moue: a select stage needs the member 'index_t operator()(scores, candidates, selected) const'");
  return true;
}
/// Names the missing parts of a gate stage, one sentence each.
template <class T>
consteval bool check_gate() {
  static_assert(detail::gate_takes_double<T>,
                "moue: the members of a gate stage are needed for every arithmetic type C; tried with double, one "
                "is there for float alone");
  static_assert(detail::has_gate_forward<T>,
                "moue: a gate stage needs the member 'void forward(logits, selected, gates) const'");
  static_assert(detail::has_gate_backward<T>,
                "moue: a gate stage needs the member 'void backward(logits, selected, gates, dgates, dlogits) const'");
  return true;
}
/// Names the missing parts of a probability stage, one sentence each.
template <class T>
consteval bool check_probability() {
  static_assert(
      detail::probability_takes_double<T>,
      "moue: the members of a probability stage are needed for every arithmetic type C; tried with double, one "
      "is there for float alone");
  static_assert(detail::has_probability_forward<T>,
                "moue: a probability stage needs the member 'void forward(logits, p) const'");
  static_assert(detail::has_probability_backward<T>,
                "moue: a probability stage needs the member 'void backward(logits, p, dp, dlogits) const'");
  return true;
}

}  // namespace moue::inline v0_1
