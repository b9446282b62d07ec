// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The memory of a pass, carved from a workspace: what each visit leaves behind, and scratch that visits share.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "moue/executor.hpp"
#include "moue/mixture.hpp"
#include "moue/workspace.hpp"

namespace moue::detail {

/// What one visit leaves for its way back.
template <class S, class C>
struct visit_record {
  matrix_view<S> x;                    ///< [tokens, width] the experts' input
  matrix_view<S> router_x;             ///< [tokens, width] the router's, if given apart
  matrix_view<C> logits;               ///< [tokens, candidates]
  matrix_view<std::int32_t> selected;  ///< [tokens, most] selected, best first, then −1
  matrix_view<std::int32_t> experts;   ///< [tokens, most + always] physical ids or −1
  matrix_view<C> gates;                ///< [tokens, most + always]
  vector_view<index_t> offsets;        ///< [tokens + 1] of the rectangle above
  expert_record<C> run;
};

template <class MixtureT, Storage S>
struct pass_memory {
  using C = compute_t<S>;
  using router_type = typename MixtureT::router_type;
  static constexpr bool own_features = router_stages<router_type>::own_features;
  static constexpr bool converts = !std::is_same_v<S, C>;
  static constexpr index_t count_block = 256;  ///< rows whose valid tokens are counted together
  static constexpr bool balances = !std::is_same_v<typename MixtureT::loss_type, no_balancing>;

  std::vector<visit_record<S, C>> visits;  ///< one per layer in training, else one for all
  std::vector<matrix_view<C>> states;      ///< depth state before each layer and after the last; two in inference
  vector_view<std::uint8_t> valid;
  vector_view<index_t> valid_parts;   ///< valid tokens of each block of rows
  vector_view<index_t> valid_tokens;  ///< [1]

  expert_scratch<C> experts;
  matrix_view<C> router_conversion;
  matrix_view<C> x;         ///< [tokens, width] the router's input in the compute type, if that differs
  matrix_view<C> features;  ///< [tokens, features], if they are not the input itself
  matrix_view<C> scores;
  matrix_view<C> probabilities;
  matrix_view<C> dense_gates;  ///< [tokens, candidates], if a stage keeps state
  vector_view<C> stage_temporaries;

  matrix_view<C> dx;  ///< [tokens, width] from the experts
  matrix_view<C> dinput;
  matrix_view<C> dfeatures;
  matrix_view<C> dlogits;
  matrix_view<C> dense_dgates;
  vector_view<C> dgates;
  matrix_view<C> dstate;
  matrix_view<C> dnext_state;
  matrix_view<C> token_losses;  ///< [tokens, 1]

  vector_view<const index_t> offsets;                 ///< [layers + 1] of the candidates below
  vector_view<const std::int32_t> candidates_of_all;  ///< layer after layer
  vector_view<const std::int32_t> always_of_all;
  vector_view<C> exposure;
  vector_view<C> share;
  vector_view<C> probability;
  vector_view<C> dprobability;
  vector_view<C> expert_share;
  vector_view<C> expert_probability;
  vector_view<std::uint8_t> open;
  matrix_view<C> layer_token_loss;  ///< [1, layers]
  vector_view<C> loss;              ///< [1] the balancing loss
  vector_view<C> token_scale;       ///< [1] what a token loss's gradient is multiplied by

