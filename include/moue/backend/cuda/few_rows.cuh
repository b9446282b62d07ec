// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Products of groups with a few rows each. What they cost is reading the weights: every weight is read once, straight to
/// registers, 16 bytes a lane, by as many warps as there is work for, and meets all rows of its group there.

#include "moue/backend/cuda/launch.cuh"
#include "moue/backend/cuda/tile_products.cuh"
#include "moue/backend/cuda/vectors.cuh"
#include "moue/operations.hpp"

namespace moue::inline v0_1::detail::gpu {

struct few_rows {
  static constexpr int most = 8;  // rows of a tile; longer groups have several, and read their weights again for each
  static constexpr int warps = 8;
  static constexpr int threads = warps * lanes;
  template <class C>
  static constexpr int blocks = sizeof(C) > 4 ? 1 : 2;  // of a multiprocessor at once: bounds the registers

  /// Runs `body` for the least number of rows that it is compiled for and that holds `rows`. Rows past `rows` repeat the
  /// last one and are not written. Weights and inputs that cannot be read 16 bytes at a time meet two rows at a time.
  template <class Body>
  __device__ static void with_rows(Body body) {
    const int rows = body.block.place.rows;
    if (!body.block.aligned())
      for (int row = 0; row < rows; row += 2) {
        body.block.place.rows = rows - row < 2 ? 1 : 2;
        body.template run<2, false>();
        body.block.place.first += 2;
        __syncthreads();  // the partial sums have been read
      }
    else if (rows <= 1)
      body.template run<1, true>();
    else if (rows <= 2)
      body.template run<2, true>();
    else if (rows <= 4)
      body.template run<4, true>();
    else
      body.template run<most, true>();
  }

  template <bool Aligned, class S>
  __device__ static pack<S, vector_size<S>> weights(const S* from) {
    if constexpr (Aligned)
      return load_pack_once(from);
    else
      return load_some<vector_size<S>>(from, vector_size<S>);
  }
};

/// A place in the rows of a tile; in the last one again where there are fewer than `Rows`. One address that moves, and
/// distances from it, which take half of the registers that addresses would. Signed: rows may run backwards.
template <int Rows, class C>
class row_pointers {
 public:
  __device__ row_pointers(const matrix_view<const C>& x, const tile_place& place) : at_(&x(place.first, 0)) {
    MOUE_UNROLL
    for (int r = 0; r < Rows; ++r) distance_[r] = static_cast<int>((r < place.rows ? r : place.rows - 1) * x.stride);
  }
  __device__ const C* operator[](int r) const { return at_ + distance_[r]; }
  __device__ void advance(int by) { at_ += by; }

 private:
  const C* at_;
  int distance_[Rows];
};

/// A product by a kernel of this file, and what a block has to do with it.
template <class C, class S, bool Transposed>
struct few_rows_block {
  const row_product<C, S, Transposed>& p;
  tile_place place;
  unsigned result;
  index_t column;
  C* partial;

  __device__ const S* weights(unsigned term) const { return p.w.of(result + term).of(place.group); }
  /// All vectors that the product reads.
  __device__ bool aligned() const {
    bool all = p.w.first.cols % vector_size<S> == 0;
    for (unsigned term = 0; term < p.terms; ++term)
      all = all && is_aligned(weights(term), p.w.of(result + term).stride) &&
            is_aligned(p.x.of(term).data, p.x.of(term).stride);
    return all;
  }
  __device__ void put(index_t row, index_t at, C sum) const {
    C& out = p.y.of(result)(row, at);
    out = p.mode == store::add ? out + sum : sum;
  }
};

/// A block's share of y [rows, n] = x [rows, k] wᵀ: a warp has `Outputs` rows of w before it, and `DepthWarps`
/// neighbouring warps share the depth of the same ones. Of one term.
template <int Outputs, int DepthWarps, class C, class S>
struct few_rows_linear {
  static constexpr bool transposed = false;
  static constexpr int columns = few_rows::warps / DepthWarps * Outputs;
  static constexpr int partial_sums = DepthWarps > 1 ? few_rows::warps* Outputs* few_rows::most : 1;

  few_rows_block<C, S, transposed> block;

