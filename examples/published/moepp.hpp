// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// MoE++ (Jin et al., arXiv 2410.07348): beside FFNs a layer has experts that cost nearly nothing, routers go on from
// the logits of the layer before, and the balancing loss asks less of the cheap experts.

#include <array>
#include <limits>
#include <moue/policies.hpp>

namespace published {

/// z_l += G_l z_{l-1}, with z_{l-1} all that the layer before scored with: "gating residuals". The state are those
/// logits, a closed candidate's being 0, so all layers need the same number of candidates. The first layer adds
/// nothing.
struct pathway_score {
  double deviation = 0.02;  ///< of the initial weights

  constexpr moue::index_t state_width(moue::router_shape s) const { return s.candidates; }
  auto parameters(moue::router_shape s) const {
    return std::array{moue::parameter_spec{.name = "pathway",
                                           .rows = s.candidates,
                                           .cols = s.candidates,
                                           .init = moue::initializer::normal(deviation),
                                           .decayed = true}};
  }
  template <class C>
  void forward(const auto& ops, const moue::router_frame<C>& frame, const auto& p, const auto&) const {
    ops.linear(frame.state, p[0], frame.logits, moue::store::add);
  }
  template <class C>
  void backward(const auto& ops, const moue::router_frame<C>& frame, const moue::router_gradient<C>& gradient,
                const auto& p, const auto&, const auto& dp) const {
    ops.input_gradient(gradient.logits, p[0], gradient.state, moue::store::add);
    ops.weight_gradient(gradient.logits, frame.state, dp[0]);
  }

  template <class C>
  struct keep {
    moue::router_frame<C> frame;
    MOUE_HD void operator()(moue::index_t t, moue::index_t j) const {
      const C z = frame.logits(t, j);
      frame.next_state(t, j) = z == -std::numeric_limits<C>::infinity() ? C(0) : z;
    }
  };
  template <class C>
  struct keep_backward {
    moue::router_gradient<C> gradient;
    MOUE_HD void operator()(moue::index_t t, moue::index_t j) const {
      gradient.logits(t, j) += gradient.next_state(t, j);
    }
  };
  template <class C>
  void advance(const auto& ops, const moue::router_frame<C>& frame, const auto&, const auto&) const {
    ops.each_element(frame.logits.rows, frame.logits.cols, keep<C>{frame});
  }
  template <class C>
  void advance_backward(const auto& ops, const moue::router_frame<C>& frame, const moue::router_gradient<C>& gradient,
                        const auto&, const auto&, const auto&) const {
    ops.each_element(frame.logits.rows, frame.logits.cols, keep_backward<C>{gradient});
  }
};
static_assert(moue::ScoreStage<pathway_score>);

/// The experts of a layer in their order: FFNs, constant ones, one that copies, one that gives zero. Called with an
/// expert's id, it says which kind: `expert_pool{mixed_layer{...}, ffn, constant_expert, copy_expert, zero_expert}`.
struct mixed_layer {
  moue::index_t ffn = 8;
  moue::index_t constant = 2;

  MOUE_HD constexpr moue::index_t size() const { return ffn + constant + 2; }
  MOUE_HD constexpr moue::index_t operator()(moue::index_t expert) const {
    const moue::index_t j = expert % size();
    return j < ffn ? 0 : j < ffn + constant ? 1 : j - ffn - constant + 2;
  }
};

/// weight · mean over layers of sum_j eta_j (c_j / T) P_j: c_j of T tokens selected j, of `k` each; eta is 1 for FFNs
/// and `tau` for the others, which so get 1 / tau of an FFN's tokens.
struct heterogeneous_balance {
  mixed_layer layer = {};
  moue::index_t k = 2;  ///< candidates that each token selects: shares are of k T
  double weight = 0.01;
  double tau = 0.75;

  static constexpr bool names_matter = true;

  template <class C>
  MOUE_HD C value(const moue::depth_statistics<C>& s) const {
    C sum = C(0);
    for (moue::index_t i = 0; i < s.share.size; ++i) sum += slope(s, i) * s.probability[i];
    return sum;
  }
  template <class C>
  MOUE_HD void gradient(const moue::depth_statistics<C>& s, moue::vector_view<C> d) const {
    for (moue::index_t i = 0; i < d.size; ++i) d[i] += slope(s, i);
  }

 private:
  template <class C>
  MOUE_HD C slope(const moue::depth_statistics<C>& s, moue::index_t i) const {
    const C eta = layer(s.candidates[i]) == 0 ? C(1) : C(tau);
    return C(weight) * eta * C(k) * s.share[i] / C(s.layers);
  }
};
static_assert(moue::DepthLoss<heterogeneous_balance>);

}  // namespace published
