// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The definitions behind recipe.hpp; included by one source file per backend.

#include <stdexcept>
#include <string>
#include <utility>

#include "moue/policies.hpp"
#include "recipe.hpp"

namespace test {

template <class ExpertT, class TopologyT, class RouterT, class LossT, class BackendT>
model_pointer<double> finish(const recipe& r, ExpertT expert, TopologyT topology, RouterT router, LossT loss,
                             BackendT backend) {
  router.on_non_finite = r.on_non_finite;
  return test::erase<double>(moue::mixture<ExpertT, TopologyT, RouterT, LossT, BackendT>(
      std::move(expert), std::move(topology), std::move(router), std::move(loss), std::move(backend)));
}

/// The ring of a recipe with fewer candidates at odd layers, some in descending order.
inline moue::table uneven(const moue::staggered_rotation& ring) {
  auto result = moue::table::of(ring);
  for (std::size_t l = 0; l < result.rows.size(); ++l) {
    auto& row = result.rows[l];
    if (l % 2 == 1 && row.size() > 2) row.pop_back();
    if (l % 3 == 0) row = {row.rbegin(), row.rend()};
  }
  return result;
}

/// With `All` false only those that between them meet most of the policies, where compiling is dear.
template <bool All = true, class BackendT>
model_pointer<double> compose_on(std::string_view name, const recipe& r, const BackendT& backend) {
  const moue::mlp<moue::silu> plain{r.width, r.hidden};
  const moue::sum_of_losses both{moue::switch_loss{r.switch_weight},
                                 moue::universal_balance{r.universal_weight, r.gamma}};
  const moue::top_k best{r.k};
  const moue::trajectory path{r.rank, r.decay};
  const auto mix = [&](auto expert, auto topology, auto router, auto loss) {
    return finish(r, std::move(expert), std::move(topology), std::move(router), std::move(loss), backend);
  };
  if (name == "keyed_trajectory") return mix(plain, r.ring, moue::universal_router(r.k, path), both);
  if (name == "linear_bias")
    return mix(
        plain, r.ring,
        moue::router{moue::score_sum{moue::linear_score{}, moue::logit_bias{}}, best, moue::softmax_of_selected{}},
        both);
  if (name == "always_on")
    return mix(moue::mlp<moue::gelu, true>{r.width, r.hidden}, moue::always_on{r.ring, 1, 1},
               moue::router{moue::linear_score{}, best, moue::sigmoid_gate{1.5}}.with(moue::biased_logits{}),
               moue::sum_of_losses{moue::switch_loss{r.switch_weight}, moue::z_loss{0.2}});
  if (name == "mixed_pool") {
    const auto kind = [](moue::index_t e) { return e % 5; };
    return mix(moue::expert_pool{kind, moue::gated_mlp<moue::silu, true>{r.width, r.hidden},
                                 moue::mlp<moue::relu>{r.width, r.hidden + 2}, moue::zero_expert{r.width},
                                 moue::copy_expert{r.width}, moue::constant_expert{r.width}},
               r.ring,
               moue::router{moue::query_score{r.rank, r.decay}, moue::top_k<3>{}, moue::sigmoid_renormalised{2.5}}
                   .with(moue::rms_features{})
                   .with(moue::sigmoid_probability{}),
               moue::universal_balance{r.universal_weight, r.gamma});
  }
  if constexpr (All) {
    if (name == "linear_raw")
      return mix(plain, r.ring, moue::router{moue::linear_score{}, best, moue::softmax_then_select{}}, both);
    if (name == "linear_trajectory")
      return mix(plain, r.ring,
                 moue::router{moue::score_sum{moue::linear_score{}, path}, best, moue::softmax_of_selected{}}, both);
    if (name == "normalised") return mix(plain, r.ring, moue::normalised_router(r.k), both);
    if (name == "query")
      return mix(plain, r.ring, moue::router{moue::query_score{r.rank, r.decay}, best, moue::softmax_of_selected{}},
                 both);
    if (name == "tied_revisits")
      return mix(moue::recomputed{moue::swiglu{r.width, r.hidden}}, moue::revisit{r.ring, 2, true},
                 moue::universal_router(r.k, path).with(moue::biased_sigmoid{}).with(moue::rms_features{}),
                 moue::z_loss{0.2});
    if (name == "uneven_widths") {
      const auto kind = [](moue::index_t e) { return e % 2; };
      return mix(moue::expert_pool{kind, moue::mlp<moue::relu_squared>{r.width, r.hidden},
                                   moue::mlp<moue::relu_squared>{r.width, 2 * r.hidden}},
                 uneven(r.ring),
                 moue::router{moue::score_sum{moue::normalised_score{}, path, moue::logit_bias{}}, best,
                              moue::softmax_then_select{}},
                 moue::no_balancing{});
    }
    if (auto model = compose_public(name, r, backend)) return model;
  }
  throw std::invalid_argument("no composition is called " + std::string(name));
}

}  // namespace test
