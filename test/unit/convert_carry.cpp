// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Weights and what optimisers remember move to a model with more candidates; training goes on as if nothing had happened.

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "conversion.hpp"
#include "moue/train/adamw.hpp"
#include "moue/train/clip.hpp"
#include "moue/train/muon.hpp"

namespace {

using namespace moue::convert;

using specs = std::vector<std::pair<std::string, moue::parameter_spec>>;

std::shared_ptr<const moue::parameter_layout> layout(const specs& tensors, moue::index_t layer = 0) {
  auto result = std::make_shared<moue::parameter_layout>();
  for (const auto& [name, spec] : tensors) result->add(name, spec, name.starts_with("layers") ? layer : -1, -1);
  return result;
}

void count_up(moue::parameters<float>& values, float from) {
  for (moue::index_t i = 0; i < values.layout().tensors(); ++i)
    for (moue::index_t j = 0; j < values.layout()[i].size(); ++j) values[i].data[j] = from++;
}

std::string refusal(const specs& from, const specs& to) {
  moue::parameters<float> source(layout(from)), target(layout(to));
  count_up(source, 1);
  try {
    carry(source, target);
  } catch (const moue::error& e) {
    for (moue::index_t i = 0; i < target.layout().tensors(); ++i)
      for (moue::index_t j = 0; j < target.layout()[i].size(); ++j) REQUIRE(target[i].data[j] == 0);
    return e.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("tensors are copied by name, and a grown router tensor keeps its leading block") {
  moue::parameters<float> source(
      layout({{"a", {"", 2, 3}}, {"layers.0.router.bias", {"", 1, 2}}, {"layers.0.w", {"", 2, 3}}}));
  moue::parameters<float> target(layout(
      {{"new", {"", 1, 1}}, {"layers.0.w", {"", 4, 3}}, {"layers.0.router.bias", {"", 1, 5}}, {"a", {"", 2, 3}}}));
  count_up(source, 1);
  count_up(target, 100);
  carry(source, target);
  const auto values = [&](const char* name) {
    const auto m = target[name];
    return std::vector<float>(m.data, m.data + m.rows * m.cols);
  };
  CHECK(values("a") == std::vector<float>{1, 2, 3, 4, 5, 6});
  CHECK(values("layers.0.router.bias") == std::vector<float>{7, 8, 115, 116, 117});
  CHECK(values("layers.0.w") == std::vector<float>{9, 10, 11, 12, 13, 14, 107, 108, 109, 110, 111, 112});
  CHECK(values("new") == std::vector<float>{100});
}

TEST_CASE("any other difference is refused by the tensor's name, and nothing is written") {
  CHECK(contains(refusal({{"b", {"", 1, 1}}, {"a", {"", 1, 1}}}, {{"b", {"", 1, 1}}}), "no tensor 'a'"));
  CHECK(contains(refusal({{"a", {"", 2, 2}}}, {{"a", {"", 3, 2}}}), "'a' is [2, 2]"));  // not a layer's router
  const auto layers = [](moue::index_t rows, moue::index_t cols) { return specs{{"layers.0.w", {"", rows, cols}}}; };
  CHECK(refusal(layers(2, 2), layers(3, 2)).empty());
  CHECK(contains(refusal(layers(2, 2), layers(3, 3)), "'layers.0.w'"));
  CHECK(contains(refusal(layers(2, 2), layers(1, 2)), "'layers.0.w'"));
  CHECK(contains(refusal(layers(2, 2), layers(2, 1)), "'layers.0.w'"));
}

namespace {

/// Trains the source and its conversion side by side: before the conversion the source alone, then both.
template <moue::Storage S, class OptimiserT>
void train_both(const std::function<OptimiserT(const moue::parameters<S>&)>& make) {
  const auto source = test::make_source({.shared = 1}, moue::linear_score{}, moue::cpu{});
  const auto plan = test::ring_plan(source);
  const auto target = moe_to_moue(source, plan);
  const auto a = test::erase<S>(source);
  const auto b = test::erase<S>(target);
  auto old = test::random_weights<S>(*a, 1);
  auto first = make(old);
  const auto step = [](const auto& model, auto& weights, auto& optimiser, std::uint64_t batch) {
    auto result = test::run_stack<S>(*model, weights, test::random_input<S>(*model, 24, batch));
    moue::clip_gradients(result.gradients, 1);
    optimiser.step(weights, result.gradients, 0.01);
    return result.loss;
  };
  for (std::uint64_t batch = 0; batch < 3; ++batch) step(a, old, first, batch);
  auto weights = start(target, source, old, plan, home_row{});
  auto second = make(weights);
  carry(first, second);
  for (std::uint64_t batch = 3; batch < 6; ++batch)
    CHECK(step(a, old, first, batch) == step(b, weights, second, batch));
  CHECK(test::first_difference(old, weights) == "");
  // Closed connections learn nothing; decay alone shrinks their rows.
  const auto foreign = target.layout()->find("layers.0.router.foreign");
  second.visit([&](std::string_view name, auto& values) {
    if (name == "master") return;
    for (moue::index_t j = 0; j < values.layout()[foreign].size(); ++j) CHECK(values[foreign].data[j] == 0);
  });
}

}  // namespace

TEST_CASE("training goes on bit for bit while connections are closed: AdamW, float") {
  train_both<float, moue::adamw<float>>([](const auto& weights) { return moue::adamw<float>(weights); });
}

TEST_CASE("training goes on bit for bit while connections are closed: Muon, bf16 with a master copy") {
  train_both<moue::bf16, moue::muon<moue::bf16>>([](const auto& weights) { return moue::muon<moue::bf16>(weights); });
}
