// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// config.json as the field publishes it: keys that transformers leaves out when it saves, and what they may say.

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "message_of.hpp"
#include "recognised.hpp"

namespace {

using moue::index_t;
using namespace test;
namespace io = moue::io;
using io::moe_part;
using nlohmann::json;

doctest::String refusal(const raw_tensors& all, const json& config) {
  return message_of([&] { found(all, config).running(); }).c_str();
}

TEST_CASE("the published config.json of families whose saved one says less") {
  using enum io::gate_convention;
  const auto renamed = [](const raw_tensors& from, const std::string& was, const std::string& now) {
    raw_tensors to;
    for (const auto& [name, tensor] : from) {
      auto changed = name;
      if (const auto at = name.find(was); at != name.npos) changed.replace(at, was.size(), now);
      to[changed] = tensor;
    }
    return to;
  };
  const auto biased = [](raw_tensors all, const std::string& name) {
    add_plain(all, layout_sizes{6, 5}, name, moe_part::selection_bias, {3});
    return all;
  };
  // Each with a key that is then refused.
  const auto read = [](const raw_tensors& all, const json& config, const char* key, const json& other) {
    CAPTURE(config);
    CHECK(refusal(all, config) == "");
    CHECK(refusal(all, with(config, key, other)) == doctest::Contains(("'" + std::string(key) + "' is not").c_str()));
    return found(all, config);
  };

  read(make_layout("gpt_oss", {32, 32}, "mlp.router.weight"),
       {{"model_type", "gpt_oss"},
        {"num_hidden_layers", 2},
        {"experts_per_token", 2},
        {"num_experts_per_tok", 2},
        {"num_local_experts", 3},
        {"hidden_act", "silu"},
        {"output_router_logits", false},
        {"router_aux_loss_coef", 0.9},
        {"swiglu_limit", 7.0}},
       "swiglu_limit", 6.0);
  read(biased(make_layout("mixtral", {6, 5}, "block_sparse_moe.gate.weight"),
              "block_sparse_moe.e_score_correction_bias"),
       {{"model_type", "minimax_m2"},
        {"num_hidden_layers", 2},
        {"num_experts_per_tok", 2},
        {"num_local_experts", 3},
        {"scoring_func", "sigmoid"},
        {"shared_intermediate_size", 0},
        {"shared_moe_mode", "sigmoid"},
        {"router_jitter_noise", 0.0},
        {"use_routing_bias", true}},
       "use_routing_bias", false);
  auto trinity = renamed(qwen(), "mlp.gate.weight", "mlp.router.gate.weight");
  add_shared(trinity, {6, 5}, "mlp.shared_experts.");
  read(biased(trinity, "mlp.expert_bias"),
       {{"model_type", "afmoe"},
        {"num_hidden_layers", 2},
        {"num_dense_layers", 0},
        {"num_experts", 3},
        {"num_experts_per_tok", 2},
        {"num_shared_experts", 1},
        {"n_group", 1},
        {"topk_group", 1},
        {"num_expert_groups", 1},
        {"num_limited_groups", 1},
        {"route_norm", true},
        {"route_scale", 2.826},
        {"score_func", "sigmoid"}},
       "num_expert_groups", 2);
  const auto mimo = read(biased(qwen(), "mlp.gate.e_score_correction_bias"),
                         {{"model_type", "mimo_v2_flash"},
                          {"num_hidden_layers", 2},
                          {"moe_layer_freq", {1, 1}},
                          {"n_routed_experts", 3},
                          {"n_shared_experts", nullptr},
                          {"num_experts_per_tok", 2},
                          {"n_group", 1},
                          {"topk_group", 1},
                          {"topk_method", "noaux_tc"},
                          {"norm_topk_prob", true},
                          {"scoring_func", "sigmoid"},
                          {"routed_scaling_factor", nullptr}},
                         "n_routed_experts", 4);
  CHECK((mimo.scale == 1 && mimo.gate == sigmoid_of_selected));
  const layout_sizes later{6, 5, 3, 3, {1, 2}};
  auto hunyuan = renamed(qwen(later), "mlp.gate.weight", "mlp.gate.wg.weight");
  add_shared(hunyuan, later, "mlp.shared_mlp.");
  const json hunyuan_config{{"model_type", "hunyuan_v1_moe"},
                            {"num_hidden_layers", 3},
                            {"num_experts", 3},
                            {"num_shared_expert", {1, 1, 1}},
                            {"moe_topk", {2, 2, 2}},
                            {"moe_intermediate_size", {5, 5, 5}},
                            {"moe_layer_num_skipped", 1},
                            {"moe_drop_tokens", false},
                            {"moe_random_routing_dropped_token", false},
                            {"norm_topk_prob", true},
                            {"use_mixed_mlp_moe", true},
                            {"group_limited_greedy", false},
                            {"n_group", false},
                            {"topk_group", false},
                            {"routed_scaling_factor", false}};
  read(hunyuan, hunyuan_config, "moe_drop_tokens", true);
  for (const char* key : {"group_limited_greedy", "n_group", "topk_group", "routed_scaling_factor"})
    CHECK(refusal(hunyuan, with(hunyuan_config, key, true)) ==
          doctest::Contains(("'" + std::string(key) + "' is not false").c_str()));
  CHECK(refusal(hunyuan, with(hunyuan_config, "moe_layer_num_skipped", 2)) ==
        doctest::Contains("by config.json layer 1 is dense"));
  const json dots{{"model_type", "dots1"},       {"num_hidden_layers", 2}, {"first_k_dense_replace", 0},
                  {"moe_layer_freq", 1},         {"n_routed_experts", 3},  {"n_shared_experts", 2},
                  {"num_experts_per_tok", 2},    {"n_group", 1},           {"topk_group", 1},
                  {"topk_method", "noaux_tc"},   {"norm_topk_prob", true}, {"scoring_func", "noaux_tc"},
                  {"routed_scaling_factor", 2.5}};
  read(deepseek(), dots, "scoring_func", "softmax");
  read(deepseek(), dots, "topk_method", "greedy");  // public implementations of the family route in groups all the same
  read(deepseek(), dots, "moe_intermediate_size", 999);
  CHECK(refusal(deepseek(), with(dots, "moe_intermediate_size", {5, 7})) == "");  // of modalities, not all of them here
  CHECK(refusal(deepseek(), with(dots, "n_routed_experts", {3, 4})) ==
        doctest::Contains("'n_routed_experts' is a list of different numbers"));
  CHECK(refusal(deepseek(), with(dots, "gating_function", "softmax")) ==
        doctest::Contains("'gating_function', of which it is not known"));
  CHECK(refusal(qwen(), with(qwen_config, "scoring_func", "noaux_tc")) == doctest::Contains("is not the family's"));
}

TEST_CASE("GGUF files of Ernie say which layers are mixtures by a step") {
  raw_tensors all;
  const auto zero = [](const position&) { return 0.0f; };
  const std::string layer = "blk.1.";
  put(all, layer + "ffn_gate_inp.weight", {4, 6}, zero);
  put(all, layer + "exp_probs_b.bias", {4}, zero);
  put(all, layer + "ffn_gate_exps.weight", {4, 5, 6}, zero);
  put(all, layer + "ffn_up_exps.weight", {4, 5, 6}, zero);
  put(all, layer + "ffn_down_exps.weight", {4, 6, 5}, zero);
  for (const char* l : {"blk.0.", "blk.1.", "blk.2."}) put(all, std::string(l) + "ffn_norm.weight", {6}, zero);
  const json config{{"model_type", "gguf/ernie4_5-moe"},
                    {"block_count", 3},
                    {"expert_count", 4},
                    {"expert_used_count", 2},
                    {"leading_dense_block_count", 1},
                    {"interleave_moe_layer_step", 2}};
  CHECK(refusal(all, config) == "");
  CHECK(found(all, config).model_layers == std::vector<index_t>{1});
  CHECK(refusal(all, with(config, "interleave_moe_layer_step", 3)) ==
        doctest::Contains("by config.json layer 1 is dense"));
}

}  // namespace
