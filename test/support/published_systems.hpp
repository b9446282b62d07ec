// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Published systems as compositions of the examples' policies.

#include <type_traits>
#include <vector>

#include "moue/policies.hpp"
#include "published.hpp"
#include "published/gshard.hpp"
#include "published/noisy_top_k.hpp"
#include "published/sequence_balance.hpp"
#include "published/specialisation.hpp"

namespace test {

/// Compares a layer with what `router` and `loss` make of it on the backends that `on` is called with.
template <class RouterT, class LossT, class... B>
void reproduce(const published_layer& layer, const RouterT& router, const LossT& loss,
               const std::vector<const char*>& terms, const B&... backends) {
  const auto run = [&](const auto& backend, const auto& expert) {
    const moue::shared_pool pool{.depth = 1, .pool = layer.candidates()};
    if (layer.section("params").contains("W1s"))
      reproduce(layer, *test::erase<double>(moue::mixture{expert, moue::always_on{pool, 1}, router, loss, backend}),
                terms);
    else
      reproduce(layer, *test::erase<double>(moue::mixture{expert, pool, router, loss, backend}), terms);
  };
  const auto on = [&](const auto& backend) {
    if (layer.config("expert") == "swiglu")
      run(backend, moue::swiglu{.width = layer.width(), .hidden = layer.hidden()});
    else
      run(backend, moue::mlp<moue::silu>{.width = layer.width(), .hidden = layer.hidden()});
  };
  (on(backends), ...);
}

/// Noise that was drawn beforehand.
struct drawn_noise {
  const double* values;  // where the backend can read them
  moue::index_t cols;
  MOUE_HD double operator()(const moue::visit&, moue::index_t token, moue::index_t column) const {
    return values[token * cols + column];
  }
};

/// GShard: a second choice is dropped after the gates.
void reproduce_gshard(const auto&... backends) {
  const published_layer layer("gshard_before");
  const published::capacity_top_k select{.k = layer.config("k"), .factor = layer.config("cf")};
  reproduce(layer, moue::router{moue::linear_score{}, select, moue::softmax_of_selected{}},
            published::first_choice_loss{.weight = layer.weight("lbl")}, {"lbl"}, backends...);
}

/// V-MoE: noise, importance and load.
void reproduce_noise(const auto&... backends) {
  const published_layer layer("noisy_vmoe_k2_pad");
  const auto noise = layer.side("eps");  // the emulated device reads the host's memory
  const drawn_noise drawn{noise.data(), layer.candidates()};
  using loss = published::variation_loss<drawn_noise>;
  reproduce(
      layer,
      moue::router{moue::score_sum{moue::linear_score{}, published::noise_score<drawn_noise>{drawn}},
                   moue::top_k{layer.config("k").get<moue::index_t>()}, moue::softmax_then_select{}},
      moue::sum_of_losses{loss{false, layer.weight("importance"), drawn}, loss{true, layer.weight("load"), drawn}},
      {"importance", "load"}, backends...);
}

/// DeepSeek-V3: balance inside each sequence.
void reproduce_sequences(const auto&... backends) {
  for (const char* name : {"dsv3_g4_k3", "dsv3_nobias_k2_pad"}) {
    CAPTURE(name);
    const published_layer layer(name);
    const moue::index_t groups = layer.config("groups");
    const moue::column_groups of{.size = layer.candidates() / groups,
                                 .allowed = layer.config("keep_groups"),
                                 .best = layer.config("use_bias") ? 2 : 1};
    reproduce(layer,
              moue::router{moue::linear_score{}, moue::group_limited{layer.config("k"), of},
                           moue::sigmoid_renormalised{.scale = layer.config("route_scale")}}
                  .with(moue::biased_sigmoid{})
                  .with(moue::sigmoid_probability{}),
              published::sequence_balance{.weight = layer.weight("seq_lbl"), .most = 2}, {"seq_lbl"}, backends...);
  }
}

/// Experts that differ: orthogonal outputs, and gates that vary.
void reproduce_specialisation(const auto&... backends) {
  const published_layer layer("specialise_paper_k2");
  reproduce(layer,
            moue::router{moue::linear_score{}, moue::top_k{layer.config("k").get<moue::index_t>()},
                         moue::softmax_of_selected{}},
            moue::sum_of_losses{moue::switch_loss{layer.weight("lbl")},
                                published::orthogonality_loss{layer.weight("ortho"), layer.config("eps")},
                                published::gate_variance_loss{layer.weight("variance")}},
            {"lbl", "ortho", "variance"}, backends...);
}

}  // namespace test
