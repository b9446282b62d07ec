// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "compositions_device.hpp"

#include "carried.hpp"
#include "compose_public.hpp"
#include "moue/cuda.cuh"

namespace test {

#if defined(MOUE_TEST_ALL_COMPOSITIONS)
constexpr bool all = true;
model_pointer<double> compose_public(std::string_view name, const recipe& r, const moue::cuda& backend) {
  return compose_public_on(name, r, backend);
}
#else
constexpr bool all = false;
#endif

std::vector<std::string> compositions_on_device() {
  if (all) return compositions();
  return {"keyed_trajectory", "linear_bias", "always_on", "mixed_pool"};
}

model_pointer<double> compose_on_device(std::string_view name, const recipe& r) {
  return compose_on<all>(name, r, moue::cuda());
}

}  // namespace test
