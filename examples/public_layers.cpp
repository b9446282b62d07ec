// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// One layer of five public models, put together from policies, at its real size. Describing a mixture allocates no
// weights, so this needs no memory to speak of.

#include <cstdio>
#include <moue/moue.hpp>

namespace {

void describe(const char* name, const auto& model) {
  const moue::index_t candidates = moue::candidate_count(model.topology(), 0);
  std::printf("%s: %td of %td experts a token, %td more for all, %.2f G parameters\n", name,
              model.router().select.max_selected(candidates), candidates, model.experts() - candidates,
              static_cast<double>(model.layout()->elements()) * 1e-9);
}

/// The experts of one layer, and one behind them that every token uses.
constexpr moue::always_on<moue::layer_local> with_shared(moue::index_t experts) {
  return {moue::layer_local{.depth = 1, .per_layer = experts}, 1};
}
auto kind_behind(moue::index_t experts) {
  return [experts](moue::index_t e) -> moue::index_t { return e < experts ? 0 : 1; };
}

}  // namespace

int main() {
  // Sigmoid gates that sum to 2.5; a bias moves the selection alone; 4 of 8 groups, judged by their two best.
  const moue::router deepseek_v3 =
      moue::router{moue::linear_score{}, moue::group_limited{8, {.size = 32, .allowed = 4, .best = 2}},
                   moue::sigmoid_renormalised{.scale = 2.5}}
          .with(moue::biased_sigmoid{})
          .with(moue::sigmoid_probability{});
  describe("DeepSeek-V3", moue::mixture{moue::swiglu{.width = 7168, .hidden = 2048}, with_shared(256), deepseek_v3});

  // Softmax over all, times 16; 3 of 8 groups, judged by their best. Two shared experts are fused into one of twice the
  // hidden size.
  const moue::router deepseek_v2{moue::linear_score{}, moue::group_limited{6, {.size = 20, .allowed = 3}},
                                 moue::softmax_then_select{.scale = 16}};
  const moue::expert_pool fused{kind_behind(160), moue::swiglu{.width = 5120, .hidden = 1536},
                                moue::swiglu{.width = 5120, .hidden = 3072}};
  describe("DeepSeek-V2", moue::mixture{fused, with_shared(160), deepseek_v2});

  // The shared expert has a gate of its own.
  const moue::expert_pool gated{kind_behind(64), moue::swiglu{.width = 3584, .hidden = 2560},
                                moue::self_gated{moue::swiglu{.width = 3584, .hidden = 20480}}};
  const moue::router qwen2{moue::linear_score{}, moue::top_k{8}, moue::softmax_then_select{}};
  describe("Qwen2-57B-A14B", moue::mixture{gated, with_shared(64), qwen2});

  // Biases everywhere, the router's learned one included, and a gating function of two numbers.
  const moue::router gpt_oss{moue::score_sum{moue::linear_score{}, moue::candidate_bias{}}, moue::top_k{4},
                             moue::softmax_of_selected{}};
  describe("gpt-oss-120b", moue::mixture{moue::gated_mlp<moue::clamped_swiglu, true>{.width = 2880, .hidden = 2880},
                                         moue::layer_local{.depth = 1, .per_layer = 128}, gpt_oss});

  const moue::router phi{moue::linear_score{}, moue::top_k{2}, moue::sparsemixer{.jitter = 0.01}};
  describe("Phi-3.5-MoE", moue::mixture{moue::swiglu{.width = 4096, .hidden = 6400},
                                        moue::layer_local{.depth = 1, .per_layer = 16}, phi});
}
