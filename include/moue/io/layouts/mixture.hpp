// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// From a recognised checkpoint to a running mixture.

#include <utility>

#include "moue/expert/gated_mlp.hpp"
#include "moue/expert/self_gated.hpp"
#include "moue/io/layouts/load.hpp"
#include "moue/io/layouts/router.hpp"
#include "moue/mixture.hpp"
#include "moue/topology/always_on.hpp"
#include "moue/topology/layer_local.hpp"

namespace moue::inline v0_1::io {

/// Routed experts of either gating, then the shared expert, plain or self-gated.
using public_experts = expert_pool<swiglu, gated_mlp<clamped_swiglu, true>, swiglu, self_gated<swiglu>>;

/// One type for every family. Composing the exact types by hand gives faster code and names no tensor that is empty.
template <class LossT = no_balancing, class BackendT = cpu>
using public_mixture = mixture<public_experts, always_on<layer_local>, public_router, LossT, BackendT>;

/// The mixture layers of a checkpoint, without weights: layer l's expert i has id l * experts + i; shared experts come
/// after all of these. Throws if config.json does not give all numbers that a running layer needs.
template <class LossT = no_balancing, class BackendT = cpu>
public_mixture<LossT, BackendT> mixture_of(const moe_description& d, LossT loss = {}, BackendT backend = {}) {
  const index_t routed = d.layers() * d.experts;
  const index_t routed_kind = d.family.clamped_swiglu ? 1 : 0;
  const index_t shared_kind = d.has(moe_part::shared_self_gate) ? 3 : 2;
  const swiglu plain{.width = d.width, .hidden = d.hidden};
  const swiglu shared{.width = d.width, .hidden = d.shared_hidden};
  return {public_experts{[=](index_t expert) { return expert < routed ? routed_kind : shared_kind; }, plain,
                         gated_mlp<clamped_swiglu, true>{.width = d.width, .hidden = d.hidden}, shared,
                         self_gated<swiglu>{shared}},
          always_on<layer_local>{{.depth = d.layers(), .per_layer = d.experts}, d.shared_hidden > 0 ? 1 : 0, 0},
          router_of(d), std::move(loss), std::move(backend)};
}

}  // namespace moue::inline v0_1::io
