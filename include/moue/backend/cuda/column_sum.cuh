// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Sums over the rows of each group.

#include <type_traits>

#include "moue/backend/cuda/launch.cuh"
#include "moue/backend/cuda/vectors.cuh"

namespace moue::inline v0_1::detail::gpu {

template <class C>
struct column_sum_product {
  static constexpr int warps = 32;

  segments groups;
  tile_schedule schedule;
  unsigned column_blocks;
  int across;  // lanes beside each other over the columns; the others of a warp take other rows
  matrix_view<const C> x;
  gradient_table<C> out;
};

/// A block has up to 32 columns of a group. All parts of its warps take turns with the rows, each with several loads
/// under way, and their sums are added in an order that depends on shapes alone.
template <class C>
__global__ void __launch_bounds__(column_sum_product<C>::warps* lanes) run_column_sum(const column_sum_product<C> p) {
  constexpr int warps = column_sum_product<C>::warps, together = 8;
  __shared__ C partial[warps][lanes];
  const tile_place place = find_tile(p.groups, p.schedule, blockIdx.x / p.column_blocks);
  if (place.rows == 0 || p.out.values.of(place.group) == nullptr) return;
  const int lane = static_cast<int>(threadIdx.x) % lanes, warp = static_cast<int>(threadIdx.x) / lanes;
  const int parts = warps * (lanes / p.across);
  const index_t column = static_cast<index_t>(blockIdx.x % p.column_blocks) * p.across + lane % p.across;
  C sums[together] = {};
  if (column < p.x.cols)
    for (int row = warp * (lanes / p.across) + lane / p.across; row < place.rows; row += together * parts) {
      MOUE_UNROLL
      for (int i = 0; i < together; ++i)
        if (row + i * parts < place.rows) sums[i] += p.x(place.first + row + i * parts, column);
    }
  C sum = sums[0];
  MOUE_UNROLL
  for (int i = 1; i < together; ++i) sum += sums[i];
  for (int mask = lanes / 2; mask >= p.across; mask /= 2) sum += __shfl_xor_sync(~0u, sum, mask);
  partial[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || lane >= p.across || column >= p.x.cols) return;
  for (int other = 1; other < warps; ++other) sum += partial[other][lane];
  C& out = p.out.values.of(place.group)[column];
  out = p.out.mode_of(place.group) == store::add ? out + sum : sum;
}

template <class Runtime, class C>
void launch_column_sum(const Runtime& runtime, const segments& groups, matrix_view<const C> x,
                       const std::type_identity_t<gradient_table<C>>& out) {
  int across = lanes;
  while (across / 2 >= x.cols) across /= 2;
  const tile_schedule schedule = schedule_groups(groups);
  const index_t column_blocks = (x.cols + across - 1) / across;
  launch_blocks(runtime, run_column_sum<C>, schedule.selected * column_blocks, column_sum_product<C>::warps * lanes, 0,
                column_sum_product<C>{groups, schedule, static_cast<unsigned>(column_blocks), across, x, out});
}

}  // namespace moue::inline v0_1::detail::gpu
