// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// A plan made on the device: a stable counting sort of a routing's entries by expert, whose order depends on the
/// routing alone.

#include <cstdint>
#include <limits>
#include <string>

#include "moue/backend/cuda/runtime.cuh"
#include "moue/dispatch.hpp"
#include "moue/error.hpp"
#include "moue/routing.hpp"

namespace moue::inline v0_1::detail::gpu {

inline constexpr int dispatch_threads = 256;
inline constexpr int dispatch_warps = dispatch_threads / 32;
inline constexpr int dispatch_chunk = 256;  ///< entries at most that one warp sorts; a multiple of 32

/// What the kernels share. Entry `entries`, one past the last, takes part as an empty one: it ends the last tokens.
struct dispatch_job {
  const index_t* starts;       // [tokens + 1] first entry of each token
  const std::int32_t* expert;  // [entries]
  dispatch_plan plan;
  std::int32_t entries;
  std::int32_t tokens;
  std::int32_t experts;
  std::int32_t chunk;   // entries a warp
  std::int32_t chunks;  // enough for entries + 1

  /// Counts of each chunk, [chunks, experts + 2]: rows of each expert, rows, and entries whose id is out of range.
  static index_t columns(index_t experts) { return experts + 2; }
  static index_t chunks_for(index_t entries, index_t chunk) { return entries / chunk + 1; }

  __device__ std::int32_t width() const { return experts + 2; }
  __device__ std::int32_t* counts(std::int32_t which) const {
    return plan.scratch.data + 1 + static_cast<index_t>(which) * width();
  }
  __device__ std::int32_t* out_of_range() const { return plan.scratch.data; }
  __device__ bool names_expert(std::int32_t e) const { return e >= 0 && e < experts; }
  /// The expert that entry `i` of `token` gets a row of, or -1: a token's entries that name one expert share the row of the first.
  __device__ std::int32_t leads_row_of(index_t i, std::int32_t token) const {
    const std::int32_t e = expert[i];
    if (!names_expert(e)) return -1;
    for (index_t j = starts[token]; j < i; ++j)
      if (expert[j] == e) return -1;
    return e;
  }

  /// The token that entry `i` belongs to.
  __device__ std::int32_t token_of(std::int32_t i) const {
    const auto guess = static_cast<std::int32_t>(static_cast<std::int64_t>(i) * tokens / entries);
    if (starts[guess] <= i && i < starts[guess + 1]) return guess;  // right for rectangles
    std::int32_t first = 0, last = tokens;
    while (last - first > 1) {
      const std::int32_t middle = first + (last - first) / 2;
      (starts[middle] <= i ? first : last) = middle;
    }
    return first;
  }
};

/// A warp counts a chunk's entries.
__device__ inline void count_chunk(const dispatch_job& job, std::int32_t chunk) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  std::int32_t* const counts = job.counts(chunk);
  for (std::int32_t e = lane; e < job.width(); e += 32) counts[e] = 0;
  __syncwarp();
  const std::int32_t first = chunk * job.chunk;
  std::int32_t rows = 0, refused = 0;
  for (std::int32_t base = first; base < first + job.chunk && base < job.entries; base += 32) {
    const std::int32_t i = base + lane;
    const std::int32_t id = i < job.entries ? job.expert[i] : -1;
    const std::int32_t e = i < job.entries ? job.leads_row_of(i, job.token_of(i)) : -1;
    if (e >= 0) atomicAdd(&counts[e], 1);
    rows += __popc(__ballot_sync(~0u, e >= 0));
    refused += __popc(__ballot_sync(~0u, !job.names_expert(id) && id != -1));
  }
  if (lane == 0) {
    counts[job.experts] = rows;
    counts[job.experts + 1] = refused;
  }
}

