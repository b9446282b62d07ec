// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Logits that are no numbers, under each of the three modes, and candidates that are closed.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "compositions.hpp"
#include "moue/error.hpp"
#include "stack.hpp"

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double inf = std::numeric_limits<double>::infinity();
constexpr moue::index_t tokens = 6;

bool all_finite(const std::vector<double>& v) {
  return std::ranges::all_of(v, [](double x) { return std::isfinite(x); });
}
bool all_finite(const moue::gradients<double>& g) {
  for (moue::index_t i = 0; i < g.layout().tensors(); ++i)
    if (!all_finite(test::to_vector(g[i]))) return false;
  return true;
}
std::vector<double> row(const std::vector<double>& m, moue::index_t t) {
  const auto width = static_cast<moue::index_t>(m.size()) / tokens;
  return {m.begin() + t * width, m.begin() + (t + 1) * width};
}
std::vector<std::int32_t> row(const std::vector<std::int32_t>& m, moue::index_t t) {
  const auto width = static_cast<moue::index_t>(m.size()) / tokens;
  return {m.begin() + t * width, m.begin() + (t + 1) * width};
}

/// Ids are distinct and in range, or −1 behind all others.
void check_ids(const test::stack_result<double>& result, const test::any_model<double>& model) {
  for (std::size_t l = 0; l < result.visits.size(); ++l)
    for (moue::index_t t = 0; t < tokens; ++t) {
      auto selected = row(result.visits[l].selected, t);
      selected.erase(std::find(selected.begin(), selected.end(), -1), selected.end());
      const auto filled = selected.size();
      for (const auto column : row(result.visits[l].selected, t))
        CHECK((column >= -1 && column < std::ssize(model.connections().candidates(static_cast<moue::index_t>(l)))));
      std::ranges::sort(selected);
      CHECK(std::ranges::adjacent_find(selected) == selected.end());
      CHECK(std::ranges::count(row(result.visits[l].selected, t), -1) ==
            std::ssize(row(result.visits[l].selected, t)) - static_cast<std::ptrdiff_t>(filled));
    }
}

struct setting {
  test::model_pointer<double> model;
  moue::parameters<double> weights;
  test::stack_input<double> input;

  setting(std::string_view name, moue::non_finite mode)
      : model(make(name, mode)),
        weights(test::random_weights(*model, 1)),
        input(test::random_input(*model, tokens, 2)) {}
  auto run(moue::mode how = moue::mode::training) const { return test::run_stack(*model, weights, input, how); }

 private:
  static test::model_pointer<double> make(std::string_view name, moue::non_finite mode) {
    test::recipe r;
    r.on_non_finite = mode;
    return test::compose(name, r, moue::reference{});
  }
};

}  // namespace

TEST_CASE("ids are distinct and in range for any logits, in the modes that go on") {
  for (const auto mode : {moue::non_finite::propagate, moue::non_finite::mask})
    for (const auto& name : test::compositions())
      for (const double bad : {not_a_number, inf, -inf, 1e308}) {
        CAPTURE(name);
        CAPTURE(bad);
        setting s(name, mode);
        const auto clean = s.run(moue::mode::inference);
        const auto width = s.model->width();
        std::fill_n(s.input.x.begin() + 2 * width, width, bad);
        s.input.x[static_cast<std::size_t>(4 * width + 1)] = bad;
        const auto result = s.run(moue::mode::inference);
        check_ids(result, *s.model);
        for (const moue::index_t t : {0, 1, 3, 5}) CHECK(test::same_bits(row(result.output, t), row(clean.output, t)));
      }
}

TEST_CASE("propagate: a broken logit is selected first and shows in the output") {
  for (const double bad : {not_a_number, inf}) {
    CAPTURE(bad);
    setting s("linear_bias", moue::non_finite::propagate);
    s.weights["layers.1.router.bias"](0, 2) = bad;
    const auto result = s.run(moue::mode::inference);
    for (moue::index_t t = 0; t < tokens; ++t) {
      CHECK(row(result.visits[0].selected, t)[0] >= 0);
      CHECK(row(result.visits[1].selected, t)[0] == 2);
      CHECK(std::isnan(row(result.output, t)[0]));
    }
    check_ids(result, *s.model);
  }
}

TEST_CASE("reject: the pass throws and says where") {
  for (const double bad : {not_a_number, inf}) {
    setting s("linear_bias", moue::non_finite::reject);
    s.run();
    s.weights["layers.1.router.bias"](0, 2) = bad;
    s.input.valid = {0, 0, 0, 1, 1, 1};
    CHECK_THROWS_WITH_AS(s.run(),
                         "moue: router: the logit of candidate 2 for token 3 at layer 1 is not finite; look for NaN or "
                         "infinity in the layer's input or router weights, or choose another moue::non_finite mode",
                         moue::error);
    s.weights["layers.1.router.bias"](0, 2) = -inf;  // closes a candidate, and is no accident
    CHECK(all_finite(s.run().output));
  }
}

TEST_CASE("mask: a broken logit closes its candidate") {
  for (const double bad : {not_a_number, inf}) {
    setting s("linear_bias", moue::non_finite::mask), closed("linear_bias", moue::non_finite::propagate);
    s.weights["layers.1.router.bias"](0, 2) = bad;
    closed.weights["layers.1.router.bias"](0, 2) = -inf;
    const auto result = s.run(), expected = closed.run();
    CHECK(test::same_bits(result.output, expected.output));
    CHECK(test::same_bits(result.gradients, expected.gradients));
    CHECK(all_finite(result.gradients));
  }
}

TEST_CASE("a closed candidate is never taken and has probability and gradient zero") {
  for (const auto* name : {"linear_bias", "uneven_widths"}) {
    CAPTURE(name);
    setting s(name, moue::non_finite::propagate);
    s.weights["layers.0.router.bias"](0, 1) = -inf;
    const auto result = s.run();
    CHECK(std::ranges::count(result.visits[0].selected, 1) == 0);
    CHECK(result.probability[1] == 0);
    CHECK(result.share[1] == 0);
    for (const double g : test::to_vector(result.gradients["layers.0.router.weight"].row_block(1, 1))) CHECK(g == 0);
    CHECK(all_finite(result.output));
    CHECK(all_finite(result.gradients));
    CHECK(std::isfinite(result.loss));
  }
}

TEST_CASE("with all candidates closed a token goes nowhere") {
  for (const auto* name : {"linear_bias", "uneven_widths", "always_on", "tied_revisits"}) {
    CAPTURE(name);
    setting s(name, moue::non_finite::reject);
    for (const auto& info : *s.model->layout())
      if (!info.trained) std::fill_n(s.weights[info.name].data, info.size(), -inf);
    const auto result = s.run();
    for (const auto& visit : result.visits) {
      CHECK(std::ranges::all_of(visit.selected, [](auto column) { return column == -1; }));
      if (s.model->connections().max_always() == 0)
        CHECK(test::same_bits(visit.y, std::vector<double>(visit.y.size(), 0.0)));
    }
    for (const double share : result.share) CHECK(share == 0);
    CHECK(all_finite(result.output));
    CHECK(all_finite(result.dx));
    CHECK(all_finite(result.gradients));
    CHECK(std::isfinite(result.loss));
  }
}
