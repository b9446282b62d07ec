// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Sums over the rows of each group.

#include "moue/backend/cuda/launch.cuh"
#include "moue/backend/cuda/vectors.cuh"

namespace moue::detail::gpu {

template <class C>
struct column_sum_product {
  static constexpr int warps = 8;

  segments groups;
  tile_schedule schedule;
  unsigned column_blocks;
  matrix_view<const C> x;
  weight_table<C> out;
};

/// A block has 32 columns of a group; its warps take turns with the rows, and their sums are added in order.
template <class C>
__global__ void __launch_bounds__(column_sum_product<C>::warps* lanes) run_column_sum(const column_sum_product<C> p) {
  constexpr int warps = column_sum_product<C>::warps;
  __shared__ C partial[warps][lanes];
  const tile_place place = find_tile(p.groups, p.schedule, blockIdx.x / p.column_blocks);
  if (place.rows == 0) return;
  const int lane = static_cast<int>(threadIdx.x) % lanes, warp = static_cast<int>(threadIdx.x) / lanes;
  const index column = static_cast<index>(blockIdx.x % p.column_blocks) * lanes + lane;
  C sum = C(0);
  if (column < p.x.cols)
    for (int row = warp; row < place.rows; row += warps) sum += p.x(place.first + row, column);
  partial[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || column >= p.x.cols) return;
  for (int other = 1; other < warps; ++other) sum += partial[other][lane];
  p.out.of(place.group)[column] += sum;
}

template <class Runtime, class C>
void launch_column_sum(const Runtime& runtime, const segments& groups, matrix_view<const C> x,
                       const weight_table<C>& out) {
  const tile_schedule schedule = schedule_groups(groups);
  const index column_blocks = (x.cols + lanes - 1) / lanes;
  launch_blocks(runtime, run_column_sum<C>, schedule.slots * column_blocks, column_sum_product<C>::warps * lanes, 0,
                column_sum_product<C>{groups, schedule, static_cast<unsigned>(column_blocks), x, out});
}

}  // namespace moue::detail::gpu
