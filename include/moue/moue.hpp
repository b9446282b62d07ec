// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The front door: everything that runs on the CPU.

#include "moue/backend/cpu.hpp"
#include "moue/backend/reference.hpp"
#include "moue/policies.hpp"
