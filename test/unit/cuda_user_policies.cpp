// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Policies of a user, which know nothing of lanes, on the CUDA backend, run by a host.

#include <doctest/doctest.h>

#include "carried.hpp"
#include "emulated.hpp"
#include "moue/testing/laws.hpp"
#include "user_mixtures.hpp"

namespace {

using namespace test::user;

void obeys(const moue::testing::law_report& report) { CHECK_MESSAGE(static_cast<bool>(report), report.summary()); }

}  // namespace

TEST_CASE("policies of a user obey the laws") {
  obeys(moue::testing::check_expert_laws(scaled_expert{5}));
  obeys(moue::testing::check_expert_laws(shifted_expert{5}));
  obeys(moue::testing::check_score_laws(square_score{}));
  obeys(moue::testing::check_select_laws(all_above{0.7}));
  obeys(moue::testing::check_gate_laws(squared_sigmoid{}));
  obeys(moue::testing::check_probability_laws(flat_softmax{}));
  obeys(moue::testing::check_balance_laws(bounded_loss{0.3}));
  obeys(moue::testing::check_balance_laws(share_loss{0.3}));
}

TEST_CASE("experts, row stages and losses of a user") {
  const auto taken = check("rows", mixture("rows", test::emulated()));
  CHECK(taken[0] == 0);
  CHECK(taken[1] > 2);
  check("long_rows", mixture("long_rows", test::emulated()));
}

TEST_CASE("a selection of a user that sees the whole table") {
  const auto taken = check("table", mixture("table", test::emulated()));
  CHECK(taken[0] == 1);
  CHECK(taken[1] == 1);
}

TEST_CASE("scores with candidates that a layer gained, one of them closed") {
  check("extended", mixture("extended", test::emulated()));
}
