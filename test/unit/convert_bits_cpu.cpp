// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// With every foreign connection closed, a conversion computes what its source does: on the CPU backend.

#include <doctest/doctest.h>

#include "conversion_bits.hpp"

TEST_CASE("closed connections change no bit: linear scores, float") {
  for (const moue::index_t threads : {1, 2}) test::check_bits_of_all<float>(moue::linear_score{}, moue::cpu{threads});
}

TEST_CASE("closed connections change no bit where threads share the router's products") {
  test::check_bits<float>({.width = 64, .hidden = 4, .layers = 2, .experts = 16}, moue::linear_score{}, moue::cpu{2},
                          {600});
}

TEST_CASE("closed connections change no bit: keys, depth state and biases, float") {
  test::check_bits_of_all<float>(test::keyed_path_score(), moue::cpu{2});
}

TEST_CASE("closed connections change no bit: linear scores, bf16") {
  test::check_bits_of_all<moue::bf16>(moue::linear_score{}, moue::cpu{});
}
