// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Families as llama.cpp writes them: the same rules under the names of GGUF files.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "moue/io/gguf/header.hpp"
#include "moue/io/layouts.hpp"
#include "moue/io/safetensors/header.hpp"

namespace moue::inline v0_1::io::detail {

/// An architecture of llama.cpp, the family that it is, and whether its gates are normed where no key says so.
struct gguf_row {
  std::string_view architecture;
  std::string_view family;
  bool normed = false;
  bool any_layers = false;  ///< no key says which layers are mixtures
};
/// Two families of one architecture have different tensors; the one with more of them comes first, since errors name it.
inline constexpr gguf_row gguf_rows[] = {{"llama", "mixtral"},
                                         {"olmoe", "olmoe"},
                                         {"qwen2moe", "qwen2_moe"},
                                         {"qwen3moe", "qwen3_moe", true},
                                         {"qwen3vlmoe", "qwen3_vl_moe"},
                                         {"qwen3next", "qwen3_next", true},
                                         {"qwen35moe", "qwen3_5_moe"},
                                         {"deepseek2", "deepseek_v3"},
                                         {"deepseek2", "deepseek_v2"},
                                         {"glm4moe", "deepseek_v3"},
                                         {"dots1", "dots1"},
                                         {"granitemoe", "granitemoeshared"},
                                         {"granitemoe", "granitemoe"},
                                         {"gpt-oss", "gpt_oss"},
                                         {"minimax-m2", "minimax_m2"},
                                         {"lfm2moe", "lfm2_moe", true},
                                         {"jamba", "jamba", false, true},
                                         {"hunyuan-moe", "hunyuan_v1_moe"},
                                         {"afmoe", "afmoe"},
                                         {"ernie4_5-moe", "ernie4_5_moe"},
                                         {"kimi-linear", "kimi_linear"}};

/// What config.json would call the model: other names than those of transformers, since keys differ as well.
inline std::string gguf_model_type(std::string_view architecture) { return "gguf/" + std::string(architecture); }

/// What config.json would say: the architecture's keys, without its name before them. Layers that predict later tokens
/// are no part of the depth.
inline nlohmann::json gguf_config(const gguf_header& header) {
  auto config = nlohmann::json::object();
  const auto text = [&](std::string_view key) -> std::string {
    const auto at = header.values.find(key);
    if (at == header.values.end() || at->second.kind != gguf_kind::text) return {};
    return {reinterpret_cast<const char*>(at->second.bytes.data()), at->second.bytes.size()};
  };
  constexpr double longest = 9007199254740992;
  const auto architecture = text("general.architecture");
  for (const auto& [key, value] : header.values) {
    if (architecture.empty() || !key.starts_with(architecture + ".")) continue;
    const auto name = key.substr(architecture.size() + 1);
    const auto number = number_in(value.kind, value.bytes);
    if (value.kind == gguf_kind::text)
      config[name] = text(key);
    else if (value.kind == gguf_kind::boolean)
      config[name] = number != 0.0;
    else if (number && (value.kind == gguf_kind::f32 || value.kind == gguf_kind::f64))
      config[name] = *number;
    else if (number && *number >= -longest && *number <= longest)
      config[name] = static_cast<std::int64_t>(*number);
    else
      config[name] = nlohmann::json::array();  // a list, or more than 53 bits: nothing that a row asks for
  }
  const auto whole = [&](const char* key) -> std::int64_t {
    const auto at = config.find(key);
    return at != config.end() && at->is_number_integer() ? at->get<std::int64_t>() : 0;
  };
  if (const auto later = whole("nextn_predict_layers"); later > 0 && later < whole("block_count"))
    config["block_count"] = whole("block_count") - later;
  // What llama.cpp takes it for where it is not said.
  if (architecture == "deepseek2" && !config.contains("expert_gating_func")) config["expert_gating_func"] = 1;
  // Older files do not say how many groups there are; one is then not to be guessed.
  if (architecture == "deepseek2" && config["expert_gating_func"] == 1) config["topk_method"] = "group_limited_greedy";
  config["model_type"] = gguf_model_type(architecture);
  return config;
}

/// As if all were stored in single precision: what a tensor is decoded from is the reader's business.
inline std::vector<tensor_entry> entries_of(const gguf_header& header) {
  std::vector<tensor_entry> found;
  for (const auto& tensor : header.tensors) {
    auto& entry = found.emplace_back();
    entry.name = tensor.name;
    entry.type = dtype::f32;
    entry.type_name = "F32";
    entry.shape = tensor.shape;
  }
  return found;
}

/// What GGUF files call a part, and what they call it where gate and up are one tensor.
struct gguf_name {
  moe_part part;
  std::string_view apart, paired = apart;
};
inline constexpr gguf_name gguf_names[] = {{moe_part::gate, "ffn_gate_exps.weight", "ffn_gate_up_exps.weight"},
                                           {moe_part::up, "ffn_up_exps.weight", "ffn_gate_up_exps.weight"},
                                           {moe_part::down, "ffn_down_exps.weight"},
                                           {moe_part::gate_bias, "ffn_gate_exps.bias", "ffn_gate_up_exps.bias"},
                                           {moe_part::up_bias, "ffn_up_exps.bias", "ffn_gate_up_exps.bias"},
                                           {moe_part::down_bias, "ffn_down_exps.bias"},
                                           {moe_part::shared_gate, "ffn_gate_shexp.weight"},
                                           {moe_part::shared_up, "ffn_up_shexp.weight"},
                                           {moe_part::shared_down, "ffn_down_shexp.weight"},
                                           {moe_part::shared_self_gate, "ffn_gate_inp_shexp.weight"},
                                           {moe_part::router, "ffn_gate_inp.weight"},
                                           {moe_part::router_bias, "ffn_gate_inp.bias"},
                                           {moe_part::selection_bias, "exp_probs_b.bias"}};

/// The parts of `known` under the names of GGUF files. Experts stand stacked, [experts, out, in].
inline moe_layout gguf_layout(const moe_layout& known, bool paired) {
  moe_layout result{.name = paired ? "gguf, gate and up in one" : "gguf", .router = {}, .experts = {}, .word = "blk."};
  for (const auto& row : gguf_names)
    if (!known.pattern(row.part).empty()) result.pattern(row.part) = paired ? row.paired : row.apart;
  if (paired) result.experts.pair = pairing::halves;
  return result;
}

/// Keys as `gguf_config` gives them, without the architecture before them.
inline config_keys gguf_keys(const moe_family& known) {
  const bool sigmoid = known.gate == gate_convention::sigmoid_of_selected || known.gate == gate_convention::sigmoid;
  const bool normed =
      known.gate == gate_convention::sigmoid_of_selected || known.gate == gate_convention::softmax_of_selected;
  config_keys keys{.inside = {},
                   .per_token = {"expert_used_count"},
                   .experts = {"expert_count"},
                   .depth = {"block_count"},
                   .width = {"embedding_length"},
                   .shared = {"expert_shared_count"},
                   .normed = {"expert_weights_norm"},
                   .scale = {"expert_weights_scale"},
                   .scale_default = known.keys.scale_default,
                   .groups = {"expert_group_count"},
                   .selected_groups = {"expert_group_used_count"},
                   .activation = {},
                   .layers = {{"leading_dense_block_count", layer_rule::dense_before},
                              {"interleave_moe_layer_step", layer_rule::every_last}},
                   .must_be = {{"expert_gating_func", sigmoid ? 2.0 : 1.0}},
                   .ignored = {"expert_feed_forward_length", "expert_shared_feed_forward_length"}};
  if (known.keys.normed.empty() || !known.gate_not_normed) {
    keys.normed = {};
    keys.must_be.push_back({"expert_weights_norm", normed});
  }
  return keys;
}

/// Appends a row for each of `gguf_rows`.
inline void add_gguf_families(std::vector<moe_family>& families) {
  const auto known = families.size();
  for (const auto& row : gguf_rows) {
    const auto at = std::find_if(families.begin(), families.begin() + static_cast<std::ptrdiff_t>(known),
                                 [&](const moe_family& family) { return family.name == row.family; });
    auto family = *at;
    family.name = gguf_model_type(row.architecture);
    family.model_types = {family.name};
    family.keys = gguf_keys(family);
    if (row.any_layers) family.keys.depth = {};
    family.normed = family.gate_not_normed ? row.normed : family.normed;
    const auto published = family.layouts.front();
    family.layouts = {gguf_layout(published, false)};
    if (!published.experts.gate.empty()) family.layouts.push_back(gguf_layout(published, true));
    families.push_back(std::move(family));
  }
}

}  // namespace moue::inline v0_1::io::detail
