// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "carried.hpp"
#include "compositions_device.hpp"
#include "moue/cuda.cuh"
#include "user_mixtures.hpp"

namespace test {

model_pointer<double> user_on_device(std::string_view name) { return user::mixture(name, moue::cuda()); }

}  // namespace test
