// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What is known of one checkpoint: its family, layers, sizes and numbers, and where each canonical matrix stands.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "moue/error.hpp"
#include "moue/io/layouts.hpp"
#include "moue/router.hpp"

namespace moue::inline v0_1::io {

/// Where one canonical matrix [rows, cols] stands in the tensor that holds it. A vector counts as one column.
struct moe_slice {
  std::string tensor;                ///< by its full name
  std::vector<std::uint64_t> shape;  ///< the tensor's, decoded
  index_t rows = 0;                  ///< of the matrix
  index_t cols = 0;                  ///< of the matrix
  std::uint64_t first = 0;           ///< the expert's first element in the tensor
  index_t outer = 0;                 ///< stored rows of the expert, those of a paired matrix included
  index_t offset = 0;                ///< row r stands at offset + step * r
  index_t step = 1;                  ///< stored rows from one row of the matrix to the next
  bool transposed = false;           ///< stored as [cols, outer] in place of [outer, cols]
  bool mxfp4 = false;                ///< in blocks and scales

  /// Elements of the matrix.
  index_t size() const { return rows * cols; }
  /// The expert's elements stand in lines of this length.
  index_t line() const { return transposed ? outer : cols; }
  /// How many lines there are.
  index_t lines() const { return transposed ? cols : outer; }
  /// Position of (r, c) among the expert's elements.
  index_t position(index_t r, index_t c) const {
    const index_t o = offset + step * r;
    return transposed ? c * outer + o : o * cols + c;
  }
};

/// A recognised checkpoint; `recognise` makes it.
struct moe_description {
  moe_family family;                      ///< the row of the table that fits
  moe_layout layout;                      ///< of the family, the one that the tensors have
  std::string prefix;                     ///< of names, before `layout.word`, which is mostly "layers."
  std::vector<index_t> model_layers;      ///< which layers of the model are mixtures, ascending
  index_t experts = 0;                    ///< routed ones with matrices, per layer
  index_t identities = 0;                 ///< routed ones that return their input, behind them
  index_t width = 0;                      ///< columns of a layer's input
  index_t hidden = 0;                     ///< hidden units of an expert
  index_t shared_hidden = 0;              ///< of the shared expert; 0: there is none
  index_t latent = 0;                     ///< columns of routed experts between projections; 0: there are none
  std::array<index_t, 2> tile{128, 128};  ///< of block-scaled fp8
  bool zeros_as_they_are = false;         ///< GPTQ's zeros are not stored less one

  // What tensors cannot tell; complete if `missing` is empty.
  index_t per_token = 0;                                        ///< experts a token takes
  gate_convention gate = gate_convention::softmax_of_selected;  ///< how logits become gates
  double scale = 1;                                             ///< of the gates
  index_t groups = 1;           ///< of neighbouring experts; a token uses `selected_groups` of them
  index_t selected_groups = 1;  ///< groups that a token uses
  double jitter = 0;            ///< of sparsemixer
  std::string missing = {};     ///< the first key that config.json should have given
  /// Keys of config.json that by their names are about the mixture, and that nobody read.
  std::vector<std::string> not_understood = {};

  /// Mixture layers.
  index_t layers() const { return static_cast<index_t>(model_layers.size()); }
  /// What a token of a layer chooses from.
  index_t candidates() const { return experts + identities; }

  /// This description, if it has all that a running layer needs; throws otherwise, naming the key that is missing or
  /// not understood.
  const moe_description& running() const {
    moue::detail::require(
        missing.empty(), family.name, [&] { return "'" + missing + "' is not known"; },
        "put it into the config.json beside the file, or give it in moe_options::config", error_kind::content);
    moue::detail::require(
        not_understood.empty(), family.name,
        [&] { return "config.json has '" + not_understood[0] + "', of which it is not known what it changes"; },
        "if it changes nothing, give it as null in moe_options::config; else compose the layer by hand",
        error_kind::content);
    return *this;
  }

  /// Whether the checkpoint has such a part.
  bool has(moe_part part) const { return !pattern(part).empty(); }
  /// Whether each routed expert has a `part` of its own.
  static bool per_expert(moe_part part) { return part <= moe_part::input_gate; }
  /// Whether it is one that stands in the file once for a layer, of which each expert has a copy.
  static bool copied(moe_part part) { return part == moe_part::latent_in || part == moe_part::latent_out; }
  /// Columns of what a routed expert's own matrices read and answer.
  index_t expert_width() const { return latent > 0 ? latent : width; }