  template <int Rows, bool Aligned>
  __device__ void run() const {
    constexpr int size = vector_size<S>, ahead = Aligned && Rows <= 2 ? 2 : 1;
    constexpr int step = DepthWarps * lanes;
    const int warp = static_cast<int>(threadIdx.x) / lanes;
    const weight_table<const S>& matrix = block.p.w.of(block.result);
    const auto depth = static_cast<int>(matrix.cols), vectors = depth / size;  // 64 bits would cost registers
    const index_t first = block.column + warp / DepthWarps * Outputs;
    const int start = static_cast<int>(threadIdx.x) % step;
    const S* w[Outputs];
    MOUE_UNROLL
    for (int o = 0; o < Outputs; ++o)
      w[o] = block.weights(0) + (first + o < matrix.rows ? first + o : matrix.rows - 1) * matrix.stride;
    row_pointers<Rows, C> x(block.p.x.first, block.place);

    C sum[Outputs * Rows] = {};
    if (depth > 0) x.advance(start * size);
    int v = start;
    for (; v < vectors; v += ahead * step, x.advance(ahead * step * size)) {
      pack<S, size> held[ahead][Outputs] = {};
      MOUE_UNROLL
      for (int b = 0; b < ahead; ++b) {
        if (b > 0 && v + b * step >= vectors) break;
        MOUE_UNROLL
        for (int o = 0; o < Outputs; ++o) held[b][o] = few_rows::weights<Aligned>(w[o] + (v + b * step) * size);
      }
      MOUE_UNROLL
      for (int b = 0; b < ahead; ++b) {
        if (b > 0 && v + b * step >= vectors) break;
        add_products<Rows, Aligned>(sum, held[b], x, b * step * size);
      }
    }
    for (int d = vectors * size + start; d < depth; d += step) {
      MOUE_UNROLL
      for (int o = 0; o < Outputs; ++o) {
        MOUE_UNROLL
        for (int r = 0; r < Rows; ++r) sum[o * Rows + r] += x[r][d - v * size] * widen<C>(w[o][d]);
      }
    }
    finish<Rows>(sum, first);
  }

 private:
  /// sum += the products of a vector of each output's weights with the same numbers of each row. In pieces of 16 bytes of
  /// the rows, so that not all weights are held widened at once.
  template <int Rows, bool Aligned>
  __device__ static void add_products(C (&sum)[Outputs * Rows], const pack<S, vector_size<S>> (&w)[Outputs],
                                      const row_pointers<Rows, C>& x, int at) {
    constexpr int piece = vector_size<C>;
    MOUE_UNROLL
    for (int first = 0; first < vector_size<S>; first += piece) {
      MOUE_UNROLL
      for (int r = 0; r < Rows; ++r) {
        const C* const from = x[r] + at + first;
        const auto in = Aligned ? load_pack<piece>(from) : load_some<piece>(from, piece);
        MOUE_UNROLL
        for (int o = 0; o < Outputs; ++o) {
          MOUE_UNROLL
          for (int i = 0; i < piece; ++i) sum[o * Rows + r] += in.at[i] * widen<C>(w[o].at[first + i]);
        }
      }
    }
  }

  /// Adds the sums of all lanes, then of the warps that shared the depth, in their order.
  template <int Rows>
  __device__ void finish(C (&sum)[Outputs * Rows], index_t first) const {
    constexpr int sums = Outputs * Rows;
    static_assert(sums <= lanes, "more sums than lanes to hold them");
    sum_over_lanes<sums, lanes / 2, 1>(sum);
    const int lane = static_cast<int>(threadIdx.x) % lanes, warp = static_cast<int>(threadIdx.x) / lanes;
    const int mine = first_sum<sums, lanes / 2, 1>();
    C total = sum[0];
    if constexpr (DepthWarps > 1) {
      if (lane % (lanes / sums) == 0) block.partial[warp * sums + mine] = total;
      __syncthreads();
      if (warp % DepthWarps != 0) return;
      total = C(0);
      MOUE_UNROLL
      for (int other = 0; other < DepthWarps; ++other) total += block.partial[(warp + other) * sums + mine];
    }
    if (lane % (lanes / sums) == 0 && mine % Rows < block.place.rows && first + mine / Rows < block.p.w.first.rows)
      block.put(block.place.first + mine % Rows, first + mine / Rows, total);
  }
};

/// A block's share of y [rows, k] = x [rows, n] w: the lanes of a quarter warp lie side by side over the columns of w, and
/// all quarters of the block take turns with its rows.
template <class C, class S>
struct few_rows_transposed {
  static constexpr bool transposed = true;
  static constexpr int across = 8, quarters = lanes / across;
  static constexpr int columns = across * vector_size<S>;
  static constexpr int partial_sums = few_rows::warps * few_rows::most * columns;

