// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Published systems as compositions of the examples' policies.

#include <type_traits>
#include <vector>

#include "moue/policies.hpp"
#include "published.hpp"
#include "published/expert_choice.hpp"
#include "published/gshard.hpp"
#include "published/moepp.hpp"
#include "published/noisy_top_k.hpp"
#include "published/norm_router.hpp"
#include "published/sequence_balance.hpp"
#include "published/shazeer.hpp"
#include "published/specialisation.hpp"
#include "published/top_p.hpp"
#include "published/usmoe.hpp"

namespace test {

using silu_mlp = moue::mlp<moue::silu>;

/// Compares a layer with what `router` and `loss` make of it on the backends, with its kind of experts; if `Shared`,
/// one more of them is always on.
template <class Expert, bool Shared = false, class RouterT, class LossT>
void reproduce(const published_layer& layer, const RouterT& router, const LossT& loss,
               const std::vector<const char*>& terms, const auto&... backends) {
  REQUIRE((layer.config("expert") == "swiglu") == std::is_same_v<Expert, moue::swiglu>);
  REQUIRE(layer.section("params").contains("W1s") == Shared);
  const Expert expert{.width = layer.width(), .hidden = layer.hidden()};
  const moue::shared_pool routed{.depth = 1, .pool = layer.candidates()};
  const auto on = [&](const auto& topology, const auto& backend) {
    reproduce(layer, *test::erase<double>(moue::mixture{expert, topology, router, loss, backend}), terms);
  };
  if constexpr (Shared)
    (on(moue::always_on{routed, 1}, backends), ...);
  else
    (on(routed, backends), ...);
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
  reproduce<silu_mlp>(layer, moue::router{moue::linear_score{}, select, moue::softmax_of_selected{}},
                      published::first_choice_loss{.weight = layer.weight("lbl")}, {"lbl"}, backends...);
}

/// V-MoE: noise, importance and load.
void reproduce_noise(const auto&... backends) {
  const published_layer layer("noisy_vmoe_k2_pad");
  const auto noise = layer.side("eps");  // the emulated device reads the host's memory
  const drawn_noise drawn{noise.data(), layer.candidates()};
  using importance = published::variation_of<published::clean_probability<drawn_noise>>;
  using load = published::variation_of<published::beating_probability<drawn_noise>>;
  reproduce<silu_mlp>(
      layer,
      moue::router{moue::score_sum{moue::linear_score{}, published::noise_score<drawn_noise>{drawn}},
                   moue::top_k{layer.config("k").get<moue::index_t>()}, moue::softmax_then_select{}},
      moue::sum_of_losses{importance{layer.weight("importance"), {drawn}}, load{layer.weight("load"), {drawn}}},
      {"importance", "load"}, backends...);
}

/// Noisy top-k: learned noise, importance, and the load that another noise would make.
void reproduce_learned_noise(const auto&... backends) {
  const published_layer layer("noisy_shazeer_k2");
  const auto noise = layer.side("eps");
  const drawn_noise drawn{noise.data(), layer.candidates()};
  using importance = published::variation_of<published::gate_of_candidate>;
  using load = published::variation_of<published::selection_probability<drawn_noise>>;
  reproduce<silu_mlp>(layer,
                      moue::router{published::noisy_score<drawn_noise>{drawn},
                                   moue::top_k{layer.config("k").get<moue::index_t>()}, moue::softmax_of_selected{}},
                      moue::sum_of_losses{importance{layer.weight("importance")}, load{layer.weight("load"), {drawn}}},
                      {"importance", "load"}, backends...);
}

/// What noisy top-k makes of a batch whose products have no rounding: logits, then gates, and the parts of the loss.
std::vector<double> noisy_routing(const auto& backend) {
  using importance = published::variation_of<published::gate_of_candidate>;
  using load = published::variation_of<published::selection_probability<>>;
  constexpr moue::index_t tokens = 23, width = 8;
  const auto model = test::erase<double>(
      moue::mixture{moue::swiglu{.width = width, .hidden = 5}, moue::shared_pool{.depth = 2, .pool = 7},
                    moue::router{published::noisy_score<>{}, moue::top_k{2}, moue::softmax_of_selected{}},
                    moue::sum_of_losses{importance{0.5}, load{0.5}}, backend});
  const auto eighths = [](auto& values, std::size_t key) {
    for (auto& v : values) v = static_cast<double>((key = key * 73 % 101) % 17) / 8 - 1;
  };
  moue::parameters<double> weights(model->layout());
  for (moue::index_t i = 0; i < weights.layout().tensors(); ++i) {
    moue::vector_view<double> values{weights[i].data, weights[i].rows * weights[i].cols};
    eighths(values, static_cast<std::size_t>(i) + 3);
  }
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model->workspace_bytes(options));
  const auto pass = model->start(weights, options, scratch);
  std::vector<double> x(tokens * width), y(tokens * width), result;
  eighths(x, 2);
  pass->begin(tokens, {}, {.step = 3, .seed = 5});
  for (moue::index_t l = 0; l < 2; ++l) {
    pass->forward(l, {x.data(), tokens, width}, {y.data(), tokens, width});
    for (const double v : to_vector(pass->logits(l))) result.push_back(v);
    for (const double v : pass->assignments(l).gate) result.push_back(v);
  }
  for (const double part : pass->balance().parts) result.push_back(part);
  return result;
}

