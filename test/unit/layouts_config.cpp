// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// config.json as models write it: where keys stand, in how many ways they say which layers are dense, and which of them
// nobody understands.

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "message_of.hpp"
#include "moue/io/checkpoint.hpp"
#include "moue/io/converted.hpp"
#include "moue/io/layouts/moe_checkpoint.hpp"
#include "recognised.hpp"

namespace {

using moue::index_t;
using namespace test;
namespace io = moue::io;
using io::moe_part;
using nlohmann::json;

const json glm_config{{"model_type", "glm4_moe"}, {"num_hidden_layers", 2},
                      {"num_experts_per_tok", 2}, {"n_group", 1},
                      {"topk_group", 1},          {"routed_scaling_factor", 2.5}};

doctest::String refusal(const raw_tensors& all, const json& config, const io::moe_options& options = {}) {
  return message_of([&] { found(all, config, options).running(); }).c_str();
}

TEST_CASE("keys of a language model within another model are found") {
  const json vision{{"num_hidden_layers", 7}, {"hidden_size", 99}};
  for (const char* inside : {"text_config", "llm_config", "language_config"}) {
    const json config{{"model_type", "some_vision_model"}, {inside, qwen_config}, {"vision_config", vision}};
    CHECK(found(qwen(), config).running().per_token == 2);
    auto wrong = config;
    wrong[inside]["num_experts"] = 4;
    CHECK(refusal(qwen(), wrong) ==
          doctest::Contains(("'" + std::string(inside) + ".num_experts' is not 3, as the tensors have it").c_str()));
  }
  const json deeper{{"model_type", "qwen3_omni_moe"}, {"thinker_config", {{"text_config", qwen_config}}}};
  CHECK(found(qwen(), deeper).running().per_token == 2);
  // The inner object decides, also by null.
  CHECK(found(qwen(), {{"text_config", qwen_config}, {"num_experts_per_tok", 1}}).per_token == 2);
  CHECK(refusal(qwen(), {{"text_config", with(qwen_config, "num_experts_per_tok", nullptr)},
                         {"num_experts_per_tok", 1}}) == doctest::Contains("'num_experts_per_tok' is not known"));
}

TEST_CASE("null is absent") {
  auto config = with(qwen_config, "norm_topk_prob", nullptr);
  for (const char* key : {"num_experts", "hidden_size", "hidden_act", "mlp_only_layers", "decoder_sparse_step",
                          "moe_layer_freq", "mlp_layer_types", "n_shared_experts", "routed_scaling_factor"})
    config[key] = nullptr;
  CHECK(found(qwen(), config).running().gate == io::gate_convention::softmax);
}

TEST_CASE("every way to say which layers are dense") {
  const auto layers = [](const std::vector<index_t>& mixtures, const json& keys, const char* type = "qwen3_moe") {
    auto config = with(with(qwen_config, "num_hidden_layers", 4), "model_type", type);
    config.update(keys);
    return refusal(qwen({6, 5, 3, 3, mixtures}), config) == "" &&
           found(qwen({6, 5, 3, 3, mixtures}), config).model_layers == mixtures;
  };
  CHECK(layers({0, 1, 2, 3}, json::object()));
  CHECK(layers({1, 2, 3}, {{"first_k_dense_replace", 1}}));
  CHECK(layers({2, 3}, {{"num_dense_layers", 2}}));
  CHECK(layers({0, 3}, {{"mlp_only_layers", {1, 2}}}));
  CHECK(layers({1, 3}, {{"moe_layers", {1, 3}}}));
  CHECK(layers({1, 3}, {{"decoder_sparse_step", 2}}));
  CHECK(layers({1, 3}, {{"interleave_moe_layer_step", 2}}));
  CHECK(layers({0, 2}, {{"moe_layer_freq", 2}}));
  CHECK(layers({1, 3}, {{"moe_layer_freq", {0, 1, 0, 1}}}));
  CHECK(layers({1, 3}, {{"expert_layer_period", 2}, {"expert_layer_offset", 1}}));
  CHECK(layers({1, 2}, {{"mlp_layer_types", {"dense", "sparse", "sparse", "dense"}}}));
  CHECK(layers({1, 2}, {{"is_moe_layer", {false, true, true, false}}}));
  CHECK(layers({1, 2}, {{"moe_layer_start_index", 1}, {"moe_layer_end_index", 2}, {"moe_layer_interval", 1}}));
  CHECK(layers({1, 2, 3}, {{"moe_layer_start_index", 1}, {"moe_layer_end_index", -1}}));
  CHECK_FALSE(layers({1, 3}, {{"moe_layer_freq", {1, 0, 1, 0}}}));

  const auto all = qwen();
  CHECK(refusal(all, with(qwen_config, "mlp_layer_types", {"sparse"})) ==
        doctest::Contains("'mlp_layer_types' has 1 entries, none for layer 1"));
  CHECK(refusal(all, with(qwen_config, "mlp_layer_types", {"sparse", "dense"})) ==
        doctest::Contains("by config.json layer 1 is dense, but"));
  CHECK(refusal(all, with(qwen_config, "moe_layer_freq", {1, 2})) ==
        doctest::Contains("'moe_layer_freq' is not a list of words, truth values, or 0 and 1"));
  CHECK(refusal(all, with(qwen_config, "mlp_layer_types", 3)) == doctest::Contains("'mlp_layer_types' is not a list"));
}

TEST_CASE("a key that is about experts and that nobody reads is named") {
  for (const char* key : {"moe_k", "num_experts_per_token", "router_temperature", "topk_scale", "routed_scaling_factor",
                          "swiglu_limit", "hidden_activation", "mlp_hidden_act", "use_grouped_topk", "score_func"}) {
    CAPTURE(key);
    const auto config = with(qwen_config, key, 3);
    CHECK(refusal(qwen(), config) ==
          doctest::Contains(("config.json has '" + std::string(key) + "', of which").c_str()));
    CHECK(found(qwen(), config).per_token == 2);  // matrices can be read
    CHECK(refusal(qwen(), config, {.family = {}, .config = {{key, nullptr}}}) == "");
  }
  CHECK(refusal(qwen(), with(qwen_config, "router_aux_loss_coef", 0.1)) == "");
  CHECK(refusal(qwen(), with(qwen_config, "index_topk", 4)) == "");
  CHECK(refusal(qwen(), with(qwen_config, "mamba_hidden_act", "silu")) == "");
  CHECK(refusal(qwen(), with(qwen_config, "vision_config", {{"hidden_activation", "gelu"}})) == "");
  CHECK(refusal(qwen(), with(qwen_config, "n_group", 4)) ==
        doctest::Contains("'n_group' is not 1, but qwen3_moe is not known to route in groups"));
  CHECK(refusal(qwen(), with(qwen_config, "n_shared_experts", 1)) ==
        doctest::Contains("'n_shared_experts' is 1, but the tensors of shared experts are missing"));
  CHECK(refusal(deepseek(), with(glm_config, "n_shared_experts", 0)) ==
        doctest::Contains("'n_shared_experts' is 0, but the tensors of shared experts are there"));
  CHECK(refusal(deepseek(), without(glm_config, "routed_scaling_factor")) ==
        doctest::Contains("'routed_scaling_factor' is not known"));
  CHECK(refusal(qwen(), {{"model_type", "qwen3_vl_moe"}}) == doctest::Contains("but the tensors do not fit"));
}

TEST_CASE("numbers that JSON cannot write are read where they are no matter, and refused where they are") {
  const scratch_folder folder;
  const auto opened = [&](const std::string& more) {
    save(folder.path(), deepseek(), {});
    auto text = glm_config.dump();
    text.back() = ',';
    std::ofstream(folder.path() / "config.json") << text << more << "}";
    return message_of([&] {
      const io::moe_checkpoint source{io::checkpoint(folder.path())};
      source.description().running();
    });
  };
  CHECK(opened(R"("time_step_limit": [0.0, Infinity], "note": "NaN, \"Infinity\" and \\", "other": -Infinity)") == "");
  CHECK(opened(R"("routed_scaling_factor": Infinity)").find("'routed_scaling_factor' is inf") != std::string::npos);
  CHECK(opened(R"("routed_scaling_factor": NaN)").find("'routed_scaling_factor' is nan") != std::string::npos);
  CHECK(opened(R"("other": Infinite)").find("is no JSON") != std::string::npos);
  const std::string text = R"({"a":[NaN,-Infinity],"b":"NaN \" Infinity","c":Infinity})";
  CHECK(json::parse(io::detail::with_quoted_literals(text)) ==
        json{{"a", {"\x01NaN", "\x01-Infinity"}}, {"b", "NaN \" Infinity"}, {"c", "\x01Infinity"}});
}

