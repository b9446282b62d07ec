// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// y = x wᵀ for few rows of x: what experts do in small batches, where reading w takes as long as multiplying. w is read
/// from memory once, where it lies and as it is stored.
///
///                  k ──►
///     x   ┌──────────────────┐ tile_rows        Registers hold tile_rows × tile_cols sums. Each sum is kept in parts, as
///         └──────────────────┘                  many as 64 bytes hold: part p adds the products of k = p, p + parts, ...
///     w   ┌──────────────────┐                  in this order, and the parts are added as a tree of halves.
///         │                  │ tile_cols
///         └──────────────────┘
///
/// So the bits of a result depend on its row of x and its row of w alone: not on rows beside them, and not on the width
/// of registers.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "moue/backend/cpu/registers.hpp"
#include "moue/scalar.hpp"
#include "moue/store.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::detail {

/// Up to so many rows of x this beats a product that packs w first, from so many columns on: parts have to be added up.
inline constexpr index_t most_few_rows = 16;
inline constexpr index_t least_few_rows_depth = 64;

#if MOUE_VECTOR_TYPES

/// Parts of a sum.
template <class C>
inline constexpr int sum_parts = 64 / static_cast<int>(sizeof(C));

// Three quarters of the registers hold sums; the rest is for the factors.
inline constexpr int tile_sums = register_count * register_bytes / 64 * 3 / 4;
inline constexpr int tile_rows = tile_sums >= 16 ? 4 : tile_sums >= 6 ? 2 : 1;
inline constexpr int tile_cols = tile_sums / tile_rows;
/// Columns of `cols` rows of w that are multiplied with all rows of x while the first cache holds them.
constexpr index_t depth_block(int cols) { return 1024 * tile_cols / cols / 16 * 16; }

template <class C>
using sum_in_registers = vector_of<C>[sum_parts<C> / vector_register<C>::size];

/// The sum of all parts, as a tree of halves.
template <class C>
[[gnu::always_inline]] inline C joined(sum_in_registers<C>& sum) {
  constexpr int size = vector_register<C>::size, registers = sum_parts<C> / size, last = size < 4 ? size : 4;
  MOUE_UNROLL_REGISTERS
  for (int half = registers / 2; half > 0; half /= 2) {
    MOUE_UNROLL_REGISTERS
    for (int r = 0; r < half; ++r) sum[r] += sum[r + half];
  }
  C parts[size];
  put<C>(sum[0], parts);
  MOUE_UNROLL_REGISTERS
  for (int half = size / 2; half >= last; half /= 2) {
    typedef C half_register __attribute__((vector_size(sizeof(C) * last)));
    MOUE_UNROLL_REGISTERS
    for (int p = 0; p < half; p += last) {
      half_register a, b;
      std::memcpy(&a, parts + p, sizeof a);
      std::memcpy(&b, parts + p + half, sizeof b);
      a += b;
      std::memcpy(parts + p, &a, sizeof a);
    }
  }
  if constexpr (last == 4) return (parts[0] + parts[2]) + (parts[1] + parts[3]);
  return parts[0] + parts[1];
}

/// A tile: adds columns [0, depth), a multiple of `sum_parts`, to `sums` [Rows, Cols]. With `Ahead`, asks for the rows of
/// w that the next tile reads.
template <int Rows, int Cols, bool Ahead, class C>
[[gnu::always_inline]] inline void add_tile(const C* x, index_t x_stride, const C* w, index_t w_stride, index_t depth,
                                            sum_in_registers<C> (&sums)[Rows][Cols]) {
  constexpr int size = vector_register<C>::size, registers = sum_parts<C> / size;
  for (index_t k = 0; k < depth; k += sum_parts<C>) {
    MOUE_UNROLL_REGISTERS
    for (int r = 0; r < registers; ++r) {
      vector_of<C> row[Rows];
      MOUE_UNROLL_REGISTERS
      for (int i = 0; i < Rows; ++i) load<C>(row[i], x + i * x_stride + k + r * size);
      MOUE_UNROLL_REGISTERS
      for (int j = 0; j < Cols; ++j) {
        vector_of<C> weight;
        load<C>(weight, w + j * w_stride + k + r * size);
        if (Ahead && r == 0) __builtin_prefetch(w + (j + Cols) * w_stride + k, 0, 2);
        MOUE_UNROLL_REGISTERS
        for (int i = 0; i < Rows; ++i) sums[i][j][r] += row[i] * weight;
      }
    }
  }
}

/// `count` numbers in the compute type; asks for those `ahead` of them, which come next.
template <class W, class C>
[[gnu::always_inline]] inline void widen(const W* from, C* to, index_t count, index_t ahead) {
  index_t k = 0;
  // What compilers make of the loop below takes four times as long. 8 bytes would go to i686's MMX registers.
  constexpr bool widens_vectors = register_bytes > 16 || sizeof(void*) == 8;
  if constexpr (std::is_same_v<W, bf16> && std::is_same_v<C, float> && widens_vectors) {
    constexpr int size = vector_register<float>::size;
    typedef std::uint16_t narrow __attribute__((vector_size(register_bytes / 2)));
    for (; k + size <= count; k += size) {
      if (k % (64 / index_t{sizeof(W)}) == 0) __builtin_prefetch(from + ahead + k, 0, 2);
      narrow stored;
      std::memcpy(&stored, from + k, sizeof stored);
      const auto bits = __builtin_convertvector(stored, vector_of<std::uint32_t>) << 16;
      std::memcpy(to + k, &bits, sizeof bits);
    }
  }
  for (; k < count; ++k) to[k] = static_cast<C>(from[k]);
}