  few_rows_block<C, S, transposed> block;

  template <int Rows, bool Aligned>
  __device__ void run() const {
    constexpr int size = vector_size<S>;
    const int lane = static_cast<int>(threadIdx.x) % lanes, warp = static_cast<int>(threadIdx.x) / lanes;
    C sum[Rows * size] = {};
    for (unsigned term = 0; term < block.p.terms; ++term) add_term<Rows, Aligned>(sum, term);
    sum_over_lanes<Rows * size, lanes / 2, across>(sum);
    constexpr int left = sums_left<Rows * size, lanes / 2, across>;
    const int mine = first_sum<Rows * size, lanes / 2, across>();
    MOUE_UNROLL
    for (int i = 0; i < left; ++i)
      block.partial[warp * Rows * columns + (mine + i) / size * columns + lane % across * size + (mine + i) % size] =
          sum[i];
    __syncthreads();
    for (int at = static_cast<int>(threadIdx.x); at < Rows * columns; at += few_rows::threads) {
      C total = C(0);
      MOUE_UNROLL
      for (int other = 0; other < few_rows::warps; ++other) total += block.partial[other * Rows * columns + at];
      if (at / columns < block.place.rows && block.column + at % columns < block.p.w.first.cols)
        block.put(block.place.first + at / columns, block.column + at % columns, total);
    }
  }

 private:
  /// The products of a lane's columns with its share of the rows of w.
  template <int Rows, bool Aligned>
  __device__ void add_term(C (&sum)[Rows * vector_size<S>], unsigned term) const {
    constexpr int size = vector_size<S>, ahead = Rows > 4 ? 2 : 4;
    constexpr int step = few_rows::warps * quarters;
    const weight_table<const S>& w = block.p.w.of(term);
    const index_t first = block.column + static_cast<index_t>(threadIdx.x) % across * size;
    const index_t valid = w.cols - first < size ? w.cols - first : size;
    if (valid <= 0) return;
    const S* const weights = block.weights(term) + first;
    row_pointers<Rows, C> x(block.p.x.of(term), block.place);
    const auto depth = static_cast<int>(w.rows);
    int d = static_cast<int>(threadIdx.x) / across;
    if (depth > 0) x.advance(d);
    for (; d < depth; d += ahead * step, x.advance(ahead * step)) {
      pack<S, size> held[ahead] = {};
      MOUE_UNROLL
      for (int b = 0; b < ahead; ++b) {
        if (b > 0 && d + b * step >= depth) break;
        const S* const from = weights + (d + b * step) * w.stride;
        if constexpr (Aligned)
          held[b] = load_pack_once(from);
        else
          held[b] = load_some<size>(from, valid);
      }
      MOUE_UNROLL
      for (int b = 0; b < ahead; ++b) {
        if (b > 0 && d + b * step >= depth) break;
        MOUE_UNROLL
        for (int r = 0; r < Rows; ++r) {
          const C in = x[r][b * step];
          MOUE_UNROLL
          for (int i = 0; i < size; ++i) sum[r * size + i] += in * widen<C>(held[b].at[i]);
        }
      }
    }
  }
};

template <class Body, class C, class S, bool Transposed>
__global__ void __launch_bounds__(few_rows::threads, few_rows::blocks<C>)
    run_few_rows(const row_product<C, S, Transposed> p) {
  alignas(16) __shared__ C partial[Body::partial_sums];
  const tile_place place = find_tile(p.groups, p.schedule, blockIdx.x / p.tiles());
  if (place.rows == 0) return;
  const unsigned tile = blockIdx.x % p.tiles();
  few_rows::with_rows(
      Body{{p, place, tile / p.column_tiles, static_cast<index_t>(tile % p.column_tiles) * Body::columns, partial}});
}

template <class Body, class Runtime, class C, class S, bool Transposed>
void launch_few_rows(const Runtime& runtime, row_product<C, S, Transposed> product) {
  static_assert(Body::transposed == Transposed);
  product.schedule = schedule_tiles(product.groups, few_rows::most);
  const index_t column_tiles = (product.y.first.cols + Body::columns - 1) / Body::columns;
  product.column_tiles = static_cast<unsigned>(column_tiles);
  launch_blocks(runtime, run_few_rows<Body, C, S, Transposed>,
                product.schedule.selected * column_tiles * product.results, few_rows::threads, 0, product);
}

}  // namespace moue::inline v0_1::detail::gpu
