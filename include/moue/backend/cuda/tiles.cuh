// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Products cut into tiles of their output: what a block does, whatever multiplies. The next slice of both factors is on
/// its way to shared memory while the present one is multiplied.

#include <concepts>
#include <type_traits>

#include "moue/backend/cuda/launch.cuh"
#include "moue/backend/cuda/vectors.cuh"
#include "moue/operations.hpp"

namespace moue::inline v0_1::detail::gpu {

/// One tile of out (=|+=) left rightᵀ, where left is [rows, depth] and right [columns, depth]: the elements before it
/// are cut off already. A factor that is stored the other way round is `depth_major`.
template <class L, class R, class C>
struct tile_task {
  const L* left = nullptr;
  index_t left_stride = 0;
  const R* right = nullptr;
  index_t right_stride = 0;
  index_t depth = 0;
  C* out = nullptr;
  index_t out_stride = 0;
  int rows = 0;
  int columns = 0;
  store mode = store::assign;
};

/// A slice [Extent, Depth] of a factor in shared memory, stored like the factor in global memory. Lines are 16 bytes
/// longer than their numbers, so that eight lanes that read 16 bytes each, of eight lines, meet no bank twice.
template <class Word, bool DepthMajor, int Extent, int Depth>
struct slice_layout {
  static constexpr int line = DepthMajor ? Extent : Depth;
  static constexpr int count = DepthMajor ? Depth : Extent;
  static constexpr int stride = line + vector_size<Word>;
  static constexpr int size = count * stride;
  static_assert(line * sizeof(Word) % 32 == 0, "lines must be a multiple of 32 bytes long");

  __device__ static int at(int i, int d) { return DepthMajor ? d * stride + i : i * stride + d; }
};

/// A 16-bit number as it is stored. Unlike the types for arithmetic it can lie in shared memory, where nothing may be
/// initialised.
template <class T>
struct raw {
  std::uint16_t bits;
};

template <class T, int N>
__device__ inline pack<raw<T>, N> narrowed(const pack<float, N>& from) {
  pack<std::uint32_t, N / 2> pairs;
  MOUE_UNROLL
  for (int i = 0; i < N / 2; ++i) pairs.at[i] = narrow_pair<T>(from.at[2 * i], from.at[2 * i + 1]);
  return std::bit_cast<pack<raw<T>, N>>(pairs);
}
template <class Word, int N, class Source>
__device__ inline pack<Word, N> converted(const pack<Source, N>& from) {
  pack<Word, N> to;
  MOUE_UNROLL
  for (int i = 0; i < N; ++i) to.at[i] = widen<Word>(from.at[i]);
  return to;
}
template <std::same_as<raw<bf16>> Word, int N>
__device__ inline pack<Word, N> converted(const pack<float, N>& from) {
  return narrowed<bf16>(from);
}
template <std::same_as<raw<half>> Word, int N>
__device__ inline pack<Word, N> converted(const pack<float, N>& from) {
  return narrowed<half>(from);
}

/// Whether shared memory holds a factor's numbers as they are stored.
template <class Word, class Source>
inline constexpr bool held_as_stored = std::is_same_v<Word, Source>;
template <class T>
inline constexpr bool held_as_stored<raw<T>, T> = true;

/// A thread's part in bringing slices to shared memory, one after another. Numbers past the factor's edges become zeros.
/// Where the factor is stored in other numbers than shared memory holds, it comes through registers, one slice at a time,
/// between `start` and `finish`; else any number of slices can be under way.
template <class Word, class Source, bool DepthMajor, int Extent, int Depth, int Threads>
class slice_copy {
  using layout = slice_layout<Word, DepthMajor, Extent, Depth>;
  static constexpr int size = vector_size<Source>;
  static constexpr int per_line = layout::line / size;
  static constexpr int apart = Threads / per_line;  // lines between a thread's vectors
  static constexpr int share = (layout::count + apart - 1) / apart;
  static_assert(Threads % per_line == 0);

 public:
  static constexpr bool direct = held_as_stored<Word, Source>;

