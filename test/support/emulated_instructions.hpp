// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What moue/backend/cuda/instructions.cuh asks of a device, in plain C++ for kernels that run under the emulator: the
// same results, the same layouts over the lanes, and an exception for an address that a device would refuse. A copy that
// is not waited for has not happened.

#include <array>
#include <cstring>
#include <deque>
#include <type_traits>
#include <vector>

#include "emulator.hpp"
#include "moue/scalar.hpp"

namespace test::emulator {

inline void require_aligned(const void* address, std::size_t bytes, const char* what) {
  if (reinterpret_cast<std::uintptr_t>(address) % bytes != 0) throw divergence(std::string(what) + ": not aligned");
}

struct started_copy {
  void* to;
  const void* from;
  int bytes;
};

/// Copies under way by thread of the block: groups, of which the last is still open.
inline thread_local std::array<std::deque<std::vector<started_copy>>, 1024> copies;

inline std::size_t thread_number() {
  return threadIdx.x + std::size_t{blockDim.x} * (threadIdx.y + std::size_t{blockDim.y} * threadIdx.z);
}
inline void finish_copies(std::size_t pending) {
  auto& groups = copies[thread_number()];
  while (groups.size() > pending + 1) {
    for (const auto& c : groups.front()) {
      std::memset(c.to, 0, 16);
      std::memcpy(c.to, c.from, static_cast<std::size_t>(c.bytes));
    }
    groups.pop_front();
  }
}

/// Throws if a kernel that has ended left copies that it did not wait for.
inline void expect_no_copies() {
  for (auto& groups : copies) {
    for (const auto& group : groups)
      if (!group.empty()) throw divergence("a kernel ended before its asynchronous copies");
    groups.clear();
  }
}

/// What the lanes of each warp hold up for each other.
inline thread_local std::array<std::array<std::array<std::uint32_t, 6>, 32>, 32> held_up;
inline thread_local std::array<std::array<const void*, 32>, 32> pointed_at;

}  // namespace test::emulator

namespace moue::inline v0_1::detail::gpu {

struct alignas(16) quad {
  std::uint32_t word[4];
};

inline quad load_once(const void* from) {
  test::emulator::require_aligned(from, 16, "a load of 16 bytes");
  quad q;
  std::memcpy(&q, from, sizeof q);
  return q;
}

inline void copy_async(void* shared, const void* global, int bytes) {
  test::emulator::require_aligned(shared, 16, "an asynchronous copy to shared memory");
  test::emulator::require_aligned(global, 16, "an asynchronous copy from global memory");
  if (bytes < 0 || bytes > 16) throw test::emulator::divergence("an asynchronous copy of an impossible size");
  auto& groups = test::emulator::copies[test::emulator::thread_number()];
  if (groups.empty()) groups.emplace_back();
  groups.back().push_back({shared, global, bytes});
}
inline void commit_copies() {
  auto& groups = test::emulator::copies[test::emulator::thread_number()];
  if (groups.empty()) groups.emplace_back();
  groups.emplace_back();
}
template <int Pending>
void wait_for_copies() {
  test::emulator::finish_copies(Pending);
}

template <bool Transposed>
void load_matrices(std::uint32_t (&m)[4], const void* row) {
  test::emulator::require_aligned(row, 16, "a row of a matrix in shared memory");
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  auto& rows = test::emulator::pointed_at[warp];
  rows[lane] = row;
  __syncwarp();
  for (unsigned i = 0; i < 4; ++i) {
    std::uint16_t pair[2];
    for (unsigned e = 0; e < 2; ++e) {
      const unsigned at = lane % 4 * 2 + e;
      const auto* const from = static_cast<const std::byte*>(rows[i * 8 + (Transposed ? at : lane / 4)]);
      std::memcpy(&pair[e], from + 2 * (Transposed ? lane / 4 : at), 2);
    }
    m[i] = pair[0] | static_cast<std::uint32_t>(pair[1]) << 16;
  }
  __syncwarp();
}

template <class T>
void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  auto& all = test::emulator::held_up[warp];
  all[lane] = {a[0], a[1], a[2], a[3], b0, b1};
  __syncwarp();
  const auto number = [&](unsigned holder, unsigned word, unsigned e) {
    T value;
    value.bits = static_cast<std::uint16_t>(all[holder][word] >> (16 * e));
    return static_cast<float>(value);
  };
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned lower = i / 2, column = lane % 4 * 2 + i % 2;  // of the two rows lane / 4 and lane / 4 + 8
    for (unsigned k = 0; k < 16; ++k) {
      const unsigned t = k % 8 / 2, upper = k / 8;
      c[i] += number(lane / 4 * 4 + t, lower + 2 * upper, k % 2) * number(column * 4 + t, 4 + upper, k % 2);
    }
  }
  __syncwarp();
}

}  // namespace moue::inline v0_1::detail::gpu
