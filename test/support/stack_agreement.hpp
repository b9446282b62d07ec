// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One stack run in two ways.

#include <doctest/doctest.h>

#include "stack.hpp"

namespace test {

/// Everything that a run leaves agrees to `tolerance`, and what is no number is the same.
inline void check_agreement(const stack_result<double>& result, const stack_result<double>& expected,
                            double tolerance) {
  CHECK(distance(result.output, expected.output) < tolerance);
  CHECK(result.loss == doctest::Approx(expected.loss).epsilon(tolerance));
  CHECK(result.balance == doctest::Approx(expected.balance).epsilon(tolerance));
  CHECK(distance(result.dx, expected.dx) < tolerance);
  CHECK(distance(result.dscale, expected.dscale) < tolerance);
  CHECK(distance(result.dshift, expected.dshift) < tolerance);
  CHECK(distance(result.gradients, expected.gradients) < tolerance);
  CHECK(distance(result.share, expected.share) < tolerance);
  CHECK(distance(result.probability, expected.probability) < tolerance);
  for (moue::index_t e = 0; e < expected.gradients.layout().experts(); ++e)
    CHECK(result.gradients.touched(e) == expected.gradients.touched(e));
  for (std::size_t l = 0; l < expected.visits.size(); ++l) {
    CHECK(result.visits[l].selected == expected.visits[l].selected);
    CHECK(result.visits[l].experts == expected.visits[l].experts);
  }
}

}  // namespace test