  /// `extent` numbers beside each other exist from `from` on.
  __device__ slice_copy(const Source* from, index_t stride, int extent)
      : stride_(stride), extent_(extent), aligned_(is_aligned(from, stride)) {
    line_ = static_cast<int>(threadIdx.x) / per_line;
    column_ = static_cast<int>(threadIdx.x) % per_line * size;
    from_ = from + line_ * stride + column_;
  }

  /// The next slice, in which the factor has a depth of `depth`.
  __device__ void start(Word* to, int depth) {
    const int lines = (DepthMajor ? depth : extent_) - line_, numbers = (DepthMajor ? extent_ : depth) - column_;
    const int whole = numbers < 0 ? 0 : (numbers < size ? numbers : size);
    const Source* from = from_;
    MOUE_UNROLL
    for (int n = 0; n < share; ++n) {
      const bool is_line = layout::count % apart == 0 || line_ + n * apart < layout::count;
      const int valid = n * apart < lines ? whole : 0;
      if constexpr (direct) {
        Word* const target = place(to, n);
        if (aligned_ && is_line)
          copy_async(target, from, valid * static_cast<int>(sizeof(Source)));
        else if (is_line)
          store_pack(target, std::bit_cast<pack<Word, size>>(load_some<size>(from, valid)));
      } else {
        held_[n] = aligned_ && valid == size ? load_pack<size>(from) : load_some<size>(from, valid);
      }
      from += apart * stride_;
    }
    from_ += DepthMajor ? Depth * stride_ : Depth;
  }
  __device__ void finish(Word* to) const {
    if constexpr (!direct) {
      MOUE_UNROLL
      for (int n = 0; n < share; ++n)
        if (layout::count % apart == 0 || line_ + n * apart < layout::count)
          store_pack(place(to, n), converted<Word>(held_[n]));
    }
  }

 private:
  __device__ Word* place(Word* to, int n) const { return to + (line_ + n * apart) * layout::stride + column_; }

