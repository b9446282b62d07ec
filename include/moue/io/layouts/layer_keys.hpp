// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Which layers config.json makes mixtures, in all the ways in which models say so.

#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "moue/io/layouts.hpp"
#include "moue/io/layouts/config.hpp"

namespace moue::inline v0_1::io {
namespace detail {

/// Whether entry `layer` of a list, or letter of a text, marks a mixture.
inline bool marks_mixture(const config_reader& config, const std::string& key, index_t layer) {
  const auto& value = *config.find(key);
  const auto at = static_cast<std::size_t>(layer);
  const std::size_t count = value.is_string() ? value.get_ref<const std::string&>().size() : value.size();
  if (at >= count)
    config.refuse(key, "has " + std::to_string(count) + " entries, none for layer " + std::to_string(layer),
                  "check that the checkpoint is complete and the config.json its own");
  if (value.is_string()) return value.get_ref<const std::string&>()[at] == 'E';
  const auto& entry = value[at];
  if (entry.is_boolean()) return entry.get<bool>();
  if (entry.is_string()) {
    const auto& word = entry.get_ref<const std::string&>();
    return word == "sparse" || word == "moe" || word == "E";
  }
  const auto number = config_number(entry);
  if (!number || *number > 1) config.refuse(key, "is not a list of words, truth values, or 0 and 1", "fix the file");
  return *number == 1;
}

/// What one key says of `layer`; nothing if it is absent.
inline std::optional<bool> key_has_mixture(const config_reader& config, const layer_key& row, index_t layer) {
  const auto* value = config.find(row.key);
  const index_t offset = row.offset.empty() ? 0 : config.value<index_t>(row.offset).value_or(0);
  if (!value) return {};
  const auto listed = [&] {
    const auto layers = *config.value<std::vector<index_t>>(row.key);
    return std::find(layers.begin(), layers.end(), layer) != layers.end();
  };
  using enum layer_rule;
  if (row.rule == each && !value->is_array() && !value->is_string())
    config.refuse(row.key, "is not a list", "fix the file");
  if (row.rule == each || (row.rule == every && value->is_array())) return marks_mixture(config, row.key, layer);
  if (row.rule == dense_in) return !listed();
  if (row.rule == mixtures_in) return listed();
  if (row.rule == mixtures_to && *value == -1) return true;
  const index_t n = *config.value<index_t>(row.key);
  if (row.rule == dense_before) return layer >= n;
  if (row.rule == mixtures_to) return layer <= n;
  if (row.rule == every_last) return n >= 1 && (layer + 1) % n == 0;
  return n >= 1 && layer % n == offset;
}

/// Whether config.json makes `layer` a mixture: if no key denies it.
inline bool config_has_mixture(const config_reader& config, std::span<const layer_key> keys, index_t layer) {
  bool result = true;
  for (const auto& row : keys) result = key_has_mixture(config, row, layer).value_or(true) && result;
  return result;
}

}  // namespace detail
}  // namespace moue::inline v0_1::io
