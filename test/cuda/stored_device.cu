// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "carried.hpp"
#include "compositions_device.hpp"
#include "moue/cuda.cuh"
#include "stored_model.hpp"

namespace test {

template <moue::Storage S>
model_pointer<S> stored_on_device() {
  return stored_as<S>(moue::cuda());
}
template model_pointer<float> stored_on_device<float>();
template model_pointer<moue::bf16> stored_on_device<moue::bf16>();

}  // namespace test
