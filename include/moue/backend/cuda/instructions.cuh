// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The few instructions that C++ has no words for, as functions; from compute capability 8.0. Where no device compiler
/// reads this, whoever emulates a device defines them before (test/support/emulated_instructions.hpp).

#include <cstdint>
#include <type_traits>

#include "moue/scalar.hpp"

namespace moue::inline v0_1::detail::gpu {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#error "moue: the CUDA backend needs compute capability 8.0 or above: set CMAKE_CUDA_ARCHITECTURES to 80 or more"
#endif

#if defined(__CUDACC__)

/// Sixteen bytes, as they are loaded at once.
struct alignas(16) quad {
  std::uint32_t word[4];
};

/// Reads 16 aligned bytes that nothing writes meanwhile and that are not read again soon.
__device__ inline quad load_once(const void* from) {
  quad q;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(q.word[0]), "=r"(q.word[1]), "=r"(q.word[2]), "=r"(q.word[3])
               : "l"(from));
  return q;
}

/// Starts to copy `bytes` <= 16 bytes to shared memory and to clear the rest of the 16; both addresses are aligned. What
/// lies past `bytes` is not read.
__device__ inline void copy_async(void* shared, const void* global, int bytes) {
  const auto to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes) : "memory");
}
/// Makes a group, which may be empty, of the copies this thread has started since the last one.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most the `Pending` latest groups of this thread are under way. Others see the copies after a barrier.
template <int Pending>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

/// Loads four 8 x 8 matrices of 16-bit numbers from shared memory, whose rows begin at the addresses that the lanes give,
/// eight lanes a matrix. Lane l gets numbers 2(l % 4) and 2(l % 4) + 1 of row l / 4 of each, or of its transpose.
template <bool Transposed>
__device__ inline void load_matrices(std::uint32_t (&m)[4], const void* row) {
  const auto from = static_cast<unsigned>(__cvta_generic_to_shared(row));
  if constexpr (Transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(from)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(from)
                 : "memory");
}

/// c [16, 8] += a [16, 16] b [8, 16]ᵀ over a warp. With g = lane / 4, t = lane % 4 and pairs of neighbours in a word:
/// a = {(g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8)}, b = {(g, 2t), (g, 2t + 8)}, c = {(g, 2t), (g, 2t + 1),
/// (g + 8, 2t), (g + 8, 2t + 1)}. PTX manual, mma.m16n8k16.
template <class T>
__device__ inline void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  if constexpr (std::is_same_v<T, bf16>)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#endif

/// A stored number in the type of arithmetic.
template <class C, class S>
__device__ inline C widen(S value) {
#if defined(__CUDA_ARCH__)
  if constexpr (std::is_same_v<S, half>) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value.bits));
    return wide;
  } else {
    return static_cast<C>(value);
  }
#else
  return static_cast<C>(value);
#endif
}

/// Two neighbours rounded to the 16-bit type `T`, the first in the low half.
template <class T>
__device__ inline std::uint32_t narrow_pair(float first, float second) {
#if defined(__CUDA_ARCH__)
  std::uint32_t pair;
  if constexpr (std::is_same_v<T, bf16>)
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  else
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
#else
  return T(first).bits | static_cast<std::uint32_t>(T(second).bits) << 16;
#endif
}

}  // namespace moue::inline v0_1::detail::gpu
