// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Recognition from names, shapes and config.json: what is found, and what each kind of damage is called.

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "recognised.hpp"

namespace {

using moue::index_t;
using namespace test;
namespace io = moue::io;
using io::moe_part;
using nlohmann::json;

const layout_sizes sizes{6, 5};

const json deepseek_config{{"model_type", "deepseek_v3"},
                           {"num_hidden_layers", 2},
                           {"num_experts_per_tok", 2},
                           {"n_group", 1},
                           {"topk_group", 1},
                           {"routed_scaling_factor", 2.5}};

/// The error that recognition ends in.
doctest::String refusal(const raw_tensors& all, const json& config, const io::moe_options& options = {}) {
  try {
    found(all, config, options);
  } catch (const moue::error& error) {
    return error.what();
  }
  return "";
}

TEST_CASE("numbers come from config.json") {
  const auto d = found(qwen(), qwen_config);
  CHECK(d.missing.empty());
  CHECK(d.per_token == 2);
  CHECK(d.gate == io::gate_convention::softmax_of_selected);
  CHECK(found(qwen(), with(qwen_config, "norm_topk_prob", false)).gate == io::gate_convention::softmax);
  CHECK(found(qwen(), without(qwen_config, "norm_topk_prob")).gate == io::gate_convention::softmax);

  const auto v3 = found(deepseek(), deepseek_config);
  CHECK(v3.scale == 2.5);
  CHECK(v3.gate == io::gate_convention::sigmoid_of_selected);
  CHECK(found(deepseek(), with(deepseek_config, "norm_topk_prob", false)).gate == io::gate_convention::sigmoid);
  const auto grouped = found(deepseek(), with(with(deepseek_config, "n_group", 3), "topk_group", 2));
  CHECK((grouped.groups == 3 && grouped.selected_groups == 2));
}

TEST_CASE("a missing number is named only when it is needed, and can be given by the caller") {
  const std::vector<std::pair<json, const char*>> configs{
      {without(deepseek_config, "num_experts_per_tok"), "'num_experts_per_tok' is not known"},
      {without(deepseek_config, "routed_scaling_factor"), "'routed_scaling_factor' is not known"},
      {without(deepseek_config, "n_group"), "'n_group' is not known"},
      {without(deepseek_config, "topk_group"), "'topk_group' is not known"}};
  for (const auto& [config, text] : configs) {
    const auto d = found(deepseek(), config);
    CHECK_THROWS_WITH_AS(d.running(), doctest::Contains(text), moue::error);
  }
  const auto d = found(qwen(), {}, {.family = "olmoe", .config = {{"num_experts_per_tok", 3}}});
  CHECK(d.per_token == 3);
  CHECK(&d.running() == &d);
}

TEST_CASE("names alone decide where they can") {
  CHECK(found(make_layout("gpt_oss", sizes, "mlp.router.weight"), {}).family.name == "gpt_oss");
  CHECK(found(make_layout("granite", sizes, "block_sparse_moe.router.layer.weight"), {}).family.name == "granitemoe");
  const auto text = refusal(qwen(), {});
  CHECK(text == doctest::Contains("the tensors fit several families: mellum, olmoe, qwen3_moe"));
  CHECK(text == doctest::Contains("put 'model_type' into a config.json beside the file"));
}

TEST_CASE("a config.json of another model is noticed") {
  CHECK(refusal(qwen(), with(qwen_config, "model_type", "mixtral")) ==
        doctest::Contains("config.json says 'mixtral', but the tensors do not fit (mixtral (fused): layer 0 has no "
                          "'mlp.experts.gate_up_proj'); they fit mellum, olmoe, qwen3_moe"));
  CHECK(refusal(qwen(), with(qwen_config, "model_type", "new_moe")) ==
        doctest::Contains(
            "config.json says 'new_moe', which is no family known here; its tensors fit mellum, olmoe, qwen3_moe"));
  CHECK(found(qwen(), with(qwen_config, "model_type", "new_moe"), {.family = "qwen3_moe", .config = {}}).per_token ==
        2);
  CHECK(refusal(qwen(), qwen_config, {.family = "qwen9", .config = {}}) ==
        doctest::Contains("there is no family 'qwen9'; choose one of mixtral,"));
  CHECK(refusal(qwen(), with(qwen_config, "num_experts", 4)) ==
        doctest::Contains("'num_experts' is not 3, as the tensors have it"));
  CHECK(refusal(qwen(), with(qwen_config, "hidden_size", 5)) ==
        doctest::Contains("'hidden_size' is not 6, as the tensors have it"));
  CHECK(refusal(qwen(), with(qwen_config, "hidden_act", "gelu")) == doctest::Contains("'hidden_act' is not 'silu'"));
  CHECK(refusal(qwen(), with(qwen_config, "activation_function", "relu")) ==
        doctest::Contains("'activation_function' is not 'silu'"));
  CHECK(refusal(qwen(), with(qwen_config, "num_experts_per_tok", 4)) ==
        doctest::Contains("'num_experts_per_tok' is 4 of 3 experts"));
  CHECK(refusal(qwen(), with(qwen_config, "num_experts_per_tok", "2")) ==
        doctest::Contains("'num_experts_per_tok' is not a whole number"));
  CHECK(refusal(qwen(), with(qwen_config, "num_experts_per_tok", -1)) == doctest::Contains("between 0 and 2147483647"));
  CHECK(refusal(deepseek(), with(deepseek_config, "n_group", 2)) ==
        doctest::Contains("'n_group' is 2 and 'topk_group' 1 for 3 experts"));
  CHECK(refusal(deepseek(), with(deepseek_config, "scoring_func", "softmax")) ==
        doctest::Contains("'scoring_func' is not the family's"));
  CHECK(refusal(deepseek(), with(deepseek_config, "topk_method", "best")) ==
        doctest::Contains("'topk_method' is not 'noaux_tc'"));
  CHECK(refusal(deepseek(), with(deepseek_config, "routed_scaling_factor", 0)) ==
        doctest::Contains("'routed_scaling_factor' is 0"));
  auto v2 = make_layout("per expert", sizes);
  add_shared(v2, sizes, "mlp.shared_experts.");
  CHECK(refusal(v2, {{"model_type", "deepseek_v2"}, {"norm_topk_prob", true}}) ==
        doctest::Contains("'norm_topk_prob' is true, on which public implementations of deepseek_v2 do not agree"));
  CHECK(refusal(make_layout("gpt_oss", sizes, "mlp.router.weight"),
                {{"model_type", "gpt_oss"}, {"swiglu_limit", 5.0}}) == doctest::Contains("'swiglu_limit' is not 7"));
}

TEST_CASE("damaged checkpoints are named by the tensor") {
  const std::string stem = "model.layers.1.mlp.experts.2.";
  auto all = qwen();
  all.erase(stem + "up_proj.weight");
  CHECK(refusal(all, qwen_config) == doctest::Contains("'model.layers.1.mlp.experts.2.up_proj.weight' is missing"));
  all = qwen();
  all.at(stem + "down_proj.weight").shape = {5, 6};
  CHECK(refusal(all, qwen_config) ==
        doctest::Contains("'model.layers.1.mlp.experts.2.down_proj.weight' has shape [5, 6], not [6, 5]"));
  all = qwen();
  all.at("model.layers.0.mlp.gate.weight").shape = {18};
  CHECK(refusal(all, qwen_config) == doctest::Contains("has shape [18]; a router is a matrix"));
  all = qwen();
  all.erase("model.layers.1.mlp.gate.weight");
  CHECK(refusal(all, qwen_config) ==
        doctest::Contains("by config.json layer 1 is a mixture, but 'model.layers.1.mlp.gate.weight' is missing"));
  for (auto at = all.begin(); at != all.end();)
    at = at->first.starts_with("model.layers.1.") ? all.erase(at) : std::next(at);
  CHECK(refusal(all, qwen_config) == doctest::Contains("layer 1 of 2 is missing"));
  all = qwen();
  add_plain(all, sizes, "mlp.experts.0.gate_proj.lora_A.weight", moe_part::gate, {2});
  CHECK(refusal(all, qwen_config) ==
        doctest::Contains("'mlp.experts.0.gate_proj.lora_A.weight' in layer 0 is no part of it"));
  all = make_layout("fused", sizes);
  all.at("model.layers.0.mlp.experts.down_proj").shape = {3, 6, 0};
  CHECK(refusal(all, qwen_config) == doctest::Contains("has shape [3, 6, 0]; no layer has such a size"));
  CHECK(refusal({}, {}) == doctest::Contains("the tensors fit no family (no tensor is called 'layers.<number>...')"));
  all = qwen();
  for (const auto& [name, tensor] : qwen()) all["other." + name] = tensor;
  CHECK(refusal(all, qwen_config) ==
        doctest::Contains("there are several stacks of layers, 'model.layers.' and 'other.model.layers.'"));
}

TEST_CASE("dense layers and modules that predict later tokens are no mixtures") {
  // Layer 1 of 4 is dense, 4 is beyond the depth.
  const layout_sizes some{6, 5, 3, 3, {0, 2, 3, 4}};
  auto all = qwen(some);
  put(all, "model.layers.1.mlp.up_proj.weight", {7, 6}, [](const position&) { return 1.0f; });
  put(all, "model.layers.4.eh_proj.weight", {6, 12}, [](const position&) { return 1.0f; });
  const auto config = with(with(qwen_config, "num_hidden_layers", 4), "mlp_only_layers", {1});
  CHECK(found(all, config).model_layers == std::vector<index_t>{0, 2, 3});
  for (const char* stack : {"mtp.layers.", "model.mtp.layers."}) {  // a module of prediction with experts of its own
    auto with_stack = all;
    for (const auto& [name, tensor] : qwen())
      if (name.starts_with("model.layers.0.")) with_stack[stack + name.substr(13)] = tensor;
    CHECK(with_stack.size() > all.size());
    CHECK(found(with_stack, config).prefix == "model.");
    CHECK(found(with_stack, config).model_layers == std::vector<index_t>{0, 2, 3});
  }
  CHECK(found(all, {}, {.family = "olmoe", .config = {}}).model_layers == std::vector<index_t>{0, 2, 3});
  CHECK(refusal(all, with(config, "mlp_only_layers", {1, 2})) ==
        doctest::Contains("by config.json layer 2 is dense, but"));
  CHECK(refusal(all, with(config, "decoder_sparse_step", 2)) ==
        doctest::Contains("by config.json layer 0 is dense, but"));
  CHECK(refusal(all, with(config, "first_k_dense_replace", 1)) ==
        doctest::Contains("by config.json layer 0 is dense, but"));
  CHECK(refusal(all, with(config, "moe_layer_freq", 3)) == doctest::Contains("by config.json layer 2 is dense, but"));
  CHECK(found(qwen({6, 5, 3, 3, {1, 3}}), with(with(qwen_config, "num_hidden_layers", 4), "decoder_sparse_step", 2))
            .model_layers == std::vector<index_t>{1, 3});
}

TEST_CASE("names need no 'model.' in front, or may have more") {
  for (const std::string prefix : {"", "model.language_model."}) {
    raw_tensors all;
    for (const auto& [name, tensor] : qwen()) all[prefix + name.substr(6)] = tensor;
    const auto d = found(all, qwen_config);
    CHECK(d.prefix == prefix);
    CHECK(d.tensor_name(1, moe_part::down, 2) == prefix + "layers.1.mlp.experts.2.down_proj.weight");
  }
}

TEST_CASE("a row of one's own joins the table") {
  auto families = moue::io::known_families();
  families.push_back({.name = "acme_moe",
                      .model_types = {"acme"},
                      .layouts = {{.name = "published",
                                   .router = "ffn.router.weight",
                                   .experts = {.gate = "ffn.experts.w_in",
                                               .up = "ffn.experts.w_in",
                                               .down = "ffn.experts.w_out",
                                               .pair = moue::io::pairing::interleaved}}},
                      .gate = moue::io::gate_convention::sigmoid_of_selected});
  const moue::io::moe_options options{.family = {}, .config = {}, .families = families};
  raw_tensors all;
  const auto zero = [](const position&) { return 0.0f; };
  put(all, "layers.0.ffn.router.weight", {3, 6}, zero);
  put(all, "layers.0.ffn.experts.w_in", {3, 10, 6}, zero);
  put(all, "layers.0.ffn.experts.w_out", {3, 6, 5}, zero);
  const auto d =
      found(all, {{"model_type", "acme"}, {"num_experts_per_tok", 1}, {"routed_scaling_factor", 1}}, options);
  CHECK(d.family.name == "acme_moe");
  CHECK(d.hidden == 5);
  const auto up = d.slice(0, moe_part::up, 2);
  CHECK(up.first + static_cast<std::uint64_t>(up.position(1, 4)) == 2 * 60 + 3 * 6 + 4);
}

}  // namespace
