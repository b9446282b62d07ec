// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Which members a stage of a router has.

#include <array>
#include <concepts>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

#include "moue/arrays.hpp"
#include "moue/gradients/targets.hpp"
#include "moue/lanes.hpp"
#include "moue/operations.hpp"
#include "moue/parameter.hpp"
#include "moue/router/frame.hpp"
#include "moue/view.hpp"
#include "moue/visit.hpp"

namespace moue::inline v0_1::detail {

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
concept has_shaped_state_width = requires(const T t, router_shape s) {
  { t.state_width(s) } -> std::convertible_to<index_t>;
};
template <class T>
concept has_state_width = has_shaped_state_width<T> || requires(const T t) {
  { t.state_width() } -> std::convertible_to<index_t>;
};
template <class T>
concept has_stage_saved = requires(const T t, router_shape s) {
  t.saved(s);
};
/// A score that makes columns beside the candidates' logits.
template <class T>
concept has_extra = requires(const T t, router_shape s) {
  { t.extra(s) } -> std::convertible_to<index_t>;
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
auto stage_saved(const T& stage, const router_shape& shape) {
  if constexpr (has_stage_saved<T>)
    return stage.saved(shape);
  else
    return std::array<index_t, 0>{};
}
template <class T>
constexpr index_t stage_state_width(const T& stage, const router_shape& shape) {
  if constexpr (has_shaped_state_width<T>)
    return stage.state_width(shape);
  else if constexpr (has_state_width<T>)
    return stage.state_width();
  else
    return 0;
}

template <class T>
constexpr index_t stage_extra(const T& stage, const router_shape& shape) {
  if constexpr (has_extra<T>)
    return stage.extra(shape);
  else
    return 0;
}

template <class T>
inline constexpr std::size_t stage_parameter_count =
    std::tuple_size_v<decltype(stage_parameters(std::declval<const T&>(), router_shape{}))>;
template <class T>
inline constexpr std::size_t stage_temporary_count =
    std::tuple_size_v<decltype(stage_temporaries(std::declval<const T&>(), router_shape{}))>;
template <class T>
inline constexpr std::size_t stage_saved_count =
    std::tuple_size_v<decltype(stage_saved(std::declval<const T&>(), router_shape{}))>;

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

// False if a member is there in float, but not in double, which concepts try.
template <class T>
concept score_takes_double = (has_score_forward<T> || !has_score_forward<T, float>)&&(
    has_score_backward<T> ||
    !has_score_backward<T, float>)&&(has_advance<T> || !has_advance<T, float>)&&(has_advance_backward<T> ||
                                                                                 !has_advance_backward<T, float>);

}  // namespace moue::inline v0_1::detail
