// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A public checkpoint in a mixture whose exact types were composed by hand, and what refuses to be loaded.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "moue/backend/cpu.hpp"
#include "moue/expert/gated_mlp.hpp"
#include "moue/io/layouts/load.hpp"
#include "moue/mixture.hpp"
#include "moue/pass.hpp"
#include "moue/router/compose.hpp"
#include "moue/topology/layer_local.hpp"

namespace {

using moue::index_t;

const std::string folder = std::string(MOUE_TEST_DATA) + "/parity/";

auto compose(const moue::io::moe_description& d) {
  return moue::mixture{moue::swiglu{.width = d.width, .hidden = d.hidden},
                       moue::layer_local{.depth = d.layers(), .per_layer = d.experts},
                       moue::linear_router(d.per_token)};
}

/// The largest difference to the reference's output of layer 0, as a share of its largest number.
double error_of(const auto& model, const auto& weights) {
  const moue::io::checkpoint expected(folder + "mixtral/expected.safetensors");
  const auto x = expected.read<float>("layers.0.x"), y = expected.read<float>("layers.0.y");
  const index_t tokens = static_cast<index_t>(x.size()) / model.width();
  const moue::pass_options options{.tokens = tokens, .how = moue::mode::inference};
  moue::workspace scratch(model.template workspace_bytes<float>(options));
  auto pass = model.start(weights, options, scratch);
  pass.begin(tokens);
  std::vector<float> out(x.size());
  pass.forward(0, {x.data(), tokens, model.width()}, {out.data(), tokens, model.width()});
  double distance = 0, size = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    distance = std::max(distance, std::abs(double(out[i]) - double(y[i])));
    size = std::max(size, std::abs(double(y[i])));
  }
  return distance / size;
}

TEST_CASE("exact types composed by hand load a checkpoint") {
  const std::string path = folder + "mixtral";
  const moue::io::moe_checkpoint source{moue::io::checkpoint(path)};
  const auto& d = source.description().running();
  const moue::mixture model{moue::swiglu{.width = d.width, .hidden = d.hidden},
                            moue::layer_local{.depth = d.layers(), .per_layer = d.experts},
                            moue::linear_router(d.per_token)};
  moue::parameters<float> weights(model.layout());
  moue::io::load(source, weights);
  CHECK(error_of(model, weights) <= 1e-5);  // single precision, sums of some hundred terms

  // The test can tell a gate from an up matrix.
  for (index_t e = 0; e < model.experts(); ++e) {
    const std::string stem = "experts." + std::to_string(e) + ".";
    const auto gate = weights[stem + "gate"], up = weights[stem + "up"];
    std::swap_ranges(gate.data, gate.data + gate.rows * gate.cols, up.data);
  }
  CHECK(error_of(model, weights) > 0.1);
}

TEST_CASE("a mixture that does not fit is refused before anything is written") {
  const moue::io::moe_checkpoint source{moue::io::checkpoint(folder + "mixtral")};
  const auto refuse = [&](const moue::io::moe_checkpoint& from, const moue::io::moe_description& d, const char* text) {
    const auto model = compose(d);
    moue::parameters<float> weights(model.layout());
    CHECK_THROWS_WITH_AS(moue::io::load(from, weights), doctest::Contains(text), moue::error);
    CHECK(weights[index_t{0}](0, 0) == 0);
  };
  auto d = source.description();
  d.hidden = 11;
  refuse(source, d,
         "the mixture wants 'experts.0.gate' [11, 16], but the checkpoint has it as [12, 16]; use mixture_of, or");
  d = source.description();
  d.model_layers.pop_back();
  refuse(source, d,
         "the checkpoint holds 8 tensors such as 'model.layers.0.block_sparse_moe.experts.0.w1.weight', the "
         "mixture has 4 places for them");

  const moue::io::moe_checkpoint shared{moue::io::checkpoint(folder + "qwen2_moe")};
  refuse(shared, shared.description(),
         "the checkpoint holds 2 tensors such as "
         "'model.layers.0.mlp.shared_expert.gate_proj.weight', the mixture has 0 places");

  auto layout = std::make_shared<moue::parameter_layout>();
  layout->add("layers.0.router.temperature", {"temperature"}, 0, -1);
  moue::parameters<float> weights(layout);
  CHECK_THROWS_WITH_AS(
      moue::io::load(source, weights),
      doctest::Contains("wants 'layers.0.router.temperature' [1, 1], which the checkpoint does not have"), moue::error);
}

}  // namespace
