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
  constexpr index_t extra(router_shape s) const requires(detail::has_extra<Terms> || ...) {
    return std::apply([&](const auto&... term) { return (detail::stage_extra(term, s) + ... + 0); }, terms_);
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
    each_term(frame, [&]<std::size_t Term>(const auto& term, const columns& own_columns) {
      term.forward(ops, slice<Term>(frame, own_columns), own<Term>(p), own_scratch<Term>(temporary));
    });
  }
  template <class C>
  void close(const auto& ops, const router_frame<C>& frame, const auto& p, const auto& temporary) const
      requires(detail::has_close<Terms> || ...) {
    each_term(frame, [&]<std::size_t Term>(const auto& term, const columns& own_columns) {
      if constexpr (detail::has_close<std::remove_cvref_t<decltype(term)>>)
        term.close(ops, slice<Term>(frame, own_columns), own<Term>(p), own_scratch<Term>(temporary));
    });
  }
  template <class C>
  void backward(const auto& ops, const router_frame<C>& frame, const router_gradient<C>& gradient, const auto& p,
                const auto& temporary, const auto& dp) const {
    each_term(frame, [&]<std::size_t Term>(const auto& term, const columns& own_columns) {
      term.backward(ops, slice<Term>(frame, own_columns), slice(gradient, own_columns), own<Term>(p),
                    own_scratch<Term>(temporary), own<Term>(dp));
    });
  }
  template <class C>
  void advance(const auto& ops, const router_frame<C>& frame, const auto& p, const auto& temporary) const
      requires(detail::has_state_width<Terms> || ...) {
    each_term(frame, [&]<std::size_t Term>(const auto& term, const columns& own_columns) {
      if constexpr (detail::has_state_width<std::remove_cvref_t<decltype(term)>>)
        term.advance(ops, slice<Term>(frame, own_columns), own<Term>(p), own_scratch<Term>(temporary));
    });
  }
  template <class C>
  void advance_backward(const auto& ops, const router_frame<C>& frame, const router_gradient<C>& gradient,
                        const auto& p, const auto& temporary, const auto& dp) const
      requires(detail::has_state_width<Terms> || ...) {
    each_term(frame, [&]<std::size_t Term>(const auto& term, const columns& own_columns) {
      if constexpr (detail::has_state_width<std::remove_cvref_t<decltype(term)>>)
        term.advance_backward(ops, slice<Term>(frame, own_columns), slice(gradient, own_columns), own<Term>(p),
                              own_scratch<Term>(temporary), own<Term>(dp));
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

  /// A term's columns of depth state and of those beside the logits.
  struct columns {
    index_t state, state_width, extra, extra_width;
  };
  /// The frame with the columns and the saved matrices that belong to a term.
  template <std::size_t Term, class C>
  static router_frame<C> slice(router_frame<C> frame, const columns& own) {
    constexpr std::size_t first = before<Term>([](auto of) { return of.saved; });
    frame.state = frame.state.column_block(own.state, own.state_width);
    frame.next_state = frame.next_state.column_block(own.state, own.state_width);
    frame.extra = frame.extra.column_block(own.extra, own.extra_width);
    frame.saved = frame.saved.subspan(first, counts<term_type<Term>>::saved);
    return frame;
  }
  template <class C>
  static router_gradient<C> slice(router_gradient<C> gradient, const columns& own) {
    gradient.state = gradient.state.column_block(own.state, own.state_width);
    gradient.next_state = gradient.next_state.column_block(own.state, own.state_width);
    gradient.extra = gradient.extra.column_block(own.extra, own.extra_width);
    return gradient;
  }

  template <class C, class F>
  void each_term(const router_frame<C>& frame, F&& f) const {
    const router_shape shape = detail::score_shape(frame);
    [&]<std::size_t... Is>(std::index_sequence<Is...>) {
      columns own{};
      const auto run = [&]<std::size_t Term>(const auto& term) {
        own.state_width = detail::stage_state_width(term, shape);
        own.extra_width = detail::stage_extra(term, shape);
        f.template operator()<Term>(term, own);
        own.state += own.state_width;
        own.extra += own.extra_width;
      };
      (run.template operator()<Is>(std::get<Is>(terms_)), ...);
    }
    (std::index_sequence_for<Terms...>{});
  }

  std::tuple<Terms...> terms_;
};

}  // namespace moue::inline v0_1
