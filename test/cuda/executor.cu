// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// What unit/cuda_executor.cpp asks of the emulated device, asked of a device.

#include "../unit/cuda_executor.cpp"
