// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Row functors that take lanes, each row by the threads of a warp or of a block.

#include <bit>
#include <cstdint>
#include <type_traits>

#include "moue/backend/cuda/launch.cuh"
#include "moue/backend/cuda/schedule.cuh"
#include "moue/lanes.hpp"

namespace moue::inline v0_1::detail::gpu {

inline constexpr int row_threads = 128;  // of a block

/// `Width` neighbouring threads of a block of `row_threads`: a warp, or all of them.
template <int Width>
struct device_lanes {
  static_assert(Width == lanes || Width == row_threads);

#if defined(__CUDA_ARCH__) || !defined(__CUDACC__)
  MOUE_HD static index_t first() { return static_cast<index_t>(threadIdx.x) % Width; }
  MOUE_HD static constexpr index_t step() { return Width; }
  MOUE_HD static bool leads() { return first() == 0; }
  MOUE_HD static void wait() {
    if constexpr (Width > lanes)
      __syncthreads();
    else
      __syncwarp();
  }
  /// In an order that depends on nothing but Width.
  template <class C>
  MOUE_HD static C sum(C part) {
    return combined(part, [](C& a, const C& b) { a += b; });
  }
  template <class T, class Before>
  MOUE_HD static T first_of(T part, const Before& before) {
    return combined(part, [&](T& a, const T& b) {
      if (before(b, a)) a = b;
    });
  }

 private:
  /// What a lane's neighbour holds, in words.
  template <class T>
  MOUE_HD static T of_lane_across(const T& value, int mask) {
    if constexpr (std::is_arithmetic_v<T>) {
      return __shfl_xor_sync(~0u, value, mask);
    } else {
      static_assert(sizeof(T) % sizeof(std::uint32_t) == 0);
      struct words {
        std::uint32_t at[sizeof(T) / sizeof(std::uint32_t)];
      };
      auto all = std::bit_cast<words>(value);
      MOUE_UNROLL
      for (auto& word : all.at) word = __shfl_xor_sync(~0u, word, mask);
      return std::bit_cast<T>(all);
    }
  }
  template <class T, class Add>
  MOUE_HD static T combined(T part, const Add& add) {
    MOUE_UNROLL
    for (int mask = lanes / 2; mask > 0; mask /= 2) add(part, of_lane_across(part, mask));
    if constexpr (Width > lanes) {
      __shared__ T of_warps[Width / lanes];
      if (threadIdx.x % lanes == 0) of_warps[threadIdx.x / lanes] = part;
      __syncthreads();
      part = of_warps[0];
      MOUE_UNROLL
      for (int warp = 1; warp < Width / lanes; ++warp) add(part, of_warps[warp]);
      __syncthreads();  // the next sum comes through the same memory
    }
    return part;
  }
#else  // what nvcc compiles for the host, where no kernel runs
  MOUE_HD static index_t first() { return 0; }
  MOUE_HD static constexpr index_t step() { return Width; }
  MOUE_HD static bool leads() { return true; }
  MOUE_HD static void wait() {}
  template <class C>
  MOUE_HD static C sum(C part) {
    return part;
  }
  template <class T, class Before>
  MOUE_HD static T first_of(T part, const Before&) {
    return part;
  }
#endif
};

template <class F>
inline constexpr bool takes_lanes = requires(const F& f, index_t row, device_lanes<lanes> few,
                                             device_lanes<row_threads> all) {
  f(row, few);
  f(row, all);
};

struct all_rows {
  MOUE_HD static constexpr bool has(index_t) { return true; }
};

template <class F, class Rows>
struct rows_by_lanes {
  F f;
  Rows taking_part;
  index_t count;
};

template <int Width, class F, class Rows>
__global__ void __launch_bounds__(row_threads) run_rows(const rows_by_lanes<F, Rows> r) {
  const index_t row =
      static_cast<index_t>(blockIdx.x) * (row_threads / Width) + static_cast<index_t>(threadIdx.x) / Width;
  if (row < r.count && r.taking_part.has(row)) r.f(row, device_lanes<Width>());
}

/// f(row, lanes) for every row below `rows` that takes part. Few long rows get a block each, others a warp.
template <class Runtime, class F, class Rows>
void each_row_by_lanes(const Runtime& runtime, index_t rows, const F& f, const Rows& taking_part) {
  constexpr index_t many = 4096;  // enough warps for every multiprocessor; not measured yet
  constexpr index_t few_columns = 8 * lanes;
  bool is_long = true;
  if constexpr (requires { f.columns(); }) is_long = f.columns() > few_columns;
  const rows_by_lanes<F, Rows> arguments{f, taking_part, rows};
  if (rows < many && is_long)
    launch_blocks(runtime, run_rows<row_threads, F, Rows>, rows, row_threads, 0, arguments);
  else
    launch_blocks(runtime, run_rows<lanes, F, Rows>, (rows + row_threads / lanes - 1) / (row_threads / lanes),
                  row_threads, 0, arguments);
}

}  // namespace moue::inline v0_1::detail::gpu
