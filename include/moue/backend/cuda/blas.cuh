// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Products in the words of cuBLAS: what is passed for which product, without any of its headers.

#include <cstdint>
#include <type_traits>
#include <vector>

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

/// Several of them that differ in sizes and addresses; those lie on the device, one after another in `addresses` [3 count]:
/// of all a, all b, all c.
struct gemm_group_call {
  std::vector<std::int64_t> m, n, k, a_leading, b_leading, c_leading;
  void* const* addresses;
  bool a_transposed, b_transposed;
  number numbers;
  store mode;
  bool tf32 = false;

  std::int64_t count() const { return static_cast<std::int64_t>(m.size()); }
};

/// Stored by columns, a row-major matrix is its transpose. So y = x wᵀ is asked for as yᵀ = w xᵀ, and so on.
template <class T>
gemm_call::factor stored(const matrix_view<T>& x, bool transposed) {
  return {x.data, x.stride > 0 ? x.stride : 1, transposed};
}

/// y (=|+=) x wᵀ, or x w if `transposed`.
template <class X, class C>
gemm_call rows_call(matrix_view<const X> x, matrix_view<const X> w, matrix_view<C> y, store mode, bool transposed,
                    bool tf32 = false) {
  return {y.cols,       y.rows, x.cols, stored(w, !transposed), stored(x, false), number_of<X>, y.data, y.stride,
          number_of<C>, mode,   tf32};
}
/// dw (=|+=) dyᵀ x.
template <class X, class C>
gemm_call gradient_call(matrix_view<const X> dy, matrix_view<const X> x, matrix_view<C> dw, store mode = store::add,
                        bool tf32 = false) {
  return {dw.cols,      dw.rows, x.rows, stored(x, false), stored(dy, true), number_of<X>, dw.data, dw.stride,
          number_of<C>, mode,    tf32};
}

/// Calls that differ in sizes and addresses alone; those without a result are left out. They can be made one by one or,
/// if factors and results are numbers of one type, all together.
class gemm_list {
 public:
  void add(const gemm_call& call) {
    if (call.m > 0 && call.n > 0) calls_.push_back(call);
  }
  const std::vector<gemm_call>& calls() const { return calls_; }

  bool empty() const { return calls_.empty(); }
  /// All addresses, in the order of `gemm_group_call`.
  std::vector<void*> addresses() const {
    std::vector<void*> result;
    for (const auto& call : calls_) result.push_back(const_cast<void*>(call.a.data));
    for (const auto& call : calls_) result.push_back(const_cast<void*>(call.b.data));
    for (const auto& call : calls_) result.push_back(call.c);
    return result;
  }
  /// With `addresses` a copy of them on the device.
  gemm_group_call together(void* const* addresses) const {
    const gemm_call& first = calls_[0];
    gemm_group_call result{
        {},         {},        {}, {}, {}, {}, addresses, first.a.transposed, first.b.transposed, first.factors,
        first.mode, first.tf32};
    for (const auto& call : calls_) {
      result.m.push_back(call.m);
      result.n.push_back(call.n);
      result.k.push_back(call.k);
      result.a_leading.push_back(call.a.leading);
      result.b_leading.push_back(call.b.leading);
      result.c_leading.push_back(call.c_leading);
    }
    return result;
  }

 private:
  std::vector<gemm_call> calls_;
};

/// Makes the calls one after another.
template <class Blas>
void call_each(const Blas& blas, const gemm_list& list) {
  for (const auto& call : list.calls()) blas.gemm(call);
}
/// Makes the calls together, with `memory` on the device for three addresses a call.
template <class Runtime>
void call_together(const Runtime& runtime, const gemm_list& list, void** memory) {
  if (list.empty()) return;
  const auto addresses = list.addresses();
  runtime.upload(addresses.data(), memory, addresses.size() * sizeof(void*));
  runtime.blas().gemm_groups(list.together(memory));
}

/// Calls for y_g (=|+=) x_g w_gᵀ, or x_g w_g, with `weights` the addresses of the groups' matrices [n, k].
template <class X, class C>
gemm_list rows_calls(const host_groups& groups, matrix_view<const X> x, void* const* weights, index_t n, index_t k,
                     matrix_view<C> y, store mode, bool tf32, bool transposed) {
  gemm_list list;
  groups.each([&](std::size_t g, index_t first, index_t rows) {
    const matrix_view<const X> w{static_cast<const X*>(weights[g]), n, k};
    list.add(rows_call(x.row_block(first, rows), w, y.row_block(first, rows), mode, transposed, tf32));
  });
  return list;
}
/// Calls for dw_g (=|+=) dy_gᵀ x_g; groups without a gradient are left out.
template <class X, class C>
gemm_list gradient_calls(const host_groups& groups, matrix_view<const X> dy, matrix_view<const X> x,
                         void* const* gradients, store mode, bool tf32) {
  gemm_list list;
  groups.each([&](std::size_t g, index_t first, index_t rows) {
    if (gradients[g] == nullptr) return;
    const matrix_view<C> dw{static_cast<C*>(gradients[g]), dy.cols, x.cols};
    list.add(gradient_call(dy.row_block(first, rows), x.row_block(first, rows), dw, mode, tf32));
  });
  return list;
}

}  // namespace moue::inline v0_1::detail::gpu