/// A block replaces the counts in 32 columns by the sums over earlier chunks, and writes the columns' totals.
__device__ inline void sum_columns(const dispatch_job& job, std::int32_t first_column) {
  __shared__ std::int32_t part[dispatch_warps][32];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const std::int32_t column = first_column + lane;
  const std::int32_t share = (job.chunks + dispatch_warps - 1) / dispatch_warps;
  const std::int32_t first = warp * share, last = first + share < job.chunks ? first + share : job.chunks;
  std::int32_t sum = 0;
  if (column < job.width())
    for (std::int32_t chunk = first; chunk < last; ++chunk) sum += job.counts(chunk)[column];
  __syncthreads();  // of an earlier call, whose parts may still be read
  part[warp][lane] = sum;
  __syncthreads();
  if (column >= job.width()) return;
  sum = 0;
  for (int w = 0; w < warp; ++w) sum += part[w][lane];
  constexpr int together = 8;  // loads under way at once
  for (std::int32_t chunk = first; chunk < last; chunk += together) {
    std::int32_t count[together];
    MOUE_UNROLL
    for (int i = 0; i < together; ++i) count[i] = chunk + i < last ? job.counts(chunk + i)[column] : 0;
    MOUE_UNROLL
    for (int i = 0; i < together; ++i) {
      if (chunk + i < last) job.counts(chunk + i)[column] = sum;
      sum += count[i];
    }
  }
  if (warp != dispatch_warps - 1) return;
  if (column < job.experts) job.plan.expert_offsets[column + 1] = sum;
  if (column == job.experts + 1) *job.out_of_range() = sum;
}

/// A block turns the experts' totals into their offsets.
__device__ inline void sum_experts(const dispatch_job& job) {
  __shared__ index_t part[dispatch_warps];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  index_t before = 0;
  if (thread == 0) job.plan.expert_offsets[0] = 0;
  for (std::int32_t base = 0; base < job.experts; base += dispatch_threads) {
    const std::int32_t e = base + thread;
    index_t sum = e < job.experts ? job.plan.expert_offsets[e + 1] : 0;
    for (unsigned by = 1; by < 32; by *= 2) {
      const index_t other = __shfl_up_sync(~0u, sum, by);
      if (lane >= static_cast<int>(by)) sum += other;
    }
    if (lane == 31) part[warp] = sum;
    __syncthreads();
    for (int w = 0; w < dispatch_warps; ++w) {
      if (w == warp && e < job.experts) job.plan.expert_offsets[e + 1] = before + sum;
      before += part[w];
    }
    __syncthreads();
  }
}

/// A warp gives a chunk's entries their rows.
__device__ inline void place_chunk(const dispatch_job& job, std::int32_t chunk) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const unsigned below = (1u << lane) - 1;
  const auto& plan = job.plan;
  std::int32_t* const next = job.counts(chunk);
  std::int32_t rows = next[job.experts];  // of all entries before
  const std::int32_t first = chunk * job.chunk;
  for (std::int32_t base = first; base < first + job.chunk && base <= job.entries; base += 32) {
    const std::int32_t i = base + lane;
    const std::int32_t e = i < job.entries ? job.leads_row_of(i, job.token_of(i)) : -1;
    const unsigned named = __ballot_sync(~0u, e >= 0), same = __match_any_sync(~0u, e);
    const int leader = __ffs(static_cast<int>(same)) - 1;
    std::int32_t start = 0;
    if (e >= 0 && lane == leader) {
      start = next[e];
      next[e] = start + __popc(same);
    }
    start = __shfl_sync(~0u, start, leader);
    const std::int32_t earlier = rows + __popc(named & below);
    const std::int32_t token = i < job.entries ? job.token_of(i) : job.tokens;
    if (i <= job.entries)
      for (std::int32_t t = token; t >= 0 && (job.tokens == 0 || job.starts[t] == i); --t)
        plan.token_offsets[t] = earlier;
    if (e >= 0) {
      const index_t row = plan.expert_offsets[e] + start + __popc(same & below);
      index_t place = earlier;  // among the rows of all tokens, a token's by ascending expert
      for (index_t j = job.starts[token]; j < job.starts[token + 1]; ++j) {
        const std::int32_t other = job.leads_row_of(j, token);
        if (other < 0) continue;
        if (j < i) --place;
        if (other < e) ++place;
      }
      plan.row_token[row] = token;
      plan.row_expert[row] = e;
      plan.row_entry[row] = i;
      plan.token_rows[place] = row;
    }
    rows += __popc(named);
    __syncwarp();  // before another lane leads the same expert
  }
}

