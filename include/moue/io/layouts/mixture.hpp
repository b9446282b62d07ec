// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// From a recognised checkpoint to a running mixture.

#include <array>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moue/error.hpp"
#include "moue/expert/gated_mlp.hpp"
#include "moue/expert/self_gated.hpp"
#include "moue/io/layouts/moe_checkpoint.hpp"
#include "moue/io/layouts/router.hpp"
#include "moue/mixture.hpp"
#include "moue/topology/always_on.hpp"
#include "moue/topology/layer_local.hpp"

namespace moue::io {

/// Routed experts of either gating, then the shared expert, plain or self-gated.
using public_experts = expert_pool<swiglu, gated_mlp<clamped_swiglu, true>, swiglu, self_gated<swiglu>>;

/// One type for every family. Composing the exact types by hand gives faster code and names no tensor that is empty.
template <class LossT = no_balancing, class BackendT = cpu>
using public_mixture = mixture<public_experts, always_on<layer_local>, public_router, LossT, BackendT>;

/// The mixture layers of a checkpoint, without weights: layer l's expert i has id l * experts + i; shared experts come
/// after all of these. Throws if config.json does not give all numbers that a running layer needs.
template <class LossT = no_balancing, class BackendT = cpu>
public_mixture<LossT, BackendT> mixture_of(const moe_description& d, LossT loss = {}, BackendT backend = {}) {
  const index routed = d.layers() * d.experts;
  const index routed_kind = d.family.clamped_swiglu ? 1 : 0;
  const index shared_kind = d.has(moe_part::shared_self_gate) ? 3 : 2;
  const swiglu plain{.width = d.width, .hidden = d.hidden};
  const swiglu shared{.width = d.width, .hidden = d.shared_hidden};
  return {public_experts{[=](index expert) { return expert < routed ? routed_kind : shared_kind; }, plain,
                         gated_mlp<clamped_swiglu, true>{.width = d.width, .hidden = d.hidden}, shared,
                         self_gated<swiglu>{shared}},
          always_on<layer_local>{{.depth = d.layers(), .per_layer = d.experts}, d.shared_hidden > 0 ? 1 : 0, 0},
          router_of(d), std::move(loss), std::move(backend)};
}

/// Which matrix of a checkpoint a tensor of a mixture holds.
struct moe_address {
  moe_part part = moe_part::router;
  index layer = 0;   ///< mixture layer
  index expert = 0;  ///< within it
};

/// The address of tensor `info` of a mixture whose experts are numbered as in `mixture_of`, whatever its exact types are.
/// Throws if the checkpoint has no such matrix, or one of another shape.
inline moe_address address_of(const moe_description& d, const tensor_info& info) {
  const std::string_view last = std::string_view(info.name).substr(info.name.rfind('.') + 1);
  const index routed = d.layers() * d.experts;
  moe_address at;
  bool found = false;
  const auto name_is = [&](std::string_view name, moe_part part) {
    if (!found && last == name) at.part = part, found = true;
  };
  if (info.expert >= 0 && info.expert < routed) {
    at.layer = info.expert / d.experts, at.expert = info.expert % d.experts;
    name_is("gate", moe_part::gate), name_is("up", moe_part::up), name_is("down", moe_part::down);
    name_is("gate_bias", moe_part::gate_bias), name_is("up_bias", moe_part::up_bias);
    name_is("down_bias", moe_part::down_bias);
  } else if (info.expert >= 0) {
    at.layer = info.expert - routed;
    name_is("gate", moe_part::shared_gate), name_is("up", moe_part::shared_up);
    name_is("down", moe_part::shared_down), name_is("self_gate", moe_part::shared_self_gate);
  } else if (info.layer >= 0) {
    at.layer = info.layer;
    name_is("weight", moe_part::router), name_is("candidate_bias", moe_part::router_bias);
    name_is("selection_bias", moe_part::selection_bias);
  }
  const matrix_shape shape = found && at.layer < d.layers() ? d.shape(at.part) : matrix_shape{};
  moue::detail::require(
      (found && info.size() == 0) || (shape.rows == info.rows && shape.cols == info.cols), d.family.name,
      [&] {
        return "the mixture wants '" + info.name + "' " + moue::detail::shape_text(info.rows, info.cols) +
               (shape.rows > 0 ? ", but the checkpoint has it as " + moue::detail::shape_text(shape.rows, shape.cols)
                               : std::string(", which the checkpoint does not have"));
      },
      "use mixture_of, or compose what the family's row says");
  return at;
}

/// Fills the weights of such a mixture, one matrix at a time. Throws as `address_of` does, and if the mixture has no place
/// for a matrix of the checkpoint, both before anything is written; and as `moe_checkpoint::read` does.
template <Storage S>
void load(const moe_checkpoint& source, parameters<S>& weights) {
  const moe_description& d = source.description();
  std::vector<moe_address> addresses;
  std::array<index, std::size(moe_parts)> places{};
  for (const auto& info : weights.layout()) {
    addresses.push_back(address_of(d, info));
    if (info.size() > 0) ++places[static_cast<std::size_t>(addresses.back().part)];
  }
  for (const auto part : moe_parts) {
    const index held = d.has(part) ? d.layers() * (d.per_expert(part) ? d.experts : 1) : 0;
    moue::detail::require(
        places[static_cast<std::size_t>(part)] == held, d.family.name,
        [&] {
          return "the checkpoint holds " + std::to_string(held) + " tensors such as " +
                 detail::shown(d.tensor_name(0, part)) + ", the mixture has " +
                 std::to_string(places[static_cast<std::size_t>(part)]) + " places for them";
        },
        "use mixture_of, or compose what the family's row says");
  }
  for (index i = 0; i < weights.layout().tensors(); ++i) {
    const auto& at = addresses[static_cast<std::size_t>(i)];
    const auto size = static_cast<std::size_t>(weights.layout()[i].size());
    if (size > 0) source.read(at.layer, at.part, at.expert, std::span<S>(weights[i].data, size));
  }
}

}  // namespace moue::io
