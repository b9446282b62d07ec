// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Products in tiles, by ordinary arithmetic.

#include "emulated_products.hpp"

namespace {

template <class S>
void check(const test::product_shape& shape) {
  using tiles = test::gpu::scalar_tiles<moue::compute_t<S>>;
  const test::product_trial<S> trial(shape);
  trial.template check_both_modes<false, void>(test::emulated_rows<typename tiles::template low<false>>());
  trial.template check_both_modes<true, void>(test::emulated_rows<typename tiles::template high<true>>());
  trial.template check_rows<false, void>(test::emulated_rows<typename tiles::template high<false>>(), moue::store::add);
  trial.template check_rows<true, void>(test::emulated_rows<typename tiles::template low<true>>(), moue::store::assign);
  trial.template check_gradient<void>(test::emulated_gradient<typename tiles::gradient>());
  trial.template check_gradient<void>(test::emulated_gradient<typename tiles::low_gradient>());
}

}  // namespace

TEST_CASE("tiles by ordinary arithmetic") {
  for (const auto& shape : test::product_shapes()) check<float>(shape);
  for (const auto& shape : test::few_product_shapes()) {
    check<double>(shape);
    check<moue::bf16>(shape);
    check<moue::half>(shape);
  }
}

TEST_CASE("tiles give the same bits whatever the order of threads") {
  const test::product_trial<float> trial({.sizes = {3, 40}, .n = 33, .k = 50});
  using tiles = test::gpu::scalar_tiles<float>;
  auto first = trial.check_rows<false, void>(test::emulated_rows<tiles::high<false>>(1), moue::store::add);
  auto second = trial.check_rows<false, void>(test::emulated_rows<tiles::high<false>>(2), moue::store::add);
  CHECK(first.same_bits(second));
  auto one = trial.check_gradient<void>(test::emulated_gradient<tiles::gradient>(3));
  auto other = trial.check_gradient<void>(test::emulated_gradient<tiles::gradient>(4));
  CHECK(one[1].same_bits(other[1]));
}
