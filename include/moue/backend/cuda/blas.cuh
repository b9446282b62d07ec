// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Products in the words of cuBLAS: what is passed for which product, without any of its headers.

#include <cstdint>
#include <type_traits>

#include "moue/backend/cuda/segments.cuh"
#include "moue/operations.hpp"
#include "moue/scalar.hpp"

namespace moue::inline v0_1::detail::gpu {

/// How numbers are stored.
enum class number { float32, float64, bf16, half };
template <class T>
inline constexpr number number_of = std::is_same_v<T, double>       ? number::float64
                                    : std::is_same_v<T, moue::bf16> ? number::bf16
                                    : std::is_same_v<T, moue::half> ? number::half
                                                                    : number::float32;
template <class T>
inline constexpr bool is_blas_number = std::is_same_v<T, float> || std::is_same_v<T, double> ||
                                       std::is_same_v<T, moue::bf16> || std::is_same_v<T, moue::half>;

/// c [m, n] (=|+=) a b, stored by columns: a is [m, k], or [k, m] if transposed, and b [k, n], or [n, k]. Sums are float,
/// or double where the numbers are; float numbers are not rounded to TF32 unless that is asked for.
struct gemm_call {
  struct factor {
    const void* data;
    std::int64_t leading;  // numbers between the first ones of neighbouring columns
    bool transposed;
  };
  std::int64_t m, n, k;
  factor a, b;
  number factors;
  void* c;
  std::int64_t c_leading;
  number result;
  store mode;
  bool tf32;
};

/// Whether cuBLAS can be told where the rows are: they must not overlap, nor run backwards. One row lies anywhere.
template <class T>
bool has_leading(const matrix_view<T>& x) {
  return x.rows <= 1 || x.stride >= x.cols;
}
/// Numbers between the first ones of neighbouring rows, at least as many as a row has, even where there is one row alone.
template <class T>
std::int64_t leading_of(const matrix_view<T>& x) {
  const index_t apart = x.rows > 1 ? x.stride : x.cols;
  return apart > 0 ? apart : 1;
}

/// Stored by columns, a row-major matrix is its transpose. So y = x wᵀ is asked for as yᵀ = w xᵀ, and so on.
template <class T>
gemm_call::factor stored(const matrix_view<T>& x, bool transposed) {
  return {x.data, leading_of(x), transposed};
}

/// y (=|+=) x wᵀ, or x w if `transposed`.
template <class X, class C>
gemm_call rows_call(matrix_view<const X> x, matrix_view<const X> w, matrix_view<C> y, store mode, bool transposed,
                    bool tf32 = false) {
  return {y.cols,       y.rows, x.cols, stored(w, !transposed), stored(x, false), number_of<X>, y.data, leading_of(y),
          number_of<C>, mode,   tf32};
}
/// dw (=|+=) dyᵀ x.
template <class X, class C>
gemm_call gradient_call(matrix_view<const X> dy, matrix_view<const X> x, matrix_view<C> dw, store mode = store::add,
                        bool tf32 = false) {
  return {dw.cols,      dw.rows, x.rows, stored(x, false), stored(dy, true), number_of<X>, dw.data, leading_of(dw),
          number_of<C>, mode,    tf32};
}

/// Asks for y_g (=|+=) x_g w_gᵀ, or x_g w_g, with `weights` the addresses of the groups' matrices [n, k].
template <class Blas, class X, class C>
void call_rows(const Blas& blas, const host_groups& groups, matrix_view<const X> x, void* const* weights, index_t n,
               index_t k, matrix_view<C> y, store mode, bool tf32, bool transposed) {
  groups.each([&](std::size_t g, index_t first, index_t rows) {
    const matrix_view<const X> w{static_cast<const X*>(weights[g]), n, k};
    const auto call = rows_call(x.row_block(first, rows), w, y.row_block(first, rows), mode, transposed, tf32);
    if (call.m > 0 && call.n > 0) blas.gemm(call);
  });
}
/// Asks for dw_g (=|+=) dy_gᵀ x_g; groups without a gradient are left out.
template <class C, class Blas, class X>
void call_gradients(const Blas& blas, const host_groups& groups, matrix_view<const X> dy, matrix_view<const X> x,
                    void* const* gradients, store mode, bool tf32) {
  groups.each([&](std::size_t g, index_t first, index_t rows) {
    if (gradients[g] == nullptr) return;
    const matrix_view<C> dw{static_cast<C*>(gradients[g]), dy.cols, x.cols};
    const auto call = gradient_call(dy.row_block(first, rows), x.row_block(first, rows), dw, mode, tf32);
    if (call.m > 0 && call.n > 0) blas.gemm(call);
  });
}

}  // namespace moue::inline v0_1::detail::gpu
