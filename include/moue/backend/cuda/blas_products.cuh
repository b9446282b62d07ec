// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Products that cuBLAS computes: dense ones, and those of groups where the host knows their rows.

#include <cstddef>
#include <span>

#include "moue/backend/cuda/blas.cuh"
#include "moue/backend/cuda/launch.cuh"
#include "moue/backend/cuda/vectors.cuh"

namespace moue::detail::gpu {

/// Whether groups whose rows the host knows go to cuBLAS, and how.
enum class blas_groups { none, one_by_one, together };

template <class C, class S>
struct narrowing {
  matrix_view<const C> from;
  S* to;
};

/// A row of `from` in the type S, rows side by side.
template <class C, class S>
__global__ void run_narrowing(const narrowing<C, S> n) {
  const index row = blockIdx.x;
  for (index j = static_cast<index>(threadIdx.x); j < n.from.cols; j += static_cast<index>(blockDim.x))
    n.to[row * n.from.cols + j] = S(n.from(row, j));
}

/// What a runtime lends, where it does. `blas()` has `gemm(gemm_call)` and `gemm_groups(gemm_group_call)`; `scratch()` is
/// device memory that nothing else uses while work of this runtime is queued.
template <class Runtime>
inline constexpr bool has_blas = requires(const Runtime& r, const gemm_call& one, const gemm_group_call& many) {
  r.blas().gemm(one);
  r.blas().gemm_groups(many);
};
template <class Runtime>
std::span<std::byte> scratch_of(const Runtime& runtime) {
  if constexpr (requires { runtime.scratch(); })
    return runtime.scratch();
  else
    return {};
}

/// Takes pieces of scratch memory as long as there is enough.
class scratch_pieces {
 public:
  explicit scratch_pieces(std::span<std::byte> memory) : left_(memory) {}
  /// Null if there is too little.
  template <class T>
  T* take(index count) {
    const std::size_t bytes = (static_cast<std::size_t>(count) * sizeof(T) + 255) / 256 * 256;
    if (bytes > left_.size()) return nullptr;
    auto* const taken = reinterpret_cast<T*>(left_.data());
    left_ = left_.subspan(bytes);
    return taken;
  }

 private:
  std::span<std::byte> left_;
};

/// `x` in the type S: itself, or a copy in scratch memory; without data if there is too little.
template <class S, class Runtime, class C>
matrix_view<const S> in_type(const Runtime& runtime, scratch_pieces& pieces, matrix_view<const C> x) {
  if constexpr (std::is_same_v<S, C>) {
    return x;
  } else {
    constexpr int threads = 256;
    S* const to = pieces.take<S>(x.rows * x.cols);
    if (to != nullptr) launch_blocks(runtime, run_narrowing<C, S>, x.rows, threads, 0, narrowing<C, S>{x, to});
    return {to, x.rows, x.cols};
  }
}

template <class Runtime>
bool make_calls(const Runtime& runtime, const gemm_list& list, blas_groups how, bool one_type, scratch_pieces& pieces) {
  if (how == blas_groups::together && one_type) {
    void** const memory = pieces.take<void*>(3 * std::ssize(list.calls()));
    if (memory == nullptr) return false;
    call_together(runtime, list, memory);
  } else {
    call_each(runtime.blas(), list);
  }
  return true;
}

/// y (=|+=) x wᵀ, or x w if `Transposed`, unless something is missing: then nothing happens and false is returned.
template <bool Transposed, class Runtime, class C, class S>
bool rows_by_blas(const Runtime& runtime, blas_groups how, bool tf32, const segments& groups, matrix_view<const C> x,
                  const weight_table<const S>& w, matrix_view<C> y, write mode) {
  if constexpr (!has_blas<Runtime> || !is_blas_number<S>) {
    return false;
  } else {
    scratch_pieces pieces(scratch_of(runtime));
    if (groups.offsets == nullptr) {
      if constexpr (std::is_same_v<S, C>) {
        auto call = rows_call(x, matrix_view<const S>(w.dense, w.rows, w.cols, w.stride), y, mode, Transposed);
        call.tf32 = tf32;
        if (call.m > 0 && call.n > 0) runtime.blas().gemm(call);
        return true;
      }
      return false;
    }
    if (how == blas_groups::none || groups.host == nullptr || w.on_host == nullptr) return false;
    const auto in = in_type<S>(runtime, pieces, x);
    if (in.data == nullptr && !x.empty()) return false;
    return make_calls(runtime, rows_calls<S, C>(*groups.host, in, w.on_host, w.rows, w.cols, y, mode, tf32, Transposed),
                      how, std::is_same_v<S, C>, pieces);
  }
}

/// dw_g += dy_gᵀ x_g with both factors in the type S, unless something is missing.
template <class S, class Runtime, class C>
bool gradient_by_blas(const Runtime& runtime, blas_groups how, bool tf32, const segments& groups,
                      matrix_view<const C> dy, matrix_view<const C> x, const weight_table<C>& dw) {
  if constexpr (!has_blas<Runtime> || !is_blas_number<S>) {
    return false;
  } else {
    if (groups.offsets == nullptr) {
      if constexpr (std::is_same_v<S, C>) {
        auto call = gradient_call(dy, x, matrix_view<C>(dw.dense, dw.rows, dw.cols, dw.stride));
        call.tf32 = tf32;
        runtime.blas().gemm(call);
        return true;
      }
      return false;
    }
    if (how == blas_groups::none || groups.host == nullptr || dw.on_host == nullptr) return false;
    scratch_pieces pieces(scratch_of(runtime));
    const auto left = in_type<S>(runtime, pieces, dy);
    const auto right = in_type<S>(runtime, pieces, x);
    if (left.data == nullptr || right.data == nullptr) return false;
    return make_calls(runtime, gradient_calls<S, C>(*groups.host, left, right, dw.on_host, tf32), how,
                      std::is_same_v<S, C>, pieces);
  }
}

}  // namespace moue::detail::gpu
