// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Numbers that are none, closed candidates, padding and leftovers on the CUDA backend: run by a host in memory that
// begins as NaN throughout, and, linked into test/cuda, on a device.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "compositions.hpp"
#include "compositions_device.hpp"
#include "stack.hpp"

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double tolerance = 1e-12;  // sums of up to a few hundred terms in another order
constexpr moue::index_t tokens = 6;

bool zero_bits(const std::vector<double>& v) { return test::same_bits(v, std::vector<double>(v.size(), 0.0)); }
bool all_finite(const std::vector<double>& v) {
  return std::ranges::all_of(v, [](double x) { return std::isfinite(x); });
}
bool all_finite(const moue::gradients<double>& g) {
  for (moue::index_t i = 0; i < g.layout().tensors(); ++i)
    if (!all_finite(test::to_vector(g[i]))) return false;
  return true;
}

/// Numbers agree, and what is no number is none in the other.
bool agree(const std::vector<double>& a, const std::vector<double>& b) {
  return std::ranges::equal(a, b, [](double x, double y) {
    return (std::isnan(x) && std::isnan(y)) || x == y || std::abs(x - y) < tolerance * (1 + std::abs(y));
  });
}

template <class T>
std::vector<T> row(const std::vector<T>& m, moue::index_t t, moue::index_t rows = tokens) {
  const auto width = std::ssize(m) / rows;
  return {m.begin() + t * width, m.begin() + (t + 1) * width};
}

/// Columns are distinct and in range, with −1 behind all others.
void check_selected(const test::stack_result<double>& result, const test::any_model<double>& model) {
  for (std::size_t l = 0; l < result.visits.size(); ++l)
    for (moue::index_t t = 0; t < tokens; ++t) {
      auto selected = row(result.visits[l].selected, t);
      const auto end = std::ranges::find(selected, -1);
      CHECK(std::all_of(end, selected.end(), [](auto column) { return column == -1; }));
      selected.erase(end, selected.end());
      std::ranges::sort(selected);
      CHECK(std::ranges::adjacent_find(selected) == selected.end());
      if (!selected.empty())
        CHECK((selected.front() >= 0 &&
               selected.back() < std::ssize(model.connections().candidates(static_cast<moue::index_t>(l)))));
    }
}

/// Those of the names that this program can run on a device.
std::vector<std::string> on_device(std::vector<std::string> names) {
  const auto known = test::compositions_on_device();
  std::erase_if(names, [&](const auto& name) { return std::ranges::find(known, name) == known.end(); });
  return names;
}

/// A composition on a device and the same by plain loops.
struct setting {
  test::model_pointer<double> there, here;
  moue::parameters<double> weights;
  test::stack_input<double> input;

  explicit setting(std::string_view name, moue::non_finite mode = moue::non_finite::propagate)
      : there(test::compose_on_device(name, recipe_of(mode))),
        here(test::compose(name, recipe_of(mode), moue::reference{})),
        weights(test::random_weights(*here, 1)),
        input(test::random_input(*here, tokens, 2)) {}

  auto run(moue::mode how = moue::mode::training) const { return test::run_stack(*there, weights, input, how); }
  auto expected(moue::mode how = moue::mode::training) const { return test::run_stack(*here, weights, input, how); }

 private:
  static test::recipe recipe_of(moue::non_finite mode) {
    test::recipe r;
    r.on_non_finite = mode;
    return r;
  }
};

/// Every layer gets the same x and dy, and its results are put behind those of the layer before.
struct trip {
  std::vector<double> y, dx;
  double balance = 0;
};
struct batch {
  std::vector<double> x, dy;
  std::vector<std::uint8_t> valid = {};
};

batch random_batch(const test::any_model<double>& model, moue::index_t count) {
  return {test::noise_vector(3, count * model.width()), test::noise_vector(4, count * model.width())};
}

trip run(test::any_pass<double>& pass, const test::any_model<double>& model, const batch& b,
         moue::gradients<double>& into) {
  const moue::index_t count = std::ssize(b.x) / model.width();
  std::vector<double> y(b.x.size());
  trip result;
  const auto view = [&](auto& v) { return moue::matrix_view(v.data(), count, model.width()); };
  pass.begin(count, {.valid = {b.valid.data(), std::ssize(b.valid)}});
  for (moue::index_t l = 0; l < model.layers(); ++l) {
    pass.forward(l, {view(b.x), {}}, view(y));
    result.y.insert(result.y.end(), y.begin(), y.end());
  }
  result.balance = pass.balance();
  pass.arm();
  for (moue::index_t l = model.layers(); l-- > 0;) {
    pass.backward(l, view(b.dy), {view(y), {}}, into);
    result.dx.insert(result.dx.end(), y.begin(), y.end());
  }
  return result;
}

