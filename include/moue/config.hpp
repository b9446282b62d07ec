// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Every macro the library owns.

#include <version>

#if __cplusplus < 202002L
#error "moue: needs C++20; compile with -std=c++20 or newer"
#endif
#if !defined(__cpp_exceptions)
#error "moue: reports misuse by exceptions; compile without -fno-exceptions"
#endif
#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ && !defined(MOUE_ALLOW_FINITE_MATH)
#error \
    "moue: closed candidates are infinite, and broken numbers are looked for; compile without -ffast-math, -Ofast and -ffinite-math-only (or define MOUE_ALLOW_FINITE_MATH, close nothing and do without non_finite::reject and mask)"
#endif

/// Marks a function that must be callable from host and device code. Row functors and `constexpr` policies carry it;
/// under a host compiler it is empty.
#if defined(__CUDACC__)
#define MOUE_HD __host__ __device__
#else
#define MOUE_HD
#endif

/// Stands before a loop that device compilers must unroll, so that the arrays it indexes stay in registers.
#if defined(__CUDA_ARCH__)
#define MOUE_UNROLL _Pragma("unroll")
#else
#define MOUE_UNROLL
#endif

/// `constexpr` for functions that read vectors, where the standard library's are (libstdc++'s in debug mode are not).
#if defined(__cpp_lib_constexpr_vector) && !defined(_GLIBCXX_DEBUG)
#define MOUE_CONSTEXPR_VECTOR constexpr
#else
#define MOUE_CONSTEXPR_VECTOR inline
#endif

/// A value that no optimisation across operations looks through. Nested, since compilers that lack `__has_builtin` cannot
/// parse a condition that uses it.
#define MOUE_ASSOC_BARRIER(x) (x)
#if defined(__has_builtin) && !defined(__CUDACC__)
#if __has_builtin(__builtin_assoc_barrier)
#undef MOUE_ASSOC_BARRIER
#define MOUE_ASSOC_BARRIER(x) __builtin_assoc_barrier(x)
#endif
#endif

/// Vector types of the compiler's own, and loops over arrays of them that must stay in registers.
#if defined(__clang__)
#define MOUE_VECTOR_TYPES 1
#define MOUE_UNROLL_REGISTERS _Pragma("unroll")
#elif defined(__GNUC__)
#define MOUE_VECTOR_TYPES 1
#define MOUE_UNROLL_REGISTERS _Pragma("GCC unroll 32")
#else
#define MOUE_VECTOR_TYPES 0
#endif
