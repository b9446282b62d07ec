// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Stacks whose every number was computed independently of this library, in double precision; see data/README.md.

#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "recipe.hpp"
#include "stack.hpp"

namespace test {

using nlohmann::json;

// Both sides are double sums of up to 42 terms through three layers.
inline constexpr double golden_tolerance = 1e-10;

inline std::vector<double> numbers(const json& tensor) { return tensor.at("data").get<std::vector<double>>(); }

class golden {
 public:
  explicit golden(const std::string& name) {
    std::ifstream file(MOUE_TEST_DATA "/" + name + ".json");
    file >> data_;
  }
  const json& operator[](const char* key) const { return data_.at(key); }
  bool has(const char* parameter) const { return data_["params"].contains(parameter); }
  /// Part `i` of `parts` equal ones of a tensor in "params" or "grads".
  std::vector<double> part(const char* section, const char* parameter, moue::index_t i = 0,
                           moue::index_t parts = 1) const {
    const auto all = numbers(data_[section].at(parameter));
    const auto size = static_cast<moue::index_t>(all.size()) / parts;
    return {all.begin() + i * size, all.begin() + (i + 1) * size};
  }

 private:
  json data_;
};

template <class Backend>
model_pointer<double> build(const golden& g, Backend backend) {
  const auto& config = g["config"];
  const bool universal = config["lbl"] == "ulbl";
  recipe r{.width = config["d"], .hidden = config["h"]};
  r.ring = {.depth = config["L"],
            .pool = config["M"],
            .window = config["W"],
            .stride = config["stride"],
            .group = config["group"],
            .local = config["n_local"]};
  r.k = config["k"];
  r.rank = config["r"];
  r.decay = config["lam"];
  r.switch_weight = universal ? 0.0 : config["alpha"].get<double>();
  r.universal_weight = universal ? config["alpha"].get<double>() : 0.0;
  r.gamma = config["gam"];
  const bool traj = config["traj"];
  std::string name = "linear_bias";
  if (config["router"] == "univ")
    name = "query";
  else if (config["router"] == "norm")
    name = traj ? "keyed_trajectory" : "normalised";
  else if (traj)
    name = "linear_trajectory";
  else if (config["gate"] == "raw")
    name = "linear_raw";
  return compose(name, r, backend);
}

/// Calls f(name here, name there, layer or expert or 0, number of parts there, whether transposed) for all tensors.
inline void each_tensor(
    const any_model<double>& model, const golden& g,
    const std::function<void(const std::string&, const char*, moue::index_t, moue::index_t, bool)>& f) {
  const bool query = g.has("Wq");
  for (moue::index_t e = 0; e < model.experts(); ++e) {
    f("experts." + std::to_string(e) + ".up", "W1", e, model.experts(), true);
    f("experts." + std::to_string(e) + ".down", "W2", e, model.experts(), true);
  }
  const auto per_layer = [&](const char* here, const char* there) {
    if (g.has(there))
      for (moue::index_t l = 0; l < model.layers(); ++l)
        f("layers." + std::to_string(l) + ".router." + here, there, l, model.layers(), false);
  };
  const auto per_model = [&](const char* here, const char* there) {
    if (g.has(there)) f(std::string("router.") + here, there, 0, 1, false);
  };
  per_layer("weight", "w");
  per_layer("temperature", "tau");
  per_layer("query_offset", "dep");
  per_model("shared_key", "uk");
  per_model("query", "Wq");
  per_model(query ? "query_key" : "trajectory_key", "keys");
  if (query)
    per_model("query_map", "R");
  else
    per_layer("trajectory_map", "R");
}

/// `m` as a list, column by column if `transposed`.
template <class T>
std::vector<double> list(const moue::matrix_view<T>& m, bool transposed) {
  std::vector<double> result;
  for (moue::index_t i = 0; i < (transposed ? m.cols : m.rows); ++i)
    for (moue::index_t j = 0; j < (transposed ? m.rows : m.cols); ++j) result.push_back(transposed ? m(j, i) : m(i, j));
  return result;
}

inline moue::parameters<double> weights_of(const any_model<double>& model, const golden& g) {
  moue::parameters<double> weights(model.layout());
  each_tensor(
      model, g, [&](const std::string& here, const char* there, moue::index_t i, moue::index_t n, bool transposed) {
        const auto values = g.part("params", there, i, n);
        const auto to = weights[here];
        REQUIRE(static_cast<moue::index_t>(values.size()) == to.rows * to.cols);
        for (moue::index_t row = 0; row < to.rows; ++row)
          for (moue::index_t col = 0; col < to.cols; ++col)
            to(row, col) = values[static_cast<std::size_t>(transposed ? col * to.rows + row : row * to.cols + col)];
      });
  for (const auto& info : *model.layout())
    if (info.name.ends_with(".bias")) {
      const auto bias = numbers(g["bias"]);
      std::copy_n(bias.begin() + info.layer * info.cols, info.cols, weights[info.name].data);
    }
  return weights;
}

template <class Backend>
void reproduce(const std::string& name, Backend backend) {
  CAPTURE(name);
  const golden g(name);
  const auto model = build(g, backend);
  const auto& links = model->connections();
  stack_input<double> input;
  input.tokens = g["config"]["T"];
  input.x = g.part("params", "x0");
  input.scale = g.part("params", "g");
  input.loss_weight = numbers(g["loss_weight"]);
  if (g.has("xd")) input.shift = g.part("params", "xd");
  const auto result = run_stack(*model, weights_of(*model, g), input);
  const auto near = [](const std::vector<double>& a, const std::vector<double>& b) {
    return distance(a, b, 1e-3) < golden_tolerance;
  };

  CHECK(g["exposure"] == json(std::vector<moue::index_t>(links.exposure().begin(), links.exposure().end())));
  for (std::size_t l = 0; l < result.visits.size(); ++l) {
    CAPTURE(l);
    const auto& visit = result.visits[l];
    const auto& expected = g["layers"][l];
    const auto layer = static_cast<moue::index_t>(l);
    const auto candidates = links.candidates(layer);
    CHECK(g["candidates"][l] == json(std::vector<std::int32_t>(candidates.begin(), candidates.end())));
    CHECK(near(visit.u, numbers(expected["u"])));
    CHECK(near(visit.logits, numbers(expected["logits"])));
    CHECK(expected["topk_slot"]["data"] == json(visit.selected));
    CHECK(expected["topk_expert"]["data"] == json(visit.experts));
    CHECK(near(visit.gates, numbers(expected["gates"])));
    CHECK(near(visit.y, numbers(expected["moe_out"])));
    const auto statistic = [&](const std::vector<double>& all) {
      return std::vector(all.begin() + links.candidate_offset(layer), all.begin() + links.candidate_offset(layer + 1));
    };
    CHECK(near(statistic(result.share), numbers(expected["f"])));
    CHECK(near(statistic(result.probability), numbers(expected["P"])));
    if (g["config"]["traj"]) {
      CHECK(near(visit.state, numbers(expected["state_in"])));
      const bool last = l + 1 == result.visits.size();
      CHECK(near(last ? result.last_state : result.visits[l + 1].state, numbers(expected["state_out"])));
    }
  }
  CHECK(near(result.output, numbers(g["output"])));
  const double alpha = g["config"]["alpha"];
  CHECK(near(std::vector{result.balance / alpha, result.loss - result.balance, result.loss},
             {g["lbl"], g["task_loss"], g["loss"]}));

  CHECK(near(result.dx, g.part("grads", "x0")));
  CHECK(near(result.dscale, g.part("grads", "g")));
  if (g.has("xd")) CHECK(near(result.dshift, g.part("grads", "xd")));
  std::size_t compared = input.x.size() + input.scale.size() + input.shift.size(), there_in_all = 0;
  each_tensor(*model, g,
              [&](const std::string& here, const char* there, moue::index_t i, moue::index_t n, bool transposed) {
                CAPTURE(here);
                const auto gradient = list(result.gradients[here], transposed);
                CHECK(near(gradient, g.part("grads", there, i, n)));
                compared += gradient.size();
              });
  for (const auto& tensor : g["grads"]) there_in_all += tensor["data"].size();
  CHECK(compared == there_in_all);
}

inline const std::vector<std::string> golden_names{
    "moe_plain",           "linear_shared_ulbl",  "linear_full_ulbl",
    "linear_traj",         "linear_raw_k1",       "linear_converted_bias",
    "norm_shared_ulbl",    "norm_pool_full_ulbl", "norm_stag_nolocal_ulbl",
    "norm_ukey_traj_ulbl", "univ_ulbl",           "univ_traj_ulbl",
    "univ_traj_depth_wrap"};

}  // namespace test
