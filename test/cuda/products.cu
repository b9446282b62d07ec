// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Every way to a product on a device, compared with `reference`.

#include "device_products.hpp"
#include "moue/cuda.cuh"

TEST_CASE_TEMPLATE("products of numbers that nothing rounds", S, float, double) {
  const moue::cuda_runtime device;
  for (const auto& shape : test::product_shapes())
    for (const auto& choice : test::product_choices()) test::check_on_device<S, void>(device, shape, choice);
}
