// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// From a recognised checkpoint into the weights of a mixture, whatever its exact types are.

#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "moue/error.hpp"
#include "moue/io/layouts/moe_checkpoint.hpp"
#include "moue/io/message.hpp"
#include "moue/parameter.hpp"

namespace moue::inline v0_1::io {

/// Which matrix of a checkpoint a tensor of a mixture holds.
struct moe_address {
  moe_part part = moe_part::router;  ///< which matrix
  index_t layer = 0;                 ///< mixture layer
  index_t expert = 0;                ///< within it
};

namespace detail {

enum class tensor_owner { routed_expert, shared_expert, router };

struct named_part {
  tensor_owner owner;
  std::string_view name;
  moe_part part;
};

/// What the library's policies call the parts.
inline constexpr named_part named_parts[] = {{tensor_owner::routed_expert, "gate", moe_part::gate},
                                             {tensor_owner::routed_expert, "up", moe_part::up},
                                             {tensor_owner::routed_expert, "down", moe_part::down},
                                             {tensor_owner::routed_expert, "gate_bias", moe_part::gate_bias},
                                             {tensor_owner::routed_expert, "up_bias", moe_part::up_bias},
                                             {tensor_owner::routed_expert, "down_bias", moe_part::down_bias},
                                             {tensor_owner::routed_expert, "project_in", moe_part::latent_in},
                                             {tensor_owner::routed_expert, "project_out", moe_part::latent_out},
                                             {tensor_owner::routed_expert, "input_gate", moe_part::input_gate},
                                             {tensor_owner::shared_expert, "gate", moe_part::shared_gate},
                                             {tensor_owner::shared_expert, "up", moe_part::shared_up},
                                             {tensor_owner::shared_expert, "down", moe_part::shared_down},
                                             {tensor_owner::shared_expert, "self_gate", moe_part::shared_self_gate},
                                             {tensor_owner::router, "weight", moe_part::router},
                                             {tensor_owner::router, "candidate_bias", moe_part::router_bias},
                                             {tensor_owner::router, "selection_bias", moe_part::selection_bias}};

}  // namespace detail

/// The address of tensor `info` of a mixture of any types whose experts are numbered as by `mixture_of`: layer l's
/// expert i is l * candidates() + i, and the shared experts follow, one a layer. Throws if the checkpoint has no such
/// matrix, or one of another shape.
inline moe_address address_of(const moe_description& d, const tensor_info& info) {
  using detail::tensor_owner;
  const index_t routed = d.layers() * d.candidates();
  const auto owner = info.expert < 0        ? tensor_owner::router
                     : info.expert < routed ? tensor_owner::routed_expert
                                            : tensor_owner::shared_expert;
  const index_t layer = owner == tensor_owner::router          ? info.layer
                        : owner == tensor_owner::routed_expert ? info.expert / d.candidates()
                                                               : info.expert - routed;
  const std::string_view last = std::string_view(info.name).substr(info.name.rfind('.') + 1);
  const auto* named = std::find_if(std::begin(detail::named_parts), std::end(detail::named_parts),
                                   [&](const auto& row) { return row.owner == owner && row.name == last; });
  const bool known = named != std::end(detail::named_parts) && layer >= 0 && layer < d.layers();
  const matrix_shape held = known ? d.shape(named->part) : matrix_shape{};
  moue::detail::require(
      known && (info.size() == 0 || (held.rows == info.rows && held.cols == info.cols)), d.family.name,
      [&] {
        return "the mixture wants '" + info.name + "' " + moue::detail::shape_text(info.rows, info.cols) +
               (held.rows > 0 ? ", but the checkpoint has it as " + moue::detail::shape_text(held.rows, held.cols)
                              : std::string(", which the checkpoint does not have"));
      },
      "use mixture_of, or compose what the family's row says");
  return {named->part, layer, owner == tensor_owner::routed_expert ? info.expert % d.candidates() : 0};
}

/// Fills the weights of such a mixture, one matrix at a time. Throws as `address_of` does, and if the mixture has no
/// place for a matrix of the checkpoint, both before anything is written; and as `moe_checkpoint::read` does.
template <Storage S>
void load(const moe_checkpoint& source, parameters<S>& weights) {
  const moe_description& d = source.description();
  std::vector<moe_address> addresses;
  std::array<index_t, std::size(moe_parts)> places{};
  for (const auto& info : weights.layout()) {
    addresses.push_back(address_of(d, info));
    if (info.size() > 0) ++places[static_cast<std::size_t>(addresses.back().part)];
  }
  for (const auto part : moe_parts) {
    const index_t held = d.has(part) ? d.layers() * (d.per_expert(part) ? d.experts : 1) : 0;
    moue::detail::require(
        places[static_cast<std::size_t>(part)] == held, d.family.name,
        [&] {
          return "the checkpoint holds " + std::to_string(held) + " tensors such as " +
                 detail::shown(d.tensor_name(0, part)) + ", the mixture has " +
                 std::to_string(places[static_cast<std::size_t>(part)]) + " places for them";
        },
        "use mixture_of, or compose what the family's row says");
  }
  for (index_t i = 0; i < weights.layout().tensors(); ++i) {
    const auto& at = addresses[static_cast<std::size_t>(i)];
    const auto size = static_cast<std::size_t>(weights.layout()[i].size());
    if (size > 0) source.read(at.layer, at.part, at.expert, std::span<S>(weights[i].data, size));
  }
}

}  // namespace moue::inline v0_1::io
