// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Tiles multiplied by tensor cores: both factors in a 16-bit type, sums in float.

#include "moue/backend/cuda/tiles.cuh"

namespace moue::inline v0_1::detail::gpu {

/// RowWarps x ColumnWarps warps, each with an equal part of the tile, in pieces of 16 x 8. `Blocks` per multiprocessor
/// are hoped for: it bounds the registers.
template <class T, int Rows, int Columns, int Depth, int RowWarps, int ColumnWarps, int Stages, int Blocks,
          bool LeftByDepth, bool RightByDepth>
class tensor_engine {
  static constexpr int warp_rows = Rows / RowWarps, warp_columns = Columns / ColumnWarps;
  static constexpr int row_pieces = warp_rows / 16, column_pieces = warp_columns / 8;
  static_assert(warp_rows % 16 == 0 && warp_columns % 16 == 0 && Depth % 16 == 0);

 public:
  using word = raw<T>;
  static constexpr int rows = Rows, columns = Columns, depth = Depth;
  static constexpr int threads = RowWarps * ColumnWarps * lanes, blocks = Blocks, stages = Stages;
  static constexpr bool left_by_depth = LeftByDepth, right_by_depth = RightByDepth;
  using left_slice = slice_layout<word, LeftByDepth, Rows, Depth>;
  using right_slice = slice_layout<word, RightByDepth, Columns, Depth>;
  static constexpr int run = 2, runs = row_pieces * column_pieces * 2;  // of neighbouring columns

  __device__ void multiply(const word* left, const word* right) {
    // Which row of the four 8 x 8 matrices a lane points at: neighbours along the output, then along the depth.
    const int lane = static_cast<int>(threadIdx.x) % lanes;
    const int in_matrix = lane % 8, low = lane / 8 % 2 * 8, high = lane / 16 * 8;
    MOUE_UNROLL
    for (int d = 0; d < Depth; d += 16) {
      std::uint32_t a[row_pieces][4];
      MOUE_UNROLL
      for (int i = 0; i < row_pieces; ++i) {
        const int first = first_row() + i * 16;
        load_matrices<LeftByDepth>(a[i], left + (LeftByDepth ? left_slice::at(first + low, d + in_matrix + high)
                                                             : left_slice::at(first + in_matrix + low, d + high)));
      }
      MOUE_UNROLL
      for (int j = 0; j < column_pieces; j += 2) {
        const int first = first_column() + j * 8;
        std::uint32_t b[4];
        load_matrices<RightByDepth>(b, right + (RightByDepth ? right_slice::at(first + high, d + in_matrix + low)
                                                             : right_slice::at(first + in_matrix + high, d + low)));
        MOUE_UNROLL
        for (int i = 0; i < row_pieces; ++i) {
          multiply_add<T>(sum_[i][j], a[i], b[0], b[1]);
          multiply_add<T>(sum_[i][j + 1], a[i], b[2], b[3]);
        }
      }
    }
  }

  __device__ static int row_of_run(int n) {
    return first_row() + n / (2 * column_pieces) * 16 + n % 2 * 8 + static_cast<int>(threadIdx.x) % lanes / 4;
  }
  __device__ static int column_of_run(int n) {
    return first_column() + n / 2 % column_pieces * 8 + static_cast<int>(threadIdx.x) % 4 * 2;
  }
  __device__ pack<float, run> sums_of_run(int n) const {
    const float* const sums = sum_[n / (2 * column_pieces)][n / 2 % column_pieces] + n % 2 * 2;
    return {sums[0], sums[1]};
  }

 private:
  __device__ static int first_row() { return static_cast<int>(threadIdx.x) / lanes / ColumnWarps * warp_rows; }
  __device__ static int first_column() { return static_cast<int>(threadIdx.x) / lanes % ColumnWarps * warp_columns; }

  float sum_[row_pieces][column_pieces][4] = {};
};

}  // namespace moue::inline v0_1::detail::gpu