TEST_CASE("depth costs nothing") {
  std::string deep(100'000, '[');
  deep += std::string(100'000, ']');
  auto text = qwen_config.dump();
  text.back() = ',';
  const auto config = json::parse(text + "\"deep\":" + deep + ",\"text_config\":{\"deep\":" + deep + "}}");
  CHECK(found(qwen(), config).running().per_token == 2);
  CHECK(refusal(qwen(), json::parse(text + "\"mlp_only_layers\":" + deep + "}")) ==
        doctest::Contains("'mlp_only_layers' is not a list of whole numbers"));
}

TEST_CASE("a number of every layer may stand there as a list") {
  const layout_sizes sizes{6, 5};
  raw_tensors all;
  for (const auto& [name, tensor] : qwen())
    all[name.ends_with("gate.weight") ? name.substr(0, name.size() - 6) + "wg.weight" : name] = tensor;
  add_shared(all, sizes, "mlp.shared_mlp.");
  const json config{{"model_type", "hunyuan_v1_moe"}, {"num_experts", {3, 3}}, {"moe_topk", {2, 2}}};
  CHECK(found(all, config).running().per_token == 2);
  CHECK(refusal(all, with(config, "moe_topk", {2, 1})) ==
        doctest::Contains("'moe_topk' is a list of different numbers"));
}

TEST_CASE("parts that a family may lack") {
  auto all = deepseek();
  const json config{{"model_type", "afmoe"}, {"num_experts_per_tok", 2}, {"route_scale", 1.5}};
  const auto renamed = [](const raw_tensors& from, bool shared) {
    raw_tensors to;
    for (const auto& [name, tensor] : from) {
      auto changed = name;
      if (const auto at = name.find("mlp.gate.e_score_correction_bias"); at != name.npos)
        changed.replace(at, name.npos, "mlp.expert_bias");
      if (const auto at = name.find("mlp.gate.weight"); at != name.npos)
        changed.replace(at, name.npos, "mlp.router.gate.weight");
      if (shared || name.find("shared") == name.npos) to[changed] = tensor;
    }
    return to;
  };
  CHECK(found(renamed(all, true), config).running().shared_hidden == 3);
  const auto none = found(renamed(all, false), config).running();
  CHECK(none.shared_hidden == 0);
  CHECK_FALSE(none.has(moe_part::shared_down));
  CHECK(refusal(renamed(all, false), with(config, "num_shared_experts", 1)) ==
        doctest::Contains("'num_shared_experts' is 1, but the tensors of shared experts are missing"));
}

TEST_CASE("layouts that differ in the order of axes alone are told apart by shape") {
  // Square in one of the two products, so that neither tensor alone would tell.
  for (const auto& [width, hidden] : {std::pair<index_t, index_t>{8, 4}, {4, 4}, {4, 8}, {6, 5}}) {
    raw_tensors turned = make_layout("fused", {width, hidden}), plain = turned;
    for (auto& [name, tensor] : turned)
      if (tensor.shape.size() == 3) std::swap(tensor.shape[1], tensor.shape[2]);
    const json config{{"model_type", "qwen3_vl_moe"}, {"num_experts_per_tok", 1}};
    CHECK(found(turned, config).layout.name == "transposed");
    CHECK(found(plain, config).layout.name == "fused");
    CHECK(found(turned, config).hidden == hidden);
  }
}

TEST_CASE("a family of one's own says where its numbers stand") {
  auto families = moue::io::known_families();
  families.push_back(
      {.name = "acme_moe",
       .model_types = {"acme"},
       .layouts =
           {{.name = "published",
             .router = "ffn.router.weight",
             .experts = {.gate = "ffn.w_in", .up = "ffn.w_in", .down = "ffn.w_out", .pair = moue::io::pairing::halves},
             .word = "blocks.",
             .beside = {"ffn_extra."}}},
       .gate_not_normed = moue::io::gate_convention::softmax,
       .keys = {.inside = {"ffn_config"},
                .per_token = {"moe_top_k"},
                .normed = {"moe_normalize_expert_weights"},
                .layers = {{"dense_blocks", moue::io::layer_rule::dense_in}}}});
  const moue::io::moe_options options{.family = {}, .config = {}, .families = families};
  raw_tensors all;
  const auto zero = [](const position&) { return 0.0f; };
  put(all, "model.blocks.1.ffn.router.weight", {3, 6}, zero);
  put(all, "model.blocks.1.ffn.w_in", {3, 10, 6}, zero);
  put(all, "model.blocks.1.ffn.w_out", {3, 6, 5}, zero);
  put(all, "model.blocks.1.ffn_extra.w1", {7}, zero);
  const json config{{"model_type", "acme"},
                    {"num_hidden_layers", 2},
                    {"dense_blocks", {0}},
                    {"ffn_config", {{"moe_top_k", 2}, {"moe_normalize_expert_weights", false}}}};
  const auto d = found(all, config, options).running();
  CHECK(d.per_token == 2);
  CHECK(d.gate == io::gate_convention::softmax);
  CHECK(d.tensor_name(0, moe_part::down, 2) == "model.blocks.1.ffn.w_out");
}

TEST_CASE("experts in one matrix, and gates that are normed by a power") {
  raw_tensors all;
  const auto zero = [](const position&) { return 0.0f; };
  put(all, "transformer.blocks.0.ffn.router.layer.weight", {3, 6}, zero);
  for (const char* name : {"w1", "v1", "w2"})
    put(all, "transformer.blocks.0.ffn.experts.mlp." + std::string(name), {15, 6}, zero);
  const auto config = [](const json& power, const json& activation) {
    return json{{"model_type", "dbrx"},
                {"n_layers", 1},
                {"d_model", 6},
                {"ffn_config",
                 {{"moe_top_k", 2},
                  {"moe_num_experts", 3},
                  {"moe_normalize_expert_weights", power},
                  {"ffn_act_fn", activation}}}};
  };
  const json silu{{"name", "silu"}};
  const auto d = found(all, config(1.0, silu)).running();
  CHECK(d.gate == io::gate_convention::softmax_of_selected);
  CHECK((d.experts == 3 && d.width == 6 && d.hidden == 5));
  CHECK(found(all, config(nullptr, silu)).running().gate == io::gate_convention::softmax);
  CHECK(refusal(all, config(2.0, silu)) ==
        doctest::Contains("'ffn_config.moe_normalize_expert_weights' is not 1, the one value understood here"));
  CHECK(refusal(all, config(1.0, {{"name", "gelu"}})) == doctest::Contains("'ffn_config.ffn_act_fn' is not 'silu'"));
  CHECK(refusal(all, config(1.0, {{"name", "silu"}, {"slope", 2}})) == doctest::Contains("is not a text"));
  put(all, "transformer.blocks.0.ffn.experts.mlp.w2", {14, 6}, zero);
  CHECK(refusal(all, config(1.0, silu)) == doctest::Contains("w2' has shape [14, 6]"));
}

TEST_CASE("layers that choose experts by a table are left out") {
  raw_tensors all;
  const auto zero = [](const position&) { return 0.0f; };
  for (const std::string layer : {"layers.0.ffn.", "layers.1.ffn."}) {
    put(all, layer + "gate.weight", {2, 6}, zero);
    for (const std::string expert : {"experts.0.", "experts.1.", "shared_experts."}) {
      put(all, layer + expert + "w1.weight", {5, 6}, zero);
      put(all, layer + expert + "w3.weight", {5, 6}, zero);
      put(all, layer + expert + "w2.weight", {6, 5}, zero);
    }
  }
  put(all, "layers.0.ffn.gate.tid2eid", {9, 1}, zero);
  put(all, "layers.1.ffn.gate.bias", {2}, zero);
  const json config{{"model_type", "deepseek_v4"},
                    {"num_hidden_layers", 2},
                    {"num_experts_per_tok", 1},
                    {"routed_scaling_factor", 1.5},
                    {"scoring_func", "sqrtsoftplus"}};
  const auto lists = with(config, "mlp_layer_types", {"hash_moe", "moe"});
  CHECK(found(all, lists).running().model_layers == std::vector<index_t>{1});
  CHECK(found(all, with(config, "num_hash_layers", 1)).running().model_layers == std::vector<index_t>{1});
  CHECK(refusal(all, with(lists, "scoring_func", "sigmoid")) == doctest::Contains("is not the family's"));
  CHECK(refusal(all, with(lists, "swiglu_limit", 7.0)) == doctest::Contains("'swiglu_limit' is not 10"));
  CHECK(refusal(all, with(config, "mlp_layer_types", {"moe", "moe"})) ==
        doctest::Contains("by config.json layer 0 is a mixture"));
}

TEST_CASE("vectors that are multiplied into matrices are there, and have the right size") {
  raw_tensors all;
  const auto zero = [](const position&) { return 0.0f; };
  const std::string layer = "model.layers.0.";
  put(all, layer + "router.proj.weight", {3, 6}, zero);
  put(all, layer + "router.scale", {6}, zero);
  put(all, layer + "router.per_expert_scale", {3}, zero);
  put(all, layer + "pre_feedforward_layernorm_2.weight", {6}, zero);
  put(all, layer + "experts.gate_up_proj", {3, 10, 6}, zero);
  put(all, layer + "experts.down_proj", {3, 6, 5}, zero);
  put(all, layer + "mlp.up_proj.weight", {7, 6}, zero);
  const json config{
      {"model_type", "gemma4"}, {"num_hidden_layers", 1}, {"top_k_experts", 2}, {"enable_moe_block", true}};
  CHECK(found(all, config).running().fold(moe_part::down)->of_experts);
  auto changed = all;
  changed.erase(layer + "router.scale");
  CHECK(refusal(changed, config) == doctest::Contains("layer 0 has no 'router.scale'"));
  put(all, layer + "router.per_expert_scale", {4}, zero);
  CHECK(refusal(all, config) == doctest::Contains("router.per_expert_scale' has shape [4], not [3]"));
}

TEST_CASE("projections around the experts of a layer are found, or missed") {
  raw_tensors all;
  const auto zero = [](const position&) { return 0.0f; };
  const std::string mixer = "backbone.layers.1.mixer.";
  put(all, mixer + "gate.weight", {3, 6}, zero);
  put(all, mixer + "gate.e_score_correction_bias", {3}, zero);
  for (const std::string e : {"0", "1", "2"}) {
    put(all, mixer + "experts." + e + ".up_proj.weight", {5, 4}, zero);
    put(all, mixer + "experts." + e + ".down_proj.weight", {4, 5}, zero);
  }
  put(all, mixer + "shared_experts.up_proj.weight", {7, 6}, zero);
  put(all, mixer + "shared_experts.down_proj.weight", {6, 7}, zero);
  put(all, mixer + "fc1_latent_proj.weight", {4, 6}, zero);
  put(all, mixer + "fc2_latent_proj.weight", {6, 4}, zero);
  const json config{{"model_type", "nemotron_h"},
                    {"layers_block_type", {"mamba", "moe"}},
                    {"num_experts_per_tok", 2},
                    {"n_group", 1},
                    {"topk_group", 1},
                    {"routed_scaling_factor", 1.5},
                    {"moe_latent_size", 4}};
  const auto d = found(all, config).running();
  CHECK((d.latent == 4 && d.width == 6 && d.hidden == 5 && d.shared_hidden == 7));
  CHECK((d.shape(moe_part::up).cols == 4 && d.shape(moe_part::shared_up).cols == 6));
  CHECK(d.slice(0, moe_part::latent_in, 2).first == 0);  // all experts have the same
  CHECK(found(all, without(config, "moe_latent_size")).running().latent == 4);
  CHECK(refusal(all, with(config, "moe_latent_size", 5)) ==
        doctest::Contains("'moe_latent_size' is not 4, as the tensors have it"));
  CHECK_THROWS_WITH_AS(io::topology_of(d),
                       doctest::Contains("the experts of a layer share the projections around them"), moue::error);

  auto changed = all;
  put(changed, mixer + "fc1_latent_proj.weight", {3, 6}, zero);
  CHECK(refusal(changed, config) == doctest::Contains("fc1_latent_proj.weight' has shape [3, 6], not [4, 6]"));
  put(changed, mixer + "fc2_latent_proj.weight", {24}, zero);
  CHECK(refusal(changed, config) == doctest::Contains("has shape [24]; a projection is a matrix"));
  changed.erase(mixer + "fc2_latent_proj.weight");
  CHECK(refusal(changed, config) ==
        doctest::Contains("only 'backbone.layers.1.mixer.fc1_latent_proj.weight' is there"));
  changed.erase(mixer + "fc1_latent_proj.weight");
  CHECK(refusal(changed, config) == doctest::Contains("'moe_latent_size' is not 0, as the tensors have it"));
  CHECK(refusal(changed, without(config, "moe_latent_size")) == doctest::Contains("has shape [5, 4], not [5, 6]"));
}

TEST_CASE("GGUF files say what they say under other keys") {
  raw_tensors all;
  const auto zero = [](const position&) { return 0.0f; };
  const std::string layer = "blk.1.";
  put(all, layer + "ffn_gate_inp.weight", {4, 6}, zero);
  put(all, layer + "exp_probs_b.bias", {4}, zero);
  for (const std::string kind : {"exps", "shexp"})
    for (const std::string name : {"gate", "up", "down"}) {
      const bool down = name == "down", stacked = kind == "exps";
      std::vector<index_t> shape{down ? 6 : 5, down ? 5 : 6};
      if (stacked) shape.insert(shape.begin(), 4);
      put(all, layer + "ffn_" + name + "_" + kind + ".weight", shape, zero);
    }
  put(all, "blk.0.ffn_norm.weight", {6}, zero);
  put(all, layer + "ffn_norm.weight", {6}, zero);
  const json config{{"model_type", "gguf/deepseek2"}, {"block_count", 2},        {"embedding_length", 6},
                    {"leading_dense_block_count", 1}, {"expert_count", 4},       {"expert_used_count", 2},
                    {"expert_shared_count", 1},       {"expert_gating_func", 2}, {"expert_weights_norm", true},
                    {"expert_weights_scale", 2.5},    {"expert_group_count", 2}, {"expert_group_used_count", 1},
                    {"expert_feed_forward_length", 5}};
  const auto d = found(all, config).running();
  CHECK(d.family.name == "gguf/deepseek2");
  CHECK(d.model_layers == std::vector<index_t>{1});
  CHECK((d.gate == io::gate_convention::sigmoid_of_selected && d.scale == 2.5 && d.groups == 2));
  CHECK(found(all, without(config, "expert_weights_norm")).running().gate == io::gate_convention::sigmoid);
  CHECK(found(all, without(config, "expert_group_count")).missing == "expert_group_count");
  CHECK(refusal(all, with(config, "expert_gating_func", 1)) == doctest::Contains("'expert_gating_func' is not 2"));
  CHECK(refusal(all, with(config, "moe_latent_size", 3)) == doctest::Contains("config.json has 'moe_latent_size'"));
  CHECK(refusal(all, with(config, "model_type", "gguf/none")) == doctest::Contains("which is no family known here"));
  put(all, layer + "ffn_down_exps.scale", {4}, zero);
  CHECK(refusal(all, config) == doctest::Contains("'ffn_down_exps.scale' in layer 1 is no part of it"));
}

}  // namespace
