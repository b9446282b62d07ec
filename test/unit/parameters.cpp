// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "moue/parameter.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "moue/backend/reference.hpp"
#include "moue/balance/universal_balance.hpp"
#include "moue/expert/constant.hpp"
#include "moue/expert/copy.hpp"
#include "moue/expert/gated_mlp.hpp"
#include "moue/mixture.hpp"
#include "moue/router/logit_bias.hpp"
#include "moue/topology/revisit.hpp"
#include "moue/topology/shared_pool.hpp"
#include "moue/topology/staggered_rotation.hpp"

namespace {

const moue::mixture ring{moue::swiglu{4, 6}, moue::staggered_rotation{.depth = 2, .pool = 3, .window = 2, .stride = 1},
                         moue::universal_router(1, {.rank = 5}), moue::universal_balance{}, moue::reference{}};

std::vector<std::string> names_of(const moue::parameter_layout& layout) {
  std::vector<std::string> names;
  for (const auto& info : layout) names.push_back(info.name);
  return names;
}

}  // namespace

TEST_CASE("tensors are listed model-wide, then by layer, then by expert") {
  const auto layout = ring.layout();
  CHECK(names_of(*layout) ==
        std::vector<std::string>{
            "router.shared_key", "router.trajectory_key", "layers.0.router.weight", "layers.0.router.temperature",
            "layers.0.router.trajectory_map", "layers.1.router.weight", "layers.1.router.temperature",
            "layers.1.router.trajectory_map", "experts.0.gate", "experts.0.up", "experts.0.down", "experts.1.gate",
            "experts.1.up", "experts.1.down", "experts.2.gate", "experts.2.up", "experts.2.down"});
  moue::index_t offset = 0;
  for (const auto& info : *layout) {
    CHECK(info.offset == offset);
    offset += info.size();
  }
  CHECK(layout->elements() == offset);
  CHECK(layout->elements() == 3 * 4 + 3 * 5 + 2 * (2 * 4 + 1 + 25) + 3 * 3 * 24);
  const auto& key = (*layout)[layout->find("router.shared_key")];
  CHECK(key.rows == 3);
  CHECK(key.cols == 4);
  CHECK(key.layer == -1);
  CHECK(key.expert == -1);
  CHECK((*layout)[layout->find("layers.1.router.weight")].layer == 1);
  CHECK((*layout)[layout->find("experts.2.down")].expert == 2);
  CHECK(layout->expert_first(1) == layout->find("experts.1.gate"));
  CHECK(layout->router(1, 0) == layout->find("layers.1.router.weight"));
  CHECK(layout->router(1, 2) == layout->find("router.shared_key"));
  CHECK(layout->router_tensors() == 5);
  CHECK(layout->experts() == 3);
}

TEST_CASE("tensors carry what an optimiser asks") {
  const moue::mixture model{moue::constant_expert{4}, moue::shared_pool{1, 2},
                            moue::router{moue::score_sum{moue::linear_score{}, moue::logit_bias{}}, moue::top_k{1},
                                         moue::softmax_of_selected{}},
                            moue::no_balancing{}, moue::reference{}};
  const auto& layout = *model.layout();
  const auto info = [&](const char* name) { return layout[layout.find(name)]; };
  CHECK(info("layers.0.router.weight").decayed);
  CHECK(info("layers.0.router.weight").trained);
  CHECK_FALSE(info("layers.0.router.bias").trained);
  CHECK(info("experts.0.mix").decayed);
  CHECK_FALSE(info("experts.0.vector").decayed);
}

TEST_CASE("an unknown name is refused with examples") {
  CHECK_THROWS_WITH_AS(ring.layout()->find("experts.9.up"),
                       doctest::Contains("no tensor is called 'experts.9.up'; names look like 'router.shared_key'"),
                       moue::error);
  CHECK_THROWS_AS(moue::parameter_layout{}.find("x"), moue::error);
}

TEST_CASE("stages with the same parameter name are refused") {
  const auto make = [] {
    return moue::mixture{moue::copy_expert{4}, moue::shared_pool{1, 2},
                         moue::router{moue::score_sum{moue::linear_score{}, moue::normalised_score{}}, moue::top_k{1},
                                      moue::softmax_of_selected{}},
                         moue::no_balancing{}, moue::reference{}};
  };
  CHECK_THROWS_WITH_AS(make(), doctest::Contains("two parameters are called 'layers.0.router.weight'"), moue::error);
}

TEST_CASE("tied visits share their router's tensors, untied ones do not") {
  const auto layout_of = [](bool tied) {
    const moue::mixture model{moue::copy_expert{4}, moue::revisit{moue::shared_pool{2, 3}, 2, tied},
                              moue::linear_router(1), moue::no_balancing{}, moue::reference{}};
    return model.layout();
  };
  CHECK(names_of(*layout_of(true)) == std::vector<std::string>{"layers.0.router.weight", "layers.1.router.weight"});
  CHECK(layout_of(true)->router(3, 0) == layout_of(true)->router(1, 0));
  CHECK(layout_of(false)->tensors() == 4);
}

