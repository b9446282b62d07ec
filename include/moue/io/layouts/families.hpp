// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The table of public families. Names as in their files and in transformers' weight conversions.

#include <string>
#include <utility>
#include <vector>

#include "moue/io/layouts.hpp"
#include "moue/io/layouts/gguf_families.hpp"
#include "moue/io/layouts/names.hpp"

namespace moue::inline v0_1::io {
namespace detail {

/// The keys of a family whose gates are not scaled.
inline config_keys unscaled() { return {.scale = {}}; }
/// The same for one whose gates are always normed.
inline config_keys always_normed() { return {.normed = {}, .scale = {}, .must_be = {{"norm_topk_prob", true}}}; }

/// DeepSeek-V3's routing, which many have taken over: sigmoids, a selection bias, groups by their two best.
inline moe_family deepseek_v3(std::string name, std::vector<std::string> model_types, std::vector<moe_layout> layouts,
                              bool normed = true, config_keys keys = {}) {
  return {.name = std::move(name),
          .model_types = std::move(model_types),
          .layouts = std::move(layouts),
          .gate = gate_convention::sigmoid_of_selected,
          .gate_not_normed = gate_convention::sigmoid,
          .normed = normed,
          .selection = selection_score::sigmoid,
          .group_best = 2,
          .keys = std::move(keys)};
}
/// Softmax over all, normed or not as config.json says.
inline moe_family softmax_family(std::string name, std::vector<std::string> model_types,
                                 std::vector<moe_layout> layouts, bool normed) {
  return {.name = std::move(name),
          .model_types = std::move(model_types),
          .layouts = std::move(layouts),
          .gate_not_normed = gate_convention::softmax,
          .normed = normed,
          .keys = unscaled()};
}

/// Those of safetensors files.
inline std::vector<moe_family> published_families() {
  using enum gate_convention;
  const std::vector<moe_layout> plain{per_expert("per expert"), fused("gate.weight")};
  const std::vector<moe_layout> with_shared_gate{qwen_shared(plain[0]), qwen_shared(plain[1])};
  const std::string bias = "mlp.gate.e_score_correction_bias";
  const std::vector<moe_layout> v3{with_bias(deepseek_shared(plain[0]), bias),
                                   with_bias(deepseek_shared(plain[1]), bias)};
  const std::vector<moe_part> shared{moe_part::shared_gate, moe_part::shared_up, moe_part::shared_down};
  return {
      {.name = "mixtral",
       .model_types = {"mixtral"},
       .layouts = {block_sparse("w1 w3 w2"), fused("gate.weight")},
       .keys = unscaled()},
      {.name = "minimax",
       .model_types = {"minimax", "minimax_m1", "minimax_text_01"},
       .layouts = {block_sparse("w1 w3 w2"), fused("gate.weight")},
       .keys = {.scale = {}, .must_be = {{"shared_intermediate_size", 0.0}}, .ignored = {"shared_moe_mode"}}},
      {.name = "phimoe",
       .model_types = {"phimoe"},
       .layouts = {block_sparse("w1 w3 w2"), fused("router.weight")},
       .gate = sparsemixer,
       .keys = unscaled()},
      softmax_family("olmoe", {"olmoe", "flex_olmo"}, plain, false),
      softmax_family("qwen2_moe", {"qwen2_moe"}, with_shared_gate, false),
      softmax_family("qwen3_moe", {"qwen3_moe", "qwen3_omni_moe", "qwen3_omni_moe_thinker", "qwen3_omni_moe_text"},
                     plain, false),
      softmax_family("qwen3_next", {"qwen3_next"}, with_shared_gate, true),
      softmax_family("mellum", {"mellum"}, plain, true),
      {.name = "qwen3_5_moe",
       .model_types = {"qwen3_5_moe", "qwen3_5_moe_text"},
       .layouts = with_shared_gate,
       .keys = always_normed()},
      {.name = "qwen3_vl_moe",
       .model_types = {"qwen3_vl_moe", "qwen3_vl_moe_text"},
       .layouts = {stacked_transposed(), fused("gate.weight")},
       .keys = always_normed()},
      {.name = "deepseek_v2",  // its references disagree about norm_topk_prob: true
       .model_types = {"deepseek_v2"},
       .layouts = {deepseek_shared(plain[0]), deepseek_shared(plain[1])},
       .gate = softmax,
       .normed = false,
       .group_best = 1},
      deepseek_v3("deepseek_v3",
                  {"deepseek_v3", "deepseek_v32", "kimi_k2", "glm4_moe", "glm4_moe_lite", "glm4v_moe", "glm4v_moe_text",
                   "glm_moe_dsa", "solar_open"},
                  v3),
      // transformers 5.24 saves its layers as "blocks.", as it does those of the vision tower.
      deepseek_v3("kimi_k25", {"kimi_k25"}, {v3[0], v3[1], called(v3[0], "blocks."), called(v3[1], "blocks.")}),
      deepseek_v3("dots1", {"dots1"}, v3, false),
      deepseek_v3("axk1", {"axk1", "AXK1"},
                  {beside(v3[0], {"post_mlp_layernorm.weight"}), beside(v3[1], {"mlp.post_mlp_layernorm.weight"})}),
      deepseek_v3("exaone_moe", {"exaone_moe"},
                  {with_bias(deepseek_shared(plain[0]), "mlp.e_score_correction_bias"), v3[1]}),
      deepseek_v3("mimo_v2", {"mimo_v2", "mimo_v2_flash"}, {with_bias(plain[0], bias), with_bias(plain[1], bias)}, true,
                  {.scale_default = 1}),
      deepseek_v3("kimi_linear", {"kimi_linear"},
                  {with_shared(with_bias(block_sparse("w1 w3 w2"), "block_sparse_moe.gate.e_score_correction_bias"),
                               projections("block_sparse_moe.shared_experts.")),
                   v3[1]},
                  true,
                  {.per_token = {"num_experts_per_token", "num_experts_per_tok"},
                   .normed = {"moe_renormalize", "norm_topk_prob"},
                   .groups = {"num_expert_group", "n_group"},
                   .must_be = {{"moe_router_activation_func", "sigmoid"}, {"use_grouped_topk", true}}}),
      {.name = "granitemoe",
       .model_types = {"granitemoe"},
       .layouts = {granite(), fused("router.weight", "block_sparse_moe.")},
       .keys = unscaled()},
      {.name = "granitemoeshared",
       .model_types = {"granitemoeshared", "granitemoehybrid"},
       .layouts = {granite_shared(granite()), granite_shared(fused("router.weight", "block_sparse_moe."))},
       .keys = unscaled()},
      {.name = "gpt_oss",
       .model_types = {"gpt_oss"},
       .layouts = {gpt_oss(false), gpt_oss(true)},
       .activation = expert_activation::clamped_swiglu,
       .keys = {.per_token = {"num_experts_per_tok", "experts_per_token"},
                .scale = {},
                .must_be = {{"swiglu_limit", 7.0}, {"swiglu_alpha", 1.702}}}},
      {.name = "minimax_m2",
       .model_types = {"minimax_m2"},
       .layouts = {with_bias(block_sparse("w1 w3 w2"), "block_sparse_moe.e_score_correction_bias"),
                   with_bias(fused("gate.weight"), "mlp.e_score_correction_bias")},
       .gate = sigmoid_of_selected,
       .selection = selection_score::sigmoid,
       .keys = {.normed = {},
                .scale = {},
                .scale_default = 1,
                .must_be = {{"shared_intermediate_size", 0.0}, {"use_routing_bias", true}},
                .ignored = {"shared_moe_mode"}}},
      {.name = "lfm2_moe",
       .model_types = {"lfm2_moe"},
       .layouts = {{.name = "w1 w3 w2",
                    .router = "feed_forward.gate.weight",
                    .experts = numbered("feed_forward.experts.{e}."),
                    .selection_bias = "feed_forward.expert_bias"},
                   with_bias(fused("gate.weight", "feed_forward."), "feed_forward.expert_bias")},
       .gate = sigmoid_of_selected,
       .gate_not_normed = sigmoid,
       .selection = selection_score::sigmoid,
       .keys = {.scale_default = 1},
       .optional = {moe_part::selection_bias}},
      {.name = "jamba",
       .model_types = {"jamba"},
       .layouts = {{.name = "per expert",
                    .router = "feed_forward.router.weight",
                    .experts = projections("feed_forward.experts.{e}.")},
                   fused("router.weight", "feed_forward.")},
       .gate = softmax,
       .normed = false,
       .keys = unscaled()},
      {.name = "hunyuan_v1_moe",
       .model_types = {"hunyuan_v1_moe", "hunyuan"},
       .layouts = {with_shared({.name = "per expert",
                                .router = "mlp.gate.wg.weight",
                                .experts = projections("mlp.experts.{e}.")},
                               projections("mlp.shared_mlp.")),
                   with_shared(fused("gate.wg.weight"), projections("mlp.shared_mlp."))},
       .keys = {.per_token = {"moe_topk", "num_experts_per_tok"},
                .shared = {"num_shared_expert"},
                .normed = {},
                .scale = {},
                .layers = {{"moe_layer_num_skipped", layer_rule::dense_before}},
                .must_be = {{"use_mixed_mlp_moe", true}, {"norm_topk_prob", true}, {"moe_drop_tokens", false}},
                .ignored = {"moe_random_routing_dropped_token"}}},
      {.name = "afmoe",
       .model_types = {"afmoe"},
       .layouts = {with_bias(deepseek_shared({.name = "per expert",
                                              .router = "mlp.router.gate.weight",
                                              .experts = projections("mlp.experts.{e}.")}),
                             "mlp.expert_bias"),
                   with_bias(deepseek_shared(fused("router.gate.weight")), "mlp.expert_bias")},
       .gate = sigmoid_of_selected,
       .selection = selection_score::sigmoid,
       .keys = {.normed = {"route_norm"},
                .scale = {"route_scale"},
                .must_be = {{"score_func", "sigmoid"}, {"num_expert_groups", 1.0}, {"num_limited_groups", 1.0}}},
       .optional = shared},
      {.name = "hy_v3",
       .model_types = {"hy_v3"},
       .layouts = {with_bias(with_shared({.name = "per expert",
                                          .router = "mlp.router.gate.weight",
                                          .experts = projections("mlp.experts.{e}.")},
                                         projections("mlp.shared_mlp.")),
                             "mlp.expert_bias"),
                   with_bias(deepseek_shared(fused("gate.weight")), "mlp.e_score_correction_bias")},
       .gate = sigmoid_of_selected,
       .selection = selection_score::sigmoid,
       .keys = {.normed = {"route_norm"}, .scale = {"router_scaling_factor"}, .ignored = {"enable_moe_fp32_combine"}}},
      {.name = "ernie4_5_moe",
       .model_types = {"ernie4_5_moe"},
       .layouts = {with_bias(deepseek_shared(plain[0]), "mlp.moe_statics.e_score_correction_bias", true),
                   with_bias(deepseek_shared(plain[1]), "mlp.gate.moe_statics.e_score_correction_bias", true)},
       .selection = selection_score::softmax,
       .keys = {.per_token = {"moe_k"},
                .experts = {"moe_num_experts"},
                .shared = {"moe_num_shared_experts"},
                .scale = {},
                .must_be = {{"moe_use_aux_free", true}, {"moe_gate", "topk"}, {"use_bias", false}},
                .ignored = {"moe_capacity", "moe_norm_min"}},
       .optional = shared},
      {.name = "longcat_flash",
       .model_types = {"longcat_flash"},
       .layouts = {beside({.name = "per expert",
                           .router = "mlp.router.classifier.weight",
                           .experts = projections("mlp.experts.{e}."),
                           .selection_bias = "mlp.router.e_score_correction_bias"},
                          {"mlps."}),
                   beside(longcat_fused(), {"mlps."})},
       .gate = softmax,
       .normed = false,
       .selection = selection_score::softmax,
       .keys = {.per_token = {"moe_topk"},
                .depth = {"num_layers"},
                .identities = "zero_expert_num",
                .must_be = {{"zero_expert_type", "identity"}, {"router_bias", false}}}},
      {.name = "nemotron_h",
       .model_types = {"nemotron_h"},
       .layouts = {nemotron(true), nemotron(false)},
       .gate = sigmoid_of_selected,
       .gate_not_normed = sigmoid,
       .selection = selection_score::sigmoid,
       .group_best = 2,
       .activation = expert_activation::relu_squared,
       .keys = {.latent = {"moe_latent_size"},
                .activation = {"mlp_hidden_act"},
                .layers = {{"layers_block_type", layer_rule::each}, {"hybrid_override_pattern", layer_rule::each}},
                .must_be = {{"mlp_bias", false}}},
       .optional = {moe_part::latent_in, moe_part::latent_out}},
      {.name = "mistral4",
       .model_types = {"mistral4"},
       .layouts = {deepseek_shared(plain[1]), deepseek_shared(plain[0])},
       .gate_not_normed = softmax,
       .selection = selection_score::softmax,
       .group_best = 2},
      // What a layer adds to its own dense block. Its input is the layer's, normed without a weight.
      {.name = "gemma4",
       .model_types = {"gemma4", "gemma4_text", "gemma4_unified"},
       .layouts = {gemma4()},
       .activation = expert_activation::gelu_tanh,
       .keys = {.per_token = {"top_k_experts"},
                .normed = {},
                .scale = {},
                .activation = {"hidden_activation"},
                .must_be = {{"enable_moe_block", true}}}},
      {.name = "llama4",
       .model_types = {"llama4", "llama4_text"},
       .layouts = {llama4()},
       .gate = sigmoid_of_input,
       .keys = {.normed = {}, .scale = {}}},
      {.name = "dbrx",
       .model_types = {"dbrx"},
       .layouts = {dbrx()},
       .gate_not_normed = softmax,
       .keys = {.inside = {"ffn_config"},
                .per_token = {"moe_top_k"},
                .experts = {"moe_num_experts"},
                .depth = {"n_layers"},
                .width = {"d_model"},
                .normed = {},
                .norm_power = "moe_normalize_expert_weights",
                .scale = {},
                .activation = {"ffn_act_fn"},
                .ignored = {"moe_jitter_eps", "moe_loss_weight"}}},
      // Its first layers choose experts by a table of token ids; these are left out.
      {.name = "deepseek_v4",
       .model_types = {"deepseek_v4"},
       .layouts = {deepseek_v4(true), deepseek_v4(false)},
       .gate = root_of_softplus,
       .selection = selection_score::root_of_softplus,
       .activation = expert_activation::clamped_silu,
       .keys = {.layers = {{"mlp_layer_types", layer_rule::each}, {"num_hash_layers", layer_rule::dense_before}},
                .must_be = {{"norm_topk_prob", true}, {"swiglu_limit", 10.0}, {"topk_method", "noaux_tc"}}}},
  };
}

}  // namespace detail

/// The families this library knows, those of GGUF files at the end. A row of one's own is appended to a copy.
inline std::vector<moe_family> known_families() {
  auto families = detail::published_families();
  detail::add_gguf_families(families);
  return families;
}

}  // namespace moue::inline v0_1::io
