// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Router: features → score → preference → select → gate, and the probabilities that balancing reads. The contract of
/// each stage and the type that joins them.

#include <array>
#include <concepts>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

#include "moue/arrays.hpp"
#include "moue/gradients/targets.hpp"
#include "moue/operations.hpp"
#include "moue/parameter.hpp"
#include "moue/pass_options.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {

/// Sizes a stage may need to declare its parameters and scratch.
struct router_shape {
  index_t tokens = 0;      ///< rows of a pass; 0 while parameters are declared
  index_t width = 0;       ///< of what the stage reads: the layer's input for features, the features for a score
  index_t candidates = 0;  ///< of the layer (model-wide parameters are declared with those of layer 0)
  index_t experts = 0;     ///< physical experts of the model
};

/// Of a matrix of scratch.
struct matrix_shape {
  index_t rows = 0;  ///< of the matrix
  index_t cols = 0;  ///< of the matrix
};

/// One visit as the stages of a router see it. Views only; all matrices have one row per token.
template <class C>
struct router_frame {
  vector_view<const std::int32_t> candidates;  ///< [n] physical ids, in column order
  side_inputs batch;                           ///< with `valid` always filled in
  matrix_view<const C> input;                  ///< [tokens, width] the layer's router input
  matrix_view<C> features;                     ///< [tokens, features]
  matrix_view<C> logits;                       ///< [tokens, n]; scores add to it
  matrix_view<const C> gates;                  ///< [tokens, n], zero where not selected; only during `advance`
  matrix_view<const C> state;                  ///< [tokens, r] the stage's depth state on entry
  matrix_view<C> next_state;                   ///< [tokens, r] on exit; assigned by `advance`
};

/// Gradients that belong to a `router_frame`. A stage reads those of what it wrote and adds to those of what it read.
template <class C>
struct router_gradient {
  matrix_view<C> input;             ///< [tokens, width] added to
  matrix_view<C> features;          ///< [tokens, features] added to by scores, read by features
  matrix_view<const C> logits;      ///< [tokens, n] read
  matrix_view<C> gates;             ///< [tokens, n] added to by `advance_backward`
  matrix_view<C> state;             ///< [tokens, r] added to
  matrix_view<const C> next_state;  ///< [tokens, r] read
};

