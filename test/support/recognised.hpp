// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Synthetic checkpoints and configurations of two families, and what is recognised of them.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "layout_files.hpp"
#include "moue/io/layouts/recognise.hpp"

namespace test {

inline const nlohmann::json qwen_config{
    {"model_type", "qwen3_moe"}, {"num_hidden_layers", 2}, {"num_experts_per_tok", 2}, {"norm_topk_prob", true}};
inline raw_tensors qwen(const layout_sizes& s = {6, 5}) { return make_layout("per expert", s); }

/// The shared expert and the selection bias of DeepSeek-V3.
inline raw_tensors deepseek(const layout_sizes& s = {6, 5}) {
  auto all = qwen(s);
  add_shared(all, s, "mlp.shared_experts.");
  add_plain(all, s, "mlp.gate.e_score_correction_bias", moe_part::selection_bias, {s.experts});
  return all;
}

inline nlohmann::json with(nlohmann::json config, const char* key, const nlohmann::json& value) {
  config[key] = value;
  return config;
}
inline nlohmann::json without(nlohmann::json config, const char* key) {
  config.erase(key);
  return config;
}

inline moue::io::moe_description found(const raw_tensors& all, const nlohmann::json& config,
                                       const moue::io::moe_options& options = {}) {
  std::vector<moue::io::tensor_entry> entries;
  for (const auto& [name, tensor] : all)
    entries.push_back(
        {name, tensor.type, std::string(name_of(tensor.type)), {tensor.shape.begin(), tensor.shape.end()}, 0, 0});
  return moue::io::recognise(entries, config, options);
}

}  // namespace test
