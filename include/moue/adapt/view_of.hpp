// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Memory of Eigen, mdspan and the standard library as views, without a copy. Includes none of them: what counts is the
/// members that a type has.

#include <concepts>
#include <ranges>
#include <string>
#include <string_view>
#include <type_traits>

#include "moue/error.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {
namespace detail {

template <class T>
concept eigen_expression = requires {
  typename T::PlainObject;
  { T::IsRowMajor + 0 } -> std::convertible_to<int>;
};
/// Matrices, arrays, maps, references, blocks and transposes: whatever lies in memory.
template <class T>
concept eigen_memory = eigen_expression<T> && requires(T& t) {
  *t.data();
  t.innerStride() + t.outerStride() + t.rows() + t.cols();
};
/// Template arguments that `Eigen::Ref` has (and `Eigen::Map`). A Ref to const may hold a copy of its own.
template <class T>
inline constexpr bool refers_to_const = false;
template <template <class, int, class> class Reference, class M, int Options, class Stride>
inline constexpr bool refers_to_const<Reference<const M, Options, Stride>> = true;
/// Whether the elements may end with the object.
template <class T>
constexpr bool eigen_owns() {
  if constexpr (std::is_base_of_v<typename T::PlainObject, T>)
    return true;
  else
    return refers_to_const<T> && std::is_constructible_v<T, typename T::PlainObject&&>;  // not so a Map
}

template <class T>
concept mdspan_like = requires(const T& t) {
  typename T::element_type;
  requires std::is_pointer_v<std::remove_cvref_t<decltype(t.data_handle())>>;
  t.extent(0) + t.stride(0) + T::rank();
};
/// `std::vector`, `std::array`, `std::span`, arrays, `vector_view`.
template <class T>
concept memory_range = std::ranges::contiguous_range<T> && std::ranges::sized_range<T> &&
    std::is_trivially_copyable_v<std::ranges::range_value_t<T>>;

/// Names what keeps `T`, the type of an argument with its value category, from being viewed.
template <class T>
consteval bool check_viewable() {
  using U = std::remove_cvref_t<T>;
  constexpr bool known = eigen_memory<U> || mdspan_like<U> || memory_range<U>;
  static_assert(!eigen_expression<U> || eigen_memory<U>,
                "moue: an Eigen expression has no memory to view; evaluate it into a matrix first");
  static_assert(eigen_expression<U> || known,
                "moue: views are made of Eigen matrices, maps, references and blocks, of mdspans with pointers, and of "
                "contiguous ranges of numbers");
  if constexpr (!std::is_lvalue_reference_v<T> && eigen_memory<U>)
    static_assert(!eigen_owns<U>(), "moue: a view of a temporary would dangle; give the matrix a name");
  else if constexpr (!std::is_lvalue_reference_v<T> && !mdspan_like<U> && memory_range<U>)
    static_assert(std::ranges::borrowed_range<U>, "moue: a view of a temporary would dangle; give the range a name");
  return known;
}

inline void require_dense(index_t elements, index_t apart, std::string_view where, std::string_view what,
                          std::string_view fix) {
  require(
      elements <= 1 || apart == 1, where,
      [&] { return "the elements of a " + std::string(what) + " lie " + std::to_string(apart) + " apart"; }, fix);
}

template <class T>
constexpr bool vector_like() {
  if constexpr (eigen_memory<T>)
    return T::IsVectorAtCompileTime;
  else if constexpr (mdspan_like<T>)
    return T::rank() == 1;
  else
    return true;
}

template <class U>
constexpr auto vector_view_of(auto& memory, std::string_view where) {
  if constexpr (eigen_memory<U>) {
    const index_t size = memory.rows() * memory.cols();
    require_dense(size, memory.innerStride(), where, "vector", "copy it into one of its own");
    return vector_view<std::remove_pointer_t<decltype(memory.data())>>{memory.data(), size};
  } else if constexpr (mdspan_like<U>) {
    const auto size = static_cast<index_t>(memory.extent(0));
    require_dense(size, static_cast<index_t>(memory.stride(0)), where, "vector", "copy it into one of its own");
    return vector_view<typename U::element_type>{memory.data_handle(), size};
  } else {
    return vector_view<std::remove_pointer_t<decltype(std::ranges::data(memory))>>{
        std::ranges::data(memory), static_cast<index_t>(std::ranges::size(memory))};
  }
}

}  // namespace detail

