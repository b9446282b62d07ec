// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "moue/router/group_limited.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "moue/router/preference.hpp"
#include "moue/testing/select_laws.hpp"

namespace {

using moue::group_limited;
using numbers = std::vector<double>;
using selected = std::vector<std::int32_t>;

constexpr double closed = -std::numeric_limits<double>::infinity();
constexpr double broken = std::numeric_limits<double>::quiet_NaN();

selected ascending(std::size_t n) {
  selected ids(n);
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

selected take(const group_limited& stage, const numbers& scores, const selected& ids) {
  const auto n = std::ssize(scores);
  selected taken(static_cast<std::size_t>(stage.max_selected(n)), -1);
  const moue::index_t count =
      stage(moue::vector_view<const double>{scores.data(), n}, moue::vector_view<const std::int32_t>{ids.data(), n},
            moue::vector_view<std::int32_t>{taken.data(), std::ssize(taken)});
  taken.resize(static_cast<std::size_t>(count));
  return taken;
}
selected take(const group_limited& stage, const numbers& scores) {
  return take(stage, scores, ascending(scores.size()));
}

/// The same by sorting: members within groups, then groups, then the members of those allowed.
selected sorted_out(moue::index_t k, const moue::column_groups& groups, const numbers& scores, const selected& ids) {
  const auto at = [&](std::int32_t column) { return static_cast<std::size_t>(column); };
  const auto by_score = [&](std::int32_t a, std::int32_t b) {
    return moue::detail::before(scores[at(a)], ids[at(a)], scores[at(b)], ids[at(b)]);
  };
  struct group {
    double score = 0;
    selected members;
  };
  std::vector<group> all;
  for (moue::index_t first = 0; first < std::ssize(scores); first += groups.size) {
    group g;
    for (moue::index_t j = first; j < std::min(first + groups.size, std::ssize(scores)); ++j)
      if (scores[static_cast<std::size_t>(j)] != closed) g.members.push_back(static_cast<std::int32_t>(j));
    if (g.members.empty()) continue;
    std::sort(g.members.begin(), g.members.end(), by_score);
    for (moue::index_t i = 0; i < std::min(groups.best, std::ssize(g.members)); ++i)
      g.score += scores[at(g.members[static_cast<std::size_t>(i)])];
    all.push_back(g);
  }
  std::sort(all.begin(), all.end(), [&](const group& a, const group& b) {
    return moue::detail::before(a.score, ids[at(a.members[0])], b.score, ids[at(b.members[0])]);
  });
  selected taken;
  for (moue::index_t i = 0; i < std::min(groups.allowed, std::ssize(all)); ++i)
    taken.insert(taken.end(), all[static_cast<std::size_t>(i)].members.begin(),
                 all[static_cast<std::size_t>(i)].members.end());
  std::sort(taken.begin(), taken.end(), by_score);
  if (std::ssize(taken) > k) taken.resize(static_cast<std::size_t>(k));
  return taken;
}

}  // namespace

TEST_CASE("group-limited selections obey the laws") {
  for (const moue::column_groups groups :
       {moue::column_groups{.size = 2, .allowed = 2}, moue::column_groups{.size = 3, .allowed = 1, .best = 2},
        moue::column_groups{.size = 1, .allowed = 4}, moue::column_groups{.size = 4, .allowed = 9, .best = 3},
        moue::column_groups{.size = 99, .allowed = 1, .best = 99}})
    for (const moue::index_t k : {0, 1, 3, 99}) {
      const auto report =
          moue::testing::check_select_laws(group_limited{k, groups}, {.candidates = 7, .columns_matter = true});
      CHECK_MESSAGE(static_cast<bool>(report), report.summary());
    }
}

TEST_CASE("it agrees with sorting, for any sizes, closed candidates, ties and broken scores") {
  std::uint64_t draw = 0;
  const auto dice = [&](std::uint64_t sides) { return static_cast<moue::index_t>(moue::detail::mix(++draw) % sides); };
  for (int trial = 0; trial < 3000; ++trial) {
    const moue::column_groups groups{.size = 1 + dice(5), .allowed = 1 + dice(4), .best = 1 + dice(3)};
    const moue::index_t k = dice(9);
    numbers scores(static_cast<std::size_t>(1 + dice(14)));
    for (auto& s : scores) {  // few heights, so that ties are common
      const auto what = dice(12);
      s = what == 0 ? closed : what == 1 ? broken : what == 2 ? -closed : static_cast<double>(dice(4)) - 1.5;
    }
    selected ids = ascending(scores.size());
    for (std::size_t i = ids.size(); i > 1; --i) std::swap(ids[i - 1], ids[static_cast<std::size_t>(dice(i))]);
    CAPTURE(trial);
    CHECK(take(group_limited{k, groups}, scores, ids) == sorted_out(k, groups, scores, ids));
  }
}

TEST_CASE("DeepSeek-V2 and V3 route these tokens so") {
  // By the routers of Hugging Face transformers 5.23, with an identity matrix for weights; 4 groups of 3, 2 allowed, k = 4.
  struct token {
    numbers logits, bias;
    selected second, third;  // ascending
  };
  const std::array tokens{token{{0.8, 0.2, 0.1, -0.6, 0, -1.4, 0.3, 1, -1.4, 1, 0.5, 1.2},
                                {-0.26, 0.09, 0.13, -0.02, 0.28, 0.24, 0.15, -0.05, -0.2, -0.32, 0.22, 0.07},
                                {7, 9, 10, 11},
                                {6, 7, 10, 11}},
                          token{{-0.4, 0.2, -1.2, 0.4, -1.5, -0.6, 0.2, -0.2, 0.5, 0, 1.3, 1.5},
                                {0.13, 0.31, -0.66, 0.06, -0.28, -0.1, -0.32, 0.25, -0.16, 0.24, -0.24, -0.32},
                                {6, 8, 10, 11},
                                {0, 1, 9, 10}},
                          token{{-0.1, 0.4, -0.4, -1, -0.1, -1.4, -1.2, 1.1, -0.5, 0.8, -0.7, 0.8},
                                {0.18, 0.2, 0.12, 0.01, -0.01, 0.44, 1.14, 0.08, 0.12, -0.18, 0.11, 0.15},
                                {7, 8, 9, 11},
                                {0, 1, 6, 7}}};
  for (auto token : tokens) {
    auto taken = take(group_limited{4, {.size = 3, .allowed = 2}}, token.logits);
    std::sort(taken.begin(), taken.end());
    CHECK(taken == token.second);
    numbers scores(12);
    moue::biased_sigmoid{}(moue::vector_view<const double>{token.logits.data(), 12},
                           std::array{moue::matrix_view<const double>(token.bias.data(), 1, 12)},
                           moue::vector_view<double>{scores.data(), 12});
    taken = take(group_limited{4, {.size = 3, .allowed = 2, .best = 2}}, scores);
    std::sort(taken.begin(), taken.end());
    CHECK(taken == token.third);
  }
}

TEST_CASE("a group counts by its best members, and others do not make up for what it lacks") {
  const numbers scores{5, 0, 0, /**/ 3, 3, 3, /**/ 1, 1, 4};
  CHECK(take(group_limited{2, {.size = 3, .allowed = 1, .best = 1}}, scores) == selected{0, 1});
  CHECK(take(group_limited{2, {.size = 3, .allowed = 1, .best = 2}}, scores) == selected{3, 4});
  CHECK(take(group_limited{9, {.size = 3, .allowed = 1, .best = 3}}, scores) == selected{3, 4, 5});
  CHECK(take(group_limited{4, {.size = 3, .allowed = 2, .best = 1}}, scores) == selected{0, 8, 6, 7});
  CHECK(take(group_limited{4, {.size = 3, .allowed = 1}}, {1, 1, 1, 2}) == selected{3});  // a last group of one
}

TEST_CASE("with as many groups as there are it is top_k") {
  const numbers scores{0.3, -1.2, 2.1, closed, 2.1, 0.9, broken};
  const auto ids = ascending(7);
  selected best(7);
  best.resize(static_cast<std::size_t>(
      moue::top_k{5}(moue::vector_view<const double>{scores.data(), 7}, {ids.data(), 7}, {best.data(), 7})));
  CHECK(take(group_limited{5, {.size = 2, .allowed = 4, .best = 2}}, scores) == best);
  CHECK(take(group_limited{5, {.size = 7, .allowed = 1, .best = 2}}, scores) == best);
  CHECK(take(group_limited{5, {.size = 1, .allowed = 99}}, scores) == best);
}

TEST_CASE("groups of closed candidates behind the others change nothing, nor does a mixed last group") {
  const numbers scores{0.3, -1.2, 2.1, 0.9, 2.1, 0.9, -0.1};
  for (const moue::index_t best : {1, 2}) {
    const group_limited stage{3, {.size = 2, .allowed = 2, .best = best}};
    const auto taken = take(stage, scores);
    for (std::size_t more = 1; more < 6; ++more) {
      numbers longer = scores;
      longer.resize(scores.size() + more, closed);
      CHECK(take(stage, longer) == taken);
    }
  }
}

TEST_CASE("most is what the allowed groups hold") {
  constexpr group_limited stage{8, {.size = 4, .allowed = 1}};
  static_assert(stage.max_selected(0) == 0 && stage.max_selected(3) == 3 && stage.max_selected(4) == 4 &&
                stage.max_selected(256) == 4);
  static_assert(group_limited{8, {.size = 32, .allowed = 4, .best = 2}}.max_selected(256) == 8);
  constexpr auto huge = std::numeric_limits<moue::index_t>::max();
  static_assert(group_limited{huge, {.size = huge, .allowed = huge, .best = huge}}.max_selected(5) == 5);
}

TEST_CASE("groups that make no sense are refused") {
  CHECK_THROWS_WITH_AS((group_limited{-1, {}}), doctest::Contains("k is -1"), moue::error);
  CHECK_THROWS_WITH_AS((group_limited{2, {.size = 0}}), doctest::Contains("groups have size 0"), moue::error);
  CHECK_THROWS_WITH_AS((group_limited{2, {.allowed = 0}}), doctest::Contains("0 may be used"), moue::error);
  CHECK_THROWS_WITH_AS((group_limited{2, {.best = -2}}), doctest::Contains("-2 members count"), moue::error);
}
