// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What config.json says of a mixture: its numbers, and which layers are dense.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include <nlohmann/json.hpp>

#include "moue/error.hpp"
#include "moue/io/layouts/description.hpp"

namespace moue::inline v0_1::io {
namespace detail {

/// One key of config.json as `T`; empty if it is absent or null. Throws if it is something else.
template <class T>
std::optional<T> config_value(const nlohmann::json& config, const char* key) {
  const auto wrong = [&](const char* wanted) {
    return error("config.json", "'" + std::string(key) + "' is not " + wanted, "fix the file");
  };
  const auto at = config.find(key);
  if (at == config.end() || at->is_null()) return {};
  if constexpr (std::is_same_v<T, bool>) {
    if (!at->is_boolean()) throw wrong("true or false");
    return at->get<bool>();
  } else if constexpr (std::is_same_v<T, std::string>) {
    if (!at->is_string()) throw wrong("a text");
    return at->get<std::string>();
  } else if constexpr (std::is_same_v<T, double>) {
    if (!at->is_number()) throw wrong("a number");
    return at->get<double>();
  } else if constexpr (std::is_same_v<T, index_t>) {
    if (!at->is_number_integer()) throw wrong("a whole number");
    const auto value = at->get<std::int64_t>();
    if (value < 0 || value > 0x7fffffff || (at->is_number_unsigned() && at->get<std::uint64_t>() > 0x7fffffff))
      throw wrong("between 0 and 2147483647");
    return static_cast<index_t>(value);
  } else {
    static_assert(std::is_same_v<T, std::vector<index_t>>);
    if (!at->is_array()) throw wrong("a list");
    std::vector<index_t> values;
    for (const auto& element : *at) {
      if (!element.is_number_integer()) throw wrong("a list of whole numbers");
      values.push_back(element.template get<index_t>());
    }
    return values;
  }
}

/// The keys of config.json and of its entry "quantization_config", without anything that is nested deeper: copying that
/// would take as much stack as a hostile file likes.
inline nlohmann::json shallow(const nlohmann::json& config) {
  auto result = nlohmann::json::object();
  const auto is_plain = [](const nlohmann::json& value) { return value.is_primitive(); };
  const auto copy = [&](const nlohmann::json& from) {
    for (const auto& [key, value] : from.items())
      result[key] = value.is_primitive() || (value.is_array() && std::all_of(value.begin(), value.end(), is_plain))
                        ? value
                        : nlohmann::json("...");
  };
  if (!config.is_object()) return result;
  const auto quantised = config.find("quantization_config");
  if (quantised != config.end() && quantised->is_object()) copy(*quantised);
  copy(config);
  return result;
}

/// Whether config.json makes layer `layer` a mixture; layers that it says nothing of are.
inline bool config_has_mixture(const nlohmann::json& config, index_t layer) {
  const auto dense = config_value<std::vector<index_t>>(config, "mlp_only_layers").value_or(std::vector<index_t>{});
  for (const index_t l : dense)
    if (l == layer) return false;
  if (layer < config_value<index_t>(config, "first_k_dense_replace").value_or(0)) return false;
  const index_t step = config_value<index_t>(config, "decoder_sparse_step").value_or(1);
  if (step < 1 || (layer + 1) % step != 0) return false;
  const index_t frequency = config_value<index_t>(config, "moe_layer_freq").value_or(1);
  return frequency >= 1 && layer % frequency == 0;
}

/// Throws unless `key`, where config.json has it, is `value`.
template <class T>
void config_must_be(const nlohmann::json& config, const char* key, const T& value, const std::string& what,
                    const char* fix) {
  const auto given = config_value<T>(config, key);
  if (given && *given != value) throw error("config.json", "'" + std::string(key) + "' " + what, fix);
}

/// The number that `key` gives; without it, notes the first such key as missing.
inline index_t needed(const nlohmann::json& config, const char* key, moe_description& d) {
  const auto value = config_value<index_t>(config, key);
  if (!value && d.missing.empty()) d.missing = key;
  return value.value_or(0);
}

inline void read_groups(const nlohmann::json& config, moe_description& d) {
  if (d.family.group_best == 0) return;
  const std::string limited = d.family.group_best == 1 ? "group_limited_greedy" : "noaux_tc";
  const auto method = config_value<std::string>(config, "topk_method");
  if (method.value_or(d.family.group_best == 1 ? "greedy" : limited) == "greedy") return;
  config_must_be<std::string>(config, "topk_method", limited, "is neither 'greedy' nor '" + limited + "'",
                              "give a row of your own, or compose the router by hand");
  d.groups = needed(config, "n_group", d);
  d.selected_groups = needed(config, "topk_group", d);
  moue::detail::require(
      !d.missing.empty() ||
          (d.groups >= 1 && d.selected_groups >= 1 && d.selected_groups <= d.groups && d.experts % d.groups == 0),
      "config.json",
      [&] {
        return "'n_group' is " + std::to_string(d.groups) + " and 'topk_group' " + std::to_string(d.selected_groups) +
               " for " + std::to_string(d.experts) + " experts";
      },
      "groups must cut the experts evenly, and at least one must be kept");
}

inline void read_gate(const nlohmann::json& config, moe_description& d) {
  const char* fix = "give a row of your own whose gate is what the model was trained with";
  const bool normed = config_value<bool>(config, "norm_topk_prob").value_or(d.family.normed);
  moue::detail::require(
      d.family.gate_not_normed || normed == d.family.normed, "config.json",
      [&] {
        return "'norm_topk_prob' is " + std::string(normed ? "true" : "false") +
               ", on which public implementations of " + d.family.name + " do not agree";
      },
      fix);
  d.gate = !normed && d.family.gate_not_normed ? *d.family.gate_not_normed : d.family.gate;
  const bool sigmoid = d.gate == gate_convention::sigmoid || d.gate == gate_convention::sigmoid_of_selected;
  config_must_be<std::string>(config, "scoring_func", sigmoid ? "sigmoid" : "softmax", "is not the family's", fix);
  if (sigmoid || d.gate == gate_convention::softmax) {
    const auto scale = config_value<double>(config, "routed_scaling_factor");
    if (sigmoid && !scale && d.missing.empty()) d.missing = "routed_scaling_factor";
    d.scale = scale.value_or(1);
    moue::detail::require(
        std::isfinite(d.scale) && d.scale > 0, "config.json",
        [&] { return "'routed_scaling_factor' is " + std::to_string(d.scale); }, "give a positive number");
  }
  if (d.gate == gate_convention::sparsemixer) {
    const auto jitter = config_value<double>(config, "router_jitter_noise");
    if (!jitter && d.missing.empty()) d.missing = "router_jitter_noise";
    d.jitter = jitter.value_or(0);
    moue::detail::require(
        std::isfinite(d.jitter) && d.jitter >= 0, "config.json",
        [&] { return "'router_jitter_noise' is " + std::to_string(d.jitter); }, "give a number of 0 or more");
  }
}

/// Fills in what tensors cannot tell, and checks what they can. Throws on contradictions.
inline void read_numbers(const nlohmann::json& config, moe_description& d) {
  const char* other = "the config.json of another model seems to stand beside this file";
  for (const char* key : {"num_experts", "num_local_experts", "n_routed_experts"})
    config_must_be(config, key, d.experts, "is not " + std::to_string(d.experts) + ", as the tensors have it", other);
  config_must_be(config, "hidden_size", d.width, "is not " + std::to_string(d.width) + ", as the tensors have it",
                 other);
  const char* by_hand = "compose the experts by hand, with an activation of your own";
  for (const char* key : {"hidden_act", "activation_function"})
    config_must_be<std::string>(config, key, "silu", "is not 'silu', the one understood here", by_hand);
  if (d.family.clamped_swiglu) {
    config_must_be(config, "swiglu_limit", 7.0, "is not 7, the one value understood here", by_hand);
    config_must_be(config, "swiglu_alpha", 1.702, "is not 1.702, the one value understood here", by_hand);
  }
  d.per_token = needed(config, "num_experts_per_tok", d);
  moue::detail::require(
      !d.missing.empty() || (d.per_token >= 1 && d.per_token <= d.experts), "config.json",
      [&] {
        return "'num_experts_per_tok' is " + std::to_string(d.per_token) + " of " + std::to_string(d.experts) +
               " experts";
      },
      "give a number from 1 to the experts of a layer");
  read_gate(config, d);
  read_groups(config, d);
  const auto tile = config_value<std::vector<index_t>>(config, "weight_block_size");
  if (!tile) return;
  const auto sound = [](index_t n) { return n > 0 && n <= 0x7fffffff; };
  moue::detail::require(
      tile->size() == 2 && sound((*tile)[0]) && sound((*tile)[1]), "config.json",
      [] { return std::string("'weight_block_size' is not two sizes"); }, "fix the file");
  d.tile = {(*tile)[0], (*tile)[1]};
}

}  // namespace detail
}  // namespace moue::inline v0_1::io
