// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Expert: what one expert computes on a block of rows, forward and backward. The contract, and pools that mix kinds.

#include <array>
#include <concepts>
#include <cstdint>
#include <functional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "moue/error.hpp"
#include "moue/gradients/targets.hpp"
#include "moue/grouped.hpp"
#include "moue/operations.hpp"
#include "moue/parameter.hpp"
#include "moue/scalar.hpp"
#include "moue/token_rows.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {

/// The output gradient of rows that are combined with gates, before the gate is applied. An expert that takes this form
/// of `backward` scales its own gradients by the gate and fills in the gate's gradient from its activations, so that
/// nobody has to keep its outputs. `C` is what numbers are computed in, `T` what the rows are stored as.
template <class C, class T = C>
struct gated_gradient {
  token_rows<T, C> dy;        ///< [rows, width], not scaled
  vector_view<const C> gate;  ///< [rows]
  vector_view<C> dgate;       ///< [rows], assigned by the expert: <dy, output> of each row
};

namespace detail {

template <class E>
concept has_width = requires(const E e) {
  { e.width } -> std::convertible_to<index_t>;
};
template <class E>
concept has_expert_parameters = requires(const E e) {
  { std::tuple_size<decltype(e.parameters())>::value } -> std::convertible_to<std::size_t>;
  { e.parameters().data() } -> std::convertible_to<const parameter_spec*>;
};
template <class E>
concept has_saved = requires(const E e) {
  std::tuple_size<decltype(e.saved())>::value;
};
template <class E>
concept has_temporaries = requires(const E e) {
  std::tuple_size<decltype(e.temporaries())>::value;
};

template <class E>
inline constexpr std::size_t parameter_count = std::tuple_size_v<decltype(std::declval<const E&>().parameters())>;
template <class E>
inline constexpr std::size_t saved_count = std::tuple_size_v<decltype(std::declval<const E&>().saved())>;
template <class E>
inline constexpr std::size_t temporary_count = std::tuple_size_v<decltype(std::declval<const E&>().temporaries())>;

template <class T, std::size_t N>
using views = std::array<matrix_view<T>, N>;
template <class T, std::size_t N>
using grouped_views = std::array<grouped_matrix<T>, N>;

template <class E, class T, class C>
concept has_forward_of = has_expert_parameters<E> && has_saved<E> && has_temporaries<E> &&
    requires(const E e, const archetype_operations& ops, grouped_views<const T, parameter_count<E>> p,
             token_rows<T, C> x, views<C, saved_count<E>> saved, views<C, temporary_count<E>> temporary,
             matrix_view<C> y) {
  e.forward(ops, p, x, saved, temporary, y);
};

template <class E, class DY, class T, class C>
concept has_backward_of = has_expert_parameters<E> && has_saved<E> && has_temporaries<E> &&
    requires(const E e, const archetype_operations& ops, grouped_views<const T, parameter_count<E>> p,
             token_rows<T, C> x, views<const C, saved_count<E>> saved, views<C, temporary_count<E>> temporary, DY dy,
             matrix_view<C> dx, std::array<grouped_target<C>, parameter_count<E>> dp) {
  e.backward(ops, p, x, saved, temporary, dy, dx, dp);
};

/// In double, and in float with rows and weights that are stored in a narrower type.
template <class E>
concept has_expert_forward = has_forward_of<E, double, double> && has_forward_of<E, bf16, float>;
template <class E>
concept has_plain_backward = has_backward_of < E,
        matrix_view<const double>,
double, double > ;
template <class E>
concept has_gated_backward = has_backward_of < E,
        gated_gradient<double>,
double, double > ;
template <class E>
concept has_narrow_backward = (!has_plain_backward<E> || has_backward_of<E, matrix_view<const float>, bf16, float>)&&(
    !has_gated_backward<E> || has_backward_of<E, gated_gradient<float, bf16>, bf16, float>);

/// False if a member is there in float, but not in double, which concepts try.
template <class E>
concept forward_takes_double = has_forward_of<E, double, double> || !has_forward_of<E, float, float>;
template <class E>
concept backward_takes_double =
    has_plain_backward<E> || has_gated_backward<E> || !(has_backward_of<E, matrix_view<const float>, float, float> ||
                                                        has_backward_of<E, gated_gradient<float>, float, float>);

}  // namespace detail

