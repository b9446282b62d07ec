// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The backend under test: on a CUDA device where nvcc compiles the test, else on the emulated one.

#if defined(__CUDACC__)
#include "moue/cuda.cuh"

namespace test {
using device = moue::cuda;
}  // namespace test
#else
#include "emulated.hpp"

namespace test {
using device = emulated;
}  // namespace test
#endif
