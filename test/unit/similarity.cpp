// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "moue/analysis/similarity.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "moue/backend/cpu.hpp"
#include "moue/expert/gated_mlp.hpp"

namespace {

constexpr moue::index_t width = 6, hidden = 10, tokens = 9;
constexpr double exact = 1e-12;  // sums of fewer than 100 products of numbers near 1, in double

// 0: any expert. 1: an unrelated one. 2: expert 0 with its hidden units in reverse. 3: expert 0 with outputs scaled by 3.
// 4: expert 0 with its outputs turned by a quarter in the plane of the first two coordinates. 5: computes zero.
struct family {
  moue::executor<moue::swiglu, moue::cpu> experts{moue::swiglu{width, hidden}, 6, moue::cpu{}};
  moue::parameters<double> weights{experts.layout()};
  std::vector<double> probes = std::vector<double>(tokens * width);

  family() {
    moue::initialize(weights, 5);
    const auto named = [&](int e, const char* name) { return weights["experts." + std::to_string(e) + "." + name]; };
    for (const char* name : {"gate", "up", "down"})
      for (int e = 2; e < 6; ++e) std::copy_n(named(0, name).data, hidden * width, named(e, name).data);
    for (moue::index_t h = 0; h < hidden; ++h)
      for (moue::index_t j = 0; j < width; ++j) {
        named(2, "gate")(h, j) = named(0, "gate")(hidden - 1 - h, j);
        named(2, "up")(h, j) = named(0, "up")(hidden - 1 - h, j);
        named(2, "down")(j, h) = named(0, "down")(j, hidden - 1 - h);
        named(3, "down")(j, h) *= 3;
        named(5, "down")(j, h) = 0;
      }
    for (moue::index_t h = 0; h < hidden; ++h) {
      named(4, "down")(0, h) = -named(0, "down")(1, h);
      named(4, "down")(1, h) = named(0, "down")(0, h);
    }
    for (std::size_t i = 0; i < probes.size(); ++i) probes[i] = std::sin(1.0 + static_cast<double>(i * i));
  }
  std::vector<double> outputs() const {
    return moue::probe_outputs(experts, weights, moue::matrix_view<const double>{probes.data(), tokens, width});
  }
};

void check_is_a_similarity(const moue::similarity_matrix& s) {
  for (moue::index_t a = 0; a < s.items; ++a)
    for (moue::index_t b = 0; b < s.items; ++b) {
      const bool defined = a != 5 && b != 5;
      CHECK(std::isnan(s(a, b)) != defined);
      if (!defined) continue;
      CHECK(s(a, b) == s(b, a));
      CHECK(std::abs(s(a, b)) <= 1 + exact);
      if (a == b) CHECK(s(a, b) == 1);
    }
}

}  // namespace

TEST_CASE("output similarity sees through scale and order of hidden units, not through rotation") {
  const family f;
  const auto outputs = f.outputs();
  const auto s =
      moue::output_similarity(moue::cpu{}, moue::matrix_view<const double>{outputs.data(), 6, tokens * width}, tokens);
  check_is_a_similarity(s);
  CHECK(s(0, 2) == doctest::Approx(1).epsilon(exact));
  CHECK(s(0, 3) == doctest::Approx(1).epsilon(exact));
  CHECK(s(0, 1) < 0.9);
  CHECK(s(0, 4) < 0.9);
  double mean = 0;  // by the definition, token by token
  for (moue::index_t t = 0; t < tokens; ++t) {
    double ab = 0, aa = 0, bb = 0;
    for (moue::index_t j = 0; j < width; ++j) {
      const double a = outputs[static_cast<std::size_t>(t * width + j)];
      const double b = outputs[static_cast<std::size_t>((tokens + t) * width + j)];
      ab += a * b, aa += a * a, bb += b * b;
    }
    mean += ab / std::sqrt(aa * bb) / tokens;
  }
  CHECK(s(0, 1) == doctest::Approx(mean).epsilon(exact));
}

TEST_CASE("output alignment also sees through rotation and a constant") {
  const family f;
  auto outputs = f.outputs();
  for (std::size_t i = 2 * tokens * width; i < 3 * tokens * width; ++i) outputs[i] += 5;  // expert 2
  const auto s =
      moue::output_alignment(moue::cpu{}, moue::matrix_view<const double>{outputs.data(), 6, tokens * width}, tokens);
  check_is_a_similarity(s);
  for (const moue::index_t same : {2, 3, 4}) CHECK(s(0, same) == doctest::Approx(1).epsilon(exact));
  CHECK(s(0, 1) < 0.9);
}

TEST_CASE("weight similarity does not see through the order of hidden units") {
  const family f;
  const auto s = moue::weight_similarity(moue::cpu{}, f.weights);
  CHECK(s(0, 0) == 1);
  CHECK(s(0, 2) < 0.9);
  CHECK(std::abs(s(0, 1)) < 0.5);
  CHECK(s(0, 5) > 0.5);  // two of three matrices are the same
}

TEST_CASE("rows that have no direction have no cosine, and extreme ones keep theirs") {
  const std::vector<double> rows{1e200, 1e200, 1e-200, 1e-200, 0, 0, 1, NAN, INFINITY, 1};
  const auto s = moue::cosine_of_rows(moue::cpu{}, moue::matrix_view<const double>{rows.data(), 5, 2});
  CHECK(s(0, 1) == doctest::Approx(1).epsilon(exact));
  for (const moue::index_t none : {2, 3, 4}) {
    CHECK(std::isnan(s(none, none)));
    CHECK(std::isnan(s(0, none)));
  }
  CHECK(moue::cosine_of_rows(moue::cpu{}, moue::matrix_view<const double>{}).items == 0);
}

TEST_CASE("experts of different shapes cannot be compared by their weights") {
  const moue::executor mixed{moue::expert_pool{[](moue::index_t e) { return e; }, moue::swiglu{width, hidden},
                                               moue::swiglu{width, 2 * hidden}},
                             2, moue::cpu{}};
  CHECK_THROWS_WITH_AS(moue::weight_similarity(moue::cpu{}, moue::parameters<double>{mixed.layout()}),
                       doctest::Contains("expert 1 has 360 weights, expert 0 has 180"), moue::error);
}
