// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Which tile of which product a block computes.

#include "moue/backend/cuda/tiles.cuh"

namespace moue::detail::gpu {

/// y = x wᵀ with w [n, k], or, `Transposed`, y = x w: tiles of the rows of y, which lie in groups.
template <class C, class S, bool Transposed>
struct row_product {
  segments groups;
  tile_schedule schedule;
  unsigned column_tiles;
  matrix_view<const C> x;
  weight_table<const S> w;
  matrix_view<C> y;
  write mode;

  template <int Rows, int Columns>
  __device__ tile_task<C, S, C> task(unsigned block) const {
    const tile_place place = find_tile(groups, schedule, block / column_tiles);
    if (place.rows == 0) return {};
    const index column = static_cast<index>(block % column_tiles) * Columns;
    const S* const weights = w.of(place.group) + column * (Transposed ? 1 : w.stride);
    return {&x(place.first, 0),
            x.stride,
            weights,
            w.stride,
            Transposed ? w.rows : w.cols,
            &y(place.first, column),
            y.stride,
            place.rows,
            static_cast<int>(y.cols - column < Columns ? y.cols - column : Columns),
            mode};
  }
};

/// dw_g += dy_gᵀ x_g: a block owns a tile of one group's matrix and runs over all rows of the group.
template <class C>
struct gradient_product {
  segments groups;
  tile_schedule schedule;
  unsigned row_tiles;
  unsigned column_tiles;
  matrix_view<const C> dy;
  matrix_view<const C> x;
  weight_table<C> dw;

  template <int Rows, int Columns>
  __device__ tile_task<C, C, C> task(unsigned block) const {
    const unsigned tiles = row_tiles * column_tiles;
    const tile_place place = find_tile(groups, schedule, block / tiles);
    if (place.rows == 0) return {};
    const index row = static_cast<index>(block % tiles / column_tiles) * Rows;
    const index column = static_cast<index>(block % tiles % column_tiles) * Columns;
    const auto part = [](index whole, int tile) { return static_cast<int>(whole < tile ? whole : tile); };
    return {&dy(place.first, row),
            dy.stride,
            &x(place.first, column),
            x.stride,
            place.rows,
            dw.of(place.group) + row * dw.stride + column,
            dw.stride,
            part(dw.rows - row, Rows),
            part(dw.cols - column, Columns),
            write::add};
  }
};

template <class Engine, bool Transposed, class Runtime, class C, class S>
void launch_rows(const Runtime& runtime, const segments& groups, matrix_view<const C> x, const weight_table<const S>& w,
                 matrix_view<C> y, write mode) {
  static_assert(!Engine::left_by_depth && Engine::right_by_depth == Transposed);
  const tile_schedule schedule = schedule_tiles(groups, Engine::rows);
  const index column_tiles = (y.cols + Engine::columns - 1) / Engine::columns;
  using product = row_product<C, S, Transposed>;
  launch_blocks(runtime, run_tiles<Engine, product>, schedule.slots * column_tiles, Engine::threads,
                shared_bytes<Engine>, product{groups, schedule, static_cast<unsigned>(column_tiles), x, w, y, mode});
}

template <class Engine, class Runtime, class C>
void launch_gradient(const Runtime& runtime, const segments& groups, matrix_view<const C> dy, matrix_view<const C> x,
                     const weight_table<C>& dw) {
  static_assert(Engine::left_by_depth && Engine::right_by_depth);
  const tile_schedule schedule = schedule_groups(groups);
  const index row_tiles = (dw.rows + Engine::rows - 1) / Engine::rows;
  const index column_tiles = (dw.cols + Engine::columns - 1) / Engine::columns;
  using product = gradient_product<C>;
  launch_blocks(
      runtime, run_tiles<Engine, product>, schedule.slots * row_tiles * column_tiles, Engine::threads,
      shared_bytes<Engine>,
      product{groups, schedule, static_cast<unsigned>(row_tiles), static_cast<unsigned>(column_tiles), dy, x, dw});
}

}  // namespace moue::detail::gpu
