// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// From a recognised checkpoint to a running mixture.

#include <utility>

#include "moue/expert/copy.hpp"
#include "moue/expert/gated_mlp.hpp"
#include "moue/expert/input_gated.hpp"
#include "moue/expert/mlp.hpp"
#include "moue/expert/projected.hpp"
#include "moue/expert/self_gated.hpp"
#include "moue/io/layouts/load.hpp"
#include "moue/io/layouts/router.hpp"
#include "moue/mixture.hpp"
#include "moue/topology/always_on.hpp"
#include "moue/topology/layer_local.hpp"

namespace moue::inline v0_1::io {

/// Routed experts of every kind, the identity, shared experts of every kind, and routed ones that came later.
using public_experts = expert_pool<swiglu, gated_mlp<clamped_swiglu, true>, mlp<relu_squared>, copy_expert, swiglu,
                                   self_gated<swiglu>, mlp<relu_squared>, gated_mlp<gelu_tanh>, gated_mlp<clamped_silu>,
                                   input_gated<swiglu>, projected<mlp<relu_squared>>>;

namespace detail {

/// The kind of a routed expert among `public_experts`.
inline index_t routed_kind(const moe_description& d) {
  if (d.has(moe_part::input_gate)) return 9;
  if (d.latent > 0) return 10;
  switch (d.family.activation) {
    case expert_activation::silu:
      return 0;
    case expert_activation::clamped_swiglu:
      return 1;
    case expert_activation::relu_squared:
      return 2;
    case expert_activation::gelu_tanh:
      return 7;
    case expert_activation::clamped_silu:
      return 8;
  }
  return 0;
}

}  // namespace detail

/// One type for every family. Composing the exact types by hand gives faster code and names no tensor that is empty.
template <class LossT = no_balancing, class BackendT = cpu>
using public_mixture = mixture<public_experts, always_on<layer_local>, public_router, LossT, BackendT>;

/// The mixture layers of a checkpoint, without weights: layer l's expert i has id l * candidates() + i; shared experts
/// come after all of these. Throws if config.json does not give all numbers that a running layer needs.
template <class LossT = no_balancing, class BackendT = cpu>
public_mixture<LossT, BackendT> mixture_of(const moe_description& d, LossT loss = {}, BackendT backend = {}) {
  const auto kind_of = [routed = d.layers() * d.candidates(), candidates = d.candidates(), experts = d.experts,
                        kind = detail::routed_kind(d),
                        two_matrices = d.family.activation == expert_activation::relu_squared,
                        self_gated = d.has(moe_part::shared_self_gate)](index_t expert) -> index_t {
    if (expert >= routed) return two_matrices ? 6 : self_gated ? 5 : 4;
    return expert % candidates >= experts ? 3 : kind;
  };
  // Where there is no shared expert, none is of its kinds; but every kind of a pool has sizes.
  const index_t shared_hidden = d.shared_hidden > 0 ? d.shared_hidden : 1;
  const swiglu routed{.width = d.width, .hidden = d.hidden}, shared{.width = d.width, .hidden = shared_hidden};
  return {public_experts{kind_of, routed, gated_mlp<clamped_swiglu, true>{.width = d.width, .hidden = d.hidden},
                         mlp<relu_squared>{.width = d.width, .hidden = d.hidden}, copy_expert{.width = d.width}, shared,
                         self_gated<swiglu>{shared}, mlp<relu_squared>{.width = d.width, .hidden = shared_hidden},
                         gated_mlp<gelu_tanh>{.width = d.width, .hidden = d.hidden},
                         gated_mlp<clamped_silu>{.width = d.width, .hidden = d.hidden}, input_gated<swiglu>{routed},
                         projected{mlp<relu_squared>{.width = d.expert_width(), .hidden = d.hidden}, d.width}},
          always_on<layer_local>{{.depth = d.layers(), .per_layer = d.candidates()}, d.shared_hidden > 0 ? 1 : 0, 0},
          router_of(d), std::move(loss), std::move(backend)};
}

}  // namespace moue::inline v0_1::io
