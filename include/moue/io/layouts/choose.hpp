// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Which family and layout a checkpoint has, from the names of its tensors and config.json.

#include <algorithm>
#include <cstddef>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "moue/error.hpp"
#include "moue/io/layouts/config.hpp"
#include "moue/io/layouts/description.hpp"
#include "moue/io/layouts/families.hpp"
#include "moue/io/layouts/match.hpp"
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

[[noreturn]] inline void refuse_layout(const std::string& what, const std::string& fix) {
  throw error("checkpoint layout", what, fix, error_kind::content);
}

/// The tensors of a file by name, and the names of its layers. Keeps references to them.
class layer_index {
 public:
  layer_index(std::span<const tensor_entry> tensors, const std::vector<moe_family>& families) {
    for (const auto& family : families)
      for (const auto& layout : family.layouts) stacks_[layout.word];
    for (const auto& tensor : tensors) {
      entries_.emplace(tensor.name, &tensor);
      for (auto& [word, stacks] : stacks_)
        if (const auto at = layer_of(tensor.name, word); at && !of_prediction(at->prefix))
          stacks[at->prefix][at->layer].push_back(at->rest);
    }
  }

  /// The tensor called so, or null.
  const tensor_entry* find(const std::string& name) const {
    const auto at = entries_.find(name);
    return at == entries_.end() ? nullptr : at->second;
  }
  /// The tensor called so; throws where there is none.
  const tensor_entry& at(const std::string& name) const {
    const auto* tensor = find(name);
    if (!tensor) refuse_layout(shown(name) + " is missing", "check that the checkpoint is complete");
    return *tensor;
  }
  /// Layers whose names have `word` before the number, by what stands before that.
  const std::map<std::string_view, layer_names>& stacks(const std::string& word) const { return stacks_.at(word); }
  /// The names in the layers of what was chosen.
  const layer_names& layers(const moe_description& d) const { return stacks_.at(d.layout.word).at(d.prefix); }

 private:
  std::map<std::string_view, const tensor_entry*> entries_;
  std::map<std::string, std::map<std::string_view, layer_names>> stacks_;  // by word, then by prefix
};

/// Finds the family, layout and prefix that fit. Keeps references to what it is made from.
class family_choice {
 public:
  family_choice(const layer_index& index, const nlohmann::json& config, const moe_options& options)
      : index_(index), file_(config), options_(options) {}

  /// The one that fits; throws if none or several do.
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
      refuse_layout("there is no family '" + options_.family + "'",
                    "choose one of " + list(all_names()) + ", or add a row");

    std::vector<moe_description> fits;
    std::set<std::string> names;
    misfit nearest{-1, "no tensor is called 'layers.<number>...'"};
    const auto try_row = [&](const moe_family& family) {
      for (const auto& known : family.layouts)
        for (const auto& [prefix, layers] : index_.stacks(known.word)) {
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
      refuse_layout(called_so + ", which is no family known here" +
                        (names.empty() ? "; its tensors fit none either (" + nearest.why + ")"
                                       : "; its tensors fit " + list(names)),
                    "name the family in moe_options::family, or add a row for it");
    if (fits.empty())
      refuse_layout((called_so.empty() ? "the tensors fit no family" : called_so + ", but the tensors do not fit") +
                        " (" + nearest.why + ")" + (names.empty() ? "" : "; they fit " + list(names)),
                    named && !names.empty() ? "fix config.json, or name the family in moe_options::family"
                                            : "check that the checkpoint is complete, or add a row for its layout");
    if (!named && names.size() > 1)
      refuse_layout("the tensors fit several families: " + list(names),
                    "put 'model_type' into a config.json beside the file, or name the family in moe_options::family");
    if (fits.size() > 1) {
      auto by_shape = fits;
      std::erase_if(by_shape, [&](const auto& d) { return !has_shapes(d); });
      if (!by_shape.empty()) fits = std::move(by_shape);
    }
    if (fits.size() > 1)
      refuse_layout("there are several stacks of layers, '" + fits[0].prefix + fits[0].layout.word + "' and '" +
                        fits[1].prefix + fits[1].layout.word + "'",
                    "give a file that holds one of them");
    return fits[0];
  }

 private:
  static std::string list(const auto& names) {
    std::string text;
    for (const auto& name : names) text += (text.empty() ? "" : ", ") + std::string(name);
    return text;
  }

  /// Whether the axis of the width stands where the layout has it; layouts may differ in nothing else.
  bool has_shapes(moe_description d) const {
    const auto& stack = index_.layers(d);
    const auto layer =
        std::find_if(stack.begin(), stack.end(), [&](const auto& one) { return is_mixture(d.layout, one.second); });
    d.model_layers = {layer->first};
    const auto size = [&](moe_part part, std::size_t from_end) {
      const auto& shape = index_.at(d.tensor_name(0, part)).shape;
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

  const layer_index& index_;
  const nlohmann::json& file_;
  const moe_options& options_;
};

}  // namespace detail
}  // namespace moue::inline v0_1::io