/// Rows of a matrix whose last columns fill no part of a sum: those columns, and zeros.
template <class C, class T>
[[gnu::always_inline]] inline void pad_tail(const T* from, index_t stride, index_t rows, index_t columns, C* to) {
  for (index_t i = 0; i < rows; ++i)
    for (index_t p = 0; p < sum_parts<C>; ++p)
      to[i * sum_parts<C> + p] = p < columns ? static_cast<C>(from[i * stride + p]) : C(0);
}

/// Columns [first, first + Cols) of y, in tiles of `Most` rows and single ones.
template <int Most, int Cols, class C, class W>
[[gnu::always_inline]] inline void few_rows_columns(const matrix_view<const C>& x, const C* x_tail,
                                                    const matrix_view<const W>& w, index_t first,
                                                    const matrix_view<C>& y, store mode) {
  constexpr int parts = sum_parts<C>;
  constexpr bool stored_wide = std::is_same_v<W, C>;
  constexpr index_t most_depth = depth_block((std::max)(Cols, tile_cols));
  const index_t whole = x.cols / parts * parts, tail = x.cols - whole;
  const index_t block = stored_wide && x.rows <= Most ? (std::max)(whole, index_t{1}) : most_depth;
  const W* const from = w.data + first * w.stride;
  sum_in_registers<C> left[most_few_rows][Cols];  // sums over the blocks before
  C wide[stored_wide ? 1 : Cols * most_depth], w_tail[Cols * parts];
  if (tail > 0) pad_tail(from + whole, w.stride, Cols, tail, w_tail);

  for (index_t k = 0; k == 0 || k < whole; k += block) {
    const index_t depth = (std::min)(block, whole - k);
    const bool last = k + block >= whole;
    const C* weights;
    if constexpr (stored_wide) {
      weights = from + k;
    } else {
      weights = wide;
      for (int j = 0; j < Cols; ++j) widen(from + j * w.stride + k, wide + j * most_depth, depth, Cols * w.stride);
    }
    const index_t stride = stored_wide ? w.stride : most_depth;
    const auto tile = [&]<int Rows>(std::integral_constant<int, Rows>, index_t i) {
      sum_in_registers<C> sums[Rows][Cols] = {};
      if (k > 0) std::memcpy(&sums, &left[i], sizeof sums);
      const C* const rows = x.data + i * x.stride + k;
      if (stored_wide && i == 0)
        add_tile<Rows, Cols, true>(rows, x.stride, weights, stride, depth, sums);
      else
        add_tile<Rows, Cols, false>(rows, x.stride, weights, stride, depth, sums);
      if (!last) {
        std::memcpy(&left[i], &sums, sizeof sums);
        return;
      }
      if (tail > 0) add_tile<Rows, Cols, false>(x_tail + i * parts, parts, w_tail, parts, parts, sums);
      for (int row = 0; row < Rows; ++row)
        for (int j = 0; j < Cols; ++j) {
          C& out = y(i + row, first + j);
          const C sum = joined<C>(sums[row][j]);
          out = mode == store::assign ? sum : out + sum;
        }
    };
    index_t i = 0;
    for (; i + Most <= x.rows; i += Most) tile(std::integral_constant<int, Most>{}, i);
    for (; Most > 1 && i < x.rows; ++i) tile(std::integral_constant<int, 1>{}, i);
  }
}

/// y (=|+=) x wᵀ, with x [m, k] of at most `most_few_rows` rows and w [n, k].
template <class C, class W>
void few_rows_linear(const matrix_view<const C>& x, const matrix_view<const W>& w, const matrix_view<C>& y,
                     store mode) {
  constexpr int parts = sum_parts<C>;
  C x_tail[most_few_rows * parts];
  const index_t whole = x.cols / parts * parts;
  if (whole < x.cols) pad_tail(x.data + whole, x.stride, x.rows, x.cols - whole, x_tail);
  index_t j = 0;
  if (x.rows == 1)  // more streams from memory at once
    for (; j + tile_sums <= w.rows; j += tile_sums) few_rows_columns<1, tile_sums>(x, x_tail, w, j, y, mode);
  for (; j + tile_cols <= w.rows; j += tile_cols) few_rows_columns<tile_rows, tile_cols>(x, x_tail, w, j, y, mode);
  for (; tile_cols > 1 && j < w.rows; ++j) few_rows_columns<tile_rows, 1>(x, x_tail, w, j, y, mode);
}

#endif

}  // namespace moue::inline v0_1::detail
