// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Router stages that are told at run time which convention they follow, so that one type serves every family.

#include <array>
#include <cstdint>
#include <limits>
#include <string>

#include "moue/io/layouts/description.hpp"
#include "moue/router/candidate_bias.hpp"
#include "moue/router/compose.hpp"
#include "moue/router/group_limited.hpp"
#include "moue/router/preference.hpp"
#include "moue/router/probability.hpp"
#include "moue/router/sparsemixer.hpp"

namespace moue::inline v0_1::io {

/// `linear_score`, with `candidate_bias` if asked for; else that tensor is empty.
struct public_score {
  bool biased = false;  ///< whether there is a `candidate_bias`

  auto parameters(router_shape s) const {
    auto bias = candidate_bias{}.parameters(s);
    if (!biased) bias[0].cols = 0;
    return moue::detail::join_arrays(linear_score{}.parameters(s), bias);
  }
  template <class C>
  void forward(const auto& ops, const router_frame<C>& frame, const auto& p, const auto&) const {
    linear_score{}.forward(ops, frame, weight(p), none);
    if (biased) candidate_bias{}.forward(ops, frame, bias(p), none);
  }
  template <class C>
  void backward(const auto& ops, const router_frame<C>& frame, const router_gradient<C>& gradient, const auto& p,
                const auto&, const auto& dp) const {
    linear_score{}.backward(ops, frame, gradient, weight(p), none, weight(dp));
    if (biased) candidate_bias{}.backward(ops, frame, gradient, bias(p), none, bias(dp));
  }

 private:
  static constexpr std::array<int, 0> none{};
  static auto weight(const auto& p) { return moue::detail::sub_array<0, 1>(p); }
  static auto bias(const auto& p) { return moue::detail::sub_array<1, 1>(p); }
};

/// Any `selection_score`, with a selection bias if asked for; else that tensor is empty.
struct public_preference {
  selection_score score = selection_score::logits;  ///< what selection compares
  bool biased = false;                              ///< whether there is a selection bias

  auto parameters(router_shape s) const {
    auto bias = biased_logits{}.parameters(s);
    if (!biased) bias[0].cols = 0;
    return bias;
  }
  template <class C>
  MOUE_HD void operator()(vector_view<const C> logits, const auto& p, vector_view<C> scores) const {
    if (!biased) switch (score) {
        case selection_score::logits:
          return by_logits{}(logits, p, scores);
        case selection_score::sigmoid:
          for (index_t j = 0; j < logits.size; ++j) scores[j] = moue::detail::sigmoid(logits[j]);
          return;
        case selection_score::softmax:
          return softmax_probability{}.forward(logits, scores);
        case selection_score::root_of_softplus:  // in the same order
          return by_logits{}(logits, p, scores);
      }
    switch (score) {
      case selection_score::logits:
        return biased_logits{}(logits, p, scores);
      case selection_score::sigmoid:
        return biased_sigmoid{}(logits, p, scores);
      case selection_score::softmax:
        return biased_softmax{}(logits, p, scores);
      case selection_score::root_of_softplus:
        return biased_root_of_softplus{}(logits, p, scores);
    }
  }
};

/// w_i = 1: the gate is elsewhere.
struct equal_gate {
  template <class C>
  MOUE_HD void forward(vector_view<const C>, vector_view<const std::int32_t>, vector_view<C> gates) const {
    for (index_t i = 0; i < gates.size; ++i) gates[i] = C(1);
  }
  template <class C>
  MOUE_HD void backward(vector_view<const C>, vector_view<const std::int32_t>, vector_view<const C>,
                        vector_view<const C>, vector_view<C>) const {}
};

/// Any `gate_convention`.
struct public_gate {
  gate_convention convention = gate_convention::softmax_of_selected;  ///< how logits become gates
  double scale = 1;                                                   ///< of the gates
  double jitter = 0;                                                  ///< of sparsemixer

  template <class C>
  MOUE_HD void forward(vector_view<const C> logits, vector_view<const std::int32_t> selected,
                       vector_view<C> gates) const {
    chosen([&](const auto& gate) { gate.forward(logits, selected, gates); });
  }
  template <class C>
  MOUE_HD void backward(vector_view<const C> logits, vector_view<const std::int32_t> selected,
                        vector_view<const C> gates, vector_view<const C> dgates, vector_view<C> dlogits) const {
    chosen([&](const auto& gate) { gate.backward(logits, selected, gates, dgates, dlogits); });
  }

 private:
  template <class F>
  MOUE_HD void chosen(F&& f) const {
    switch (convention) {
      case gate_convention::softmax_of_selected:
        return f(softmax_of_selected{scale});
      case gate_convention::softmax:
        return f(softmax_then_select{scale});
      case gate_convention::sigmoid:
        return f(sigmoid_gate{scale});
      case gate_convention::sigmoid_of_selected:
        return f(sigmoid_renormalised{scale});
      case gate_convention::sparsemixer:
        return f(moue::sparsemixer{jitter});
      case gate_convention::root_of_softplus:
        return f(root_of_softplus_renormalised{scale});
      case gate_convention::sigmoid_of_input:
        return f(equal_gate{});
    }
  }
};

/// The distribution that belongs to a gate: of sigmoids or a softmax.
struct public_probability {
  bool sigmoid = false;  ///< of sigmoids, not of a softmax

  template <class C>
  MOUE_HD void forward(vector_view<const C> logits, vector_view<C> p) const {
    if (sigmoid)
      sigmoid_probability{}.forward(logits, p);
    else
      softmax_probability{}.forward(logits, p);
  }
  template <class C>
  MOUE_HD void backward(vector_view<const C> logits, vector_view<const C> p, vector_view<const C> dp,
                        vector_view<C> dlogits) const {
    if (sigmoid)
      sigmoid_probability{}.backward(logits, p, dp, dlogits);
    else
      softmax_probability{}.backward(logits, p, dp, dlogits);
  }
};

/// What `router_of` gives: stages that read at run time which of the public kinds they are.
using public_router =
    router<public_score, group_limited, public_gate, input_features, public_preference, public_probability>;

/// The router of a recognised checkpoint. Throws if config.json does not say all that it needs.
inline public_router router_of(const moe_description& d) {
  d.running();
  const bool sigmoid = d.gate == gate_convention::sigmoid || d.gate == gate_convention::sigmoid_of_selected ||
                       d.gate == gate_convention::sigmoid_of_input;
  // Without groups there must be no limit either, also among the candidates that a conversion adds.
  constexpr index_t unlimited = (std::numeric_limits<std::int32_t>::max)();
  const column_groups groups = d.groups > 1
                                   ? column_groups{d.candidates() / d.groups, d.selected_groups, d.family.group_best}
                                   : column_groups{1, unlimited, 1};
  return public_router{public_score{d.has(moe_part::router_bias)},
                       group_limited{d.per_token, groups},
                       public_gate{d.gate, d.scale, d.jitter},
                       input_features{},
                       public_preference{d.family.selection, d.has(moe_part::selection_bias)},
                       public_probability{sigmoid}};
}

}  // namespace moue::inline v0_1::io
