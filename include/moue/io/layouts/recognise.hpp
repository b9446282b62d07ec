// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// From names, shapes and config.json to a description. A pure function of these: it reads no numbers of any tensor.

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "moue/error.hpp"
#include "moue/io/layouts/config.hpp"
#include "moue/io/layouts/families.hpp"
#include "moue/io/layouts/match.hpp"
#include "moue/io/message.hpp"
#include "moue/io/safetensors/header.hpp"

namespace moue::inline v0_1::io {

/// What a caller may tell about a checkpoint.
struct moe_options {
  std::string family = {};                              ///< empty: found out
  nlohmann::json config = {};                           ///< keys that go before those of the file's config.json
  std::vector<moe_family> families = known_families();  ///< the rows to choose from
};

namespace detail {

class recogniser {
 public:
  recogniser(std::span<const tensor_entry> tensors, const nlohmann::json& config, const moe_options& options)
      : config_(shallow(config)), options_(options) {
    config_.update(shallow(options.config));
    for (const auto& tensor : tensors) {
      entries_.emplace(tensor.name, &tensor);
      if (const auto at = layer_of(tensor.name)) stacks_[at->prefix][at->layer].push_back(at->rest);
    }
  }

  moe_description run() {
    moe_description d = choose();
    find_layers(d);
    find_sizes(d);
    read_numbers(config_, d);
    for (index_t layer = 0; layer < d.layers(); ++layer) check_layer(d, layer);
    return d;
  }

 private:
  [[noreturn]] static void fail(const std::string& what, const std::string& fix) {
    throw error("checkpoint layout", what, fix);
  }

  static std::string list(const auto& names) {
    std::string text;
    for (const auto& name : names) text += (text.empty() ? "" : ", ") + std::string(name);
    return text;
  }

  /// The family, layout and prefix that fit.
  moe_description choose() const {
    const auto type = config_value<std::string>(config_, "model_type");
    const auto called = [&](const moe_family& family) {
      if (!options_.family.empty()) return family.name == options_.family;
      return type && std::find(family.model_types.begin(), family.model_types.end(), *type) != family.model_types.end();
    };
    const bool named = std::any_of(options_.families.begin(), options_.families.end(), called);
    if (!options_.family.empty() && !named)
      fail("there is no family '" + options_.family + "'", "choose one of " + list(all_names()) + ", or add a row");

    std::vector<moe_description> fits;
    std::set<std::string> names;
    misfit nearest{-1, "no tensor is called 'layers.<number>...'"};
    for (const auto& family : options_.families)
      for (const auto& layout : family.layouts)
        for (const auto& [prefix, layers] : stacks_) {
          const auto found = compare(layers, family, layout);
          if (found.why.empty()) {
            names.insert(family.name);
            if (named && !called(family)) continue;
            fits.push_back({});
            fits.back().family = family;
            fits.back().layout = layout;
            fits.back().prefix = prefix;
          } else if (found.likeness > nearest.likeness && (!named || called(family))) {
            nearest = found;
            nearest.why = family.name + " (" + layout.name + "): " + found.why;
          }
        }
    const std::string called_so = options_.family.empty() && type ? "config.json says '" + *type + "'" : "";
    if (type && !named)
      fail(called_so + ", which is no family known here" +
               (names.empty() ? "; its tensors fit none either (" + nearest.why + ")"
                              : "; its tensors fit " + list(names)),
           "name the family in moe_options::family, or add a row for it");
    if (fits.empty())
      fail((called_so.empty() ? "the tensors fit no family" : called_so + ", but the tensors do not fit") + " (" +
               nearest.why + ")" + (names.empty() ? "" : "; they fit " + list(names)),
           named && !names.empty() ? "fix config.json, or name the family in moe_options::family"
                                   : "check that the checkpoint is complete, or add a row for its layout");
    if (!named && names.size() > 1)
      fail("the tensors fit several families: " + list(names),
           "put 'model_type' into a config.json beside the file, or name the family in moe_options::family");
    if (fits.size() > 1)
      fail("there are several stacks of layers, '" + fits[0].prefix + "layers.' and '" + fits[1].prefix + "layers.'",
           "give a file that holds one of them");
    return fits[0];
  }

  std::vector<std::string> all_names() const {
    std::vector<std::string> names;
    for (const auto& family : options_.families) names.push_back(family.name);
    return names;
  }

  void find_layers(moe_description& d) const {
    const auto& stack = stacks_.at(d.prefix);
    const auto depth = config_value<index_t>(config_, "num_hidden_layers");
    for (const auto& [layer, names] : stack) {
      const auto holds = [&, &in = names](std::string_view name) {
        return std::find(in.begin(), in.end(), name) != in.end();
      };
      const bool beyond = depth ? layer >= *depth : holds(prediction_mark);
      const bool mixture = holds(d.layout.router);
      if (beyond) continue;
      if (mixture) d.model_layers.push_back(layer);
      if (depth && mixture != config_has_mixture(config_, layer))
        fail("by config.json layer " + std::to_string(layer) + " is " + (mixture ? "dense" : "a mixture") + ", but '" +
                 d.prefix + "layers." + std::to_string(layer) + "." + d.layout.router + "' is " +
                 (mixture ? "there" : "missing"),
             "check that the checkpoint is complete and the config.json its own");
    }
    if (depth)
      for (index_t layer = 0; layer < *depth; ++layer)
        if (!stack.contains(layer) && config_has_mixture(config_, layer))
          fail("layer " + std::to_string(layer) + " of " + std::to_string(*depth) + " is missing",
               "check that the checkpoint is complete and the config.json its own");
    if (d.model_layers.empty()) fail("no layer is a mixture", "check 'num_hidden_layers' in config.json");
  }

