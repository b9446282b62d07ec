// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// When foreign connections open.

#include <doctest/doctest.h>

#include <cmath>
#include <set>
#include <vector>

#include "moue/backend/cpu.hpp"
#include "moue/convert/schedule.hpp"
#include "moue/expert/copy.hpp"
#include "moue/mixture.hpp"
#include "moue/router/extended_score.hpp"
#include "moue/testing/opening_laws.hpp"
#include "moue/topology/table.hpp"

namespace {

using namespace moue::convert;
using moue::testing::check_opening_laws;

void obeys(const moue::testing::law_report& report) { CHECK_MESSAGE(static_cast<bool>(report), report.summary()); }

std::vector<bool> open_at(const auto& schedule, moue::index_t step, moue::index_t layer, moue::index_t count) {
  std::vector<bool> open;
  for (moue::index_t rank = 0; rank < count; ++rank)
    open.push_back(schedule(step, connection{layer, rank, count}) != closed);
  return open;
}

/// Breaks one law each.
struct fault {
  enum kind { falls, closes, ends_elsewhere, broken, moody } what;
  mutable double calls = 0;

  double operator()(moue::index_t step, const connection& c) const {
    switch (what) {
      case falls:
        return step < 5 ? 1 : 0;
      case closes:
        return step == 3 && c.rank == 0 ? closed : 0;
      case ends_elsewhere:
        return c.rank == 2 ? -1 : 0;
      case broken:
        return step == 2 ? std::nan("") : 0;
      case moody:
        return calls += 1;
    }
    return 0;
  }
  moue::index_t last_step() const { return 8; }
  double end() const { return 0; }
};

}  // namespace

TEST_CASE("schedules obey the laws") {
  for (const moue::index_t first : {0, 3})
    for (const moue::index_t last : {0, 3, 4, 40}) {
      obeys(check_opening_laws(annealed_opening{first, last, -8, -3}));
      obeys(check_opening_laws(faded_opening{first, last, -1}));
      for (const auto order : {growth::ranked, growth::sampled})
        obeys(check_opening_laws(growing_pool{first, last, 0.5, order, 9}));
    }
  obeys(check_opening_laws(annealed_opening{}, 1));
  obeys(check_opening_laws(growing_pool{}, 0));
}

TEST_CASE("schedules that break a law are named") {
  const auto names = [](fault::kind what, std::string_view law) {
    CHECK_MESSAGE(check_opening_laws(fault{what}).broke(law), law);
  };
  names(fault::falls, "a connection that stays open never loses");
  names(fault::closes, "the number of open connections never falls");
  names(fault::ends_elsewhere, "every connection ends as stated");
  names(fault::broken, "biases are numbers or closed");
  names(fault::moody, "the answer depends on the arguments alone");
}

TEST_CASE("an annealed opening is closed, then a straight line, then its end") {
  const annealed_opening schedule{10, 30, -8, -3};
  const connection c;
  CHECK(schedule(9, c) == closed);
  CHECK(schedule(10, c) == -8);
  CHECK(schedule(20, c) == doctest::Approx(-5.5));
  CHECK(schedule(30, c) == -3);
  CHECK(schedule(1000000, c) == -3);
}

TEST_CASE("a faded opening scales odds by a cosine ramp") {
  const faded_opening schedule{10, 30, -0.5};
  const connection c;
  CHECK(schedule(10, c) == closed);
  CHECK(schedule(30, c) == -0.5);
  constexpr double pi = 3.14159265358979323846;
  for (const moue::index_t step : {11, 15, 20, 29})
    CHECK(std::exp(schedule(step, c) + 0.5) ==
          doctest::Approx((1 - std::cos(pi * static_cast<double>(step - 10) / 20)) / 2).epsilon(1e-12));
}

TEST_CASE("a growing pool opens the floor of its share, by rank or at random") {
  growing_pool schedule{100, 300, 0, growth::ranked};
  for (const auto& [step, open] : std::vector<std::pair<moue::index_t, moue::index_t>>{
           {0, 0}, {100, 0}, {101, 0}, {133, 1}, {134, 2}, {200, 6}, {299, 11}, {300, 12}, {999, 12}}) {
    CHECK(schedule.open(step, 12) == open);
    const auto ranked = open_at(schedule, step, 0, 12);
    for (moue::index_t rank = 0; rank < 12; ++rank) CHECK(ranked[static_cast<std::size_t>(rank)] == (rank < open));
    schedule.order = growth::sampled;
    const auto sampled = open_at(schedule, step, 0, 12);
    CHECK(std::count(sampled.begin(), sampled.end(), true) == open);
    schedule.order = growth::ranked;
  }
  schedule.order = growth::sampled;
  std::set<std::vector<bool>> sets;
  std::vector<int> times(12, 0);
  for (moue::index_t layer = 0; layer < 200; ++layer) {
    const auto open = open_at(schedule, 200, layer, 12);
    sets.insert(open);
    for (std::size_t rank = 0; rank < 12; ++rank) times[rank] += open[rank] ? 1 : 0;
  }
  CHECK(sets.size() > 150);                                 // of 924: 200 draws repeat about 20
  for (const int n : times) CHECK(std::abs(n - 100) < 36);  // five deviations of a fair coin's 200 throws
  CHECK(open_at(schedule, 200, 0, 12) != open_at(schedule, 201, 0, 12));
  growing_pool other = schedule;
  other.seed = 1;
  CHECK(open_at(schedule, 200, 0, 12) != open_at(other, 200, 0, 12));
}

TEST_CASE("a schedule is applied to every layer, and connections can be kept by use") {
  const moue::mixture model{
      moue::copy_expert{3}, moue::table{6, {{0, 1, 2, 3, 4, 5}, {2, 3}, {4, 5, 0}}},
      moue::router{moue::extended_score{moue::linear_score{}, 2}, moue::top_k{1}, moue::softmax_of_selected{}}};
  auto weights = model.initialize<float>(1);
  const auto opening = [&](moue::index_t layer) {
    const auto row = weights["layers." + std::to_string(layer) + ".router.opening"].row(0);
    return std::vector<float>(row.begin(), row.end());
  };
  const auto shut = static_cast<float>(closed);
  CHECK(opening(0) == std::vector<float>(4, shut));
  apply(growing_pool{0, 4, -2}, 2, weights);
  CHECK(opening(0) == std::vector<float>{-2, -2, shut, shut});
  CHECK(opening(1).empty());
  CHECK(opening(2) == std::vector<float>{shut});
  apply(growing_pool{0, 4, -2}, 4, weights);
  CHECK(opening(0) == std::vector<float>(4, -2));
  CHECK(opening(2) == std::vector<float>{-2});
  const std::vector<double> use{3, 9, 3, 1};
  keep_open(weights, 2, [&](moue::index_t layer, moue::index_t rank) {
    return layer == 0 ? use[static_cast<std::size_t>(rank)] : 0;
  });
  CHECK(opening(0) == std::vector<float>{-2, -2, shut, shut});
  CHECK(opening(2) == std::vector<float>{-2});
  keep_open(weights, 3, [](moue::index_t, moue::index_t rank) { return rank; });
  CHECK(opening(0) == std::vector<float>{shut, -2, shut, shut});  // it opens nothing
  set_openings(weights, closed);
  CHECK(opening(2) == std::vector<float>{shut});

  const moue::mixture plain{moue::copy_expert{3}, moue::table{2, {{0, 1}}}, moue::linear_router(1)};
  auto others = plain.initialize<float>(1);
  CHECK_THROWS_AS(set_openings(others, 0), moue::error);
}
