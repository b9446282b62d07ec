// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// The fiber emulator: it computes what a device computes, and it sees the mistakes that it is there to see.

#include "emulator.hpp"

#include <doctest/doctest.h>

#include <numeric>
#include <string>
#include <vector>

namespace moue::inline v0_1::detail::gpu {

/// out[block] = the sum of the block's part of `in`, by shuffles within warps and shared memory between them. Without
/// `Barrier` the threads do not wait for each other.
template <bool Barrier>
__global__ void sum_kernel(const long* in, int count, long* out) {
  __shared__ long partial[8];
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int thread = static_cast<int>(threadIdx.x);
  long sum = i < count ? in[i] : 0;
  for (unsigned by = 16; by > 0; by /= 2) sum += __shfl_down_sync(~0u, sum, by);
  if (thread % warpSize == 0) partial[thread / warpSize] = sum;
  if constexpr (Barrier) __syncthreads();
  if (thread == 0) {
    const int warps = (static_cast<int>(blockDim.x) + warpSize - 1) / warpSize;
    sum = 0;
    for (int w = 0; w < warps; ++w) sum += partial[w];
    out[blockIdx.x] = sum;
  }
}

/// out = in reversed within each block, through dynamic shared memory.
__global__ void reverse_kernel(const int* in, int* out) {
  extern __shared__ unsigned char dynamic_shared[];
  int* const held = reinterpret_cast<int*>(dynamic_shared);
  held[threadIdx.x] = in[blockIdx.x * blockDim.x + threadIdx.x];
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = held[blockDim.x - 1 - threadIdx.x];
}

__global__ void beyond_shared_kernel(int* out) {
  extern __shared__ unsigned char dynamic_shared[];
  *out = dynamic_shared[16];
}

/// Every lane's answer of each collective call, eight a thread.
__global__ void collectives_kernel(int* out, int width) {
  const int lane = static_cast<int>(threadIdx.x);
  int* const mine = out + 8 * lane;
  mine[0] = __shfl_sync(~0u, lane, 3, width);
  mine[1] = __shfl_xor_sync(~0u, lane, 5, width);
  mine[2] = __shfl_up_sync(~0u, lane, 2, width);
  mine[3] = __shfl_down_sync(~0u, lane, 2, width);
  mine[4] = static_cast<int>(__ballot_sync(~0u, lane % 3 == 0));
  mine[5] = static_cast<int>(__match_any_sync(~0u, lane % 4));
  mine[6] = __any_sync(~0u, lane == 7) + 2 * __any_sync(~0u, lane == 77);
  mine[7] = __all_sync(~0u, lane < 32) + 2 * __all_sync(~0u, lane < 31);
}

/// Lanes of two halves, each at calls of its own.
__global__ void halves_kernel(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  if (lane < 16) {
    int v = lane;
    for (int bits = 8; bits > 0; bits /= 2) v += __shfl_xor_sync(0xffffu, v, bits);
    out[lane] = v;
  } else {
    out[lane] = static_cast<int>(__ballot_sync(0xffff0000u, lane % 2));
    __syncwarp(0xffff0000u);
  }
}

__global__ void count_kernel(const int* ids, int count, int* counts) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (static_cast<int>(i) < count) atomicAdd(&counts[ids[i]], 1);
}

/// Three-dimensional indices, written where the linear one says.
__global__ void index_kernel(unsigned* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned at = block * blockDim.x * blockDim.y * blockDim.z + thread;
  out[at] = at + 1;
}

enum class mistake { early_end, two_barriers, lane_elsewhere, absent_source, own_mask, none };

__global__ void mistaken_kernel(mistake made) {
  const int thread = static_cast<int>(threadIdx.x);
  if (made == mistake::early_end && thread == 5) return;
  if (made == mistake::two_barriers && thread >= 32) {
    __syncthreads();
  } else if (made == mistake::lane_elsewhere && thread == 40) {
    __syncwarp();
  } else if (made == mistake::absent_source) {
    if (thread < 8) __shfl_xor_sync(0xffu, thread, 8);
  } else if (made == mistake::own_mask) {
    __syncwarp(0xfu);
  } else {
    __ballot_sync(~0u, 1);
  }
  __syncthreads();
}

}  // namespace moue::inline v0_1::detail::gpu

namespace {

namespace gpu = moue::detail::gpu;
using test::emulator::launch;

template <bool Barrier>
bool sums_right(std::uint64_t seed) {
  const int count = 700;
  std::vector<long> in(count), out(4, -1);
  std::iota(in.begin(), in.end(), 1L);
  launch(seed, gpu::sum_kernel<Barrier>, 4, 192, 0, in.data(), count, out.data());
  return std::accumulate(out.begin(), out.end(), 0L) == count * (count + 1L) / 2;
}

}  // namespace

