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
#include <vector>

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

/// Takes "<prefix>layers.<l>.<rest>" apart.
inline std::optional<layer_tensor> layer_of(std::string_view name) {
  constexpr std::string_view word = "layers.";
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

/// The patterns of all parts that a layout of a family has.
inline std::vector<std::string> patterns(const moe_family& family, const moe_layout& layout) {
  moe_description d;
  d.family = family;
  d.layout = layout;
  std::vector<std::string> found;
  for (const auto part : moe_parts)
    if (d.has(part)) found.push_back(d.pattern(part));
  return found;
}

/// The tensors that may hold the matrix called `name`: itself, or its low-precision pieces.
inline bool explains(const expert_layout& experts, std::string_view pattern, std::string_view name) {
  if (experts.mxfp4 && (pattern == experts.gate || pattern == experts.up || pattern == experts.down)) {
    for (const std::string_view piece : {"_blocks", "_scales"})
      if (name.ends_with(piece) && matches(name.substr(0, name.size() - piece.size()), pattern)) return true;
    return false;
  }
  constexpr std::string_view scale = "_scale_inv";
  return matches(name, pattern) ||
         (name.ends_with(scale) && matches(name.substr(0, name.size() - scale.size()), pattern));
}

/// Why the layers do not have this layout, and how far the likeness went; no text if they do.
struct misfit {
  int likeness = 0;
  std::string why;
};

inline misfit compare(const layer_names& layers, const moe_family& family, const moe_layout& layout) {
  const auto has_router = [&](const auto& layer) {
    return std::any_of(layer.second.begin(), layer.second.end(), [&](auto name) { return name == layout.router; });
  };
  const auto layer = std::find_if(layers.begin(), layers.end(), has_router);
  if (layer == layers.end()) return {0, "no layer has '" + layout.router + "'"};
  const auto where = "layer " + std::to_string(layer->first);
  const auto wanted = patterns(family, layout);
  for (const auto& pattern : wanted)
    if (std::none_of(layer->second.begin(), layer->second.end(),
                     [&](auto name) { return explains(layout.experts, pattern, name); }))
      return {1, where + " has no '" + pattern + "'"};
  for (const auto name : layer->second) {
    const auto stem = name.substr(0, name.find('.') + 1);
    bool ours = name.find("mlp") != name.npos || name.find("moe") != name.npos || name.find("expert") != name.npos;
    bool known = false;
    for (const auto& pattern : wanted) {
      ours = ours || (!stem.empty() && pattern.starts_with(stem));
      known = known || explains(layout.experts, pattern, name);
    }
    if (ours && !known) return {2, "'" + std::string(name) + "' in " + where + " is no part of it"};
  }
  return {3, ""};
}

}  // namespace detail
}  // namespace moue::inline v0_1::io