  const tensor_entry& entry(const std::string& name) const {
    const auto at = entries_.find(name);
    if (at == entries_.end()) fail(detail::shown(name) + " is missing", "check that the checkpoint is complete");
    return *at->second;
  }

  static std::string text(std::span<const std::uint64_t> shape) {
    std::string result = "[";
    for (const auto n : shape) result += (result.size() > 1 ? ", " : "") + std::to_string(n);
    return result + "]";
  }

  /// A size of a model; larger ones are damage, and would overflow.
  static index_t size(const tensor_entry& tensor, std::uint64_t n) {
    if (n == 0 || n > 0x7fffffff)
      fail(detail::shown(tensor.name) + " has shape " + text(tensor.shape),
           "no layer has such a size; the file is damaged");
    return static_cast<index_t>(n);
  }

  /// The inner size of the experts, from the shape of what holds their last matrix, [.., width, inner] or transposed.
  index_t inner(const moe_description& d, moe_part down) const {
    const expert_layout& from = d.per_expert(down) ? d.layout.experts : d.family.shared;
    const bool packed = from.mxfp4;
    const auto& tensor = entry(d.tensor_name(0, down) + (packed ? "_blocks" : ""));
    const std::size_t from_end = packed || from.transposed ? 2 : 1;
    if (tensor.shape.size() < from_end || tensor.shape[tensor.shape.size() - from_end] > 0x3ffffff)
      fail(detail::shown(tensor.name) + " has shape " + text(tensor.shape),
           "no layer has such a size; the file is damaged");
    return size(tensor, tensor.shape[tensor.shape.size() - from_end] * (packed ? 32 : 1));
  }

  void find_sizes(moe_description& d) const {
    const auto& router = entry(d.tensor_name(0, moe_part::router));
    if (router.shape.size() != 2)
      fail(detail::shown(router.name) + " has shape " + text(router.shape), "a router is a matrix [experts, width]");
    d.experts = size(router, router.shape[0]);
    d.width = size(router, router.shape[1]);
    d.hidden = inner(d, moe_part::down);
    if (d.has(moe_part::shared_down)) d.shared_hidden = inner(d, moe_part::shared_down);
  }

  void check_layer(const moe_description& d, index_t layer) const {
    for (const auto part : moe_parts) {
      if (!d.has(part)) continue;
      const bool apart = d.pattern(part).find("{e}") != std::string::npos;
      for (index_t e = 0; e < (apart ? d.experts : 1); ++e) check_tensor(d, d.slice(layer, part, e));
    }
  }

  void check_shape(const std::string& name, std::vector<std::uint64_t> shape) const {
    const auto& tensor = entry(name);
    auto given = tensor.shape;
    if (shape.size() == 1 && given.size() == 2 && given[0] == 1) given.erase(given.begin());
    if (given != shape)
      fail(detail::shown(name) + " has shape " + text(tensor.shape) + ", not " + text(shape),
           "check that the checkpoint is whole and of one model");
  }

  void check_tensor(const moe_description& d, const moe_slice& s) const {
    if (s.mxfp4) {
      auto shape = s.shape;
      if (shape.back() % 32 != 0)
        fail("'" + s.tensor + "' has rows of " + std::to_string(shape.back()), "mxfp4 needs a multiple of 32");
      shape.back() /= 32;
      check_shape(s.tensor + "_scales", shape);
      shape.push_back(16);
      check_shape(s.tensor + "_blocks", shape);
      for (const char* piece : {"_scales", "_blocks"})
        if (entry(s.tensor + piece).type != dtype::u8)
          fail("'" + s.tensor + piece + "' is not of type U8", "convert it again");
      return;
    }
    check_shape(s.tensor, s.shape);
    const auto scale = entries_.find(s.tensor + "_scale_inv");
    const bool coded = entry(s.tensor).type == dtype::f8_e4m3;
    if (coded != (scale != entries_.end()))
      fail("'" + s.tensor + "' " + (coded ? "is of type F8_E4M3 without" : "is not of type F8_E4M3, but has") +
               " scales called '" + s.tensor + "_scale_inv'",
           "block-scaled tensors of type F8_E4M3 are the only ones in 8 bits that are understood");
    if (!coded) return;
    auto shape = s.shape;
    const std::size_t n = shape.size();
    if (n < 2) fail("'" + s.tensor + "' has scales, but is no matrix", "convert it again");
    const auto rows = static_cast<std::uint64_t>(d.tile[0]), cols = static_cast<std::uint64_t>(d.tile[1]);
    shape[n - 2] = (shape[n - 2] + rows - 1) / rows;
    shape[n - 1] = (shape[n - 1] + cols - 1) / cols;
    check_shape(s.tensor + "_scale_inv", shape);
  }

  nlohmann::json config_;
  const moe_options& options_;
  std::map<std::string_view, const tensor_entry*> entries_;
  std::map<std::string_view, layer_names> stacks_;
};

}  // namespace detail

/// What a checkpoint with these tensors and this config.json (null: none) is. Throws if no family fits, if several do,
/// if config.json names another one, if a tensor of a mixture layer is missing or of another shape, if a layer holds a
/// tensor that the family does not know, or if config.json contradicts the tensors. Numbers that config.json does not
/// give are only noted (`moe_description::missing`).
inline moe_description recognise(std::span<const tensor_entry> tensors, const nlohmann::json& config = {},
                                 const moe_options& options = {}) {
  return detail::recogniser(tensors, config, options).run();
}

}  // namespace moue::inline v0_1::io