/// `memory` as a view, with its constness and its strides:
///
/// | memory | view |
/// | --- | --- |
/// | `std::vector`, `std::span`, `std::array`, an array; an Eigen vector; an mdspan of rank 1 | `vector_view` |
/// | a row-major Eigen matrix, map, reference or block [tokens, width] | `matrix_view` [tokens, width] |
/// | an mdspan of rank 2 [tokens, width] whose rows are dense | `matrix_view` [tokens, width] |
///
/// Eigen's default is column-major: there a token is a *column*, see `view_of_columns`. Temporaries that own their
/// elements are refused at compile time, as is what is known to be column-major; strides of an mdspan, and of what Eigen
/// knows only at run time, throw. Resizing the memory ends the view.
template <class T>
constexpr auto view_of(T&& memory) {
  using U = std::remove_cvref_t<T>;
  if constexpr (detail::check_viewable<T>()) {
    if constexpr (detail::vector_like<U>()) {
      return detail::vector_view_of<U>(memory, "view_of");
    } else if constexpr (detail::eigen_memory<U>) {
      static_assert(
          U::IsRowMajor,
          "moue: a column-major [tokens, width] has no rows to view: keep it as [width, tokens], whose columns "
          "are tokens, and say view_of_columns; or store it row by row");
      detail::require_dense(memory.cols(), memory.innerStride(), "view_of", "row", "copy it into a matrix of its own");
      return matrix_view<std::remove_pointer_t<decltype(memory.data())>>{memory.data(), memory.rows(), memory.cols(),
                                                                         memory.outerStride()};
    } else {
      static_assert(U::rank() == 2, "moue: views are made of mdspans of rank 1 and 2");
      const auto extent = [&](auto i) { return static_cast<index_t>(memory.extent(i)); };
      detail::require_dense(
          extent(1), static_cast<index_t>(memory.stride(1)), "view_of", "row",
          "a column-major [tokens, width] has no rows to view: keep it as [width, tokens], whose columns "
          "are tokens, and say view_of_columns; or store it row by row");
      return matrix_view<typename U::element_type>{memory.data_handle(), extent(0), extent(1),
                                                   static_cast<index_t>(memory.stride(0))};
    }
  }
}

/// The columns of `memory` [width, tokens], which is stored column by column, as the rows of a view [tokens, width]: the
/// same memory. Takes column-major Eigen matrices, maps, references and blocks, and mdspans of rank 2 (`layout_left`).
template <class T>
constexpr auto view_of_columns(T&& memory) {
  using U = std::remove_cvref_t<T>;
  if constexpr (detail::check_viewable<T>()) {
    static_assert(detail::eigen_memory<U> || detail::mdspan_like<U>,
                  "moue: a range has no columns; say view_of(range, rows, cols)");
    if constexpr (detail::eigen_memory<U>) {
      static_assert(
          !U::IsRowMajor || U::IsVectorAtCompileTime,
          "moue: the columns of a row-major matrix are not dense; say view_of of a row-major [tokens, width]");
      const index_t down = U::IsRowMajor ? memory.outerStride() : memory.innerStride();
      detail::require_dense(memory.rows(), down, "view_of_columns", "column", "copy it into a matrix of its own");
      return matrix_view<std::remove_pointer_t<decltype(memory.data())>>{
          memory.data(), memory.cols(), memory.rows(), U::IsRowMajor ? memory.innerStride() : memory.outerStride()};
    } else if constexpr (detail::mdspan_like<U>) {
      static_assert(U::rank() == 2, "moue: columns are those of mdspans of rank 2");
      const auto extent = [&](auto i) { return static_cast<index_t>(memory.extent(i)); };
      detail::require_dense(extent(0), static_cast<index_t>(memory.stride(0)), "view_of_columns", "column",
                            "say view_of of what is stored row by row");
      return matrix_view<typename U::element_type>{memory.data_handle(), extent(1), extent(0),
                                                   static_cast<index_t>(memory.stride(1))};
    }
  }
}

/// A range (or Eigen vector, or mdspan of rank 1) as the rows of [rows, cols], one after the other. Throws unless it has
/// that many elements.
template <class T>
constexpr auto view_of(T&& memory, index_t rows, index_t cols) {
  using U = std::remove_cvref_t<T>;
  if constexpr (detail::check_viewable<T>()) {
    static_assert(detail::vector_like<U>(), "moue: this has a shape of its own; say view_of(matrix)");
    const auto all = detail::vector_view_of<U>(memory, "view_of");
    detail::require(
        rows >= 0 && cols >= 0 && (rows == 0 || cols == all.size / rows) && rows * cols == all.size, "view_of",
        [&] { return std::to_string(all.size) + " elements were given for " + detail::shape_text(rows, cols); },
        "give as many as there are");
    return matrix_view{all.data, rows, cols};
  }
}

}  // namespace moue::inline v0_1
