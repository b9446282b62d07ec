// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// From names, shapes and config.json to a description. A pure function of these: it reads no numbers of any tensor.

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "moue/error.hpp"
#include "moue/io/layouts/choose.hpp"
#include "moue/io/layouts/coded.hpp"
#include "moue/io/layouts/config.hpp"
#include "moue/io/layouts/layer_keys.hpp"
#include "moue/io/layouts/match.hpp"
#include "moue/io/layouts/numbers.hpp"
#include "moue/io/message.hpp"
#include "moue/io/safetensors/header.hpp"

namespace moue::inline v0_1::io {
namespace detail {

class recogniser {
 public:
  recogniser(std::span<const tensor_entry> tensors, const nlohmann::json& config, const moe_options& options)
      : index_(tensors, options.families), file_(config), options_(options) {}

  moe_description run() {
    moe_description d = family_choice(index_, file_, options_).choose();
    const config_reader config(file_, options_.config, d.family.keys.inside);
    find_layers(config, d);
    find_sizes(config, d);
    read_numbers(config, d);
    for (index_t layer = 0; layer < d.layers(); ++layer) check_layer(d, layer);
    return d;
  }

 private:
  void find_layers(const config_reader& config, moe_description& d) const {
    const auto& stack = index_.layers(d);
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
        refuse_layout("by config.json layer " + std::to_string(layer) + " is " + (mixture ? "dense" : "a mixture") +
                          ", but '" + d.prefix + d.layout.word + std::to_string(layer) + "." + d.layout.router +
                          "' is " + (mixture ? "there" : "missing"),
                      "check that the checkpoint is complete and the config.json its own");
    }
    if (depth)
      for (index_t layer = 0; layer < *depth; ++layer)
        if (!stack.contains(layer) && config_has_mixture(config, keys.layers, layer))
          refuse_layout("layer " + std::to_string(layer) + " of " + std::to_string(*depth) + " is missing",
                        "check that the checkpoint is complete and the config.json its own");
    if (d.model_layers.empty())
      refuse_layout("no layer is a mixture",
                    "check '" + (keys.depth.empty() ? "" : keys.depth[0]) + "' in config.json");
  }

  /// A size of a model; larger ones are damage, and would overflow.
  static index_t size(const tensor_entry& tensor, std::uint64_t n) {
    if (n == 0 || n > 0x7fffffff)
      refuse_layout(detail::shown(tensor.name) + " has shape " + shape_text(tensor.shape),
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
    const auto& tensor = index_.at(name + (packed ? "_blocks" : ""));
    if (!packed && tensor.type == dtype::u8)
      return rows_in_codes(d.tensor_name(0, up)) / (from.pair == pairing::apart ? 1 : 2);
    const std::size_t from_end = packed || from.transposed || from.down_transposed ? 2 : 1;
    const auto together = from.flat ? static_cast<std::uint64_t>(d.experts) : 1;
    if (tensor.shape.size() < from_end || tensor.shape[tensor.shape.size() - from_end] / together > 0x3ffffff ||
        tensor.shape[tensor.shape.size() - from_end] % together != 0)
      refuse_layout(detail::shown(tensor.name) + " has shape " + shape_text(tensor.shape),
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
    refuse_layout(detail::shown(matrix) + " is missing", "check that the checkpoint is complete");
  }

  void find_sizes(const config_reader& config, moe_description& d) const {
    const auto& router = index_.at(d.tensor_name(0, moe_part::router));
    if (router.shape.size() != 2)
      refuse_layout(detail::shown(router.name) + " has shape " + shape_text(router.shape),
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
      refuse_layout("of the projections around the experts only " +
                        detail::shown(d.tensor_name(0, in ? moe_part::latent_in : moe_part::latent_out)) + " is there",
                    "check that the checkpoint is complete");
    if (!in) return;
    const auto& tensor = index_.at(d.tensor_name(0, moe_part::latent_out));
    if (tensor.shape.size() != 2)
      refuse_layout(detail::shown(tensor.name) + " has shape " + shape_text(tensor.shape), "a projection is a matrix");
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
    const auto& tensor = index_.at(name);
    const auto vector = [](std::vector<std::uint64_t> s) {
      if (s.size() == 2 && s[0] == 1) s.erase(s.begin());
      return s;
    };
    if (tensor.shape != shape && vector(tensor.shape) != vector(shape))
      refuse_layout(detail::shown(name) + " has shape " + shape_text(tensor.shape) + ", not " + shape_text(shape),
                    "check that the checkpoint is whole and of one model");
  }

  void check_tensor(const moe_description& d, const moe_slice& s) const {
    if (s.mxfp4) {
      auto shape = s.shape;
      if (shape.back() % 32 != 0)
        refuse_layout("'" + s.tensor + "' has rows of " + std::to_string(shape.back()), "mxfp4 needs a multiple of 32");
      shape.back() /= 32;
      check_shape(s.tensor + "_scales", shape);
      shape.push_back(16);
      check_shape(s.tensor + "_blocks", shape);
      for (const char* piece : {"_scales", "_blocks"})
        if (index_.at(s.tensor + piece).type != dtype::u8)
          refuse_layout("'" + s.tensor + piece + "' is not of type U8", "convert it again");
      return;
    }
    if (!find_coded(d, s, finder_)) check_shape(s.tensor, s.shape);
  }

  /// The tensor called so, or null.
  struct finder {
    const layer_index& index;
    const tensor_entry* operator()(const std::string& name) const { return index.find(name); }
  };

  layer_index index_;
  finder finder_{index_};
  const nlohmann::json& file_;
  const moe_options& options_;
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
