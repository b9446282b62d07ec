// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Weights of other types, and policies of a user, on a device.

#include <doctest/doctest.h>

#include "compositions_device.hpp"
#include "stored.hpp"
#include "user_mixtures.hpp"

TEST_CASE("16-bit weights and activations") {
  test::check_against_double(test::stored_on_device<moue::bf16>(), 0x1p-8, 8 * 0x1p-8, test::inside::rounded);
  test::check_against_double(test::stored_on_device<float>(), 1e-5, 1e-5);
}

TEST_CASE("policies of a user") {
  for (const auto name : test::user::mixtures) {
    CAPTURE(name);
    test::user::check(name, test::user_on_device(name));
  }
}
