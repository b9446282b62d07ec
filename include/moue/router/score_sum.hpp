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

  constexpr index_t state_width() const requires(detail::has_state_width<Terms> || ...) {
    return std::apply([](const auto&... term) { return (detail::stage_state_width(term) + ... + 0); }, terms_);
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
    each_term([&]<std::size_t Term>(const auto& term, index_t column) {
      term.forward(ops, slice(term, frame, column), own<Term>(p), own_scratch<Term>(temporary));
    });
  }
  template <class C>
  void close(const auto& ops, const router_frame<C>& frame, const auto& p, const auto& temporary) const
      requires(detail::has_close<Terms> || ...) {
    each_term([&]<std::size_t Term>(const auto& term, index_t column) {
      if constexpr (detail::has_close<std::remove_cvref_t<decltype(term)>>)
        term.close(ops, slice(term, frame, column), own<Term>(p), own_scratch<Term>(temporary));
    });
  }
  template <class C>
  void backward(const auto& ops, const router_frame<C>& frame, const router_gradient<C>& gradient, const auto& p,
                const auto& temporary, const auto& dp) const {
    each_term([&]<std::size_t Term>(const auto& term, index_t column) {
      term.backward(ops, slice(term, frame, column), slice(term, gradient, column), own<Term>(p),
                    own_scratch<Term>(temporary), own<Term>(dp));
    });
  }
  template <class C>
  void advance(const auto& ops, const router_frame<C>& frame, const auto& p, const auto& temporary) const
      requires(detail::has_state_width<Terms> || ...) {
    each_term([&]<std::size_t Term>(const auto& term, index_t column) {
      if constexpr (detail::has_state_width<std::remove_cvref_t<decltype(term)>>)
        term.advance(ops, slice(term, frame, column), own<Term>(p), own_scratch<Term>(temporary));
    });
  }
  template <class C>
  void advance_backward(const auto& ops, const router_frame<C>& frame, const router_gradient<C>& gradient,
                        const auto& p, const auto& temporary, const auto& dp) const
      requires(detail::has_state_width<Terms> || ...) {
    each_term([&]<std::size_t Term>(const auto& term, index_t column) {
      if constexpr (detail::has_state_width<std::remove_cvref_t<decltype(term)>>)
        term.advance_backward(ops, slice(term, frame, column), slice(term, gradient, column), own<Term>(p),
                              own_scratch<Term>(temporary), own<Term>(dp));
    });
  }

 private:
  template <std::size_t Term>
  using term_type = std::tuple_element_t<Term, std::tuple<Terms...>>;

  /// How many parameters (or temporaries) the terms before `Term` have.
  template <std::size_t Term, bool Scratch>
  static constexpr std::size_t before() {
    return []<std::size_t... J>(std::index_sequence<J...>) {
      return (
          (Scratch ? detail::stage_temporary_count<term_type<J>> : detail::stage_parameter_count<term_type<J>>)+... +
          std::size_t{0});
    }
    (std::make_index_sequence<Term>{});
  }
  template <std::size_t Term>
  static auto own(const auto& all) {
    return detail::sub_array<before<Term, false>(), detail::stage_parameter_count<term_type<Term>>>(all);
  }
  template <std::size_t Term>
  static auto own_scratch(const auto& all) {
    return detail::sub_array<before<Term, true>(), detail::stage_temporary_count<term_type<Term>>>(all);
  }

  /// The frame (or gradient) with the state columns that belong to `term`.
  template <class Frame>
  static Frame slice(const auto& term, Frame frame, index_t column) {
    const index_t width = detail::stage_state_width(term);
    frame.state = frame.state.column_block(column, width);
    frame.next_state = frame.next_state.column_block(column, width);
    return frame;
  }

  template <class F>
  void each_term(F&& f) const {
    [&]<std::size_t... Is>(std::index_sequence<Is...>) {
      index_t column = 0;
      ((f.template operator()<Is>(std::get<Is>(terms_), column),
        column += detail::stage_state_width(std::get<Is>(terms_))),
       ...);
    }
    (std::index_sequence_for<Terms...>{});
  }

  std::tuple<Terms...> terms_;
};

}  // namespace moue::inline v0_1
