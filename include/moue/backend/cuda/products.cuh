// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The products of the backend, and which kernel computes which.

#include <type_traits>

#include "moue/backend/cuda/blas_products.cuh"
#include "moue/backend/cuda/column_sum.cuh"
#include "moue/backend/cuda/few_rows.cuh"
#include "moue/backend/cuda/product_choice.cuh"
#include "moue/backend/cuda/scalar_engine.cuh"
#include "moue/backend/cuda/tensor_tiles.cuh"
#include "moue/backend/cuda/tile_products.cuh"

namespace moue::inline v0_1::detail::gpu {

/// The sizes of tiles: high ones for groups of many rows, low ones for few rows or small products.
template <class C>
struct scalar_tiles {
  static constexpr int side = sizeof(C) > 4 ? 64 : 128;
  template <bool Transposed>
  using high = scalar_engine<C, side, side, 16, false, Transposed>;
  template <bool Transposed>
  using low = scalar_engine<C, 32, side, 16, false, Transposed>;
  using gradient = scalar_engine<C, side, side, 16, true, true>;
  using low_gradient = scalar_engine<C, 64, 64, 16, true, true>;
};
template <class T>
struct tensor_tiles {
  template <bool Transposed, int Stages = 4>
  using high = tensor_engine<T, 128, 256, 32, 2, 4, Stages, 1, false, Transposed>;
  template <bool Transposed>
  using low = tensor_engine<T, 32, 128, 64, 1, 4, 3, 3, false, Transposed>;
  using gradient = tensor_engine<T, 128, 256, 32, 2, 4, 2, 1, true, true>;
  using low_gradient = tensor_engine<T, 64, 64, 32, 2, 2, 2, 4, true, true>;
};

/// Types whose products tensor cores compute with sums in `C`.
template <class T, class C>
inline constexpr bool has_tensor_tiles = (std::is_same_v<T, bf16> || std::is_same_v<T, half>)&&std::is_same_v<C, float>;

/// Shared memory that a block can have on every device from compute capability 8.0 (CUDA C++ Programming Guide, technical
/// specifications per compute capability: 99 KB on 8.6, 8.9 and 12.x, 163 KB on 8.0 and 8.7, 227 KB on 9.0 and 10.x).
inline constexpr int least_shared_bytes = 99 << 10;

namespace products {

template <class Tiles, class Runtime, class C, class S, bool Transposed>
void by_tiles(const Runtime& runtime, const product_choice& choice, const row_product<C, S, Transposed>& product) {
  using high = typename Tiles::template high<Transposed>;
  using low = typename Tiles::template low<Transposed>;
  static_assert(shared_bytes<low> <= least_shared_bytes);
  const bool many = rows_of_group(product.groups) > choice.low_tiles &&
                    fills(choice, product.groups, high::rows, high::columns, product.results * product.y.first.cols);
  if (!many) return launch_rows<low>(runtime, product);
  if constexpr (shared_bytes < high >> least_shared_bytes) {
    using shallow = typename Tiles::template high<Transposed, high::stages - 1>;  // the same sums in the same order
    static_assert(shared_bytes<shallow> <= least_shared_bytes);
    if (shared_bytes < high >> choice.shared_bytes) return launch_rows<shallow>(runtime, product);
  }
  launch_rows<high>(runtime, product);
}

/// y (=|+=) x wᵀ, or x w if `Transposed`; two of them, or the sum of two.
template <bool Transposed, class Runtime, class C, class S>
void rows(const Runtime& runtime, const row_product<C, S, Transposed>& product) {
  const segments& groups = product.groups;
  const index_t columns = product.results * product.y.first.cols;
  if (groups.empty() || columns == 0) return;
  const product_choice choice = choice_of(runtime);
  using low = typename scalar_tiles<C>::template low<Transposed>;
  const bool dense = groups.offsets == nullptr;
  const bool starved = dense && !(choice.dense_blas && has_blas<Runtime> && std::is_same_v<S, C>)&&!fills(
                                    choice, groups, low::rows, low::columns, columns);
  if (rows_of_group(groups) <= choice.few_rows || (starved && choice.few_rows > 0)) {
    using wide = few_rows_linear<4, 1, C, S>;
    using narrow = few_rows_linear<4, few_rows::warps, C, S>;  // few columns: the warps of a block share the depth
    if constexpr (Transposed)
      launch_few_rows<few_rows_transposed<C, S>>(runtime, product);
    else if (fills(choice, groups, few_rows::most, wide::columns, columns))
      launch_few_rows<wide>(runtime, product);
    else
      launch_few_rows<narrow>(runtime, product);
    return;
  }
  const bool blas = dense ? choice.dense_blas : rows_of_group(groups) >= choice.blas_rows;
  if (blas && rows_by_blas(runtime, choice, product)) return;
  if constexpr (has_tensor_tiles<S, C>)
    if (choice.tensor_cores && groups.offsets != nullptr) return by_tiles<tensor_tiles<S>>(runtime, choice, product);
  by_tiles<scalar_tiles<C>>(runtime, choice, product);
}

template <class Tiles, class Runtime, class C>
void gradient_by_tiles(const Runtime& runtime, const product_choice& choice, const gradient_product<C>& product) {
  using high = typename Tiles::gradient;
  using low = typename Tiles::low_gradient;
  static_assert(shared_bytes<high> <= least_shared_bytes && shared_bytes<low> <= least_shared_bytes);
  const segments& groups = product.groups;
  const weight_table<C>& dw = product.dw.first.values;
  const index_t tiles = (dw.rows + high::rows - 1) / high::rows * product.results;
  const index_t groups_at_most = groups.groups < groups.capacity ? groups.groups : groups.capacity;
  if (groups_at_most * tiles * ((dw.cols + high::columns - 1) / high::columns) >= choice.multiprocessors)
    launch_gradient<high>(runtime, product);
  else
    launch_gradient<low>(runtime, product);
}

/// A single matrix that was to be assigned from no rows at all.
template <class Runtime, class C>
void clear_dense(const Runtime& runtime, const segments& groups, const gradient_table<C>& dw) {
  if (groups.offsets == nullptr) clear_gradient(runtime, one_segment(1), dw);
}

/// dw_g (=|+=) dy_gᵀ x_g, or two of them, with both factors rounded to `Rounded`, if it is not void, where the way allows
/// it. Groups have rows, or there is one that may have none.
template <class Rounded, class Runtime, class C>
void gradient(const Runtime& runtime, const gradient_product<C>& product) {
  const segments& groups = product.groups;
  if (product.dw.first.values.empty()) return;
  if (groups.empty()) {
    for (unsigned part = 0; part < product.results; ++part) clear_dense(runtime, groups, product.dw.of(part));
    return;
  }
  const product_choice choice = choice_of(runtime);
  using factor = std::conditional_t<std::is_void_v<Rounded>, C, Rounded>;
  const bool blas = groups.offsets == nullptr ? choice.dense_blas : rows_of_group(groups) >= choice.blas_rows;
  if (blas && gradient_by_blas<factor>(runtime, choice, product)) return;
  if constexpr (has_tensor_tiles<Rounded, C>)
    if (choice.tensor_cores) return gradient_by_tiles<tensor_tiles<Rounded>>(runtime, choice, product);
  gradient_by_tiles<scalar_tiles<C>>(runtime, choice, product);
}

template <class Runtime, class C>
void sum(const Runtime& runtime, const segments& groups, matrix_view<const C> x, const gradient_table<C>& out) {
  if (x.cols == 0) return;
  if (groups.empty())
    clear_dense(runtime, groups, out);
  else
    launch_column_sum(runtime, groups, x, out);
}

template <class T>
weight_table<const T> readable(const weight_table<T>& w) {
  return {w.of_group, w.dense, w.rows, w.cols, w.stride, w.on_host};
}

}  // namespace products

/// y (=|+=) x wᵀ for every group: x [rows, k], w [n, k], y [rows, n]. The views' rows are the segments'; `w` is a
/// `grouped_matrix` or a `matrix_view` that serves all groups.
template <class Runtime, class C, class W>
void linear(const Runtime& runtime, const segments& groups, matrix_view<const C> x, const W& w, matrix_view<C> y,
            store mode = store::assign) {
  products::rows(runtime, one_product<false>(groups, x, products::readable(table_of(w)), y, mode));
}
/// Both y0 = x w0ᵀ and y1 = x w1ᵀ, of one shape, in one launch.
template <class Runtime, class C, class W>
void linear_pair(const Runtime& runtime, const segments& groups, matrix_view<const C> x, const W& w0, const W& w1,
                 matrix_view<C> y0, matrix_view<C> y1) {
  auto product = one_product<false>(groups, x, products::readable(table_of(w0)), y0, store::assign);
  product.results = 2;
  product.w.second = products::readable(table_of(w1));
  product.y.second = y1;
  products::rows(runtime, product);
}

/// dx (=|+=) dy w for every group: dy [rows, n], w [n, k], dx [rows, k].
template <class Runtime, class C, class W>
void input_gradient(const Runtime& runtime, const segments& groups, matrix_view<const C> dy, const W& w,
                    matrix_view<C> dx, store mode = store::assign) {
  products::rows(runtime, one_product<true>(groups, dy, products::readable(table_of(w)), dx, mode));
}
/// dx = dy0 w0 + dy1 w1, of one shape, without a sum in memory.
template <class Runtime, class C, class W>
void input_gradient_pair(const Runtime& runtime, const segments& groups, matrix_view<const C> dy0, const W& w0,
                         matrix_view<const C> dy1, const W& w1, matrix_view<C> dx) {
  auto product = one_product<true>(groups, dy0, products::readable(table_of(w0)), dx, store::assign);
  product.terms = 2;
  product.x.second = dy1;
  product.w.second = products::readable(table_of(w1));
  products::rows(runtime, product);
}

/// dw_g (=|+=) dy_gᵀ x_g: dy [rows, n], x [rows, k], dw [n, k]. Both factors are rounded to `Rounded`, unless it is void, if
/// tensor cores multiply that type.
template <class Rounded = void, class Runtime, class C, class DW>
void weight_gradient(const Runtime& runtime, const segments& groups, matrix_view<const C> dy, matrix_view<const C> x,
                     const DW& dw, store mode = store::add) requires(!GradientTarget<DW>) {
  products::gradient<Rounded>(runtime, one_gradient(groups, dy, x, gradient_of(dw, mode)));
}
template <class Rounded = void, class Runtime, class C, GradientTarget DW>
void weight_gradient(const Runtime& runtime, const segments& groups, matrix_view<const C> dy, matrix_view<const C> x,
                     const DW& dw) {
  if (dw.empty()) return;
  products::gradient<Rounded>(runtime, one_gradient(groups, dy, x, gradient_of(dw)));
  dw.set_written();
}
/// dw0 and dw1 from dy0 and dy1, of one shape, in one launch.
template <class Rounded = void, class Runtime, class C, class DW>
void weight_gradient_pair(const Runtime& runtime, const segments& groups, matrix_view<const C> dy0,
                          matrix_view<const C> dy1, matrix_view<const C> x, const DW& dw0, const DW& dw1) {
  if constexpr (GradientTarget<DW>) {
    if (dw1.empty()) return weight_gradient<Rounded>(runtime, groups, dy0, x, dw0);
    if (dw0.empty()) return weight_gradient<Rounded>(runtime, groups, dy1, x, dw1);
  }
  auto product = one_gradient(groups, dy0, x, gradient_of(dw0));
  product.results = 2;
  product.dy.second = dy1;
  product.dw.second = gradient_of(dw1);
  products::gradient<Rounded>(runtime, product);
  if constexpr (GradientTarget<DW>) {
    dw0.set_written();
    dw1.set_written();
  }
}

/// out_g (=|+=) the sum of the group's rows: x [rows, n], out [1, n].
template <class Runtime, class C, class Out>
void column_sum(const Runtime& runtime, const segments& groups, matrix_view<const C> x, const Out& out,
                store mode = store::add) requires(!GradientTarget<Out>) {
  products::sum(runtime, groups, x, gradient_of(out, mode));
}
template <class Runtime, class C, GradientTarget Out>
void column_sum(const Runtime& runtime, const segments& groups, matrix_view<const C> x, const Out& out) {
  if (out.empty()) return;
  products::sum(runtime, groups, x, gradient_of(out));
  out.set_written();
}

}  // namespace moue::inline v0_1::detail::gpu
