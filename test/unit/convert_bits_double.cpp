// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// With every foreign connection closed, a conversion computes what its source does: in double, on both backends.

#include <doctest/doctest.h>

#include "conversion_bits.hpp"

TEST_CASE("closed connections change no bit: linear scores, double") {
  for (const moue::index_t threads : {1, 2}) test::check_bits_of_all<double>(moue::linear_score{}, moue::cpu{threads});
}

TEST_CASE("closed connections change no bit: keys, depth state and biases, reference") {
  test::check_bits_of_all<double>(test::keyed_path_score(), moue::reference{});
}

TEST_CASE("closed connections change no bit: linear scores, reference in float") {
  test::check_bits_of_all<float>(moue::linear_score{}, moue::reference{});
}
