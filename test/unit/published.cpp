// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "published.hpp"

#include <vector>

#include "moue/backend/cpu.hpp"
#include "moue/backend/reference.hpp"
#include "moue/policies.hpp"
#include "published/expert_choice.hpp"
#include "published/gshard.hpp"
#include "published/noisy_top_k.hpp"
#include "published/sequence_balance.hpp"
#include "published/specialisation.hpp"

// Published systems as compositions of the examples' policies, against numbers that were computed independently.

namespace {

template <class RouterT, class LossT>
void reproduce(const test::published_layer& layer, bool gated, bool shared, const RouterT& router, const LossT& loss,
               const std::vector<const char*>& terms) {
  const auto on = [&](const auto& backend, const auto& expert) {
    const moue::shared_pool pool{.depth = 1, .pool = layer.candidates()};
    if (shared)
      test::reproduce(
          layer, *test::erase<double>(moue::mixture{expert, moue::always_on{pool, 1}, router, loss, backend}), terms);
    else
      test::reproduce(layer, *test::erase<double>(moue::mixture{expert, pool, router, loss, backend}), terms);
  };
  const moue::swiglu swiglu{.width = layer.width(), .hidden = layer.hidden()};
  const moue::mlp<moue::silu> plain{.width = layer.width(), .hidden = layer.hidden()};
  if (gated) {
    on(moue::reference{}, swiglu);
    on(moue::cpu{2}, swiglu);
  } else {
    on(moue::reference{}, plain);
    on(moue::cpu{2}, plain);
  }
}

/// Noise that was drawn beforehand.
struct drawn_noise {
  moue::matrix_view<const double> values;
  double operator()(const moue::visit&, moue::index_t token, moue::index_t column) const {
    return values(token, column);
  }
};

}  // namespace

TEST_CASE("GShard: a second choice is dropped after the gates") {
  const test::published_layer layer("gshard_before");
  reproduce(layer, false, false,
            moue::router{moue::linear_score{},
                         published::capacity_top_k{.k = layer.config("k"), .factor = layer.config("cf")},
                         moue::softmax_of_selected{}},
            published::first_choice_loss{.weight = layer.weight("lbl")}, {"lbl"});
}

TEST_CASE("expert choice with a capacity") {
  for (const char* name : {"expert_choice_cf1", "expert_choice_cf2_pad_closed"}) {
    CAPTURE(name);
    const test::published_layer layer(name);
    reproduce(layer, layer.config("expert") == "swiglu", false,
              moue::router{moue::score_sum{moue::linear_score{}, moue::logit_bias{}},
                           published::expert_choice{.factor = layer.config("cf")}, moue::softmax_then_select{}}
                  .with(moue::biased_softmax{}),
              moue::no_balancing{}, {});
  }
}

TEST_CASE("V-MoE: noise, importance and load") {
  const test::published_layer layer("noisy_vmoe_k2_pad");
  const auto noise = layer.side("eps");
  const drawn_noise drawn{{noise.data(), layer.tokens(), layer.candidates()}};
  using loss = published::variation_loss<drawn_noise>;
  reproduce(
      layer, false, false,
      moue::router{moue::score_sum{moue::linear_score{}, published::noise_score<drawn_noise>{drawn}},
                   moue::top_k{layer.config("k").get<moue::index_t>()}, moue::softmax_then_select{}},
      moue::sum_of_losses{loss{false, layer.weight("importance"), drawn}, loss{true, layer.weight("load"), drawn}},
      {"importance", "load"});
}

TEST_CASE("DeepSeek-V3: balance inside each sequence, and its controller") {
  const auto loss_of = [](const test::published_layer& layer) {
    return published::sequence_balance{.weight = layer.weight("seq_lbl"), .most = 2};
  };
  const auto router_of = [](const test::published_layer& layer) {
    const bool biased = layer.config("use_bias");
    const moue::index_t groups = layer.config("groups");
    return moue::router{
        moue::linear_score{},
        moue::group_limited{
            layer.config("k"),
            {.size = layer.candidates() / groups, .allowed = layer.config("keep_groups"), .best = biased ? 2 : 1}},
        moue::sigmoid_renormalised{.scale = layer.config("route_scale")}}
        .with(moue::biased_sigmoid{})
        .with(moue::sigmoid_probability{});
  };
  for (const char* name : {"dsv3_g4_k3", "dsv3_nobias_k2_pad"}) {
    CAPTURE(name);
    const test::published_layer layer(name);
    reproduce(layer, true, layer.section("params").contains("W1s"), router_of(layer), loss_of(layer), {"seq_lbl"});
  }
  const test::published_layer layer("dsv3_g4_k3");
  auto bias = layer.side("bias");
  const auto count = layer.all().at("layers")[0].at("count").at("data").get<std::vector<std::int64_t>>();
  published::update_bias(moue::matrix_view<double>{bias.data(), 1, layer.candidates()}, count,
                         layer.config("bias_rate"));
  CHECK(test::distance(bias, test::numbers(layer.all().at("next_state").at("bias")), 1) < 1e-15);
}

TEST_CASE("experts that differ: orthogonal outputs and gates that vary") {
  const test::published_layer layer("specialise_paper_k2");
  reproduce(layer, false, false,
            moue::router{moue::linear_score{}, moue::top_k{layer.config("k").get<moue::index_t>()},
                         moue::softmax_of_selected{}},
            moue::sum_of_losses{moue::switch_loss{layer.weight("lbl")},
                                published::orthogonality_loss{layer.weight("ortho"), layer.config("eps")},
                                published::gate_variance_loss{layer.weight("variance")}},
            {"lbl", "ortho", "variance"});
}
