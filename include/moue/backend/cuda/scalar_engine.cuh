// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Tiles multiplied by ordinary arithmetic, in the type of the sums.

#include "moue/backend/cuda/tiles.cuh"

namespace moue::inline v0_1::detail::gpu {

/// 16 x 16 threads, each with Rows / 16 x Columns / 16 sums.
template <class C, int Rows, int Columns, int Depth, bool LeftByDepth, bool RightByDepth>
class scalar_engine {
  static constexpr int side = 16;
  static constexpr int size = vector_size<C>;
  static constexpr int own_rows = Rows / side, own_columns = Columns / side;
  static_assert(Rows % side == 0 && Columns % side == 0 && Depth % size == 0);
  static_assert((!LeftByDepth || own_rows % size == 0) && (!RightByDepth || own_columns % size == 0));

 public:
  using word = C;
  static constexpr int rows = Rows, columns = Columns, depth = Depth;
  static constexpr int threads = side * side, blocks = 1, stages = 2;
  static constexpr bool left_by_depth = LeftByDepth, right_by_depth = RightByDepth;
  using left_slice = slice_layout<C, LeftByDepth, Rows, Depth>;
  using right_slice = slice_layout<C, RightByDepth, Columns, Depth>;
  static constexpr int run = RightByDepth ? size : 1;  // neighbouring columns
  static constexpr int own_runs = own_columns / run, runs = own_rows * own_runs;

  __device__ void multiply(const C* left, const C* right) {
    const int row_thread = static_cast<int>(threadIdx.x) / side, column_thread = static_cast<int>(threadIdx.x) % side;
    for (int d = 0; d < Depth; d += size) {
      C a[own_rows][size], b[own_columns][size];
      read<left_slice, LeftByDepth>(a, left, row_thread, d);
      read<right_slice, RightByDepth>(b, right, column_thread, d);
      MOUE_UNROLL
      for (int v = 0; v < size; ++v) {
        MOUE_UNROLL
        for (int i = 0; i < own_rows; ++i) {
          MOUE_UNROLL
          for (int j = 0; j < own_columns; ++j) sum_[i][j] += a[i][v] * b[j][v];
        }
      }
    }
  }

  __device__ static int row_of_run(int n) {
    return position<LeftByDepth>(static_cast<int>(threadIdx.x) / side, n / own_runs);
  }
  __device__ static int column_of_run(int n) {
    return position<RightByDepth>(static_cast<int>(threadIdx.x) % side, n % own_runs * run);
  }
  __device__ pack<C, run> sums_of_run(int n) const {
    pack<C, run> sums;
    MOUE_UNROLL
    for (int e = 0; e < run; ++e) sums.at[e] = sum_[n / own_runs][n % own_runs * run + e];
    return sums;
  }

 private:
  /// Which row or column a thread's i-th is: neighbours where slices hold neighbours side by side, else far apart, so
  /// that the lanes of a warp read neighbouring lines.
  template <bool ByDepth>
  __device__ static int position(int thread, int i) {
    return ByDepth ? (thread + i / size * side) * size + i % size : thread + side * i;
  }
  template <class Slice, bool ByDepth, int N>
  __device__ static void read(C (&to)[N][size], const C* slice, int thread, int d) {
    if constexpr (ByDepth) {
      MOUE_UNROLL
      for (int v = 0; v < size; ++v) {
        MOUE_UNROLL
        for (int i = 0; i < N; i += size) {
          const auto values = load_pack<size>(slice + Slice::at(position<true>(thread, i), d + v));
          MOUE_UNROLL
          for (int e = 0; e < size; ++e) to[i + e][v] = values.at[e];
        }
      }
    } else {
      MOUE_UNROLL
      for (int i = 0; i < N; ++i) {
        const auto values = load_pack<size>(slice + Slice::at(position<false>(thread, i), d));
        MOUE_UNROLL
        for (int v = 0; v < size; ++v) to[i][v] = values.at[v];
      }
    }
  }

  C sum_[own_rows][own_columns] = {};
};

}  // namespace moue::inline v0_1::detail::gpu
