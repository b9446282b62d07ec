// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Numbers that travel together: what loads and stores of 16 bytes carry.

#include <bit>
#include <cstdint>

#include "moue/backend/cuda/instructions.cuh"
#include "moue/backend/cuda/schedule.cuh"

namespace moue::inline v0_1::detail::gpu {

/// Numbers in 16 bytes.
template <class T>
inline constexpr int vector_size = static_cast<int>(16 / sizeof(T));

template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) pack {
  T at[N];
};

/// Whether `data` and every row of a matrix with that stride begin at multiples of 16 bytes.
template <class T>
MOUE_HD bool is_aligned(const T* data, index_t stride) {
  return (reinterpret_cast<std::uintptr_t>(data) | static_cast<std::uintptr_t>(stride) * sizeof(T)) % 16 == 0;
}

template <int N, class T>
__device__ inline pack<T, N> load_pack(const T* from) {
  return *reinterpret_cast<const pack<T, N>*>(from);
}
template <class T>
__device__ inline pack<T, vector_size<T>> load_pack_once(const T* from) {
  return std::bit_cast<pack<T, vector_size<T>>>(load_once(from));
}
template <int N, class T>
__device__ inline void store_pack(T* to, const pack<T, N>& values) {
  *reinterpret_cast<pack<T, N>*>(to) = values;
}

/// The first `valid` of N numbers, then zeros.
template <int N, class T>
__device__ inline pack<T, N> load_some(const T* from, index_t valid) {
  pack<T, N> values;
  MOUE_UNROLL
  for (int i = 0; i < N; ++i) values.at[i] = i < valid ? from[i] : T{};
  return values;
}

/// Sums each of `Count` (a power of two) numbers over lanes that differ in the bits From, From / 2, ... To. Every lane
/// gives away half of its sums at each step while it has more than one: afterwards `v` begins with the
/// max(1, Count / steps) sums from `first_sum` on. The order of additions is fixed.
template <int Count, int From, int To, class C>
__device__ inline void sum_over_lanes(C (&v)[Count]) {
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  int count = Count;
  MOUE_UNROLL
  for (int mask = From; mask >= To; mask /= 2) {
    if (count > 1) {
      count /= 2;
      MOUE_UNROLL
      for (int i = 0; i < Count / 2; ++i)
        if (i < count) {
          const bool upper = (lane & mask) != 0;
          const C given = upper ? v[i] : v[i + count];
          v[i] = (upper ? v[i + count] : v[i]) + __shfl_xor_sync(~0u, given, mask);
        }
    } else {
      v[0] += __shfl_xor_sync(~0u, v[0], mask);
    }
  }
}
/// The number of sums a lane is left with, and the first of them.
template <int Count, int From, int To>
inline constexpr int sums_left = Count* To / From / 2 > 1 ? Count* To / From / 2 : 1;
template <int Count, int From, int To>
__device__ inline int first_sum() {
  const int lane = static_cast<int>(threadIdx.x) % lanes % (2 * From);
  return lane / To * To * Count / (2 * From);
}

}  // namespace moue::inline v0_1::detail::gpu
