// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Logits as a sum of terms.

#include <array>
#include <tuple>
#include <utility>

#include "moue/router.hpp"

namespace moue::inline v0_1 {

/// The sum of several score stages. Parameters, scratch and depth state of the terms stand side by side in their order.
template <class... Terms>
class score_sum {
  static_assert((check_score<Terms>() && ...));

 public:
  /// Each term adds its logits.
  constexpr explicit score_sum(Terms... terms) : terms_(std::move(terms)...) {}

  constexpr index_t state_width(router_shape s) const requires(detail::has_state_width<Terms> || ...) {
    return std::apply([&](const auto&... term) { return (detail::stage_state_width(term, s) + ... + 0); }, terms_);
  }
  auto saved(router_shape s) const requires(detail::has_stage_saved<Terms> || ...) {
    return std::apply([&](const auto&... term) { return detail::join_arrays(detail::stage_saved(term, s)...); },
                      terms_);
  }
  auto parameters(router_shape s) const {
    return std::apply([&](const auto&... term) { return detail::join_arrays(detail::stage_parameters(term, s)...); },
                      terms_);
  }
  auto temporaries(router_shape s) const {
    return std::apply([&](const auto&... term) { return detail::join_arrays(detail::stage_temporaries(term, s)...); },
                      terms_);
  }

  template <class C>
  void forward(const auto& ops, const router_frame<C>& frame, const auto& p, const auto& temporary) const {
    each_term(frame, [&]<std::size_t Term>(const auto& term, index_t column, index_t state_columns) {
      term.forward(ops, slice<Term>(frame, state_columns, column), own<Term>(p), own_scratch<Term>(temporary));
    });
  }
  template <class C>
  void close(const auto& ops, const router_frame<C>& frame, const auto& p, const auto& temporary) const
      requires(detail::has_close<Terms> || ...) {
    each_term(frame, [&]<std::size_t Term>(const auto& term, index_t column, index_t state_columns) {
      if constexpr (detail::has_close<std::remove_cvref_t<decltype(term)>>)
        term.close(ops, slice<Term>(frame, state_columns, column), own<Term>(p), own_scratch<Term>(temporary));
    });
  }
  template <class C>
  void backward(const auto& ops, const router_frame<C>& frame, const router_gradient<C>& gradient, const auto& p,
                const auto& temporary, const auto& dp) const {
    each_term(frame, [&]<std::size_t Term>(const auto& term, index_t column, index_t state_columns) {
      term.backward(ops, slice<Term>(frame, state_columns, column), slice(gradient, state_columns, column),
                    own<Term>(p), own_scratch<Term>(temporary), own<Term>(dp));
    });
  }
  template <class C>
  void advance(const auto& ops, const router_frame<C>& frame, const auto& p, const auto& temporary) const
      requires(detail::has_state_width<Terms> || ...) {
    each_term(frame, [&]<std::size_t Term>(const auto& term, index_t column, index_t state_columns) {
      if constexpr (detail::has_state_width<std::remove_cvref_t<decltype(term)>>)
        term.advance(ops, slice<Term>(frame, state_columns, column), own<Term>(p), own_scratch<Term>(temporary));
    });
  }
  template <class C>
  void advance_backward(const auto& ops, const router_frame<C>& frame, const router_gradient<C>& gradient,
                        const auto& p, const auto& temporary, const auto& dp) const
      requires(detail::has_state_width<Terms> || ...) {
    each_term(frame, [&]<std::size_t Term>(const auto& term, index_t column, index_t state_columns) {
      if constexpr (detail::has_state_width<std::remove_cvref_t<decltype(term)>>)
        term.advance_backward(ops, slice<Term>(frame, state_columns, column), slice(gradient, state_columns, column),
                              own<Term>(p), own_scratch<Term>(temporary), own<Term>(dp));
    });
  }

 private:
  template <std::size_t Term>
  using term_type = std::tuple_element_t<Term, std::tuple<Terms...>>;

  /// What a stage declares a number of.
  template <class T>
  struct counts {
    static constexpr std::size_t parameters = detail::stage_parameter_count<T>;
    static constexpr std::size_t temporaries = detail::stage_temporary_count<T>;
    static constexpr std::size_t saved = detail::stage_saved_count<T>;
  };
  /// How many of them the terms before `Term` have.
  template <std::size_t Term, class Count>
  static constexpr std::size_t before(Count count) {
    return [&]<std::size_t... J>(std::index_sequence<J...>) {
      return (count(counts<term_type<J>>{}) + ... + std::size_t{0});
    }
    (std::make_index_sequence<Term>{});
  }
  template <std::size_t Term>
  static auto own(const auto& all) {
    constexpr std::size_t first = before<Term>([](auto of) { return of.parameters; });
    return detail::sub_array<first, counts<term_type<Term>>::parameters>(all);
  }
  template <std::size_t Term>
  static auto own_scratch(const auto& all) {
    constexpr std::size_t first = before<Term>([](auto of) { return of.temporaries; });
    return detail::sub_array<first, counts<term_type<Term>>::temporaries>(all);
  }

  /// The frame with the columns of state and the saved matrices that belong to a term.
  template <std::size_t Term, class C>
  static router_frame<C> slice(router_frame<C> frame, index_t width, index_t column) {
    constexpr std::size_t first = before<Term>([](auto of) { return of.saved; });
    frame.state = frame.state.column_block(column, width);
    frame.next_state = frame.next_state.column_block(column, width);
    frame.saved = frame.saved.subspan(first, counts<term_type<Term>>::saved);
    return frame;
  }
  template <class C>
  static router_gradient<C> slice(router_gradient<C> gradient, index_t width, index_t column) {
    gradient.state = gradient.state.column_block(column, width);
    gradient.next_state = gradient.next_state.column_block(column, width);
    return gradient;
  }

  template <class C, class F>
  void each_term(const router_frame<C>& frame, F&& f) const {
    const router_shape shape = detail::score_shape(frame);
    [&]<std::size_t... Is>(std::index_sequence<Is...>) {
      index_t column = 0;
      const auto run = [&]<std::size_t Term>(const auto& term) {
        const index_t state_columns = detail::stage_state_width(term, shape);
        f.template operator()<Term>(term, column, state_columns);
        column += state_columns;
      };
      (run.template operator()<Is>(std::get<Is>(terms_)), ...);
    }
    (std::index_sequence_for<Terms...>{});
  }

  std::tuple<Terms...> terms_;
};

}  // namespace moue::inline v0_1
