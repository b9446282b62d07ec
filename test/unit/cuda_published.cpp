// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "carried.hpp"
#include "emulated.hpp"
#include "moue/backend/reference.hpp"
#include "published_soft.hpp"
#include "published_systems.hpp"

// Published systems on the emulated device, against numbers that were computed independently.

TEST_CASE("GShard on the emulated device") { test::reproduce_gshard(test::emulated()); }
TEST_CASE("V-MoE's noise on the emulated device") { test::reproduce_noise(test::emulated_open()); }
TEST_CASE("noisy top-k on the emulated device") { test::reproduce_learned_noise(test::emulated_open()); }
TEST_CASE("noisy top-k has the bits of the host") {
  const auto here = test::noisy_routing(moue::reference{}), there = test::noisy_routing(test::emulated());
  REQUIRE(here.size() == there.size());
  for (std::size_t i = 0; i + 2 < here.size(); ++i) CHECK(here[i] == there[i]);
  CHECK(test::distance(here, there) < 1e-14);  // lanes add the sums of the loss in another order
}
TEST_CASE("NormRouter on the emulated device") { test::reproduce_sphere(test::emulated()); }
TEST_CASE("DeepSeek-V3's sequences on the emulated device") { test::reproduce_sequences(test::emulated()); }
TEST_CASE("experts that differ on the emulated device") { test::reproduce_specialisation(test::emulated()); }
TEST_CASE("MoE++ on the emulated device") { test::reproduce_moepp(test::emulated()); }
TEST_CASE("USMoE's pairs on the emulated device") {
  test::reproduce_pairs<moue::swiglu>("usmoe_norm_pad", test::emulated());
  test::reproduce_pairs<test::silu_mlp>("usmoe_two_seqs", test::emulated());
}
TEST_CASE("expert choice on the emulated device") {
  test::reproduce_expert_choice<moue::swiglu>("expert_choice_cf2_pad_closed", test::emulated());
}
TEST_CASE("dynamic routing on the emulated device") {
  test::reproduce_top_p<moue::swiglu>("topp_p70_pad_closed", test::emulated());
}
TEST_CASE("Soft MoE on the emulated device") { test::reproduce_soft(test::emulated()); }