  /// Canonical shape of `part`; [0, 0] if there is none.
  matrix_shape shape(moe_part part) const {
    if (!has(part)) return {};
    switch (part) {
      case moe_part::gate:
      case moe_part::up:
        return {hidden, expert_width()};
      case moe_part::down:
        return {expert_width(), hidden};
      case moe_part::latent_in:
        return {latent, width};
      case moe_part::latent_out:
        return {width, latent};
      case moe_part::gate_bias:
      case moe_part::up_bias:
        return {1, hidden};
      case moe_part::shared_gate:
      case moe_part::shared_up:
        return {shared_hidden, width};
      case moe_part::shared_down:
        return {width, shared_hidden};
      case moe_part::down_bias:
        return {1, expert_width()};
      case moe_part::input_gate:
      case moe_part::shared_self_gate:
        return {1, width};
      case moe_part::router:
        return {candidates(), width};
      case moe_part::router_bias:
      case moe_part::selection_bias:
        return {1, candidates()};
    }
    return {};
  }

  /// The name that follows "layers.<l>.", with "{e}" for the expert.
  const std::string& pattern(moe_part part) const { return layout.pattern(part); }
  /// The vector that `part` is a product with, or null.
  const moe_fold* fold(moe_part part) const {
    for (const auto& one : layout.folds)
      if (one.part == part) return &one;
    return nullptr;
  }

  /// The full name of the tensor that holds `part`.
  std::string tensor_name(index_t layer, moe_part part, index_t expert = 0) const {
    std::string name = pattern(part);
    if (const auto brace = name.find("{e}"); brace != std::string::npos) name.replace(brace, 3, std::to_string(expert));
    return layer_name(layer) + name;
  }
  /// What all names of a mixture layer begin with.
  std::string layer_name(index_t layer) const {
    return prefix + layout.word + std::to_string(model_layers[static_cast<std::size_t>(layer)]) + ".";
  }

  /// Where `part` of mixture layer `layer` (and of `expert`, for a part that each expert has) stands. Throws if there
  /// is no such thing.
  moe_slice slice(index_t layer, moe_part part, index_t expert = 0) const {
    moue::detail::require(
        has(part) && layer >= 0 && layer < layers() && expert >= 0 && expert < experts, family.name,
        [&] {
          return "part " + std::to_string(static_cast<int>(part)) + " of layer " + std::to_string(layer) + ", expert " +
                 std::to_string(expert) + " was asked for, of " + std::to_string(layers()) + " layers with " +
                 std::to_string(experts) + " experts";
        },
        "ask has(), and count mixture layers and experts from 0");
    const bool routed = per_expert(part);
    const bool vector = part == moe_part::router_bias || part == moe_part::selection_bias ||
                        (part >= moe_part::gate_bias && part <= moe_part::down_bias);
    const bool matrix = !vector && part < moe_part::shared_self_gate && part != moe_part::input_gate && !copied(part);
    const bool second = part == moe_part::up || part == moe_part::up_bias || part == moe_part::shared_up;
    const bool first_of_two = part == moe_part::gate || part == moe_part::gate_bias || part == moe_part::shared_gate;
    const expert_layout& from = routed ? layout.experts : layout.shared;
    const bool paired = from.pair != pairing::apart && (second || first_of_two);

    const matrix_shape canonical = shape(part);
    moe_slice s{.tensor = tensor_name(layer, part, expert),
                .shape = {},
                .rows = vector ? canonical.cols : canonical.rows,
                .cols = vector ? 1 : canonical.cols,
                .transposed = matrix && (from.transposed || (part == moe_part::down && from.down_transposed)),
                .mxfp4 = matrix && from.mxfp4};
    s.outer = paired ? 2 * s.rows : s.rows;
    if (paired && from.pair == pairing::interleaved) s.step = 2;
    if (paired && second) s.offset = s.step == 2 ? 1 : s.rows;
    const bool stacked = routed && !copied(part) && pattern(part).find("{e}") == std::string::npos;
    if (stacked) {
      const bool unused = from.unused_gates && (second || first_of_two);
      if (part != moe_part::input_gate && !from.flat)
        s.shape.push_back(static_cast<std::uint64_t>(unused ? candidates() : experts));
      s.first =
          static_cast<std::uint64_t>(expert) * static_cast<std::uint64_t>(s.outer) * static_cast<std::uint64_t>(s.cols);
    }
    if (part == moe_part::selection_bias && layout.selection_bias_is_row) s.shape.push_back(1);
    // What stands in one matrix for all experts: a row each, or the rows of each.
    const index_t together = part == moe_part::input_gate ? candidates() : stacked && from.flat ? experts : 1;
    s.shape.push_back(static_cast<std::uint64_t>((s.transposed ? s.cols : s.outer) * together));
    if (!vector) s.shape.push_back(static_cast<std::uint64_t>(s.transposed ? s.outer : s.cols));
    return s;
  }
};

}  // namespace moue::inline v0_1::io