TEST_CASE("fresh weights are as declared and depend on seed and name alone") {
  const auto weights = ring.initialize<double>(7);
  CHECK(weights["layers.0.router.temperature"](0, 0) == 1);
  CHECK(weights["layers.1.router.trajectory_map"](2, 3) == 0);
  CHECK(weights["experts.0.up"](0, 0) != weights["experts.1.up"](0, 0));
  const auto of_other_seed = ring.initialize<double>(8);
  CHECK(weights["experts.0.up"](0, 0) != of_other_seed["experts.0.up"](0, 0));
  const moue::mixture deeper{moue::swiglu{4, 6}, moue::shared_pool{5, 4}, moue::linear_router(1), moue::no_balancing{},
                             moue::reference{}};
  const auto others = deeper.initialize<double>(7);
  for (moue::index_t j = 0; j < 24; ++j) CHECK(others["experts.2.up"].data[j] == weights["experts.2.up"].data[j]);
  const auto narrow = ring.initialize<float>(7);
  CHECK(narrow["experts.0.up"](1, 2) == static_cast<float>(weights["experts.0.up"](1, 2)));
}

TEST_CASE("initial numbers have the declared spread") {
  auto layout = std::make_shared<moue::parameter_layout>();
  layout->add("normal", {"normal", 100, 100, moue::initializer::normal(0.5)}, -1, -1);
  layout->add("uniform", {"uniform", 100, 100, moue::initializer::uniform(0.5)}, -1, -1);
  moue::parameters<double> values(layout);
  moue::initialize(values, 3);
  const auto moments = [&](moue::index_t tensor) {
    double mean = 0, square = 0, most = 0;
    for (moue::index_t j = 0; j < 10000; ++j) {
      const double v = values[tensor].data[j];
      mean += v / 10000;
      square += v * v / 10000;
      most = std::max(most, std::abs(v));
    }
    return std::array{mean, square, most};
  };
  // Standard errors of 10000 samples: 0.005 of the mean, sqrt(2 / 10000) of a normal square; five of each.
  const auto normal = moments(0), uniform = moments(1);
  CHECK(std::abs(normal[0]) < 0.025);
  CHECK(normal[1] == doctest::Approx(0.25).epsilon(0.07));
  CHECK(std::abs(uniform[0]) < 0.015);
  CHECK(uniform[1] == doctest::Approx(0.25 / 3).epsilon(0.045));
  CHECK(uniform[2] <= 0.5);
}

TEST_CASE("owned weights survive copies and moves") {
  auto weights = ring.initialize<double>(7);
  auto copy = weights;
  copy["experts.0.up"](0, 0) = 42;
  CHECK(weights["experts.0.up"](0, 0) != 42);
  const auto* address = copy["experts.0.up"].data;
  const auto moved = std::move(copy);
  CHECK(moved["experts.0.up"].data == address);
  CHECK(moved.owned());
  weights = moved;
  CHECK(weights["experts.0.up"](0, 0) == 42);
  CHECK(weights["experts.0.up"].data != address);
}

TEST_CASE("external tensors are used in place") {
  auto layout = std::make_shared<moue::parameter_layout>();
  layout->add("a", {"a", 2, 2}, -1, -1);
  layout->add("none", {"none", 0, 3}, -1, -1);
  std::array<float, 4> memory{1, 2, 3, 4};
  std::array<float*, 2> tensors{memory.data(), nullptr};
  moue::parameters<float> external(layout, tensors);
  CHECK_FALSE(external.owned());
  CHECK(external["a"](1, 0) == 3);
  external["a"](1, 0) = 9;
  CHECK(memory[2] == 9);
  const auto same = external.alias();
  CHECK(same["a"].data == memory.data());
  const auto own = external.clone();
  CHECK(own["a"].data != memory.data());
  CHECK(own["a"](1, 0) == 9);
  CHECK_THROWS_WITH_AS(moue::parameters<float>{external}, doctest::Contains("say clone()"), moue::error);
  CHECK_THROWS_WITH_AS(moue::parameters<float>() = external, doctest::Contains("say clone()"), moue::error);
  CHECK_THROWS_WITH_AS(moue::parameters<float>(layout, std::span<float* const>(tensors).first(1)),
                       doctest::Contains("1 pointers were given for 2 tensors"), moue::error);
  tensors[0] = nullptr;
  CHECK_THROWS_WITH_AS(moue::parameters<float>(layout, tensors), doctest::Contains("given for 'a' is null"),
                       moue::error);
}

TEST_CASE("layouts with the same shapes exchange numbers, others do not") {
  CHECK(ring.layout()->same_shapes(*ring.on(moue::reference{}).layout()));
  const moue::mixture wider{moue::swiglu{4, 7},
                            moue::staggered_rotation{.depth = 2, .pool = 3, .window = 2, .stride = 1},
                            moue::universal_router(1, {.rank = 5}), moue::universal_balance{}, moue::reference{}};
  CHECK_FALSE(ring.layout()->same_shapes(*wider.layout()));
  moue::parameter_layout layout;
  CHECK_THROWS_WITH_AS(layout.add("x", {"x", -1, 2}, -1, -1), doctest::Contains("'x' has shape [-1, 2]"), moue::error);
}