/// One expert: a map from rows `[rows, width]` to rows `[rows, width]` with parameters of its own.
///
///     index_t width;                              // of its input and output
///     auto parameters() const;                    // std::array<parameter_spec, N>
///     auto saved() const;                         // std::array<index_t, K>: widths of row matrices backward needs
///     auto temporaries() const;                   // std::array<index_t, M>: widths of row matrices used as scratch
///     void forward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto& temporary,
///                  matrix_view<C> y) const;
///     void backward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto& temporary,
///                   auto dy, matrix_view<C> dx, const auto& dp) const;
///
/// A call is about a block of rows that all experts of the kind may have a part in: which experts and how many rows is
/// the backend's choice, so that an expert is written once and runs on every backend.
/// - `ops` are the bulk operations of the backend (`moue/operations.hpp`) over the rows of the block, all of them:
///   `each_row(x.rows, f)`, never a number of one's own.
/// - `p` is an array of `grouped_matrix`es, in the order declared. Products take them and multiply every row with the
///   matrix of its own expert; a row functor reads a weight of row i as `p[n].for_row(i)(row, col)`.
/// - `dp` is an array of targets (`moue/gradients/targets.hpp`), to be written by `ops.weight_gradient` and
///   `ops.column_sum`, which assign or add as each expert's tensor needs. A target is `empty()` where nobody wants that
///   gradient: what only serves it need not be computed.
/// - `x` is a `token_rows`: the tokens' rows where they lie, which products gather as they load and row functors read as
///   `x(i, j)`.
/// - `saved` and `temporary` are arrays of matrices, one row per row of the block.
///
/// `forward` assigns `y` and `saved`; `backward` assigns `dx` and writes `dp`. `dy` [rows, width] is a matrix, already
/// scaled by the gates, or, in a second form, a `gated_gradient<C, T>` (see there). Rows may number zero.
///
/// Laws (`testing::check_expert_laws`): rows are independent, of one expert and of several; `backward` agrees with
/// central differences; zero rows are legal; both forms of `backward`, where offered, agree.
template <class E>
concept Expert = std::copyable<E> && detail::has_width<E> && detail::has_expert_parameters<E> && detail::has_saved<E> &&
    detail::has_temporaries<E> && detail::has_expert_forward<E> &&
    (detail::has_plain_backward<E> || detail::has_gated_backward<E>)&&detail::has_narrow_backward<E>;

/// Names the missing parts of an expert, one sentence each.
template <class E>
consteval bool check_expert() {
  static_assert(std::copyable<E>, "moue: an expert must be copyable");
  static_assert(detail::has_width<E>, "moue: an expert needs the member 'index_t width'");
  static_assert(detail::has_expert_parameters<E>,
                "moue: an expert needs the member 'std::array<moue::parameter_spec, N> parameters() const'");
  static_assert(detail::has_saved<E>, "moue: an expert needs the member 'std::array<moue::index_t, K> saved() const'");
  static_assert(detail::has_temporaries<E>,
                "moue: an expert needs the member 'std::array<moue::index_t, M> temporaries() const'");
  if constexpr (detail::has_expert_parameters<E> && detail::has_saved<E> && detail::has_temporaries<E>) {
    static_assert(detail::forward_takes_double<E>,
                  "moue: an expert's 'forward' is needed for every arithmetic type C; tried with double, it is there "
                  "for float alone");
    static_assert(detail::backward_takes_double<E>,
                  "moue: an expert's 'backward' is needed for every arithmetic type C; tried with double, it is there "
                  "for float alone");
    static_assert(
        detail::has_expert_forward<E>,
        "moue: an expert needs the member 'void forward(ops, p, x, saved, temporary, y) const', where p holds "
        "moue::grouped_matrix<const T> and x is a moue::token_rows<T, C> for any T that numbers are stored as: "
        "take both as 'const auto&'");
    static_assert(
        detail::has_plain_backward<E> || detail::has_gated_backward<E>,
        "moue: an expert needs the member 'void backward(ops, p, x, saved, temporary, dy, dx, dp) const', where "
        "p, x and dp are taken as 'const auto&' and dy is a moue::matrix_view<const C> or a "
        "moue::gated_gradient<C, T>");
    static_assert(!(detail::has_plain_backward<E> || detail::has_gated_backward<E>) || detail::has_narrow_backward<E>,
                  "moue: an expert's 'backward' must take rows of any type T that numbers are stored as, as in "
                  "'template <class C, class T> void backward(..., moue::gated_gradient<C, T> dy, ...)'");
  }
  return true;
}

