// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Which members a stage has that works on one token's row, and the call of one: with extra columns and parameters where
/// the stage asks for them, with a context and lanes where it takes them.

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "moue/router/members.hpp"
#include "moue/view.hpp"
#include "moue/visit.hpp"

namespace moue::inline v0_1::detail {

/// Whether a row stage is handed the columns that a score makes beside its logits.
template <class T>
inline constexpr bool reads_extra = false;
template <class T>
  requires requires { T::reads_extra; }
inline constexpr bool reads_extra<T> = T::reads_extra;

/// In the place of an argument that a stage does not take.
struct absent {};

template <class T, class View>
using if_extra = std::conditional_t<reads_extra<T>, View, absent>;
template <class T, class List>
using if_parameters = std::conditional_t<(stage_parameter_count<T> > 0), List, absent>;
template <class T, class C>
using weights_of_row = std::array<matrix_view<const C>, stage_parameter_count<T>>;
/// Where a row stage adds the gradients of its parameters for one token: [cols] each.
template <class T, class C>
using weight_gradients_of_row = std::array<vector_view<C>, stage_parameter_count<T>>;

/// `view` if the stage reads extra columns, and `list` if it has parameters.
template <class T, class View>
MOUE_HD constexpr auto extra_for(const View& view) {
  if constexpr (reads_extra<T>)
    return view;
  else
    return absent{};
}
template <class T, class List>
MOUE_HD constexpr auto parameters_for(const List& list) {
  if constexpr ((stage_parameter_count < T >> 0))
    return list;
  else
    return absent{};
}

template <class... T>
struct type_list {};

/// Whether a member may be called with those of the arguments that are not absent.
template <class Member, class T, class... Kept>
consteval bool takes_present(type_list<Kept...>, type_list<>) {
  return callable_by_row<Member, one_lane, T, Kept...>;
}
template <class Member, class T, class... Kept, class First, class... Rest>
consteval bool takes_present(type_list<Kept...>, type_list<First, Rest...>) {
  if constexpr (std::is_same_v<First, absent>)
    return takes_present<Member, T>(type_list<Kept...>{}, type_list<Rest...>{});
  else
    return takes_present<Member, T>(type_list<Kept..., First>{}, type_list<Rest...>{});
}
template <class Member, class T, class... A>
concept callable_by_stage = takes_present<Member, T>(type_list<>{}, type_list<A...>{});

/// Calls a member of a row stage as `call_by_row` does, without the absent arguments. Each of the `Left` first ones goes
/// or moves behind the others, which leaves the rest in their order.
template <std::size_t Left, class R, class Member, class Lanes, class T, class First, class... Rest>
[[gnu::always_inline]] MOUE_HD inline R rotate_and_call(const Member& member, const row_context& at, const Lanes& lanes,
                                                        const T& stage, const First& first, const Rest&... rest) {
  if constexpr (Left == 0 && std::is_void_v<R>)
    return call_by_row(member, at, lanes, stage, first, rest...);
  else if constexpr (Left == 0)
    return value_by_row<R>(member, at, lanes, stage, first, rest...);
  else if constexpr (std::is_same_v<First, absent>)
    return rotate_and_call<Left - 1, R>(member, at, lanes, stage, rest...);
  else
    return rotate_and_call<Left - 1, R>(member, at, lanes, stage, rest..., first);
}
template <class R = void, class Member, class Lanes, class T, class... A>
[[gnu::always_inline]] MOUE_HD inline R call_stage(const Member& member, const row_context& at, const Lanes& lanes,
                                                   const T& stage, const A&... a) {
  return rotate_and_call<sizeof...(A), R>(member, at, lanes, stage, a...);
}

// Members of row stages may take more: those of a score, if they are generic, could pass for them.

template <class T, class C = double>
concept has_select = callable_by_stage<call_operator, T, vector_view<const C>, vector_view<const std::int32_t>,
                                       if_parameters<T, weights_of_row<T, C>>, vector_view<std::int32_t>>;
template <class T, class C = double>
concept has_select_table = (stage_parameter_count<T> == 0 &&
                            requires(const T t, const archetype_operations& ops, const select_frame<C>& frame,
                                     matrix_view<std::int32_t> selected,
                                     std::array<matrix_view<C>, stage_temporary_count<T>> temporary) {
                              t.table(ops, frame, selected, temporary);
                            }) ||
                           requires(const T t, const archetype_operations& ops, const select_frame<C>& frame,
                                    weights_of_row<T, C> p, matrix_view<std::int32_t> selected,
                                    std::array<matrix_view<C>, stage_temporary_count<T>> temporary) {
  t.table(ops, frame, p, selected, temporary);
};
/// A selection that takes entries back once their gates are known.
template <class T, class C = double>
concept has_drop = requires(const T t, const archetype_operations& ops, const select_frame<C>& frame,
                            matrix_view<const std::int32_t> selected, matrix_view<const C> gates,
                            matrix_view<std::int32_t> experts,
                            std::array<matrix_view<C>, stage_temporary_count<T>> temporary) {
  t.drop(ops, frame, selected, gates, experts, temporary);
};
/// A selection that bounds the entries of all tokens together.
template <class T>
concept has_most_entries = requires(const T t) {
  { t.most_entries(index_t{}, index_t{}) } -> std::convertible_to<index_t>;
};

template <class T, class C = double>
concept has_gate_forward =
    !has_score_forward<T, C> &&
    callable_by_stage<call_forward, T, vector_view<const C>, if_extra<T, vector_view<const C>>,
                      vector_view<const std::int32_t>, if_parameters<T, weights_of_row<T, C>>, vector_view<C>>;
template <class T, class C = double>
concept has_gate_backward =
    callable_by_stage<call_backward, T, vector_view<const C>, if_extra<T, vector_view<const C>>,
                      vector_view<const std::int32_t>, if_parameters<T, weights_of_row<T, C>>, vector_view<const C>,
                      vector_view<const C>, vector_view<C>, if_extra<T, vector_view<C>>,
                      if_parameters<T, weight_gradients_of_row<T, C>>>;

template <class T, class C = double>
concept has_probability_forward =
    !has_score_forward<T, C> &&
    callable_by_stage<call_forward, T, vector_view<const C>, if_extra<T, vector_view<const C>>, vector_view<C>>;
template <class T, class C = double>
concept has_probability_backward =
    callable_by_stage<call_backward, T, vector_view<const C>, if_extra<T, vector_view<const C>>, vector_view<const C>,
                      vector_view<const C>, vector_view<C>, if_extra<T, vector_view<C>>>;

template <class T, class C = double>
concept has_prefer = callable_by_stage<call_operator, T, vector_view<const C>, if_extra<T, vector_view<const C>>,
                                       weights_of_row<T, C>, vector_view<C>>;

template <class T, class C = double>
concept has_transform = callable_by_stage<call_operator, T, vector_view<const C>, if_extra<T, vector_view<const C>>,
                                          if_parameters<T, weights_of_row<T, C>>, vector_view<C>>;
template <class T, class C = double>
concept has_transform_backward =
    callable_by_stage<call_backward, T, vector_view<const C>, if_extra<T, vector_view<const C>>,
                      if_parameters<T, weights_of_row<T, C>>, vector_view<const C>, vector_view<const C>,
                      vector_view<C>, if_extra<T, vector_view<C>>, if_parameters<T, weight_gradients_of_row<T, C>>>;

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
template <class T>
concept transform_takes_double = (has_transform<T> || !has_transform<T, float>)&&(has_transform_backward<T> ||
                                                                                  !has_transform_backward<T, float>);

}  // namespace moue::inline v0_1::detail
