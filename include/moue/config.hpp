// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Every macro the library owns.

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
