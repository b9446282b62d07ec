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
#include "moue/io/layouts/coded.hpp"
#include "moue/io/layouts/config.hpp"
#include "moue/io/layouts/families.hpp"
#include "moue/io/layouts/layer_keys.hpp"
#include "moue/io/layouts/match.hpp"
#include "moue/io/layouts/numbers.hpp"
#include "moue/io/message.hpp"
#include "moue/io/safetensors/header.hpp"

namespace moue::inline v0_1::io {

/// What a caller may tell about a checkpoint.
struct moe_options {
  std::string family = {};                              ///< empty: found out
  nlohmann::json config = {};                           ///< keys that go before those of the file's config.json;
                                                        ///< null: as if the file had none
  std::vector<moe_family> families = known_families();  ///< the rows to choose from
};

namespace detail {

class recogniser {
 public:
  recogniser(std::span<const tensor_entry> tensors, const nlohmann::json& config, const moe_options& options)
      : file_(config), options_(options) {
    for (const auto& family : options.families)
      for (const auto& layout : family.layouts) stacks_[layout.word];
    for (const auto& tensor : tensors) {
      entries_.emplace(tensor.name, &tensor);
      for (auto& [word, stacks] : stacks_)
        if (const auto at = layer_of(tensor.name, word)) stacks[at->prefix][at->layer].push_back(at->rest);
    }
  }

  moe_description run() {
    moe_description d = choose();
    const config_reader config(file_, options_.config, d.family.keys.inside);
    find_layers(config, d);
    find_sizes(config, d);
    read_numbers(config, d);
    for (index_t layer = 0; layer < d.layers(); ++layer) check_layer(d, layer);
    return d;
  }

 private:
  [[noreturn]] static void fail(const std::string& what, const std::string& fix) {
    throw error("checkpoint layout", what, fix, error_kind::content);
  }

  static std::string list(const auto& names) {
    std::string text;
    for (const auto& name : names) text += (text.empty() ? "" : ", ") + std::string(name);
    return text;
  }

