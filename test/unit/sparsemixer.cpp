// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "moue/router/sparsemixer.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "moue/router/top_k.hpp"
#include "moue/testing/row_laws.hpp"

namespace {

using moue::sparsemixer;
using numbers = std::vector<double>;
using selected = std::vector<std::int32_t>;

constexpr double exact = 1e-13;  // a few roundings of numbers near 1
constexpr double closed = -std::numeric_limits<double>::infinity();
constexpr double broken = std::numeric_limits<double>::quiet_NaN();

struct answer {
  selected picks;
  numbers gates, dlogits;
};

/// The gates of the two best, and d <dgates, gates> / d logits.
answer run(const sparsemixer& gate, const numbers& logits, const selected& picks, numbers dgates) {
  answer result{picks, numbers(picks.size(), broken), numbers(logits.size(), 0)};
  dgates.resize(picks.size());
  const moue::vector_view<const double> z{logits.data(), std::ssize(logits)};
  const moue::vector_view<const std::int32_t> chosen{picks.data(), std::ssize(picks)};
  gate.forward(z, chosen, moue::vector_view<double>{result.gates.data(), std::ssize(picks)});
  gate.backward(z, chosen, moue::vector_view<const double>{result.gates.data(), std::ssize(picks)},
                moue::vector_view<const double>{dgates.data(), std::ssize(picks)},
                moue::vector_view<double>{result.dlogits.data(), std::ssize(logits)});
  return result;
}
answer run(const sparsemixer& gate, const numbers& logits, numbers dgates = {0.7, -1.9}) {
  std::vector<std::int32_t> ids(logits.size());
  for (std::size_t j = 0; j < ids.size(); ++j) ids[j] = static_cast<std::int32_t>(j);
  selected picks(2);
  picks.resize(
      static_cast<std::size_t>(moue::top_k<2>{}(moue::vector_view<const double>{logits.data(), std::ssize(logits)},
                                                {ids.data(), std::ssize(ids)}, {picks.data(), 2})));
  return run(gate, logits, picks, std::move(dgates));
}
void same(const numbers& a, const numbers& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(a[i] == doctest::Approx(b[i]).epsilon(exact));
}

}  // namespace

TEST_CASE("sparsemixer obeys the laws, with few rivals and with many") {
  for (const double jitter : {0.01, 0.3, 0.6, 10.0})
    for (const moue::index_t candidates : {3, 6, 33}) {
      const auto report = moue::testing::check_gate_laws(sparsemixer{jitter}, candidates);
      CHECK_MESSAGE(static_cast<bool>(report), report.summary());
    }
}

TEST_CASE("Phi-3.5-MoE weighs these tokens so") {
  // By `sparsemixer` of Hugging Face transformers 5.23 in double precision, not training, for gradients 0.7 and -1.9.
  const auto clear = run({}, {2, 1.99, 1.97, -3, 1.2});
  CHECK(clear.picks == selected{0, 1});
  same(clear.gates, {0.3377813088465646, 0.5049998333399998});
  same(clear.dlogits, {0.15657956736832643, -0.5540251585919413, 0.3974455912236149, 0, 0});
  const auto negative = run({}, {-0.5, -0.505, -0.51, -2, -0.9});
  same(negative.gates, {0.33500138193580153, 0.5012499973958399});
  same(negative.dlogits, {0.1559428192258333, -0.5531633689932186, 0.3972205497673853, 0, 0});
  const auto zeros = run({}, {0, 0, -1, 3, 2.96});
  CHECK(zeros.picks == selected{3, 4});
  same(zeros.gates, {0.5099986668799655, 1});
  same(zeros.dlogits, {0, 0, 0, 0.1749300186624364, -0.1749300186624365});
}

TEST_CASE("clear winners weigh 1 each and get no gradient") {
  const auto result = run({}, {3, -1, 2, 0.5});
  CHECK(result.picks == selected{0, 2});
  CHECK(result.gates == numbers{1, 1});
  CHECK(result.dlogits == numbers(4, 0));
}

TEST_CASE("equal logits share, zero included") {
  for (const double height : {5.0, 0.0, -5.0}) {
    const auto result = run({}, numbers(4, height));
    CHECK(result.picks == selected{0, 1});
    same(result.gates, {1.0 / 4, 1.0 / 3});
  }
}

TEST_CASE("closed candidates are no rivals, wherever they stand") {
  const auto plain = run({}, {2, 1.99, 1.97, -3, 1.2});
  const auto mixed = run({}, {closed, 2, 1.99, closed, 1.97, -3, 1.2, closed});
  CHECK(mixed.picks == selected{1, 2});
  CHECK(mixed.gates == plain.gates);
  CHECK(mixed.dlogits ==
        numbers{0, plain.dlogits[0], plain.dlogits[1], 0, plain.dlogits[2], plain.dlogits[3], plain.dlogits[4], 0});
  CHECK(run({}, {closed, -2, closed}).gates == numbers{1});
  CHECK(run({}, {closed, closed}).gates.empty());
}

TEST_CASE("a broken logit shows") {
  const auto result = run({}, {2, broken, 1});
  CHECK(result.picks == selected{1, 0});
  CHECK(std::isnan(result.gates[0]));
}

TEST_CASE("the sets of rivals end where the gap passes twice the jitter") {
  // (m - z) / max(|z|, m) of the second logit, against 2 · 0.25, in numbers that are exact.
  CHECK(run({0.25}, {2, 1, -9}).gates[0] < 1);      // 0.5
  CHECK(run({0.25}, {2, 0.75, -9}).gates[0] == 1);  // 0.625
  CHECK(run({0.25}, {-1, -2, -9}).gates[0] < 1);    // 0.5: divided by the larger size
  CHECK(run({0.25}, {-1, -4, -9}).gates[0] == 1);   // 0.75
}

TEST_CASE("picks that another selection made are weighed against the largest that is left") {
  const auto rivals = run({0.25}, {2, 1.5, 1.25, -9}, selected{2, 1}, {1, 1});
  const double first = std::exp(-0.75) / (1 + std::exp(-0.5) + std::exp(-0.75));
  const double second = std::exp(-0.5) / (1 + std::exp(-0.5));
  same(rivals.gates, {first, second});
  const auto outsider = run({0.25}, {2, 1.5, -9}, selected{2}, {1});
  CHECK(outsider.gates == numbers{0});
  CHECK(outsider.dlogits == numbers(3, 0));
  same(run({10}, {0.5, 0.25, 0}, selected{0, 1, 2}, {1, 1, 1}).gates,
       {1 / (1 + std::exp(-0.25) + std::exp(-0.5)), 1 / (1 + std::exp(-0.25)), 1});
}