trip run_alone(const test::any_model<double>& model, const moue::parameters<double>& weights, const batch& b,
               moue::gradients<double>& into) {
  const moue::pass_options options{.tokens = std::ssize(b.x) / model.width()};
  moue::workspace scratch(model.workspace_bytes(options));
  return run(*model.start(weights, options, scratch), model, b, into);
}

}  // namespace

TEST_CASE("ids are distinct and in range for any input, and other tokens are unharmed") {
  for (const auto mode : {moue::non_finite::propagate, moue::non_finite::mask})
    for (const auto& name : test::compositions_on_device()) {
      CAPTURE(name);
      setting s(name, mode);
      const auto clean = s.run(moue::mode::inference);
      const auto width = s.here->width();
      for (const double bad : {not_a_number, inf, -inf}) {
        CAPTURE(bad);
        std::fill_n(s.input.x.begin() + 2 * width, width, bad);
        s.input.x[static_cast<std::size_t>(4 * width + 1)] = bad;
        const auto result = s.run(moue::mode::inference), expected = s.expected(moue::mode::inference);
        check_selected(result, *s.here);
        CHECK(agree(result.output, expected.output));
        for (std::size_t l = 0; l < result.visits.size(); ++l)
          CHECK(result.visits[l].selected == expected.visits[l].selected);
        for (const moue::index_t t : {0, 1, 3, 5}) CHECK(test::same_bits(row(result.output, t), row(clean.output, t)));
      }
    }
}

TEST_CASE("propagate: a broken logit is selected first and shows in the output") {
  for (const double bad : {not_a_number, inf}) {
    CAPTURE(bad);
    setting s("linear_bias");
    s.weights["layers.1.router.bias"](0, 2) = bad;
    const auto result = s.run(moue::mode::inference), expected = s.expected(moue::mode::inference);
    check_selected(result, *s.here);
    CHECK(agree(result.output, expected.output));
    for (moue::index_t t = 0; t < tokens; ++t) {
      CHECK(row(result.visits[0].selected, t) == row(expected.visits[0].selected, t));
      CHECK(row(result.visits[1].selected, t)[0] == 2);
      CHECK(std::isnan(row(result.output, t)[0]));
    }
  }
}

TEST_CASE("mask: a broken logit closes its candidate, for good and to the bit") {
  for (const double bad : {not_a_number, inf}) {
    setting s("linear_bias", moue::non_finite::mask), closed("linear_bias");
    s.weights["layers.1.router.bias"](0, 2) = bad;
    closed.weights["layers.1.router.bias"](0, 2) = -inf;
    const auto result = s.run(), same = closed.run(), expected = s.expected();
    CHECK(test::same_bits(result.output, same.output));
    CHECK(test::same_bits(result.gradients, same.gradients));
    CHECK(all_finite(result.gradients));
    CHECK(test::distance(result.output, expected.output) < tolerance);
    CHECK(test::distance(result.gradients, expected.gradients) < tolerance);
  }
}

TEST_CASE("mask: what is no number, in a token or in a router's weights, enters no sum") {
  for (const auto& name : test::compositions_on_device()) {
    CAPTURE(name);
    const auto check = [](const setting& s) {
      const auto result = s.run(), expected = s.expected();
      CHECK(all_finite(result.gradients));
      CHECK(all_finite(result.dx));
      CHECK(all_finite(result.last_state));
      CHECK(std::isfinite(result.balance));
      for (std::size_t l = 0; l < result.visits.size(); ++l) {
        CHECK(all_finite(result.visits[l].y));
        CHECK(result.visits[l].experts == expected.visits[l].experts);
      }
      CHECK(test::distance(result.dx, expected.dx) < tolerance);
      CHECK(test::distance(result.gradients, expected.gradients) < tolerance);
    };
    setting token(name, moue::non_finite::mask);
    token.input.x[static_cast<std::size_t>(3 * token.here->width() + 1)] = not_a_number;
    check(token);
    setting weight(name, moue::non_finite::mask);
    const auto& layout = *weight.here->layout();
    for (moue::index_t column = 0; column < layout.router_tensors(); ++column) {
      const auto& info = layout[layout.router(1, column)];
      if (info.trained && info.rows > 1)
        weight.weights[info.name](info.rows - 1, 0) = column % 2 == 0 ? inf : not_a_number;
    }
    check(weight);
  }
}

TEST_CASE("a closed candidate is never taken and has probability and gradient zero") {
  for (const auto& name : on_device({"linear_bias", "uneven_widths"})) {
    CAPTURE(name);
    setting s(name);
    s.weights["layers.0.router.bias"](0, 1) = -inf;
    s.weights["layers.0.router.weight"](1, 0) = not_a_number;
    const auto result = s.run(), expected = s.expected();
    CHECK(all_finite(result.gradients));
    CHECK(std::ranges::count(result.visits[0].selected, 1) == 0);
    CHECK(result.probability[1] == 0);
    CHECK(result.share[1] == 0);
    CHECK(zero_bits(test::to_vector(result.gradients["layers.0.router.weight"].row_block(1, 1))));
    CHECK(test::distance(result.output, expected.output) < tolerance);
    CHECK(test::distance(result.gradients, expected.gradients) < tolerance);
    CHECK(result.loss == doctest::Approx(expected.loss).epsilon(tolerance));
  }
}