  struct nothing {};
  const Source* from_;
  index_t stride_;
  int extent_, line_, column_;
  bool aligned_;
  std::conditional_t<direct, nothing, pack<Source, size>> held_[direct ? 1 : share];
};

/// Writes or adds what an engine holds of a task's output. What it adds to is loaded some runs ahead: a load that waited
/// for the store before it would leave memory idle.
template <class Engine, class L, class R, class C>
__device__ void write_tile(const Engine& engine, const tile_task<L, R, C>& task) {
  constexpr int run = Engine::run;  // neighbouring columns
  constexpr int ahead = Engine::runs < 8 ? Engine::runs : 8;
  static_assert(Engine::runs % ahead == 0);
  const bool together =
      (reinterpret_cast<std::uintptr_t>(task.out) | static_cast<std::uintptr_t>(task.out_stride) * sizeof(C)) %
          sizeof(pack<C, run>) ==
      0;
  const bool add = task.mode == store::add;
  const auto whole = [&](int row, int column) { return together && row < task.rows && column + run <= task.columns; };
  const auto place = [&](int row, int column) { return task.out + row * task.out_stride + column; };
  MOUE_UNROLL
  for (int first = 0; first < Engine::runs; first += ahead) {
    pack<C, run> before[ahead];
    MOUE_UNROLL
    for (int n = 0; n < ahead; ++n) {
      const int row = engine.row_of_run(first + n), column = engine.column_of_run(first + n);
      if (add && whole(row, column)) before[n] = load_pack<run>(place(row, column));
    }
    MOUE_UNROLL
    for (int n = 0; n < ahead; ++n) {
      const int row = engine.row_of_run(first + n), column = engine.column_of_run(first + n);
      pack<C, run> sums = engine.sums_of_run(first + n);
      if (whole(row, column)) {
        MOUE_UNROLL
        for (int i = 0; i < run; ++i) sums.at[i] = add ? sums.at[i] + before[n].at[i] : sums.at[i];
        store_pack(place(row, column), sums);
      } else if (row < task.rows) {
        C* const to = place(row, column);
        MOUE_UNROLL
        for (int i = 0; i < run; ++i)
          if (column + i < task.columns) to[i] = add ? to[i] + sums.at[i] : sums.at[i];
      }
    }
  }
}

/// Shared memory of a block in bytes: slices of both factors for every stage.
template <class Engine>
inline constexpr int shared_bytes = Engine::stages*(Engine::left_slice::size + Engine::right_slice::size) *
                                    static_cast<int>(sizeof(typename Engine::word));

/// Adds the product of one tile to an engine's sums. An engine says how large tiles and slices are, how many slices are
/// held at once, and in which numbers; it adds the product of two slices to sums that it keeps in registers.
template <class Engine, class L, class R, class C>
__device__ void multiply_tile(Engine& engine, const tile_task<L, R, C>& task, typename Engine::word* shared) {
  using left_copy =
      slice_copy<typename Engine::word, L, Engine::left_by_depth, Engine::rows, Engine::depth, Engine::threads>;
  using right_copy =
      slice_copy<typename Engine::word, R, Engine::right_by_depth, Engine::columns, Engine::depth, Engine::threads>;
  constexpr int depth = Engine::depth, stages = Engine::stages, ahead = stages - 1;
  constexpr int left_ahead = left_copy::direct ? ahead : 1, right_ahead = right_copy::direct ? ahead : 1;
  constexpr int left_size = Engine::left_slice::size, both = left_size + Engine::right_slice::size;
  left_copy left(task.left, task.left_stride, task.rows);
  right_copy right(task.right, task.right_stride, task.columns);
  const int steps = static_cast<int>((task.depth + depth - 1) / depth);
  const auto left_slice = [&](int step) { return shared + static_cast<unsigned>(step) % stages * both; };
  const auto right_slice = [&](int step) { return left_slice(step) + left_size; };
  const auto depth_of = [&](int step) {
    const index_t rest = task.depth - static_cast<index_t>(step) * depth;
    return static_cast<int>(rest < depth ? rest : depth);
  };
  const auto start_left = [&](int step) {
    if (step < steps) left.start(left_slice(step), depth_of(step));
  };
  const auto start_right = [&](int step) {
    if (step < steps) right.start(right_slice(step), depth_of(step));
  };
  const auto finish = [&](int step) {
    if (step >= steps) return;
    left.finish(left_slice(step));
    right.finish(right_slice(step));
  };

  for (int step = 0; step < ahead; ++step) {
    if (step < left_ahead) start_left(step);
    if (step < right_ahead) start_right(step);
    commit_copies();
  }
  finish(0);
  for (int step = 0; step < steps; ++step) {
    wait_for_copies<ahead - 1>();
    __syncthreads();  // this step's slices are whole, and nobody reads those of the last step any more
    start_left(step + left_ahead);
    start_right(step + right_ahead);
    commit_copies();
    engine.multiply(left_slice(step), right_slice(step));
    finish(step + 1);
  }
}

alignas(128) extern __shared__ unsigned char dynamic_shared[];

/// A block's tile of a product, which is a sum of `terms`.
template <class Engine, class Product>
__global__ void __launch_bounds__(Engine::threads, Engine::blocks) run_tiles(const Product product) {
  auto* const shared = reinterpret_cast<typename Engine::word*>(dynamic_shared);
  const tile_place place = find_tile(product.groups, product.schedule, blockIdx.x / product.tiles());
  if (place.rows == 0) return;
  const unsigned tile = blockIdx.x % product.tiles();
  if (product.skips(place, tile)) return;
  auto task = product.template task<Engine::rows, Engine::columns>(place, tile, 0);
  Engine engine;
  multiply_tile(engine, task, shared);
  for (unsigned term = 1; term < product.terms; ++term) {
    __syncthreads();  // nobody reads the last slices any more
    task = product.template task<Engine::rows, Engine::columns>(place, tile, term);
    multiply_tile(engine, task, shared);
  }
  write_tile(engine, task);
}

}  // namespace moue::inline v0_1::detail::gpu