namespace detail {

// --- optional members of stages -------------------------------------------------------------------------------------

template <class T>
concept has_stage_parameters = requires(const T t, router_shape s) {
  t.parameters(s);
};
template <class T>
concept has_stage_temporaries = requires(const T t, router_shape s) {
  t.temporaries(s);
};
template <class T>
concept has_state_width = requires(const T t) {
  { t.state_width() } -> std::convertible_to<index_t>;
};

template <class T>
auto stage_parameters(const T& stage, const router_shape& shape) {
  if constexpr (has_stage_parameters<T>)
    return stage.parameters(shape);
  else
    return std::array<parameter_spec, 0>{};
}
template <class T>
auto stage_temporaries(const T& stage, const router_shape& shape) {
  if constexpr (has_stage_temporaries<T>)
    return stage.temporaries(shape);
  else
    return std::array<matrix_shape, 0>{};
}
template <class T>
constexpr index_t stage_state_width(const T& stage) {
  if constexpr (has_state_width<T>)
    return stage.state_width();
  else
    return 0;
}

template <class T>
inline constexpr std::size_t stage_parameter_count =
    std::tuple_size_v<decltype(stage_parameters(std::declval<const T&>(), router_shape{}))>;
template <class T>
inline constexpr std::size_t stage_temporary_count =
    std::tuple_size_v<decltype(stage_temporaries(std::declval<const T&>(), router_shape{}))>;

// --- concepts of the stages -----------------------------------------------------------------------------------------

template <class T, class C = double>
concept has_features_width = requires(const T t) {
  { t.width(index_t{}) } -> std::convertible_to<index_t>;
};
template <class T, class C = double>
concept has_score_forward = requires(const T t, const archetype_operations& ops, const router_frame<C>& frame,
                                     std::array<matrix_view<const C>, stage_parameter_count<T>> p,
                                     std::array<matrix_view<C>, stage_temporary_count<T>> temporary) {
  t.forward(ops, frame, p, temporary);
};
template <class T, class C = double>
concept has_score_backward = requires(const T t, const archetype_operations& ops, const router_frame<C>& frame,
                                      const router_gradient<C>& gradient,
                                      std::array<matrix_view<const C>, stage_parameter_count<T>> p,
                                      std::array<matrix_view<C>, stage_temporary_count<T>> temporary,
                                      std::array<gradient_target<C>, stage_parameter_count<T>> dp) {
  t.backward(ops, frame, gradient, p, temporary, dp);
};
/// A score that can close candidates, or one whose terms can.
template <class T, class C = double>
concept has_close = requires(const T t, const archetype_operations& ops, const router_frame<C>& frame,
                             std::array<matrix_view<const C>, stage_parameter_count<T>> p,
                             std::array<matrix_view<C>, stage_temporary_count<T>> temporary) {
  t.close(ops, frame, p, temporary);
};
template <class T, class C = double>
concept has_advance = requires(const T t, const archetype_operations& ops, const router_frame<C>& frame,
                               std::array<matrix_view<const C>, stage_parameter_count<T>> p,
                               std::array<matrix_view<C>, stage_temporary_count<T>> temporary) {
  t.advance(ops, frame, p, temporary);
};
template <class T, class C = double>
concept has_advance_backward = requires(const T t, const archetype_operations& ops, const router_frame<C>& frame,
                                        const router_gradient<C>& gradient,
                                        std::array<matrix_view<const C>, stage_parameter_count<T>> p,
                                        std::array<matrix_view<C>, stage_temporary_count<T>> temporary,
                                        std::array<gradient_target<C>, stage_parameter_count<T>> dp) {
  t.advance_backward(ops, frame, gradient, p, temporary, dp);
};
template <class T>
concept keeps_state_whole = has_state_width<T>
== has_advance<T>&& has_state_width<T> == has_advance_backward<T>;

/// Selections of the library whose columns are distinct and the layer's, whatever the scores: others are checked.
template <class T>
inline constexpr bool selects_distinct = false;

template <class T>
concept has_most = requires(const T t) {
  { t.max_selected(index_t{}) } -> std::convertible_to<index_t>;
};
template <class T, class C = double>
concept has_select = requires(const T t, vector_view<const C> scores, vector_view<const std::int32_t> candidates,
                              vector_view<std::int32_t> selected) {
  { t(scores, candidates, selected) } -> std::convertible_to<index_t>;
};
template <class T, class C = double>
concept has_select_table = requires(const T t, const archetype_operations& ops, matrix_view<const C> scores,
                                    vector_view<const std::uint8_t> valid, vector_view<const std::int32_t> candidates,
                                    matrix_view<std::int32_t> selected) {
  t.table(ops, scores, valid, candidates, selected);
};
template <class T, class C = double>
concept has_gate_forward = requires(const T t, vector_view<const C> logits, vector_view<const std::int32_t> selected,
                                    vector_view<C> gates) {
  t.forward(logits, selected, gates);
};
template <class T, class C = double>
concept has_gate_backward = requires(const T t, vector_view<const C> logits, vector_view<const std::int32_t> selected,
                                     vector_view<const C> gates, vector_view<const C> dgates, vector_view<C> dlogits) {
  t.backward(logits, selected, gates, dgates, dlogits);
};
template <class T, class C = double>
concept has_probability_forward = requires(const T t, vector_view<const C> logits, vector_view<C> p) {
  t.forward(logits, p);
};
template <class T, class C = double>
concept has_probability_backward = requires(const T t, vector_view<const C> logits, vector_view<const C> p,
                                            vector_view<const C> dp, vector_view<C> dlogits) {
  t.backward(logits, p, dp, dlogits);
};
template <class T, class C = double>
concept has_prefer = requires(const T t, vector_view<const C> logits,
                              std::array<matrix_view<const C>, stage_parameter_count<T>> p, vector_view<C> scores) {
  t(logits, p, scores);
};

// False if a member is there in float, but not in double, which concepts try.
template <class T>
concept score_takes_double = (has_score_forward<T> || !has_score_forward<T, float>)&&(
    has_score_backward<T> ||
    !has_score_backward<T, float>)&&(has_advance<T> || !has_advance<T, float>)&&(has_advance_backward<T> ||
                                                                                 !has_advance_backward<T, float>);
template <class T>
concept prefer_takes_double = has_prefer<T> || !has_prefer<T, float>;
template <class T>
concept select_takes_double =
    has_select<T> || has_select_table<T> || !(has_select<T, float> || has_select_table<T, float>);
template <class T>
concept gate_takes_double = (has_gate_forward<T> || !has_gate_forward<T, float>)&&(has_gate_backward<T> ||
                                                                                   !has_gate_backward<T, float>);
template <class T>
concept probability_takes_double = (has_probability_forward<T> ||
                                    !has_probability_forward<T, float>)&&(has_probability_backward<T> ||
                                                                          !has_probability_backward<T, float>);

}  // namespace detail

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
/// A stage that carries state from layer to layer also has `index_t state_width() const`, `advance(ops, frame, p,
/// temporary)`, which assigns `frame.next_state` from `frame.state` and `frame.gates`, and `advance_backward(ops, frame,
/// gradient, p, temporary, dp)`, which reads `gradient.next_state` and adds to `gradient.state` and `gradient.gates`.
/// State starts at zero, never crosses tokens, and its gradient flows through every layer.
template <class T>
concept ScoreStage =
    std::copyable<T> && detail::has_score_forward<T> && detail::has_score_backward<T> && detail::keeps_state_whole<T>;

/// The score that selection reads, per row: `void operator()(logits, p, scores) const`, device-callable. Has no
/// gradient. This and the stages below, if they work per row, may take `lanes` at the end of each member (see
/// lanes.hpp): on backends where several threads share a row they all call it, else one thread alone.
template <class T>
concept PreferenceStage = std::copyable<T> && detail::has_prefer<T>;

/// Which candidates a token takes, per row and device-callable: `index_t max_selected(index_t candidates) const`, an
/// upper bound that never falls as candidates are added, and `index_t operator()(scores, candidates, selected) const`,
/// which writes distinct columns and returns how many. A score of minus infinity closes a candidate. Ties go to the
/// lowest expert id.
///
/// A selection that must see all tokens at once (expert choice, balanced assignment) has in place of the call operator
/// `void table(ops, scores, valid, candidates, selected) const`: it fills `selected` [tokens, max_selected], each row
/// with distinct columns first and -1 after them, and only -1 where a token is not valid.
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