template <int Threads>
__global__ void __launch_bounds__(Threads) count_kernel(dispatch_job job) {
  const auto chunk = static_cast<std::int32_t>((blockIdx.x * Threads + threadIdx.x) / 32);
  if (chunk < job.chunks) count_chunk(job, chunk);
}
template <int Threads>
__global__ void __launch_bounds__(Threads) sum_columns_kernel(dispatch_job job) {
  sum_columns(job, static_cast<std::int32_t>(blockIdx.x) * 32);
}
template <int Threads>
__global__ void __launch_bounds__(Threads) sum_experts_kernel(dispatch_job job) {
  sum_experts(job);
}
template <int Threads>
__global__ void __launch_bounds__(Threads) place_kernel(dispatch_job job) {
  const auto chunk = static_cast<std::int32_t>((blockIdx.x * Threads + threadIdx.x) / 32);
  if (chunk < job.chunks) place_chunk(job, chunk);
}
/// All of the above, for as many chunks as a block has warps.
template <int Threads>
__global__ void __launch_bounds__(Threads) dispatch_in_one_block_kernel(dispatch_job job) {
  const auto warp = static_cast<std::int32_t>(threadIdx.x / 32);
  if (warp < job.chunks) count_chunk(job, warp);
  __syncthreads();
  for (std::int32_t column = 0; column < job.width(); column += 32) sum_columns(job, column);
  __syncthreads();
  sum_experts(job);
  __syncthreads();
  if (warp < job.chunks) place_chunk(job, warp);
}

/// Elements of `dispatch_plan::scratch`.
inline index_t dispatch_scratch(index_t entries, index_t experts) {
  const index_t chunks = dispatch_job::chunks_for(entries, dispatch_chunk);
  return 1 + (chunks > dispatch_warps ? chunks : dispatch_warps) * dispatch_job::columns(experts);
}
/// Entries a warp sorts: no more than give every warp of a block work.
inline int dispatch_chunk_for(index_t entries) {
  const index_t even = (entries / dispatch_warps + 32) / 32 * 32;
  return even < dispatch_chunk ? static_cast<int>(even) : dispatch_chunk;
}

/// Fills `plan` as `make_plan` does, without a look from the host. Entries whose id is neither an expert's nor −1 are
/// left out and counted in `plan.scratch[0]`.
template <class RuntimeT, class C>
void dispatch(const RuntimeT& runtime, const routing<C>& r, const dispatch_plan& plan, int chunk) {
  constexpr index_t most = (std::numeric_limits<std::int32_t>::max)() / 2;
  require(
      r.entries() <= most && r.tokens() <= most && plan.experts() <= most, "cuda",
      [&] { return "a routing has " + std::to_string(r.entries()) + " entries"; },
      "split the batch: one routing holds at most 1073741823");
  const auto narrow = [](index_t n) { return static_cast<std::int32_t>(n); };
  const index_t chunks = dispatch_job::chunks_for(r.entries(), chunk), columns = dispatch_job::columns(plan.experts());
  require(
      plan.scratch.size >= 1 + chunks * columns, "cuda",
      [] { return std::string("the plan has no room for a device's sort"); }, "take it by an executor on this backend");
  const dispatch_job job{r.offsets.data,     r.expert.data,          plan,  narrow(r.entries()),
                         narrow(r.tokens()), narrow(plan.experts()), chunk, narrow(chunks)};
  constexpr int threads = dispatch_threads;
  const auto blocks = [](index_t n, index_t size) { return dim3(static_cast<unsigned>((n + size - 1) / size)); };
  if (chunks <= dispatch_warps) return runtime.launch(&dispatch_in_one_block_kernel<threads>, dim3(1), threads, 0, job);
  runtime.launch(&count_kernel<threads>, blocks(chunks, dispatch_warps), threads, 0, job);
  runtime.launch(&sum_columns_kernel<threads>, blocks(columns, 32), threads, 0, job);
  runtime.launch(&sum_experts_kernel<threads>, dim3(1), threads, 0, job);
  runtime.launch(&place_kernel<threads>, blocks(chunks, dispatch_warps), threads, 0, job);
}
template <class RuntimeT, class C>
void dispatch(const RuntimeT& runtime, const routing<C>& r, const dispatch_plan& plan) {
  dispatch(runtime, r, plan, dispatch_chunk_for(r.entries()));
}

}  // namespace moue::inline v0_1::detail::gpu
