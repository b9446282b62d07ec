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
