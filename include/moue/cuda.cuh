// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The front door of the CUDA backend: all policies, and `moue::cuda` to run them on. Needs nvcc.

#include "moue/backend/cuda.cuh"
#include "moue/policies.hpp"
