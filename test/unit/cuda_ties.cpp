// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Ties on the CUDA backend, where the lanes of a row select together, run by a host.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "compositions_emulated.hpp"
#include "moue/router/top_k.hpp"
#include "stack.hpp"

namespace {

namespace gpu = moue::detail::gpu;

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double inf = std::numeric_limits<double>::infinity();

/// One of a few scores, so that many candidates are equal.
double some_score(moue::index_t i) {
  constexpr double scores[]{1, 0, 1, not_a_number, 0, -inf, 1, -2, 0, -inf, 0, 1, not_a_number};
  return scores[i * i % 13];
}

/// The definition: NaN first, then higher scores, then lower ids; closed candidates are left out.
std::vector<std::int32_t> best(const std::vector<double>& scores, const auto& ids, moue::index_t k) {
  std::vector<std::int32_t> selected;
  for (std::size_t j = 0; j < scores.size(); ++j)
    if (scores[j] != -inf) selected.push_back(static_cast<std::int32_t>(j));
  std::ranges::sort(selected, [&](auto a, auto b) {
    const auto place = [&](auto column) {
      const double score = scores[static_cast<std::size_t>(column)];
      return std::pair{std::isnan(score) ? -inf : -score, ids[static_cast<std::size_t>(column)]};
    };
    return place(a) < place(b);
  });
  selected.resize(std::min(selected.size(), static_cast<std::size_t>(k)));
  return selected;
}

template <class C>
struct select_row {
  moue::top_k<moue::dynamic> stage;
  moue::vector_view<const C> scores;
  moue::vector_view<const std::int32_t> candidates;
  moue::matrix_view<std::int32_t> selected;
  moue::matrix_view<std::int32_t> counts;  // what each lane was told
  template <class Lanes = moue::one_lane>
  void operator()(moue::index_t t, const Lanes& lanes = {}) const {
    counts(t, lanes.first()) = static_cast<std::int32_t>(stage(scores, candidates, selected.row(t), lanes));
  }
};

}  // namespace

TEST_CASE_TEMPLATE("ties go to the lowest id, by warps and by blocks of lanes", C, float, double) {
  for (const moue::index_t n : {1, 31, 33, 129, 300})
    for (const moue::index_t k : {moue::index_t{1}, moue::index_t{7}, n, n + 5}) {
      CAPTURE(n);
      CAPTURE(k);
      std::vector<double> exact;
      std::vector<C> scores;
      std::vector<std::int32_t> ids, selected(2 * static_cast<std::size_t>(k), -7), counts(2 * 128, -7);
      for (moue::index_t j = 0; j < n; ++j) {
        exact.push_back(some_score(j));
        scores.push_back(static_cast<C>(exact.back()));
        ids.push_back(static_cast<std::int32_t>((j * 307 + 11) % 1009));  // distinct and in no order
      }
      const auto expected = best(exact, ids, k);
      const auto check = [&](moue::index_t lanes) {
        for (moue::index_t t = 0; t < 2; ++t) {
          const auto first = selected.begin() + t * k;
          CHECK(std::vector(first, first + std::ssize(expected)) == expected);
          for (moue::index_t i = 0; i < lanes; ++i)
            CHECK(counts[static_cast<std::size_t>(t * 128 + i)] == std::ssize(expected));
        }
      };
      const select_row<C> f{
          moue::top_k{k}, {scores.data(), n}, {ids.data(), n}, {selected.data(), 2, k}, {counts.data(), 2, 128}};
      const test::emulated_open::runtime_type runtime(static_cast<std::uint64_t>(n));
      const gpu::rows_by_lanes<select_row<C>, gpu::all_rows> both{f, {}, 2};
      gpu::launch_blocks(runtime, gpu::run_rows<128, select_row<C>, gpu::all_rows>, 2, 128, 0, both);
      check(128);
      std::ranges::fill(selected, -7);
      gpu::launch_blocks(runtime, gpu::run_rows<32, select_row<C>, gpu::all_rows>, 1, 128, 0, both);
      check(32);
    }
}

TEST_CASE("ties go to the lowest id in a mixture, among NaN and closed candidates and for any k") {
  for (const moue::index_t pool : {40, 150, 300})  // by warps and, where rows are long, by blocks
    for (const moue::index_t k : {moue::index_t{3}, pool, pool + 9}) {
      CAPTURE(pool);
      CAPTURE(k);
      const test::recipe r{
          .width = 2, .hidden = 1, .ring = {.depth = 2, .pool = pool, .window = pool, .stride = 17}, .k = k};
      const auto model = test::compose("linear_bias", r, test::emulated());
      moue::parameters<double> weights(model->layout());
      std::vector<double> scores;
      for (moue::index_t j = 0; j < pool; ++j) scores.push_back(some_score(j));
      std::ranges::copy(scores, weights["layers.1.router.bias"].row(0).begin());
      const std::vector<double> x(4, 1.0);
      moue::workspace none(0);
      const auto pass = model->start(weights, {.tokens = 2, .how = moue::mode::inference}, none);
      std::vector<double> y(4);
      pass->begin(2, {});
      for (moue::index_t l = 0; l < 2; ++l) {
        pass->forward(l, {{x.data(), 2, 2}, {}}, {y.data(), 2, 2});
        const auto ids = model->connections().candidates(l);
        const auto selected = test::to_vector(pass->selected(l));
        auto expected = best(l == 0 ? std::vector<double>(scores.size(), 0.0) : scores, ids, k);
        expected.resize(static_cast<std::size_t>(std::min(k, pool)), -1);
        CHECK(std::is_sorted(ids.begin(), ids.end()) == (l == 0));
        const auto middle = selected.begin() + std::ssize(selected) / 2;
        CHECK(std::vector(selected.begin(), middle) == expected);
        CHECK(std::vector(middle, selected.end()) == expected);
      }
    }
}
