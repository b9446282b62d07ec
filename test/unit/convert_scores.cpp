// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// The scores that conversions bring are score stages like any other.

#include <doctest/doctest.h>

#include "moue/router/extended_score.hpp"
#include "moue/router/foreign_bias.hpp"
#include "moue/router/linear_score.hpp"
#include "moue/router/logit_bias.hpp"
#include "moue/router/score_sum.hpp"
#include "moue/router/trajectory.hpp"
#include "moue/testing/stage_laws.hpp"

namespace {

void obeys(const moue::testing::law_report& report) { CHECK_MESSAGE(static_cast<bool>(report), report.summary()); }

}  // namespace

TEST_CASE("extended scores and foreign biases obey the laws of scores") {
  const moue::router_shape shape{.tokens = 5, .width = 6, .candidates = 5, .experts = 7};
  // Laws compare numbers, so the openings start at one.
  for (const moue::index_t home : {0, 3, 5})
    obeys(moue::testing::check_score_laws(moue::extended_score{moue::linear_score{}, home, 0.1, -0.5}, shape));
  obeys(moue::testing::check_score_laws(
      moue::extended_score{moue::score_sum{moue::linear_score{}, moue::trajectory{3}, moue::logit_bias{}}, 3, 0.1, 0.0},
      shape));
  for (const moue::index_t home : {0, 2, 5})
    obeys(moue::testing::check_score_laws(moue::foreign_bias{home, 0.5}, shape));
  CHECK_THROWS_AS((moue::extended_score{moue::linear_score{}, 6}.parameters(shape)), moue::error);
}
