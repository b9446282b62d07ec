// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Which kernels compute which products: every threshold between ways to a product in one place.

#include "moue/backend/cuda/schedule.cuh"

namespace moue::inline v0_1 {

/// Whether products of experts go to cuBLAS, and how. It wants to be told the rows of each expert, so that making the
/// operations of a run waits for the device; such a run cannot be captured in a graph.
enum class blas_groups {
  none,
  one_by_one,
  together,  ///< in one grouped call where factors and results are of one type and scratch is given, else one by one
};

/// Which path a product takes, by what the host knows: the most rows there can be, the number of groups, the shape. A
/// group is the rows of one expert. Paths add in different orders, so equal calls take equal paths only under equal
/// choices. No value here has been measured on a device yet: they are guesses from sizes and rates.
struct product_choice {
  index_t few_rows = 4;           ///< average rows of a group up to which weights go straight to registers; 0: never
  index_t low_tiles = 48;         ///< average rows of a group up to which tiles of 32 rows are taken, not of 128
  index_t multiprocessors = 132;  ///< grids with fewer blocks take smaller pieces; a runtime fills in the device's
  bool tensor_cores = true;       ///< 16-bit weights in groups: other factors are rounded to 16 bits, sums are float
  bool tf32 = false;              ///< float factors that go to cuBLAS may be rounded to TF32
  bool dense_blas = true;         ///< dense products of more than few rows go to cuBLAS, if the runtime has it
  blas_groups groups_blas = blas_groups::none;  ///< how cuBLAS computes products of experts, if at all
  index_t blas_rows = 64;                       ///< from as many rows a group, on average, they go there
};

namespace detail::gpu {

inline index_t rows_of_group(const segments& s) { return (s.capacity + s.groups - 1) / s.groups; }

/// Whether tiles of that size give every multiprocessor work.
inline bool fills(const product_choice& choice, const segments& s, index_t rows, index_t columns, index_t all_columns) {
  return schedule_tiles(s, rows).selected * ((all_columns + columns - 1) / columns) >= choice.multiprocessors;
}

/// A runtime with a member `choice()` has the last word.
template <class Runtime>
product_choice choice_of(const Runtime& runtime) {
  if constexpr (requires { runtime.choice(); })
    return runtime.choice();
  else
    return {.multiprocessors = runtime.multiprocessors()};
}

}  // namespace detail::gpu
}  // namespace moue::inline v0_1