  pass_memory(const MixtureT& model, const pass_options& options, arena& memory) {
    const auto& connections = model.connections();
    const auto& run = model.experts_executor();
    const index_t tokens = options.tokens;
    require(
        tokens >= 0, "pass", [&] { return "it was asked to hold " + std::to_string(tokens) + " tokens"; },
        "ask for 0 or more");
    require(
        tokens <= (std::numeric_limits<std::int32_t>::max)(), "pass",
        [&] { return "it was asked to hold " + std::to_string(tokens) + " tokens"; },
        "split the batch: one pass holds at most 2147483647");
    const bool training = options.how == mode::training;
    const index_t layers = connections.layers();
    const index_t candidates = connections.max_candidates();
    const index_t most = model.router().select.max_selected(candidates);
    const index_t entries = tokens * (most + connections.max_always());
    const index_t state = model.state_width();
    const index_t backward_tokens = training ? tokens : 0;

    for (index_t layer = 0; layer < (training ? layers : 1); ++layer) {
      const index_t n = training ? static_cast<index_t>(connections.candidates(layer).size()) : candidates;
      const index_t always =
          training ? static_cast<index_t>(connections.always(layer).size()) : connections.max_always();
      const index_t taken = model.router().select.max_selected(n);
      visit_record<S, C> visit;
      visit.x = memory.take<S>(backward_tokens, model.width(), "layer inputs");
      visit.router_x = memory.take<S>(options.router_input ? backward_tokens : 0, model.width(), "router inputs");
      visit.logits = memory.take<C>(tokens, n, "logits");
      visit.selected = memory.take<std::int32_t>(tokens, taken, "selected columns");
      visit.experts = memory.take<std::int32_t>(tokens, taken + always, "selected experts");
      visit.gates = memory.take<C>(tokens, taken + always, "gates");
      visit.offsets = memory.take<index_t>(tokens + 1, "routing offsets");
      visit.run = run.template take_record<C>(memory, tokens, tokens * (taken + always));
      visits.push_back(std::move(visit));
    }
    for (index_t i = 0; i < (state == 0 ? 0 : training ? layers + 1 : 2); ++i)
      states.push_back(memory.take<C>(tokens, state, "depth state"));
    valid = memory.take<std::uint8_t>(tokens, "padding mask");
    valid_parts = memory.take<index_t>((tokens + count_block - 1) / count_block, "valid tokens of blocks");
    valid_tokens = memory.take<index_t>(1, "valid tokens");

    experts = run.template take_scratch<S>(memory, entries, training);
    index_t largest = 0;
    for (const auto& info : *model.layout())
      if (info.expert < 0) largest = (std::max)(largest, info.size());
    router_conversion = run.template take_conversion<S>(memory, largest);
    const index_t width = model.width();
    const index_t features_width = model.router().features.width(width);
    x = memory.take<C>(converts ? tokens : 0, width, "widened inputs");
    features = memory.take<C>(own_features ? tokens : 0, features_width, "features");
    scores = memory.take<C>(tokens, candidates, "selection scores");
    probabilities = memory.take<C>(balances ? tokens : 0, candidates, "probabilities");
    dense_gates = memory.take<C>(state > 0 ? tokens : 0, candidates, "dense gates");
    index_t temporaries = 0;
    for (index_t layer = 0; layer < layers; ++layer) {
      index_t sum = 0;
      for (const auto& shape : model.stage_temporaries(layer, tokens)) sum += elements(shape);
      temporaries = (std::max)(temporaries, sum);
    }
    stage_temporaries = memory.take<C>(temporaries, "router temporaries");

    dx = memory.take<C>(backward_tokens, width, "input gradients");
    dinput = memory.take<C>(backward_tokens, width, "router input gradients");
    dfeatures = memory.take<C>(own_features ? backward_tokens : 0, features_width, "feature gradients");
    dlogits = memory.take<C>(backward_tokens, candidates, "logit gradients");
    dense_dgates = memory.take<C>(state > 0 ? backward_tokens : 0, candidates, "dense gate gradients");
    dgates = memory.take<C>(training ? entries : 0, "gate gradients");
    dstate = memory.take<C>(backward_tokens, state, "state gradients");
    dnext_state = memory.take<C>(backward_tokens, state, "next state gradients");
    token_losses = memory.take<C>(balances ? tokens : 0, 1, "token losses");

    const index_t selected = connections.candidate_offset(layers);
    offsets = table(model, memory, connections.candidate_offsets(), "candidate offsets");
    candidates_of_all = table(model, memory, connections.all_candidates(), "candidates");
    always_of_all = table(model, memory, connections.all_always(), "always-on experts");
    exposure = memory.take<C>(connections.experts(), "exposure");
    share = memory.take<C>(selected, "shares");
    probability = memory.take<C>(selected, "mean probabilities");
    dprobability = memory.take<C>(training ? selected : 0, "probability gradients");
    expert_share = memory.take<C>(connections.experts(), "expert shares");
    expert_probability = memory.take<C>(connections.experts(), "expert probabilities");
    open = memory.take<std::uint8_t>(selected, "open candidates");
    layer_token_loss = memory.take<C>(1, layers, "layer token losses");
    loss = memory.take<C>(1, "balancing loss");
    token_scale = memory.take<C>(1, "scale of token losses");
  }

  /// Elements that a stage's scratch takes: every matrix begins where vectors of any type do.
  static index_t elements(const matrix_shape& shape) { return (shape.rows * shape.cols + 15) / 16 * 16; }

 private:
  /// A table of the mixture where its backend can read it: the mixture's own, or a copy.
  template <class T>
  static vector_view<const T> table(const MixtureT& model, arena& memory, std::span<const T> from,
                                    std::string_view purpose) {
    if constexpr (is_grouped<typename MixtureT::backend_type>) {
      const auto there = memory.take<T>(std::ssize(from), purpose);
      if (there.data != nullptr) upload(model.backend(), from, there.data);
      return there;
    } else {
      return {from.data(), std::ssize(from)};
    }
  }
};

}  // namespace moue::detail
