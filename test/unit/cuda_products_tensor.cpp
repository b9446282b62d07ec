// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Products in tiles that tensor cores multiply: their instructions are emulated as the PTX manual lays them out.

#include "emulated_products.hpp"

namespace {

// Activations are rounded to the weights' type. Compared with the same rounding, nothing but the order of sums remains.
template <class S>
using tiles = test::gpu::tensor_tiles<S>;

template <class S>
void check_low(const test::product_shape& shape) {
  const test::product_trial<S> trial(shape);
  trial.template check_both_modes<false, S>(test::emulated_rows<typename tiles<S>::template low<false>>());
  trial.template check_rows<true, S>(test::emulated_rows<typename tiles<S>::template low<true>>(), moue::store::assign);
  trial.template check_gradient<S>(test::emulated_gradient<typename tiles<S>::low_gradient>());
}
template <class S>
void check_high(const test::product_shape& shape) {
  const test::product_trial<S> trial(shape);
  trial.template check_rows<false, S>(test::emulated_rows<typename tiles<S>::template high<false>>(), moue::store::add);
  trial.template check_both_modes<true, S>(test::emulated_rows<typename tiles<S>::template high<true>>());
  trial.template check_gradient<S>(test::emulated_gradient<typename tiles<S>::gradient>());
}

}  // namespace

TEST_CASE("tiles by tensor cores") {
  for (const auto& shape : test::product_shapes()) check_low<moue::bf16>(shape);
  for (const auto& shape : test::few_product_shapes()) {
    check_low<moue::half>(shape);
    check_high<moue::bf16>(shape);
  }
  check_high<moue::half>({.sizes = {140}, .n = 40, .k = 136});
}

TEST_CASE("tensor cores give the same bits whatever the order of threads") {
  const test::product_trial<moue::bf16> trial({.sizes = {3, 40}, .n = 33, .k = 80});
  using high = tiles<moue::bf16>::high<false>;
  auto first = trial.check_rows<false, moue::bf16>(test::emulated_rows<high>(1), moue::store::add);
  auto second = trial.check_rows<false, moue::bf16>(test::emulated_rows<high>(2), moue::store::add);
  CHECK(first.same_bits(second));
  // Nor does it matter how many slices a block holds, which devices' shared memory limits.
  auto shallow =
      trial.check_rows<false, moue::bf16>(test::emulated_rows<tiles<moue::bf16>::high<false, 3>>(), moue::store::add);
  CHECK(first.same_bits(shallow));
}

TEST_CASE("a block that asks for more shared memory than a device has is refused, as there") {
  const test::product_trial<moue::bf16> trial({.sizes = {3}, .n = 8, .k = 16});
  using high = tiles<moue::bf16>::high<false>;
  const auto run = [](const auto& groups, auto x, const auto& w, auto y, auto mode) {
    test::gpu::launch_rows<high>(test::emulated_launches{1, {.shared_bytes = 99 << 10}},
                                 test::gpu::one_product<false>(groups, x, w, y, mode));
  };
  CHECK_THROWS_WITH_AS((trial.check_rows<false, moue::bf16>(run, moue::store::assign)),
                       doctest::Contains("122880 bytes of shared memory"), test::emulator::divergence);
}