/// Expert choice with a capacity.
template <class Expert>
void reproduce_expert_choice(const char* name, const auto&... backends) {
  CAPTURE(name);
  const published_layer layer(name);
  reproduce<Expert>(layer,
                    moue::router{moue::score_sum{moue::linear_score{}, moue::logit_bias{}},
                                 published::expert_choice{.factor = layer.config("cf")}, moue::softmax_then_select{}}
                        .with(moue::biased_softmax{}),
                    moue::no_balancing{}, {}, backends...);
}
/// NormRouter: logits on a sphere, with a learned scale.
void reproduce_sphere(const auto&... backends) {
  for (const char* name : {"normrouter_k2_bias", "normrouter_k1_closed"}) {
    CAPTURE(name);
    const published_layer layer(name);
    reproduce<silu_mlp>(layer,
                        moue::router{moue::score_sum{moue::linear_score{}, moue::logit_bias{}},
                                     moue::top_k{layer.config("k").get<moue::index_t>()}, published::as_they_are{}}
                            .with(moue::biased_logits{})
                            .with(published::on_sphere{.constant = layer.config("c"), .epsilon = layer.config("eps")}),
                        moue::no_balancing{}, {}, backends...);
  }
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
    reproduce<moue::swiglu, true>(layer,
                                  moue::router{moue::linear_score{}, moue::group_limited{layer.config("k"), of},
                                               moue::sigmoid_renormalised{.scale = layer.config("route_scale")}}
                                      .with(moue::biased_sigmoid{})
                                      .with(moue::sigmoid_probability{}),
                                  published::sequence_balance{.weight = layer.weight("seq_lbl"), .most = 2},
                                  {"seq_lbl"}, backends...);
  }
}

/// Experts that differ: orthogonal outputs, and gates that vary.
void reproduce_specialisation(const auto&... backends) {
  const published_layer layer("specialise_paper_k2");
  reproduce<silu_mlp>(layer,
                      moue::router{moue::linear_score{}, moue::top_k{layer.config("k").get<moue::index_t>()},
                                   moue::softmax_of_selected{}},
                      moue::sum_of_losses{moue::switch_loss{layer.weight("lbl")},
                                          published::orthogonality_loss{layer.weight("ortho"), layer.config("eps")},
                                          published::gate_variance_loss{layer.weight("variance")}},
                      {"lbl", "ortho", "variance"}, backends...);
}

/// MoE++: cheap experts, logits that go on from layer to layer, and a balance that knows the kinds.
void reproduce_moepp(const auto&... backends) {
  const published_layer layer("moepp_linear");
  const published::mixed_layer kinds{.ffn = layer.config("n_ffn"), .constant = layer.config("n_const")};
  const moue::index_t k = layer.config("k"), width = layer.width();
  REQUIRE(kinds.size() == layer.candidates());
  const moue::expert_pool pool{kinds, silu_mlp{.width = width, .hidden = layer.hidden()},
                               moue::constant_expert{.width = width}, moue::copy_expert{.width = width},
                               moue::zero_expert{.width = width}};
  const moue::router router{moue::score_sum{moue::linear_score{}, published::pathway_score{}}, moue::top_k{k},
                            moue::softmax_then_select{}};
  const published::heterogeneous_balance loss{
      .layer = kinds, .k = k, .weight = layer.weight("hbl"), .tau = layer.config("tau")};
  const moue::layer_local topology{.depth = layer.layers(), .per_layer = layer.candidates()};
  const auto on = [&](const auto& backend) {
    reproduce(layer, *test::erase<double>(moue::mixture{pool, topology, router, loss, backend}), {"hbl"});
  };
  (on(backends), ...);
}

/// USMoE: each sequence takes its best pairs.
template <class Expert>
void reproduce_pairs(const char* name, const auto&... backends) {
  CAPTURE(name);
  const published_layer layer(name);
  const double mix = layer.config("r");
  reproduce<Expert>(layer,
                    moue::router{moue::linear_score{}, published::best_of_sequence{.k = layer.config("k")},
                                 published::unified_gate{.mix = mix, .normalised = layer.config("norm")}}
                        .with(published::unified_score{.mix = mix}),
                    moue::no_balancing{}, {}, backends...);
}

/// Dynamic routing: as many experts as a token needs.
template <class Expert>
void reproduce_top_p(const char* name, const auto&... backends) {
  CAPTURE(name);
  const published_layer layer(name);
  reproduce<Expert>(
      layer,
      moue::router{moue::score_sum{moue::linear_score{}, moue::logit_bias{}}, published::top_p{.p = layer.config("p")},
                   moue::softmax_then_select{}},
      moue::sum_of_losses{moue::switch_loss{layer.weight("lbl")}, published::entropy_loss{layer.weight("entropy")}},
      {"lbl", "entropy"}, backends...);
}

}  // namespace test
