// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Products that cuBLAS computes: dense ones, and those of groups where the host knows their rows.

#include <cstddef>
#include <iterator>
#include <span>
#include <type_traits>

#include "moue/backend/cuda/blas.cuh"
#include "moue/backend/cuda/launch.cuh"
#include "moue/backend/cuda/product_choice.cuh"
#include "moue/backend/cuda/tile_products.cuh"

namespace moue::inline v0_1::detail::gpu {

template <class C, class S>
struct narrowing {
  matrix_view<const C> from;
  S* to;
};

/// A row of `from` in the type S, rows side by side.
template <class C, class S>
__global__ void run_narrowing(const narrowing<C, S> n) {
  const index_t row = blockIdx.x;
  for (index_t j = static_cast<index_t>(threadIdx.x); j < n.from.cols; j += static_cast<index_t>(blockDim.x))
    n.to[row * n.from.cols + j] = S(n.from(row, j));
}

/// What a runtime provides, where it does. `blas()` has `gemm(gemm_call)`; `scratch()` is device memory that nothing else
/// uses while work of this runtime is queued.
template <class Runtime>
inline constexpr bool has_blas = requires(const Runtime& r, const gemm_call& call) {
  r.blas().gemm(call);
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
  T* take(index_t count) {
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

/// The product, unless something is missing: then nothing is written and false is returned.
template <class Runtime, class C, class S, bool Transposed>
bool rows_by_blas(const Runtime& runtime, const product_choice& choice, const row_product<C, S, Transposed>& p) {
  if constexpr (!has_blas<Runtime> || !is_blas_number<S>) {
    return false;
  } else {
    const bool dense = p.groups.offsets == nullptr;
    if (dense && !std::is_same_v<S, C>) return false;
    if (!dense && (!choice.expert_blas || p.groups.host == nullptr)) return false;
    scratch_pieces pieces(scratch_of(runtime));
    one_or_two<matrix_view<const S>> in{in_type<S>(runtime, pieces, p.x.first)};
    if (p.terms > 1) in.second = in_type<S>(runtime, pieces, p.x.second);
    const unsigned parts = p.results > p.terms ? p.results : p.terms;
    for (unsigned part = 0; part < parts; ++part)
      if ((!dense && p.w.of(part).on_host == nullptr) || (in.of(part).data == nullptr && !p.x.of(part).empty()) ||
          !has_leading(in.of(part)) || !has_leading(p.w.of(part).matrix()) || !has_leading(p.y.of(part)))
        return false;
    for (unsigned part = 0; part < parts; ++part) {
      const auto& w = p.w.of(part);
      const unsigned term = p.terms > 1 ? part : 0;
      const store mode = term > 0 ? store::add : p.mode;
      const auto& x = in.of(term);
      const auto& y = p.y.of(p.results > 1 ? part : 0);
      if (dense) {
        runtime.blas().gemm(rows_call(x, w.matrix(), y, mode, Transposed, choice.tf32));
      } else {
        call_rows(runtime.blas(), *p.groups.host, x, w.on_host, w.rows, w.cols, y, mode, choice.tf32, Transposed);
      }
    }
    return true;
  }
}

template <class C>
struct gradient_clearing {
  segments groups;
  gradient_table<C> dw;
};

/// Zeros in a block's group, if a product is to assign it.
template <class C>
__global__ void run_gradient_clearing(const gradient_clearing<C> c) {
  const index_t group = blockIdx.x;
  if (c.groups.offsets != nullptr && (c.groups.offsets[group] == c.groups.offsets[group + 1] ||
                                      (c.groups.kinds != nullptr && c.groups.kinds[group] != c.groups.kind)))
    return;
  const weight_table<C>& dw = c.dw.values;
  C* const to = dw.of(group);
  if (to == nullptr || c.dw.mode_of(group) == store::add) return;
  for (index_t row = 0; row < dw.rows; ++row)
    for (index_t j = static_cast<index_t>(threadIdx.x); j < dw.cols; j += static_cast<index_t>(blockDim.x))
      to[row * dw.stride + j] = C(0);
}

/// Makes an addition of what may be an assignment.
template <class Runtime, class C>
void clear_gradient(const Runtime& runtime, const segments& groups, const gradient_table<C>& dw) {
  constexpr int threads = 256;
  if (dw.marked() || dw.mode == store::assign)
    launch_blocks(runtime, run_gradient_clearing<C>, groups.groups, threads, 0, gradient_clearing<C>{groups, dw});
}

/// The product with both factors in the type S, unless something is missing.
template <class S, class Runtime, class C>
bool gradient_by_blas(const Runtime& runtime, const product_choice& choice, const gradient_product<C>& p) {
  if constexpr (!has_blas<Runtime> || !is_blas_number<S>) {
    return false;
  } else {
    const bool dense = p.groups.offsets == nullptr;
    if (dense && !std::is_same_v<S, C>) return false;
    if (!dense && (!choice.expert_blas || p.groups.host == nullptr)) return false;
    scratch_pieces pieces(scratch_of(runtime));
    const auto right = in_type<S>(runtime, pieces, p.x);
    one_or_two<matrix_view<const S>> left{in_type<S>(runtime, pieces, p.dy.first)};
    if (p.results > 1) left.second = in_type<S>(runtime, pieces, p.dy.second);
    for (unsigned part = 0; part < p.results; ++part)
      if ((!dense && p.dw.of(part).values.on_host == nullptr) || left.of(part).data == nullptr ||
          right.data == nullptr || !has_leading(left.of(part)) || !has_leading(right) ||
          !has_leading(p.dw.of(part).values.matrix()))
        return false;
    for (unsigned part = 0; part < p.results; ++part) {
      const auto& dw = p.dw.of(part).values;
      const store mode = p.dw.of(part).marked() ? store::add : p.dw.of(part).mode;
      if (p.dw.of(part).marked()) clear_gradient(runtime, p.groups, p.dw.of(part));
      if (dense) {
        runtime.blas().gemm(gradient_call(left.of(part), right, dw.matrix(), mode, choice.tf32));
      } else {
        call_gradients<C>(runtime.blas(), *p.groups.host, left.of(part), right, dw.on_host, mode, choice.tf32);
      }
    }
    return true;
  }
}

}  // namespace moue::inline v0_1::detail::gpu
