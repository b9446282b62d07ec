// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Layers as public models have them, over the topology of a recipe; included by one source file per backend.

#include "compose.hpp"

namespace test {

/// Null if there is no such composition.
template <class BackendT>
model_pointer<double> compose_public_on(std::string_view name, const recipe& r, const BackendT& backend) {
  const moue::index_t routed = r.ring.experts();
  const auto shared = [routed](moue::index_t e) { return e < routed ? 0 : 1; };
  const moue::always_on with_shared{r.ring, 1};
  const moue::swiglu expert{r.width, r.hidden};
  const moue::swiglu larger{r.width, r.hidden + 3};
  const moue::linear_score linear;
  const moue::top_k best{r.k};
  const moue::switch_loss per_layer{r.switch_weight};
  const auto mix = [&](auto pool, auto topology, auto router) {
    return finish(r, std::move(pool), std::move(topology), std::move(router), per_layer, backend);
  };
  if (name == "qwen2_moe")
    return mix(moue::expert_pool{shared, expert, moue::self_gated{larger}}, with_shared,
               moue::router{linear, best, moue::softmax_then_select{}});
  if (name == "deepseek_v2")
    return mix(
        moue::expert_pool{shared, expert, larger}, with_shared,
        moue::router{linear, moue::group_limited{r.k, {.size = 2, .allowed = 1}}, moue::softmax_then_select{16}});
  if (name == "deepseek_v3")
    return mix(moue::expert_pool{shared, expert, larger}, with_shared,
               moue::router{linear, moue::group_limited{r.k, {.size = 2, .allowed = 1, .best = 2}},
                            moue::sigmoid_renormalised{2.5}}
                   .with(moue::biased_sigmoid{})
                   .with(moue::sigmoid_probability{}));
  if (name == "gpt_oss")
    return mix(moue::gated_mlp<moue::clamped_swiglu, true>{r.width, r.hidden}, r.ring,
               moue::router{moue::score_sum{linear, moue::candidate_bias{}}, best, moue::softmax_of_selected{}});
  if (name == "phi_moe")  // with more rivals than the model's jitter of 0.01 would give it
    return mix(expert, r.ring, moue::router{linear, best, moue::sparsemixer{0.6}});
  return nullptr;
}

}  // namespace test