/// A pool whose physical experts are of several kinds: different types, or one type with different widths. The kind of
/// expert `e` is `kind_of(e)`.
template <class... Es>
class expert_pool {
 public:
  static_assert(sizeof...(Es) > 0, "moue: an expert pool needs at least one kind of expert");
  static constexpr std::size_t kinds = sizeof...(Es);  ///< how many kinds there are

  /// `kind_of`: any callable from physical id to the position of its kind among `experts`.
  expert_pool(std::function<index_t(index_t)> kind_of, Es... experts)
      : kinds_(std::move(experts)...), kind_of_(std::move(kind_of)) {
    for_each_kind([&](std::size_t kind, const auto& expert) {
      detail::require(
          expert.width == width(), "expert_pool",
          [&] {
            return "kind " + std::to_string(kind) + " has width " + std::to_string(expert.width) + ", kind 0 has " +
                   std::to_string(width());
          },
          "give all experts of a pool the same width; only their hidden sizes may differ");
    });
  }

  index_t width() const { return std::get<0>(kinds_).width; }

  /// Position of the kind of physical expert `expert`. Throws if the callable gives none.
  std::size_t kind_of(index_t expert) const {
    const index_t kind = kind_of_(expert);
    detail::require(
        kind >= 0 && kind < static_cast<index_t>(kinds), "expert_pool",
        [&] { return "expert " + std::to_string(expert) + " has kind " + std::to_string(kind); },
        "return a kind from 0 to " + std::to_string(kinds - 1));
    return static_cast<std::size_t>(kind);
  }

  /// The expert of the kind at position `Kind`.
  template <std::size_t Kind>
  const auto& kind() const {
    return std::get<Kind>(kinds_);
  }

  /// Calls `f(position, expert)` for every kind.
  template <class F>
  void for_each_kind(F&& f) const {
    [&]<std::size_t... Is>(std::index_sequence<Is...>) { (f(Is, std::get<Is>(kinds_)), ...); }
    (std::index_sequence_for<Es...>{});
  }

  /// Calls `f` with the expert of kind `kind`.
  template <class F>
  void visit_kind(std::size_t kind, F&& f) const {
    [&]<std::size_t... Is>(std::index_sequence<Is...>) { ((Is == kind ? f(std::get<Is>(kinds_)) : void()), ...); }
    (std::index_sequence_for<Es...>{});
  }

 private:
  std::tuple<Es...> kinds_;
  std::function<index_t(index_t)> kind_of_;
};

namespace detail {

template <class T>
inline constexpr bool is_expert_pool = false;
template <class... Es>
inline constexpr bool is_expert_pool<expert_pool<Es...>> = true;

struct only_kind {
  index_t operator()(index_t) const { return 0; }
};

template <class E>
struct pool_of {
  using type = expert_pool<E>;
  static type make(E e) { return type(only_kind{}, std::move(e)); }
};
template <class... Es>
struct pool_of<expert_pool<Es...>> {
  using type = expert_pool<Es...>;
  static type make(type pool) { return pool; }
};

template <class T>
struct check_experts_of {
  static consteval bool run() { return check_expert<T>(); }
};
template <class... Es>
struct check_experts_of<expert_pool<Es...>> {
  static consteval bool run() { return (check_expert<Es>() && ...); }
};

}  // namespace detail
}  // namespace moue::inline v0_1
