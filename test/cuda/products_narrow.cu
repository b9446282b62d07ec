// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Every way to a product of 16-bit weights on a device, compared with `reference`.

#include "device_products.hpp"
#include "moue/cuda.cuh"

TEST_CASE_TEMPLATE("products of 16-bit weights", S, moue::bf16, moue::half) {
  const moue::cuda_runtime device;
  for (const auto& shape : test::product_shapes())
    for (auto choice : test::product_choices()) {
      test::check_on_device<S, S>(device, shape, choice);
      choice.tensor_cores = false;
      test::check_on_device<S, S>(device, shape, choice);
    }
}
