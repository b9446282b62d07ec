// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "golden.hpp"
#include "compositions.hpp"

TEST_CASE("golden stacks on the reference backend") {
  for (const auto& name : test::golden_names) test::reproduce(name, moue::reference{});
}

TEST_CASE("golden stacks on the CPU backend") {
  for (const auto& name : test::golden_names) test::reproduce(name, moue::cpu{});
}
