// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Which tile of which product a block computes.

#include <type_traits>

#include "moue/backend/cuda/tiles.cuh"

namespace moue::inline v0_1::detail::gpu {

/// y = x wᵀ with w [n, k], or, `Transposed`, y = x w: tiles of the rows of y, which lie in groups. Two `results` have their
/// own w and y, two `terms` their own x and w.
template <class C, class S, bool Transposed>
struct row_product {
  segments groups;
  tile_schedule schedule;
  unsigned column_tiles;
  unsigned results;
  unsigned terms;
  one_or_two<matrix_view<const C>> x;
  one_or_two<weight_table<const S>> w;
  one_or_two<matrix_view<C>> y;
  store mode;

  __device__ unsigned tiles() const { return results * column_tiles; }
  __device__ bool skips(const tile_place&, unsigned) const { return false; }

  template <int Rows, int Columns>
  __device__ tile_task<C, S, C> task(const tile_place& place, unsigned tile, unsigned term) const {
    const unsigned result = tile / column_tiles;
    const index_t column = static_cast<index_t>(tile % column_tiles) * Columns;
    const matrix_view<const C>& in = x.of(term);
    const matrix_view<C>& out = y.of(result);
    const weight_table<const S>& weights = w.of(result + term);
    return {&in(place.first, 0),
            in.stride,
            weights.of(place.group) + column * (Transposed ? 1 : weights.stride),
            weights.stride,
            Transposed ? weights.rows : weights.cols,
            &out(place.first, column),
            out.stride,
            place.rows,
            static_cast<int>(out.cols - column < Columns ? out.cols - column : Columns),
            mode};
  }
};

/// dw_g (=|+=) dy_gᵀ x_g: a block owns a tile of one group's matrix and runs over all rows of the group. Two `results` have
/// their own dy and dw.
template <class C>
struct gradient_product {
  static constexpr unsigned terms = 1;

  segments groups;
  tile_schedule schedule;
  unsigned row_tiles;
  unsigned column_tiles;
  unsigned results;
  one_or_two<matrix_view<const C>> dy;
  matrix_view<const C> x;
  one_or_two<gradient_table<C>> dw;

  __device__ unsigned tiles() const { return results * row_tiles * column_tiles; }
  __device__ bool skips(const tile_place& place, unsigned tile) const {
    return dw.of(tile / (row_tiles * column_tiles)).values.of(place.group) == nullptr;
  }

  template <int Rows, int Columns>
  __device__ tile_task<C, C, C> task(const tile_place& place, unsigned tile, unsigned) const {
    const unsigned result = tile / (row_tiles * column_tiles);
    const index_t row = static_cast<index_t>(tile / column_tiles % row_tiles) * Rows;
    const index_t column = static_cast<index_t>(tile % column_tiles) * Columns;
    const auto part = [](index_t whole, int size) { return static_cast<int>(whole < size ? whole : size); };
    const matrix_view<const C>& left = dy.of(result);
    const weight_table<C>& out = dw.of(result).values;
    return {&left(place.first, row),
            left.stride,
            &x(place.first, column),
            x.stride,
            place.rows,
            out.of(place.group) + row * out.stride + column,
            out.stride,
            part(out.rows - row, Rows),
            part(out.cols - column, Columns),
            dw.of(result).mode_of(place.group)};
  }
};

/// Launches of `product`, whose schedule and numbers of tiles are still to be set, in the tiles of an engine.
template <class Engine, class Runtime, class C, class S, bool Transposed>
void launch_rows(const Runtime& runtime, row_product<C, S, Transposed> product) {
  static_assert(!Engine::left_by_depth && Engine::right_by_depth == Transposed);
  product.schedule = schedule_tiles(product.groups, Engine::rows);
  const index_t column_tiles = (product.y.first.cols + Engine::columns - 1) / Engine::columns;
  product.column_tiles = static_cast<unsigned>(column_tiles);
  launch_blocks(runtime, run_tiles<Engine, row_product<C, S, Transposed>>,
                product.schedule.selected * column_tiles * product.results, Engine::threads, shared_bytes<Engine>,
                product);
}

template <class Engine, class Runtime, class C>
void launch_gradient(const Runtime& runtime, gradient_product<C> product) {
  static_assert(Engine::left_by_depth && Engine::right_by_depth);
  product.schedule = schedule_groups(product.groups);
  const weight_table<C>& dw = product.dw.first.values;
  const index_t row_tiles = (dw.rows + Engine::rows - 1) / Engine::rows;
  const index_t column_tiles = (dw.cols + Engine::columns - 1) / Engine::columns;
  product.row_tiles = static_cast<unsigned>(row_tiles);
  product.column_tiles = static_cast<unsigned>(column_tiles);
  launch_blocks(runtime, run_tiles<Engine, gradient_product<C>>,
                product.schedule.selected * row_tiles * column_tiles * product.results, Engine::threads,
                shared_bytes<Engine>, product);
}

/// y (=|+=) x wᵀ, or x w.
template <bool Transposed, class C, class S>
row_product<C, S, Transposed> one_product(const segments& groups, matrix_view<const C> x,
                                          const weight_table<const S>& w, matrix_view<C> y, store mode) {
  return {groups, {}, 0, 1, 1, {x}, {w}, {y}, mode};
}
template <class C>
gradient_product<C> one_gradient(const segments& groups, matrix_view<const C> dy, matrix_view<const C> x,
                                 const std::type_identity_t<gradient_table<C>>& dw) {
  return {groups, {}, 0, 0, 1, {dy}, x, {dw}};
}

}  // namespace moue::inline v0_1::detail::gpu
