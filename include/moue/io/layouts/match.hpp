// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Whether the names of a file are those of a layout.

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moue/io/layouts/coded.hpp"
#include "moue/io/layouts/description.hpp"

namespace moue::inline v0_1::io {

namespace detail {

/// Whether `name` is `pattern`, with digits where that says "{e}".
inline bool matches(std::string_view name, std::string_view pattern) {
  const auto brace = pattern.find("{e}");
  if (brace == std::string_view::npos) return name == pattern && !pattern.empty();
  const auto before = pattern.substr(0, brace), after = pattern.substr(brace + 3);
  if (name.size() <= before.size() + after.size() || !name.starts_with(before) || !name.ends_with(after)) return false;
  const auto middle = name.substr(before.size(), name.size() - before.size() - after.size());
  return middle.find_first_not_of("0123456789") == std::string_view::npos;
}

struct layer_tensor {
  std::string_view prefix, rest;
  index_t layer;
};

/// Takes "<prefix><word><l>.<rest>" apart; `word` ends with a dot.
inline std::optional<layer_tensor> layer_of(std::string_view name, std::string_view word) {
  for (auto at = name.find(word); at != std::string_view::npos; at = name.find(word, at + 1)) {
    if (at > 0 && name[at - 1] != '.') continue;
    const char* first = name.data() + at + word.size();
    const char* last = name.data() + name.size();
    std::int32_t layer = 0;
    const auto [end, problem] = std::from_chars(first, last, layer);
    if (problem != std::errc() || layer < 0 || end == last || *end != '.' || *first == '-') continue;
    return layer_tensor{name.substr(0, at), {end + 1, static_cast<std::size_t>(last - end - 1)}, layer};
  }
  return {};
}

using layer_names = std::map<index_t, std::vector<std::string_view>>;

/// The mark of a module that predicts later tokens: it stands among the layers but is none.
inline constexpr std::string_view prediction_mark = "eh_proj.weight";
/// Whether layers with these names before their word are such a module, which has a stack of its own.
inline bool of_prediction(std::string_view prefix) { return prefix == "mtp." || prefix.ends_with(".mtp."); }

/// The patterns of all parts that a layout has.
inline std::vector<std::string> patterns(const moe_layout& layout) {
  std::vector<std::string> found;
  for (const auto part : moe_parts)
    if (!layout.pattern(part).empty()) found.push_back(layout.pattern(part));
  return found;
}

/// Whether `layout` leaves the tensor alone.
inline bool stands_beside(const moe_layout& layout, std::string_view name) {
  return std::any_of(layout.beside.begin(), layout.beside.end(), [&](const std::string& stem) {
    return stem.ends_with('.') ? name.starts_with(stem) : name == stem;
  });
}

/// The names of tensors that hold a part of a layout, in plain numbers or in codes.
inline std::vector<std::string> names_of(const moe_layout& layout, std::string_view pattern) {
  const auto& experts = layout.experts;
  if (experts.mxfp4 && (pattern == experts.gate || pattern == experts.up || pattern == experts.down))
    return {std::string(pattern) + "_blocks", std::string(pattern) + "_scales"};
  return stored_names(pattern);
}

/// Why the layers do not have this layout, and how far the likeness went; no text if they do.
struct misfit {
  int likeness = 0;
  std::string why;
};

/// Whether a layer with these tensors is a mixture of the layout.
inline bool is_mixture(const moe_layout& layout, const std::vector<std::string_view>& names) {
  const auto holds = [&](std::string_view name) { return std::find(names.begin(), names.end(), name) != names.end(); };
  return holds(layout.router) && (layout.left_out.empty() || !holds(layout.left_out));
}

/// Compares one layer that has the router; forgets parts that this family may lack and that the layer does lack.
inline misfit compare(const layer_names& layers, const moe_family& family, moe_layout& layout) {
  const auto layer =
      std::find_if(layers.begin(), layers.end(), [&](const auto& one) { return is_mixture(layout, one.second); });
  if (layer == layers.end()) return {0, "no layer has '" + layout.router + "'"};
  const auto where = "layer " + std::to_string(layer->first);
  const auto matches_one = [](const std::vector<std::string>& patterns, std::string_view name) {
    return std::any_of(patterns.begin(), patterns.end(), [&](const auto& one) { return matches(name, one); });
  };
  const auto there = [&](std::string_view pattern) {
    const auto names = names_of(layout, pattern);
    return std::any_of(layer->second.begin(), layer->second.end(), [&](auto name) { return matches_one(names, name); });
  };
  for (const auto part : family.optional)
    if (!there(layout.pattern(part))) layout.pattern(part).clear();
  auto wanted = patterns(layout);
  for (const auto& fold : layout.folds) wanted.push_back(fold.vector);
  std::vector<std::string> names;
  for (const auto& pattern : wanted) {
    if (!there(pattern)) return {1, where + " has no '" + pattern + "'"};
    for (auto& name : names_of(layout, pattern)) names.push_back(std::move(name));
  }
  for (const auto name : layer->second) {
    const auto stem = name.substr(0, name.find('.') + 1);
    bool ours = name.find("mlp") != name.npos || name.find("moe") != name.npos || name.find("exp") != name.npos ||
                (name.find("ffn") != name.npos && name.find("norm") == name.npos);
    for (const auto& pattern : wanted) ours = ours || (!stem.empty() && pattern.starts_with(stem));
    if (ours && !stands_beside(layout, name) && !matches_one(names, name))
      return {2, "'" + std::string(name) + "' in " + where + " is no part of it"};
  }
  return {3, ""};
}

}  // namespace detail
}  // namespace moue::inline v0_1::io
