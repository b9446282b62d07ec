// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Runs the unmodified source of CUDA kernels on the host. Every thread of a block is a fiber; a barrier, a shuffle or a
// vote suspends it until the threads it waits for have arrived, and the next fiber is drawn at random, so that a missing
// barrier shows in the results of some seed. Blocks run one after another. What a device leaves undefined ends the
// launch with `divergence`: threads of a block at different barriers, or ended before one that others wait at; a lane
// that ended or stands elsewhere although a mask names it; a shuffle from a lane that the mask leaves out.
//
// Not modelled: memory order between threads that share no barrier, lock-step execution, floats in atomics, textures,
// asynchronous copies, tensor instructions. Dynamic shared memory is `extern __shared__ unsigned char dynamic_shared[]`
// within namespace moue::detail::gpu; each block finds rubbish in it.

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "emulated_machine.hpp"

namespace test::emulator {

template <class T>
T shuffle(unsigned mask, T value, unsigned source, const char* file, unsigned line) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(std::uint64_t));
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = current_machine().wait({call_kind::shuffle, mask, bits, source, file, line});
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline unsigned vote(unsigned mask, bool value, const char* file, unsigned line) {
  return static_cast<unsigned>(current_machine().wait({call_kind::ballot, mask, value, 0, file, line}));
}

}  // namespace test::emulator

inline void __syncthreads(const char* file = __builtin_FILE(), unsigned line = __builtin_LINE()) {
  test::emulator::current_machine().wait({test::emulator::call_kind::block_barrier, 0, 0, 0, file, line});
}
inline void __syncwarp(unsigned mask = ~0u, const char* file = __builtin_FILE(), unsigned line = __builtin_LINE()) {
  test::emulator::current_machine().wait({test::emulator::call_kind::warp_barrier, mask, 0, 0, file, line});
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, const char* file = __builtin_FILE(),
              unsigned line = __builtin_LINE()) {
  const unsigned lane = test::emulator::current_machine().lane(), size = static_cast<unsigned>(width);
  return test::emulator::shuffle(mask, value, lane / size * size + static_cast<unsigned>(source) % size, file, line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, const char* file = __builtin_FILE(),
                  unsigned line = __builtin_LINE()) {
  const unsigned lane = test::emulator::current_machine().lane(), size = static_cast<unsigned>(width);
  const unsigned source = lane ^ static_cast<unsigned>(bits);
  return test::emulator::shuffle(mask, value, source < lane / size * size + size ? source : lane, file, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, const char* file = __builtin_FILE(),
                   unsigned line = __builtin_LINE()) {
  const unsigned lane = test::emulator::current_machine().lane(), size = static_cast<unsigned>(width);
  return test::emulator::shuffle(mask, value, lane % size + by < size ? lane + by : lane, file, line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, const char* file = __builtin_FILE(),
                 unsigned line = __builtin_LINE()) {
  const unsigned lane = test::emulator::current_machine().lane(), size = static_cast<unsigned>(width);
  return test::emulator::shuffle(mask, value, lane % size >= by ? lane - by : lane, file, line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(),
                              unsigned line = __builtin_LINE()) {
  return test::emulator::vote(mask, predicate != 0, file, line);
}
inline int __any_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(),
                      unsigned line = __builtin_LINE()) {
  return test::emulator::vote(mask, predicate != 0, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(),
                      unsigned line = __builtin_LINE()) {
  return test::emulator::vote(mask, predicate == 0, file, line) == 0;
}
template <std::integral T>
unsigned __match_any_sync(unsigned mask, T value, const char* file = __builtin_FILE(),
                          unsigned line = __builtin_LINE()) {
  return static_cast<unsigned>(test::emulator::current_machine().wait(
      {test::emulator::call_kind::match, mask, static_cast<std::uint64_t>(value), 0, file, line}));
}

template <std::integral T>
T atomicAdd(T* place, std::type_identity_t<T> value) {
  test::emulator::current_machine().maybe_pause();
  return std::exchange(*place, static_cast<T>(*place + value));
}
inline void __threadfence() {}
template <class T>
T __ldg(const T* place) {
  return *place;
}
inline int __popc(unsigned bits) { return std::popcount(bits); }
inline int __ffs(int bits) { return bits == 0 ? 0 : std::countr_zero(static_cast<unsigned>(bits)) + 1; }
inline int __clz(int bits) { return std::countl_zero(static_cast<unsigned>(bits)); }
