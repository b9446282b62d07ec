// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "bounded_select.hpp"
#include "moue/backend/cpu.hpp"
#include "moue/backend/reference.hpp"
#include "moue/moue.hpp"
#include "moue/testing/laws.hpp"

// Selections that bound the entries of all tokens together.

namespace {

using moue::index_t;

constexpr index_t width = 4, pool = 6;

template <class S>
auto model_of(const S& select, index_t always = 0) {
  return moue::mixture{moue::swiglu{.width = width, .hidden = 3},
                       moue::always_on{moue::shared_pool{.depth = 2, .pool = pool}, always},
                       moue::router{moue::linear_score{.deviation = 1}, select, moue::softmax_then_select{}},
                       moue::switch_loss{1}, moue::cpu{2}};
}
std::vector<double> inputs(index_t tokens) {
  std::vector<double> x(static_cast<std::size_t>(tokens * width));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<double>(i * i % 97));
  return x;
}

}  // namespace

TEST_CASE("a bound on entries obeys the laws of selections") {
  const auto good = moue::testing::check_select_laws(test::bounded{moue::top_k{3}, 0.5});
  CHECK_MESSAGE(static_cast<bool>(good), good.summary());
  const auto bad = moue::testing::check_select_laws(test::falling_bound{moue::top_k{3}});
  CHECK(bad.summary().find("does not fall") != std::string::npos);
}

TEST_CASE("what goes beyond the bound is dropped: last choices first, and of one rank the last tokens") {
  constexpr index_t tokens = 9, k = 3;
  const std::vector<std::uint8_t> valid{1, 1, 0, 1, 1, 1, 1, 1, 1};
  const auto model = model_of(test::bounded{moue::top_k{k}, 0.5}, 1);  // 8 valid tokens of 9, of 27 entries 13
  const auto free = model_of(moue::top_k{k}, 1);
  const auto weights = model.initialize<double>(5);
  const moue::pass_options options{.tokens = 12};
  moue::workspace scratch(model.workspace_bytes<double>(options)), free_scratch(free.workspace_bytes<double>(options));
  auto pass = model.start(weights, options, scratch);
  auto other = free.start(weights, options, free_scratch);
  auto x = inputs(tokens), y = x;
  const moue::matrix_view<double> in{x.data(), tokens, width}, out{y.data(), tokens, width};
  pass.begin(tokens, {.valid = {valid.data(), tokens}});
  other.begin(tokens, {.valid = {valid.data(), tokens}});
  const auto cut = pass.route(0, in);
  const auto whole = other.route(0, in);
  index_t left = 13;
  std::int64_t dropped = 0;
  for (index_t rank = 0; rank < k; ++rank)
    for (index_t t = 0; t < tokens; ++t) {
      const index_t i = cut.offsets[t] + rank;
      CHECK(cut.gate[i] == whole.gate[i]);  // the gates of what is dropped stay
      if (whole.expert[i] < 0) continue;
      CHECK(cut.expert[i] == (left > 0 ? whole.expert[i] : -1));
      dropped += left-- <= 0;
    }
  CHECK(dropped == 24 - 13);
  for (index_t t = 0; t < tokens; ++t) CHECK(cut.expert[cut.offsets[t] + k] == whole.expert[whole.offsets[t] + k]);
  pass.run(0, in, cut, out);
  const auto counts = pass.counts();
  std::int64_t demand = 0, load = 0;
  for (index_t j = 0; j < pool; ++j) {
    demand += counts.demand[static_cast<std::size_t>(j)];
    load += counts.load[static_cast<std::size_t>(j)];
  }
  CHECK(demand == 24);
  CHECK(load == 13);
}

TEST_CASE("a smaller batch has the bound of its own size, and ragged entries may be edited") {
  constexpr index_t tokens = 4;
  const auto model = model_of(test::bounded{moue::top_k{2}, 0.5});
  const auto weights = model.initialize<double>(5);
  const moue::pass_options options{.tokens = 12};
  moue::workspace scratch(model.workspace_bytes<double>(options));
  auto pass = model.start(weights, options, scratch);
  auto x = inputs(tokens), y = x;
  const moue::matrix_view<double> in{x.data(), tokens, width}, out{y.data(), tokens, width};
  pass.begin(tokens);
  const auto made = pass.route(0, in);
  CHECK(std::count_if(made.expert.begin(), made.expert.end(), [](auto e) { return e >= 0; }) == 4);
  // 12 entries of 5, 0, 1 and 6, where there is room for 12 rows: all run
  const std::vector<index_t> offsets{0, 5, 5, 6, 12};
  const std::vector<std::int32_t> experts{0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5};
  const std::vector<double> gates(12, 0.25);
  pass.run(0, in, {{offsets.data(), 5}, {experts.data(), 12}, {gates.data(), 12}, {}}, out);
  CHECK(pass.plan(0).rows() == 12);
  // at the next layer 20, of which the first 12 by rank run
  const std::vector<index_t> more{0, 6, 12, 16, 20};
  std::vector<std::int32_t> ids;
  for (const index_t n : {6, 6, 4, 4})
    for (std::int32_t e = 0; e < n; ++e) ids.push_back(e);
  const std::vector<double> equal(20, 0.25);
  pass.route(1, out);
  pass.run(1, out, {{more.data(), 5}, {ids.data(), 20}, {equal.data(), 20}, {}}, out);
  const auto ran = pass.assignments(1);
  for (index_t t = 0; t < tokens; ++t)
    for (index_t i = ran.offsets[t]; i < ran.offsets[t + 1]; ++i)
      CHECK((ran.expert[i] >= 0) == (i - ran.offsets[t] < 3));  // ranks 0, 1 and 2 of 4 tokens: 12
  CHECK(pass.plan(1).rows() == 12);
}

TEST_CASE("gradients flow through what ran, and padding takes no place") {
  const auto report = moue::testing::check_gradients(model_of(test::bounded{moue::top_k{2}, 0.75}));
  CHECK_MESSAGE(static_cast<bool>(report), report.summary());
}

TEST_CASE("memory is for the bound, not for what every token may take") {
  const auto bytes = [](const auto& select) {
    const moue::mixture model{moue::swiglu{.width = 1024, .hidden = 512}, moue::shared_pool{.depth = 1, .pool = 64},
                              moue::router{moue::linear_score{}, select, moue::softmax_then_select{}},
                              moue::switch_loss{1}, moue::cpu{2}};
    return static_cast<double>(model.template workspace_bytes<float>({.tokens = 4096})) / (1 << 30);
  };
  const double all = bytes(moue::top_k{64}), few = bytes(moue::top_k{2}),
               bounded = bytes(test::bounded{moue::top_k{64}, 2.0 / 64});
  CAPTURE(all);
  CAPTURE(few);
  CAPTURE(bounded);
  CHECK(bounded < 1.35 * few);
  CHECK(all > 10 * bounded);
}

TEST_CASE("a bound below nothing is refused") {
  const auto model = model_of(test::negative_bound{moue::top_k{2}});
  CHECK_THROWS_WITH_AS(model.workspace_bytes<double>({.tokens = 3}),
                       doctest::Contains("most_entries allows -1 entries of 3 tokens"), moue::error);
}
