// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// From config.json to the numbers of a mixture.

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "moue/error.hpp"
#include "moue/io/layouts/config.hpp"
#include "moue/io/layouts/description.hpp"

namespace moue::inline v0_1::io {
namespace detail {

/// Keys about experts that say what tensors say too, or that matter in training alone, in every family.
inline constexpr std::string_view harmless_keys[] = {"experts_implementation",    "moe_aux_loss_coeff",
                                                     "moe_router_dtype",          "moe_shared_expert_intermediate_size",
                                                     "moe_shared_expert_overlap", "output_router_logits",
                                                     "router_aux_loss_coef",      "router_jitter_noise",
                                                     "router_z_loss_coef",        "shared_expert_intermediate_size"};

/// Whether a key by its name is about the mixture.
inline bool sounds_like_mixture(std::string_view key) {
  if (std::find(std::begin(harmless_keys), std::end(harmless_keys), key) != std::end(harmless_keys) ||
      key.starts_with("index_"))
    return false;
  for (const std::string_view word :
       {"expert", "moe", "rout", "topk_", "grouped_topk", "scoring_func", "score_func", "swiglu"})
    if (key.find(word) != key.npos) return true;
  // Whole names: other parts of a model have activations, too.
  for (const std::string_view name : {"n_group", "hidden_act", "hidden_activation", "mlp_hidden_act", "gating_function",
                                      "gating_type", "shared_output_scale"})
    if (key == name) return true;
  return false;
}

/// Throws unless the key, where config.json has it, has the value.
inline void config_must_be(const config_reader& config, const config_value_of& wanted, const std::string& fix) {
  const auto* at = config.find(wanted.key);
  if (!at) return;
  const auto differs = [&](const std::string& value) {
    config.refuse(wanted.key, "is not " + value + ", the one value understood here", fix);
  };
  if (const auto* truth = std::get_if<bool>(&wanted.value)) {
    if (config.value<bool>(wanted.key) != *truth) differs(*truth ? "true" : "false");
  } else if (const auto* text = std::get_if<std::string>(&wanted.value)) {
    if (config.value<std::string>(wanted.key) != *text) differs("'" + *text + "'");
  } else {
    const double number = std::get<double>(wanted.value);
    auto shown = std::to_string(number);
    shown.erase(shown.find_last_not_of('0') + 1);
    if (shown.ends_with('.')) shown.pop_back();
    if (config.value<double>(wanted.key) != number) differs(shown);
  }
}

inline void note_missing(moe_description& d, const std::vector<std::string>& keys) {
  if (d.missing.empty()) d.missing = keys.empty() ? std::string() : keys[0];
}
/// The number that one of `keys` gives; without it, notes the first of them as missing.
inline index_t needed(const config_reader& config, const std::vector<std::string>& keys, moe_description& d) {
  const auto key = config.first(keys);
  if (key.empty()) note_missing(d, keys);
  return key.empty() ? 0 : config.value_of_layers(key).value_or(0);
}

inline void read_groups(const config_reader& config, moe_description& d) {
  const auto& keys = d.family.keys;
  const auto count = config.first(keys.groups), allowed = config.first(keys.selected_groups);
  if (d.family.group_best == 0) {
    if (!count.empty() && config.value<index_t>(count).value_or(1) > 1)
      config.refuse(count, "is not 1, but " + d.family.name + " is not known to route in groups",
                    "give a row of your own, or compose the router by hand");
    return;
  }
  const bool may_be_plain = d.family.group_best == 1;
  const std::string limited = may_be_plain ? "group_limited_greedy" : "noaux_tc";
  const auto method = config.value<std::string>("topk_method");
  if (may_be_plain && method.value_or("greedy") == "greedy") return;
  if (method && *method != limited)
    config.refuse("topk_method",
                  "is " + std::string(may_be_plain ? "neither 'greedy' nor" : "not") + " '" + limited + "'",
                  "give a row of your own, or compose the router by hand");
  d.groups = needed(config, keys.groups, d);
  d.selected_groups = needed(config, keys.selected_groups, d);
  moue::detail::require(
      !d.missing.empty() ||
          (d.groups >= 1 && d.selected_groups >= 1 && d.selected_groups <= d.groups && d.experts % d.groups == 0),
      "config.json",
      [&] {
        return config.place(count) + " is " + std::to_string(d.groups) + " and " + config.place(allowed) + " " +
               std::to_string(d.selected_groups) + " for " + std::to_string(d.experts) + " experts";
      },
      "groups must cut the experts evenly, and at least one must be allowed", error_kind::content);
}

inline void read_gate(const config_reader& config, moe_description& d) {
  const auto& keys = d.family.keys;
  const char* fix = "give a row of your own whose gate is what the model was trained with";
  const auto norm = config.first(keys.normed);
  bool normed = norm.empty() ? d.family.normed : *config.value<bool>(norm);
  if (!keys.norm_power.empty()) {
    config_must_be(config, {keys.norm_power, 1.0}, fix);
    normed = normed && !config.is_null(keys.norm_power);
  }
  if (!d.family.gate_not_normed && normed != d.family.normed)
    config.refuse(norm,
                  std::string("is ") + (normed ? "true" : "false") + ", on which public implementations of " +
                      d.family.name + " do not agree",
                  fix);
  d.gate = !normed && d.family.gate_not_normed ? *d.family.gate_not_normed : d.family.gate;
  const bool sigmoid = d.gate == gate_convention::sigmoid || d.gate == gate_convention::sigmoid_of_selected;
  const auto scoring = config.value<std::string>("scoring_func");
  const char* score = sigmoid ? "sigmoid" : d.gate == gate_convention::root_of_softplus ? "sqrtsoftplus" : "softmax";
  const bool by_method = sigmoid && scoring == "noaux_tc";  // dots1 gives the method, whose scores are sigmoids
  if (scoring && *scoring != score && !by_method) config.refuse("scoring_func", "is not the family's", fix);

  const auto factor = config.first(keys.scale);
  const bool needs_scale = sigmoid || d.gate == gate_convention::root_of_softplus;
  if (factor.empty() && needs_scale && !keys.scale_default) note_missing(d, keys.scale);
  d.scale = factor.empty() ? keys.scale_default.value_or(1) : *config.value<double>(factor);
  if (!std::isfinite(d.scale) || d.scale <= 0)
    config.refuse(factor, "is " + std::to_string(d.scale), "give a positive number");
  if (d.gate != gate_convention::sparsemixer) return;
  if (d.scale != 1) config.refuse(factor, "is not 1", fix);
  const auto jitter = config.value<double>("router_jitter_noise");
  if (!jitter) note_missing(d, {"router_jitter_noise"});
  d.jitter = jitter.value_or(0);
  if (!std::isfinite(d.jitter) || d.jitter < 0)
    config.refuse("router_jitter_noise", "is " + std::to_string(d.jitter), "give a number of 0 or more");
}

inline void read_activation(const config_reader& config, moe_description& d) {
  const auto key = config.first(d.family.keys.activation);
  if (key.empty()) return;
  const auto& value = *config.find(key);
  // DBRX has it as an object with a name and nothing else.
  const auto named = value.is_object() && value.size() == 1 ? value.find("name") : value.end();
  const auto given = value.is_object() && named != value.end() && named->is_string() ? named->get<std::string>()
                                                                                     : *config.value<std::string>(key);
  using names = std::vector<std::string>;
  const auto known = d.family.activation == expert_activation::relu_squared ? names{"relu2"}
                     : d.family.activation == expert_activation::gelu_tanh  ? names{"gelu_pytorch_tanh", "gelu_new"}
                                                                            : names{"silu", "swish"};
  if (std::find(known.begin(), known.end(), given) == known.end())
    config.refuse(key, "is not '" + known[0] + "', the one understood here",
                  "compose the experts by hand, with an activation of your own");
}

/// Compares what config.json says of sizes and of parts with what the tensors say.
inline void compare_sizes(const config_reader& config, const moe_description& d) {
  const auto& keys = d.family.keys;
  const char* other = "the config.json of another model seems to stand beside this file";
  const auto same = [&](const std::string& key, std::optional<index_t> said, index_t found) {
    if (said && *said != found)
      config.refuse(key, "is not " + std::to_string(found) + ", as the tensors have it", other);
  };
  for (const auto& key : keys.experts) same(key, config.value_of_layers(key), d.experts);
  for (const auto& key : keys.width) same(key, config.value<index_t>(key), d.width);
  for (const char* key : {"moe_intermediate_size", "expert_ffn_hidden_size"})  // modalities may differ
    same(key, config.value_of_layers(key, true), d.hidden);
  if (d.has(moe_part::shared_down))
    same("shared_expert_intermediate_size", config.value<index_t>("shared_expert_intermediate_size"), d.shared_hidden);
  for (const auto& key : keys.latent) same(key, config.value<index_t>(key), d.latent);
  for (const auto& key : keys.shared) {
    const auto count = config.value_of_layers(key);
    if (count && (*count > 0) != d.has(moe_part::shared_down))
      config.refuse(key,
                    "is " + std::to_string(*count) + ", but the tensors of shared experts are " +
                        (*count > 0 ? "missing" : "there"),
                    "check that the checkpoint is complete and the config.json its own");
  }
  const auto biased = config.value<bool>("use_expert_bias");
  if (biased && *biased != d.has(moe_part::selection_bias))
    config.refuse("use_expert_bias",
                  std::string("is ") + (*biased ? "true, but the tensor of the bias is missing"
                                                : "false, but the tensor of a bias is there"),
                  "check that the checkpoint is complete and the config.json its own");
}

/// What config.json says of low precision, beyond what tensors say.
inline void read_schemes(const config_reader& config, moe_description& d) {
  if (const auto tile = config.value<std::vector<index_t>>("weight_block_size")) {
    if (tile->size() != 2 || (*tile)[0] < 1 || (*tile)[1] < 1)
      config.refuse("weight_block_size", "is not two sizes", "fix the file");
    d.tile = {(*tile)[0], (*tile)[1]};
  }
  const auto method = config.value<std::string>("quant_method").value_or("");
  if (method == "awq")
    config_must_be(config, {"version", "gemm"}, "convert it to that version");
  else if (method == "gptq") {
    const auto format = config.value<std::string>("checkpoint_format").value_or("gptq");
    if (format != "gptq" && format != "gptq_v2")
      config.refuse("checkpoint_format", "is neither 'gptq' nor 'gptq_v2'", "convert it to one of them");
    d.zeros_as_they_are = format == "gptq_v2";
  }
}

/// Fills in what tensors cannot tell, and checks what they can. Throws on contradictions.
inline void read_numbers(const config_reader& config, moe_description& d) {
  const auto& keys = d.family.keys;
  compare_sizes(config, d);
  read_activation(config, d);
  for (const auto& wanted : keys.must_be)
    config_must_be(config, wanted, "give a row of your own, or compose the layer by hand");
  d.per_token = needed(config, keys.per_token, d);
  if (d.missing.empty() && (d.per_token < 1 || d.per_token > d.candidates()))
    config.refuse(config.first(keys.per_token),
                  "is " + std::to_string(d.per_token) + " of " + std::to_string(d.candidates()) + " experts",
                  "give a number from 1 to the experts of a layer");
  read_gate(config, d);
  read_groups(config, d);

  read_schemes(config, d);
  for (const auto& key : config.unread(sounds_like_mixture))
    if (std::find(keys.ignored.begin(), keys.ignored.end(), key) == keys.ignored.end()) d.not_understood.push_back(key);
}

}  // namespace detail
}  // namespace moue::inline v0_1::io
