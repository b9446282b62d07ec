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

  setting(std::string_view name, moue::non_finite mode, bool by_cpu = false)
      : model(make(name, mode, by_cpu)),
        weights(test::random_weights(*model, 1)),
        input(test::random_input(*model, tokens, 2)) {}
  auto run(moue::mode how = moue::mode::training) const { return test::run_stack(*model, weights, input, how); }

 private:
  static test::model_pointer<double> make(std::string_view name, moue::non_finite mode, bool by_cpu) {
    test::recipe r;
    r.on_non_finite = mode;
    return by_cpu ? test::compose(name, r, moue::cpu{}) : test::compose(name, r, moue::reference{});
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

namespace {

/// The router's trained tensors that `layer` uses, as positions of the layout, each once.
std::vector<moue::index_t> router_tensors(const moue::parameter_layout& layout, moue::index_t layer) {
  std::vector<moue::index_t> result;
  for (moue::index_t column = 0; column < layout.router_tensors(); ++column)
    if (layout[layout.router(layer, column)].trained) result.push_back(layout.router(layer, column));
  return result;
}

/// What a mask must leave: everything finite but the rows of `broken` tokens, and the bits of all other outputs.
void check_masked(const test::stack_result<double>& result, const std::vector<moue::index_t>& broken) {
  CHECK(all_finite(result.gradients));
  CHECK(all_finite(result.dx));
  CHECK(std::isfinite(result.loss - result.loss) == broken.empty());
  CHECK(std::isfinite(result.balance));
  CHECK(all_finite(result.last_state));
  for (const auto& visit : result.visits)
    for (moue::index_t t = 0; t < tokens; ++t) {
      CHECK(all_finite(row(visit.y, t)));
      if (std::ranges::count(broken, t) == 0) continue;
      CHECK(test::same_bits(row(visit.y, t), std::vector<double>(row(visit.y, t).size(), 0.0)));
      CHECK(std::ranges::all_of(row(visit.experts, t), [](auto e) { return e == -1; }));
    }
}

}  // namespace

TEST_CASE("mask: a token that is no number goes nowhere and enters no sum") {
  for (const bool by_cpu : {false, true})
    for (const auto& name : test::compositions())
      for (const double bad : {not_a_number, inf, -inf}) {
        CAPTURE(name);
        CAPTURE(bad);
        setting s(name, moue::non_finite::mask, by_cpu);
        const auto clean = s.run();
        check_masked(clean, {});
        s.input.x[static_cast<std::size_t>(3 * s.model->width() + 1)] = bad;
        const auto result = s.run();
        check_masked(result, {3});
        for (const moue::index_t t : {0, 1, 2, 4, 5})
          for (std::size_t l = 0; l < result.visits.size(); ++l)
            if (by_cpu)  // whose products of experts depend on the number of rows, by roundings of sums of some ten terms
              CHECK(test::distance(row(result.visits[l].y, t), row(clean.visits[l].y, t)) < 1e-12);
            else
              CHECK(test::same_bits(row(result.visits[l].y, t), row(clean.visits[l].y, t)));
        if (name == "uneven_widths") {  // no balancing loss, which knows how many tokens there are
          s.input.valid = {1, 1, 1, 0, 1, 1};
          CHECK(test::same_bits(s.run().gradients, result.gradients));
        }
      }
}

TEST_CASE("mask: what is no number in a router's weights enters no sum") {
  for (const bool by_cpu : {false, true})
    for (const auto& name : test::compositions()) {
      const setting sound(name, moue::non_finite::mask, by_cpu);
      for (const auto tensor : router_tensors(*sound.model->layout(), 1))
        for (const double bad : {not_a_number, inf}) {
          CAPTURE(name);
          CAPTURE(bad);
          CAPTURE(sound.weights.layout()[tensor].name);
          setting s(name, moue::non_finite::mask, by_cpu);
          s.weights[tensor].data[s.weights.layout()[tensor].size() - 1] = bad;
          check_masked(s.run(), {});
        }
    }
}

TEST_CASE("mask: external inputs and a depth state that are no numbers enter no sum") {
  for (const auto* name : {"keyed_trajectory", "mixed_pool", "tied_revisits"})
    for (const bool broken_state : {false, true}) {
      CAPTURE(name);
      const setting s(name, moue::non_finite::mask);
      const auto run = [&](bool external) {
        const moue::pass_options options{.tokens = tokens, .external_inputs = external};
        moue::workspace scratch(s.model->workspace_bytes(options));
        const auto pass = s.model->start(s.weights, options, scratch);
        auto x = s.input.x;
        std::vector<double> y(x.size()), dx = s.input.loss_weight;
        const auto view = [&](auto& v) { return moue::matrix_view(v.data(), tokens, s.model->width()); };
        pass->begin(tokens);
        if (broken_state)
          pass->state_in()(2, 0) = inf;
        else
          x[static_cast<std::size_t>(2 * s.model->width())] = not_a_number;
        test::stack_result<double> result(s.model->layout());
        for (moue::index_t l = 0; l < s.model->layers(); ++l) {
          pass->forward(l, view(x), view(y));
          result.output.insert(result.output.end(), y.begin(), y.end());
        }
        result.last_state = test::to_vector(pass->state_out());
        pass->arm();
        for (moue::index_t l = s.model->layers(); l-- > 0;) pass->backward(l, view(dx), view(dx), result.gradients);
        result.dx = dx;
        CHECK(all_finite(result.gradients));
        CHECK(all_finite(result.output));
        CHECK(all_finite(result.last_state));
        CHECK(all_finite(result.dx));
        return result;
      };
      const auto own = run(false), external = run(true);
      CHECK(test::same_bits(own.gradients, external.gradients));
      CHECK(test::same_bits(own.dx, external.dx));
    }
}

TEST_CASE("an infinite input, and weights that make logits infinite on either side, are seen") {
  for (const auto& name : test::compositions())
    for (const double bad : {inf, -inf}) {
      CAPTURE(name);
      CAPTURE(bad);
      setting s(name, moue::non_finite::propagate), strict(name, moue::non_finite::reject);
      for (auto* one : {&s, &strict}) one->input.x[static_cast<std::size_t>(4 * s.model->width() + 1)] = bad;
      CHECK(std::isnan(row(s.run(moue::mode::inference).visits[0].y, 4)[0]));
      CHECK_THROWS_WITH_AS(strict.run(), doctest::Contains("for token 4 at layer 0 is not finite"), moue::error);
    }
  for (const auto* name : {"linear_raw", "always_on", "deepseek_v3", "linear_bias"}) {
    CAPTURE(name);
    setting s(name, moue::non_finite::propagate), strict(name, moue::non_finite::reject);
    for (auto* one : {&s, &strict}) one->weights["layers.1.router.weight"](2, 0) = inf;
    const auto result = s.run(moue::mode::inference);
    for (moue::index_t t = 0; t < tokens; ++t) {
      CHECK(row(result.visits[1].selected, t)[0] == 2);
      CHECK(std::isnan(row(result.visits[1].y, t)[0]));
    }
    CHECK_THROWS_WITH_AS(strict.run(), doctest::Contains("the logit of candidate 2 for token 0 at layer 1"),
                         moue::error);
  }
}

TEST_CASE("closing is a mark: no logit opens a closed candidate, which enters no sum whatever its weights are") {
  for (const auto mode : {moue::non_finite::propagate, moue::non_finite::reject, moue::non_finite::mask})
    for (const double bad : {not_a_number, inf}) {
      for (const auto* name : {"linear_bias", "gpt_oss", "uneven_widths"}) {
        CAPTURE(name);
        setting s(name, mode), sound(name, mode);
        const std::string bias = name == std::string("gpt_oss") ? "candidate_bias" : "bias";
        for (auto* one : {&s, &sound}) one->weights["layers.1.router." + bias](0, 2) = -inf;
        s.weights["layers.1.router.weight"](2, 1) = bad;
        const auto result = s.run(), expected = sound.run();
        CHECK(std::ranges::count(result.visits[1].selected, 2) == 0);
        CHECK(test::same_bits(result.output, expected.output));
        CHECK(test::same_bits(result.dx, expected.dx));
        CHECK(test::same_bits(result.gradients, expected.gradients));
      }
      for (const auto* name : {"always_on", "tied_revisits", "deepseek_v3"}) {  // closed by a preference
        CAPTURE(name);
        setting s(name, mode);
        for (const auto& info : *s.model->layout()) {
          if (info.layer != 1) continue;
          if (info.name.ends_with("selection_bias")) s.weights[info.name](0, 2) = -inf;
          if (info.name.ends_with("weight")) s.weights[info.name](2, 1) = bad;
        }
        const auto result = s.run();
        CHECK(std::ranges::count(result.visits[1].selected, 2) == 0);
        CHECK(all_finite(result.output));
        CHECK(all_finite(result.dx));
        CHECK(all_finite(result.gradients));
        CHECK(std::isfinite(result.loss));
      }
    }
}

TEST_CASE("a broken preference is seen, refused or closes its candidate") {
  for (const auto* name : {"always_on", "deepseek_v3"}) {
    CAPTURE(name);
    setting s(name, moue::non_finite::propagate), strict(name, moue::non_finite::reject),
        masked(name, moue::non_finite::mask), closed(name, moue::non_finite::propagate);
    for (auto* one : {&s, &strict, &masked}) one->weights["layers.1.router.selection_bias"](0, 1) = not_a_number;
    closed.weights["layers.1.router.selection_bias"](0, 1) = -inf;
    const auto result = s.run(moue::mode::inference);
    for (moue::index_t t = 0; t < tokens; ++t) {
      CHECK(row(result.visits[1].selected, t)[0] == 1);
      CHECK(std::isnan(row(result.visits[1].y, t)[0]));
    }
    CHECK_THROWS_WITH_AS(strict.run(), doctest::Contains("the preference of candidate 1 for token 0 at layer 1"),
                         moue::error);
    const auto kept = masked.run(), expected = closed.run();
    CHECK(test::same_bits(kept.output, expected.output));
    CHECK(test::same_bits(kept.gradients, expected.gradients));
  }
}

TEST_CASE("what is replayed leaves closed candidates out") {
  for (const auto* name : {"linear_bias", "always_on"}) {
    CAPTURE(name);
    setting s(name, moue::non_finite::propagate);
    s.weights[name == std::string("linear_bias") ? "layers.0.router.bias" : "layers.0.router.selection_bias"](0, 1) =
        -inf;
    const moue::pass_options options{.tokens = tokens};
    moue::workspace scratch(s.model->workspace_bytes(options));
    const auto pass = s.model->start(s.weights, options, scratch);
    const auto candidates = s.model->connections().candidates(0);
    std::vector<std::int32_t> ids;
    for (moue::index_t t = 0; t < tokens; ++t) ids.insert(ids.end(), {candidates[1], candidates[t % 2 == 0 ? 0 : 1]});
    const moue::matrix_view<const double> x{s.input.x.data(), tokens, s.model->width()};
    pass->begin(tokens);
    const auto taken = pass->replay(0, x, {ids.data(), tokens, 2});
    for (moue::index_t t = 0; t < tokens; ++t) {
      CHECK(pass->selected(0)(t, 0) == (t % 2 == 0 ? 0 : -1));
      CHECK(pass->selected(0)(t, 1) == -1);
    }
    CHECK(std::all_of(taken.gate.begin(), taken.gate.end(), [](double g) { return std::isfinite(g); }));
  }
}
