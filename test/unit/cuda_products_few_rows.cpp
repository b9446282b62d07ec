// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Products of groups with a few rows, straight from registers.

#include "emulated_products.hpp"

namespace {

template <class Body>
auto by(std::uint64_t seed = 1) {
  return [seed](const auto& groups, auto x, const auto& w, auto y, auto mode) {
    test::gpu::launch_few_rows<Body>(test::emulated_launches{seed},
                                     test::gpu::one_product<Body::transposed>(groups, x, w, y, mode));
  };
}

template <class S>
using wide = test::gpu::few_rows_linear<4, 1, moue::compute_t<S>, S>;
template <class S>
using narrow = test::gpu::few_rows_linear<4, 8, moue::compute_t<S>, S>;
template <class S>
using transposed = test::gpu::few_rows_transposed<moue::compute_t<S>, S>;

template <class S>
void check(const test::product_shape& shape) {
  const test::product_trial<S> trial(shape);
  trial.template check_both_modes<false, void>(by<wide<S>>());
  trial.template check_both_modes<false, void>(by<narrow<S>>());
  trial.template check_both_modes<true, void>(by<transposed<S>>());
}

}  // namespace

TEST_CASE("few rows meet each weight in registers") {
  for (const auto& shape : test::product_shapes()) check<moue::bf16>(shape);
  for (const auto& shape : test::few_product_shapes()) {
    check<float>(shape);
    check<double>(shape);
    check<moue::half>(shape);
  }
}

TEST_CASE("a depth that takes all warps of a block several turns") {
  const test::product_shape deep{.sizes = {2}, .n = 5, .k = 4104};
  const test::product_trial<moue::bf16> trial(deep);
  trial.check_rows<false, void>(by<wide<moue::bf16>>(), moue::store::assign);
  trial.check_rows<false, void>(by<narrow<moue::bf16>>(), moue::store::assign);
  const test::product_trial<moue::bf16> tall({.sizes = {2}, .n = 300, .k = 5});
  tall.check_rows<true, void>(by<transposed<moue::bf16>>(), moue::store::assign);
}

TEST_CASE("any number of rows up to a tile, aligned and not") {
  for (moue::index_t rows = 1; rows <= 9; ++rows)
    for (const moue::index_t shift : {0, 1}) {
      const test::product_trial<moue::bf16> trial(
          {.sizes = {rows}, .n = 6, .k = 520, .shift = shift, .weight_shift = shift});
      trial.check_rows<false, void>(by<wide<moue::bf16>>(), moue::store::assign);
      trial.check_rows<true, void>(by<transposed<moue::bf16>>(), moue::store::assign);
    }
}

TEST_CASE("the result of a row does not depend on the rows beside it, on alignment, or on the order of threads") {
  const auto last_row = [](moue::index_t rows, moue::index_t shift, std::uint64_t seed) {
    test::product_trial<float> trial({.sizes = {rows}, .n = 40, .k = 300, .shift = shift, .weight_shift = shift});
    std::vector<float> result;
    const auto keep = [&](auto y) {
      for (const float value : y.view().row(0)) result.push_back(value);
    };
    // The first row and the weights are drawn first, so they are the same whatever the number of rows.
    keep(trial.check_rows<false, void>(by<wide<float>>(seed), moue::store::assign));
    keep(trial.check_rows<false, void>(by<narrow<float>>(seed), moue::store::assign));
    keep(trial.check_rows<true, void>(by<transposed<float>>(seed), moue::store::assign));
    return result;
  };
  CHECK(last_row(1, 0, 1) == last_row(1, 0, 2));
  CHECK(last_row(1, 0, 1) == last_row(1, 1, 3));
  CHECK(last_row(5, 0, 1) == last_row(5, 1, 4));
}