TEST_CASE("a kernel of shuffles and a barrier sums, in any order of threads") {
  for (std::uint64_t seed = 0; seed < 50; ++seed) CHECK(sums_right<true>(seed));
}

TEST_CASE("a removed barrier is caught by some seed") {
  int wrong = 0;
  for (std::uint64_t seed = 0; seed < 50; ++seed) wrong += !sums_right<false>(seed);
  CHECK(wrong > 10);
}

TEST_CASE("the same seed gives the same order") {
  std::vector<bool> first, second;
  for (std::uint64_t seed = 0; seed < 20; ++seed) first.push_back(sums_right<false>(seed));
  for (std::uint64_t seed = 0; seed < 20; ++seed) second.push_back(sums_right<false>(seed));
  CHECK(first == second);
}

TEST_CASE("dynamic shared memory is the block's own") {
  std::vector<int> in(3 * 96), out(in.size());
  std::iota(in.begin(), in.end(), 0);
  launch(1, gpu::reverse_kernel, 3, 96, 96 * sizeof(int), in.data(), out.data());
  for (std::size_t i = 0; i < in.size(); ++i) CHECK(out[i] == static_cast<int>(i / 96 * 96 + 95 - i % 96));
  int rubbish = 0;
  launch(1, gpu::beyond_shared_kernel, 1, 1, 32, &rubbish);
  CHECK(rubbish == 0xa5);
}

TEST_CASE("collective calls answer each lane as on a device") {
  for (const int width : {32, 8}) {
    std::vector<int> out(32 * 8, -1);
    launch(7, gpu::collectives_kernel, 1, 32, 0, out.data(), width);
    for (int lane = 0; lane < 32; ++lane) {
      CAPTURE(lane);
      const int* mine = &out[static_cast<std::size_t>(8 * lane)];
      const int first = lane / width * width;
      CHECK(mine[0] == first + 3);
      CHECK(mine[1] == (lane ^ 5));
      CHECK(mine[2] == (lane - first >= 2 ? lane - 2 : lane));
      CHECK(mine[3] == (lane - first + 2 < width ? lane + 2 : lane));
      CHECK(static_cast<unsigned>(mine[4]) == 0x49249249u);
      CHECK(static_cast<unsigned>(mine[5]) == 0x11111111u << lane % 4);
      CHECK(mine[6] == 1);
      CHECK(mine[7] == 1);
    }
  }
}

TEST_CASE("parts of a warp may go their own ways") {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    std::vector<int> out(32, -1);
    launch(seed, gpu::halves_kernel, 1, 32, 0, out.data());
    for (std::size_t lane = 0; lane < 32; ++lane)
      CHECK(static_cast<unsigned>(out[lane]) == (lane < 16 ? 120u : 0xaaaa0000u));
  }
}

TEST_CASE("counts by atomics are exact") {
  std::vector<int> ids(1000), counts(7, 0), expected(7, 0);
  for (std::size_t i = 0; i < ids.size(); ++i)
    ++expected[static_cast<std::size_t>(ids[i] = static_cast<int>(i * i % 7))];
  launch(3, gpu::count_kernel, 8, 128, 0, ids.data(), 1000, counts.data());
  CHECK(counts == expected);
}

TEST_CASE("blocks and threads have three dimensions") {
  std::vector<unsigned> out(2 * 3 * 2 * 4 * 3 * 5), expected(out.size());
  std::iota(expected.begin(), expected.end(), 1u);
  launch(3, gpu::index_kernel, dim3(2, 3, 2), dim3(4, 3, 5), 0, out.data());
  CHECK(out == expected);
}

TEST_CASE("what a device leaves undefined ends the launch with a reason") {
  const auto run = [](gpu::mistake made) { launch(11, gpu::mistaken_kernel, 2, 64, 0, made); };
  using test::emulator::divergence;
  CHECK_NOTHROW(run(gpu::mistake::none));
  CHECK_THROWS_WITH_AS(run(gpu::mistake::early_end), doctest::Contains("have ended, the others wait for ever"),
                       divergence);
  CHECK_THROWS_WITH_AS(run(gpu::mistake::two_barriers), doctest::Contains("threads meet at different barriers"),
                       divergence);
  CHECK_THROWS_WITH_AS(run(gpu::mistake::lane_elsewhere), doctest::Contains("31 at cuda_emulator.cpp:"), divergence);
  CHECK_THROWS_WITH_AS(run(gpu::mistake::absent_source), doctest::Contains("which takes no part"), divergence);
  CHECK_THROWS_WITH_AS(run(gpu::mistake::own_mask), doctest::Contains("a mask that leaves it out"), divergence);
  CHECK_NOTHROW(run(gpu::mistake::none));  // and the next launch is not harmed
}