  /// The family, layout and prefix that fit.
  moe_description choose() const {
    const auto types = model_types();
    const auto is_one = [&](const moe_family& family, const std::string& type) {
      return std::find(family.model_types.begin(), family.model_types.end(), type) != family.model_types.end();
    };
    // The first type that names a family decides.
    const auto type = std::find_if(types.begin(), types.end(), [&](const std::string& candidate) {
      return std::any_of(options_.families.begin(), options_.families.end(),
                         [&](const auto& family) { return is_one(family, candidate); });
    });
    const auto called = [&](const moe_family& family) {
      if (!options_.family.empty()) return family.name == options_.family;
      return type != types.end() && is_one(family, *type);
    };
    const bool named = std::any_of(options_.families.begin(), options_.families.end(), called);
    if (!options_.family.empty() && !named)
      fail("there is no family '" + options_.family + "'", "choose one of " + list(all_names()) + ", or add a row");

    std::vector<moe_description> fits;
    std::set<std::string> names;
    misfit nearest{-1, "no tensor is called 'layers.<number>...'"};
    const auto try_row = [&](const moe_family& family) {
      for (const auto& known : family.layouts)
        for (const auto& [prefix, layers] : stacks_.at(known.word)) {
          auto layout = known;
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
    };
    for (const auto& family : options_.families)
      if (named && called(family)) try_row(family);
    if (fits.empty())  // all others: to choose from, or to say which would have fitted
      for (const auto& family : options_.families)
        if (!named || !called(family)) try_row(family);
    const std::string called_so = options_.family.empty() && !types.empty()
                                      ? "config.json says '" + (type == types.end() ? list(types) : *type) + "'"
                                      : "";
    if (!types.empty() && !named)
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
    if (fits.size() > 1) {
      auto by_shape = fits;
      std::erase_if(by_shape, [&](const auto& d) { return !has_shapes(d); });
      if (!by_shape.empty()) fits = std::move(by_shape);
    }
    if (fits.size() > 1)
      fail("there are several stacks of layers, '" + fits[0].prefix + fits[0].layout.word + "' and '" + fits[1].prefix +
               fits[1].layout.word + "'",
           "give a file that holds one of them");
    return fits[0];
  }

  /// Whether the axis of the width stands where the layout has it; layouts may differ in nothing else.
  bool has_shapes(moe_description d) const {
    const auto& stack = stacks_.at(d.layout.word).at(d.prefix);
    const auto layer =
        std::find_if(stack.begin(), stack.end(), [&](const auto& one) { return is_mixture(d.layout, one.second); });
    d.model_layers = {layer->first};
    const auto size = [&](moe_part part, std::size_t from_end) {
      const auto& shape = entry(d.tensor_name(0, part)).shape;
      return shape.size() < from_end ? 0 : shape[shape.size() - from_end];
    };
    const bool turned = d.layout.experts.transposed;
    const auto width = d.has(moe_part::latent_out) ? size(moe_part::latent_out, 1) : size(moe_part::router, 1);
    return d.layout.experts.mxfp4 ||
           (size(moe_part::down, turned ? 1 : 2) == width && size(moe_part::up, turned ? 2 : 1) == width);
  }

  /// What config.json calls the model, and then its language model. Any of these names a family.
  std::vector<std::string> model_types() const {
    std::vector<std::string> found;
    const auto add = [&](const config_reader& config) {
      const auto type = config.value<std::string>("model_type");
      if (type && std::find(found.begin(), found.end(), *type) == found.end()) found.push_back(*type);
    };
    add({file_, options_.config, {}});
    for (const auto& family : options_.families)
      for (const auto& path : family.keys.inside)
        if (const auto* object = object_in(file_, path)) add({*object, options_.config, {}});
    return found;
  }

  std::vector<std::string> all_names() const {
    std::vector<std::string> names;
    for (const auto& family : options_.families) names.push_back(family.name);
    return names;
  }

  void find_layers(const config_reader& config, moe_description& d) const {
    const auto& stack = stacks_.at(d.layout.word).at(d.prefix);
    const auto& keys = d.family.keys;
    const auto depth = config.value<index_t>(keys.depth);
    for (const auto& [layer, names] : stack) {
      const auto holds = [&, &in = names](std::string_view name) {
        return std::find(in.begin(), in.end(), name) != in.end();
      };
      const bool beyond = depth ? layer >= *depth : holds(prediction_mark);
      const bool mixture = is_mixture(d.layout, names);
      if (beyond) continue;
      if (mixture) d.model_layers.push_back(layer);
      if (depth && mixture != config_has_mixture(config, keys.layers, layer))
        fail("by config.json layer " + std::to_string(layer) + " is " + (mixture ? "dense" : "a mixture") + ", but '" +
                 d.prefix + d.layout.word + std::to_string(layer) + "." + d.layout.router + "' is " +
                 (mixture ? "there" : "missing"),
             "check that the checkpoint is complete and the config.json its own");
    }
    if (depth)
      for (index_t layer = 0; layer < *depth; ++layer)
        if (!stack.contains(layer) && config_has_mixture(config, keys.layers, layer))
          fail("layer " + std::to_string(layer) + " of " + std::to_string(*depth) + " is missing",
               "check that the checkpoint is complete and the config.json its own");
    if (d.model_layers.empty())
      fail("no layer is a mixture", "check '" + (keys.depth.empty() ? "" : keys.depth[0]) + "' in config.json");
  }

  const tensor_entry& entry(const std::string& name) const {
    const auto at = entries_.find(name);
    if (at == entries_.end()) fail(detail::shown(name) + " is missing", "check that the checkpoint is complete");
    return *at->second;
  }

  /// A size of a model; larger ones are damage, and would overflow.
  static index_t size(const tensor_entry& tensor, std::uint64_t n) {
    if (n == 0 || n > 0x7fffffff)
      fail(detail::shown(tensor.name) + " has shape " + shape_text(tensor.shape),
           "no layer has such a size; the file is damaged");
    return static_cast<index_t>(n);
  }

  /// The inner size of the experts, from the shape of what holds their last matrix, [.., width, inner] or transposed;
  /// where that is in codes that may be packed, from the rows of the matrix before it.
  index_t inner(const moe_description& d, moe_part down, moe_part up) const {
    const expert_layout& from = d.per_expert(down) ? d.layout.experts : d.layout.shared;
    const bool packed = from.mxfp4;
    const auto name = d.tensor_name(0, down);
    if (!packed && !finder_(name)) return rows_in_codes(d.tensor_name(0, up)) / (from.pair == pairing::apart ? 1 : 2);
    const auto& tensor = entry(name + (packed ? "_blocks" : ""));
    if (!packed && tensor.type == dtype::u8)
      return rows_in_codes(d.tensor_name(0, up)) / (from.pair == pairing::apart ? 1 : 2);
    const std::size_t from_end = packed || from.transposed || from.down_transposed ? 2 : 1;
    const auto together = from.flat ? static_cast<std::uint64_t>(d.experts) : 1;
    if (tensor.shape.size() < from_end || tensor.shape[tensor.shape.size() - from_end] / together > 0x3ffffff ||
        tensor.shape[tensor.shape.size() - from_end] % together != 0)
      fail(detail::shown(tensor.name) + " has shape " + shape_text(tensor.shape),
           "no layer has such a size; the file is damaged");
    return size(tensor, tensor.shape[tensor.shape.size() - from_end] / together * (packed ? 32 : 1));
  }

  /// The rows of a matrix [rows, ..] in codes.
  index_t rows_in_codes(const std::string& matrix) const {
    for (const auto& one : schemes) {
      const auto* codes = finder_(piece_name(matrix, one.codes));
      if (!codes || !finder_(piece_name(matrix, one.scales)) || codes->shape.empty()) continue;
      // The scales of transposed codes have a column for each row; what else there is has a row of codes.
      const auto& tensor = one.how >= packing::words_down ? *finder_(piece_name(matrix, one.scales)) : *codes;
      if (tensor.shape.size() < 2) break;
      return size(tensor, one.how >= packing::words_down ? tensor.shape.back() : tensor.shape[tensor.shape.size() - 2]);
    }
    fail(detail::shown(matrix) + " is missing", "check that the checkpoint is complete");
  }

  void find_sizes(const config_reader& config, moe_description& d) const {
    const auto& router = entry(d.tensor_name(0, moe_part::router));
    if (router.shape.size() != 2)
      fail(detail::shown(router.name) + " has shape " + shape_text(router.shape),
           "a router is a matrix [experts, width]");
    const index_t candidates = size(router, router.shape[0]);
    if (const auto& key = d.family.keys.identities; !key.empty()) {
      d.identities = config.value<index_t>(key).value_or(0);
      if (d.identities >= candidates)
        config.refuse(key, "is " + std::to_string(d.identities) + " of " + std::to_string(candidates) + " experts",
                      "check that the config.json is the checkpoint's own");
    }
    d.experts = candidates - d.identities;
    d.width = size(router, router.shape[1]);
    d.hidden = inner(d, moe_part::down, moe_part::up);
    find_latent(d);
    if (d.has(moe_part::shared_down)) d.shared_hidden = inner(d, moe_part::shared_down, moe_part::shared_up);
  }

  void find_latent(moe_description& d) const {
    const bool in = d.has(moe_part::latent_in), out = d.has(moe_part::latent_out);
    if (in != out)
      fail("of the projections around the experts only " +
               detail::shown(d.tensor_name(0, in ? moe_part::latent_in : moe_part::latent_out)) + " is there",
           "check that the checkpoint is complete");
    if (!in) return;
    const auto& tensor = entry(d.tensor_name(0, moe_part::latent_out));
    if (tensor.shape.size() != 2)
      fail(detail::shown(tensor.name) + " has shape " + shape_text(tensor.shape), "a projection is a matrix");
    d.latent = size(tensor, tensor.shape[1]);
  }

  void check_layer(const moe_description& d, index_t layer) const {
    for (const auto& fold : d.layout.folds)
      check_shape(d.layer_name(layer) + fold.vector,
                  {static_cast<std::uint64_t>(fold.of_experts ? d.experts : d.width)});
    for (const auto part : moe_parts) {
      if (!d.has(part)) continue;
      const bool apart = d.pattern(part).find("{e}") != std::string::npos;
      for (index_t e = 0; e < (apart ? d.experts : 1); ++e) check_tensor(d, d.slice(layer, part, e));
    }
  }

  void check_shape(const std::string& name, std::vector<std::uint64_t> shape) const {
    const auto& tensor = entry(name);
    const auto vector = [](std::vector<std::uint64_t> s) {
      if (s.size() == 2 && s[0] == 1) s.erase(s.begin());
      return s;
    };
    if (tensor.shape != shape && vector(tensor.shape) != vector(shape))
      fail(detail::shown(name) + " has shape " + shape_text(tensor.shape) + ", not " + shape_text(shape),
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
    if (!find_coded(d, s, finder_)) check_shape(s.tensor, s.shape);
  }

  /// The entry called so, or null.
  struct finder {
    const std::map<std::string_view, const tensor_entry*>& entries;
    const tensor_entry* operator()(const std::string& name) const {
      const auto at = entries.find(name);
      return at == entries.end() ? nullptr : at->second;
    }
  };

  const nlohmann::json& file_;
  const moe_options& options_;
  std::map<std::string_view, const tensor_entry*> entries_;
  finder finder_{entries_};
  std::map<std::string, std::map<std::string_view, layer_names>> stacks_;  // by word, then by prefix
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