TEST_CASE("with all candidates closed a token goes nowhere") {
  for (const auto& name : on_device({"linear_bias", "uneven_widths", "always_on", "tied_revisits"})) {
    CAPTURE(name);
    setting s(name);
    for (const auto& info : *s.here->layout())
      if (!info.trained) std::fill_n(s.weights[info.name].data, info.size(), -inf);
    const auto result = s.run(), expected = s.expected();
    for (const auto& visit : result.visits) {
      CHECK(std::ranges::all_of(visit.selected, [](auto column) { return column == -1; }));
      if (s.here->connections().max_always() == 0) CHECK(zero_bits(visit.y));
    }
    CHECK(zero_bits(result.share));
    CHECK(test::distance(result.dx, expected.dx) < tolerance);
    CHECK(test::distance(result.gradients, expected.gradients) < tolerance);
    CHECK(result.loss == doctest::Approx(expected.loss).epsilon(tolerance));
  }
}

TEST_CASE("padding counts nowhere, whatever it holds") {
  for (const auto& name : test::compositions_on_device()) {
    CAPTURE(name);
    const setting s(name);
    const auto width = s.here->width();
    auto padded = random_batch(*s.here, 9);
    batch compact;
    padded.valid = {0, 1, 1, 0, 1, 1, 1, 0, 0};
    for (moue::index_t t = 0; t < 9; ++t)
      for (moue::index_t j = t * width; j < (t + 1) * width; ++j) {
        const auto at = static_cast<std::size_t>(j);
        if (padded.valid[static_cast<std::size_t>(t)]) {
          compact.x.push_back(padded.x[at]);
          compact.dy.push_back(padded.dy[at]);
        } else {
          padded.x[at] = padded.dy[at] = not_a_number;
        }
      }
    moue::gradients<double> gradients(s.here->layout()), expected_gradients(s.here->layout());
    const auto result = run_alone(*s.there, s.weights, padded, gradients);
    const auto expected = run_alone(*s.here, s.weights, compact, expected_gradients);
    const auto check = [&](const std::vector<double>& all, const std::vector<double>& few) {
      std::vector<double> saved;
      for (moue::index_t t = 0; t < 9 * s.here->layers(); ++t) {
        const auto one = row(all, t, 9 * s.here->layers());
        if (padded.valid[static_cast<std::size_t>(t % 9)])
          saved.insert(saved.end(), one.begin(), one.end());
        else
          CHECK(zero_bits(one));
      }
      CHECK(test::distance(saved, few) < tolerance);
    };
    check(result.y, expected.y);
    check(result.dx, expected.dx);
    CHECK(result.balance == doctest::Approx(expected.balance).epsilon(tolerance));
    CHECK(test::distance(gradients, expected_gradients) < tolerance);
  }
}

TEST_CASE("what an earlier batch left past the last row reaches nothing, and a batch may be empty") {
  for (const auto& name : test::compositions_on_device()) {
    CAPTURE(name);
    const setting s(name);
    auto input = random_batch(*s.here, 5);
    input.valid = {1, 0, 1, 1, 0};  // so that there are rows past the last among those of the batch, too
    auto broken = random_batch(*s.here, 12);
    std::ranges::fill(broken.x, not_a_number);
    std::ranges::fill(broken.dy, not_a_number);
    moue::gradients<double> gradients(s.here->layout()), expected_gradients(s.here->layout()), any(s.here->layout());
    moue::workspace none(0);
    const auto pass = s.there->start(s.weights, {.tokens = 12}, none);
    run(*pass, *s.there, broken, any);
    const auto result = run(*pass, *s.there, input, gradients);
    const auto expected = run_alone(*s.here, s.weights, input, expected_gradients);
    CHECK(test::distance(result.y, expected.y) < tolerance);
    CHECK(test::distance(result.dx, expected.dx) < tolerance);
    CHECK(result.balance == doctest::Approx(expected.balance).epsilon(tolerance));
    CHECK(test::distance(gradients, expected_gradients) < tolerance);
    const auto before = gradients;
    CHECK(run(*pass, *s.there, {}, gradients).balance == 0);
    CHECK(test::same_bits(gradients, before));
    const auto statistics = pass->statistics();
    for (const auto& table : {statistics.share, statistics.probability})
      CHECK(std::all_of(table.begin(), table.end(), [](double v) { return v == 0; }));
  }
}
