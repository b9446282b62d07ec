// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Policies of a user, which know nothing of lanes, on the CUDA backend, run by a host.

#include <doctest/doctest.h>

#include "carried.hpp"
#include "emulated.hpp"
#include "misfits.hpp"
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

TEST_CASE("a token whose selection breaks its rules goes nowhere, for a device cannot throw") {
  const auto run = [](test::broken how) {
    const auto model = test::erase<double>(
        moue::mixture{moue::copy_expert{6}, moue::shared_pool{2, 5},
                      moue::router{moue::linear_score{}, test::broken_select{how, 0}, moue::softmax_of_selected{}},
                      moue::no_balancing{}, test::emulated()});
    return test::run_stack(*model, test::random_weights(*model, 3), test::random_input(*model, 9, 5),
                           moue::mode::training);
  };
  using test::broken;
  for (const auto how : {broken::too_many, broken::negative_count, broken::beyond, broken::negative, broken::twice}) {
    const auto result = run(how);
    const auto& selected = result.visits[0].selected;
    moue::index_t nowhere = 0, somewhere = 0;
    for (std::size_t t = 0; t < 9; ++t) {
      const std::array row{selected[2 * t], selected[2 * t + 1]};
      nowhere += row == std::array{-1, -1};
      somewhere += row == std::array{3, 1};
    }
    CHECK(nowhere > 0);
    CHECK(somewhere > 0);
    CHECK(nowhere + somewhere == 9);
  }
}

TEST_CASE("products check their shapes before anything is launched") {
  const test::emulated_open gpu;
  const auto numbers = gpu.make_array<double>(400);
  test::check_products(gpu, numbers.data());
  CHECK(gpu.runtime().launches() > 0);  // those that fit

  const moue::executor executor(test::one_row_off{}, 2, gpu);
  const auto weights = gpu.make_parameters<double>(executor.layout());
  auto block = gpu.make_workspace(executor.workspace_bytes<double>(5, 5));
  auto memory = executor.carve<double>(block, 5, 5);
  std::vector<moue::index_t> offsets{0, 1, 2, 3, 4, 5};
  std::vector<std::int32_t> ids{0, 1, 0, 1, 0};
  std::vector<double> gates(5, 1.0), x(20, 0.5);
  const moue::matrix_view<double> rows{x.data(), 5, 4};
  test::refused(
      [&] {
        executor.forward(moue::routing<double>{{offsets.data(), 6}, {ids.data(), 5}, {gates.data(), 5}}, weights, rows,
                         rows, memory);
      },
      "linear [5, 4] x [4, 4] -> [5, 3] does not fit");
}
