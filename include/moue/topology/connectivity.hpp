// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// A topology lowered once, on the host, to index tables: all that a pass and a device ever see of it.

#include <concepts>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "moue/error.hpp"
#include "moue/topology.hpp"

namespace moue::inline v0_1 {

/// The tables of a topology. Physical expert ids fit 32 bits.
class connectivity {
 public:
  /// Lowers `topology`. Throws if an id is out of range or appended twice for one layer, or if a layer has no candidate.
  /// Time and memory are linear in the virtual width plus layers times experts.
  template <class T>
    requires(!std::same_as<T, connectivity>)
  explicit connectivity(const T& topology) : layers_(topology.layers()), experts_(topology.experts()) {
    static_assert(check_topology<T>());
    constexpr auto where = "topology";
    detail::require(
        layers_ > 0 && layers_ <= (std::numeric_limits<std::int32_t>::max)(), where,
        [&] { return "it has " + std::to_string(layers_) + " layers"; },
        layers_ > 0 ? "give it no more than 2147483647" : "give it at least one");
    detail::require(
        experts_ > 0 && experts_ <= (std::numeric_limits<std::int32_t>::max)(), where,
        [&] { return "it has " + std::to_string(experts_) + " experts"; }, "give it between 1 and 2147483647");
    exposure_.assign(static_cast<std::size_t>(experts_), 0);
    std::vector<index_t> seen(static_cast<std::size_t>(experts_), -1);
    const auto check = [&](index_t layer, index_t e) {
      detail::require(
          e >= 0 && e < experts_, where,
          [&] { return "layer " + std::to_string(layer) + " names expert " + std::to_string(e); },
          "append ids from 0 to experts() - 1");
      detail::require(
          seen[static_cast<std::size_t>(e)] != layer, where,
          [&] { return "layer " + std::to_string(layer) + " names expert " + std::to_string(e) + " twice"; },
          "append each expert once per layer (a window must not be wider than its ring)");
      seen[static_cast<std::size_t>(e)] = layer;
    };
    for (index_t layer = 0; layer < layers_; ++layer) {
      topology.candidates(layer, [&](index_t e) {
        check(layer, e);
        candidates_.push_back(static_cast<std::int32_t>(e));
        ++exposure_[static_cast<std::size_t>(e)];
      });
      candidate_offsets_.push_back(static_cast<index_t>(candidates_.size()));
      detail::require(
          candidate_offsets_.back() > candidate_offsets_[static_cast<std::size_t>(layer)], where,
          [&] { return "layer " + std::to_string(layer) + " has no candidate"; },
          "append at least one expert for every layer");
      if constexpr (detail::has_always<T>)
        topology.always(layer, [&](index_t e) {
          check(layer, e);
          always_.push_back(static_cast<std::int32_t>(e));
        });
      always_offsets_.push_back(static_cast<index_t>(always_.size()));
      if constexpr (detail::has_parameter_layer<T>)
        parameter_layer_.push_back(topology.parameter_layer(layer));
      else
        parameter_layer_.push_back(layer);
    }
  }

  index_t layers() const { return layers_; }
  index_t experts() const { return experts_; }
  /// Candidates of `layer`, in column order.
  std::span<const std::int32_t> candidates(index_t layer) const& {
    return slice(candidates_, candidate_offsets_, layer);
  }
  /// Experts that every token of `layer` uses.
  std::span<const std::int32_t> always(index_t layer) const& { return slice(always_, always_offsets_, layer); }
  /// Position of layer `l`'s first candidate when all layers' candidates stand in one row; `layers()` gives the total.
  index_t candidate_offset(index_t layer) const { return offset(candidate_offsets_, layer); }
  /// [layers + 1] the same for all layers, and their total.
  std::span<const index_t> candidate_offsets() const& { return candidate_offsets_; }
  /// [virtual width] candidates, layer after layer.
  std::span<const std::int32_t> all_candidates() const& { return candidates_; }
  /// The same for the experts that are always on.
  index_t always_offset(index_t layer) const { return offset(always_offsets_, layer); }
  /// Always-on experts, layer after layer.
  std::span<const std::int32_t> all_always() const& { return always_; }
  /// Exposure of each expert: the number of layers that may use it.
  std::span<const index_t> exposure() const& { return exposure_; }
  // Views of what is gone at the end of the line.
  void candidates(index_t layer) const&& = delete;
  void always(index_t layer) const&& = delete;
  void candidate_offsets() const&& = delete;
  void all_candidates() const&& = delete;
  void all_always() const&& = delete;
  void exposure() const&& = delete;
  /// The layer whose router parameters visit `layer` uses: itself, unless the topology ties them.
  index_t parameter_layer(index_t layer) const { return offset(parameter_layer_, layer); }

  /// The most candidates that a layer has.
  index_t max_candidates() const { return largest(candidate_offsets_); }
  /// The most always-on experts that a layer has.
  index_t max_always() const { return largest(always_offsets_); }

 private:
  static std::span<const std::int32_t> slice(const std::vector<std::int32_t>& ids, const std::vector<index_t>& offsets,
                                             index_t layer) {
    detail::require_index(layer, offsets.empty() ? 0 : std::ssize(offsets) - 1, "topology",
                          "layer");  // empty: moved from
    const auto first = static_cast<std::size_t>(offsets[static_cast<std::size_t>(layer)]);
    return std::span(ids).subspan(first,
                                  static_cast<std::size_t>(offsets[static_cast<std::size_t>(layer + 1)]) - first);
  }
  static index_t offset(const std::vector<index_t>& offsets, index_t layer) {
    detail::require_index(layer, std::ssize(offsets), "topology", "layer");
    return offsets[static_cast<std::size_t>(layer)];
  }
  static index_t largest(const std::vector<index_t>& offsets) {
    index_t result = 0;
    for (std::size_t i = 1; i < offsets.size(); ++i)
      if (offsets[i] - offsets[i - 1] > result) result = offsets[i] - offsets[i - 1];
    return result;
  }

  index_t layers_;
  index_t experts_;
  std::vector<std::int32_t> candidates_;
  std::vector<index_t> candidate_offsets_{0};
  std::vector<std::int32_t> always_;
  std::vector<index_t> always_offsets_{0};
  std::vector<index_t> exposure_;
  std::vector<index_t> parameter_layer_;
};

}  // namespace moue::inline v0_1
