// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What a pass counts, and the balancing loss of the counts: read at any time, armed for backward.

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "moue/balance.hpp"
#include "moue/pass/checks.hpp"
#include "moue/pass/state.hpp"
#include "moue/pass/statistics.hpp"
#include "moue/routing_counts.hpp"

namespace moue::inline v0_1::detail {

/// The members of `pass` that are about counts and the balancing loss.
template <class MixtureT, Storage S>
class balanced_pass {
  using loss_type = typename MixtureT::loss_type;
  using backend_type = typename MixtureT::backend_type;
  static constexpr index_t parts = part_count<loss_type>;

 public:
  using C = compute_t<S>;
  using loss_value_type = loss_value<C, parts>;  ///< what `balance` returns: the loss and its parts

  /// Tokens of the batch that are not padding. Waits where the backend works asynchronously.
  index_t valid_tokens() const { return download<backend_type, index_t>(backend(), state_.memory.valid_tokens.data); }

  /// What routing did in the layers that have run so far. Allocates, and waits where the backend works asynchronously.
  routing_counts<C> counts() const {
    routing_counts<C> result;
    each_count(
        [&]<class T>(reduction, std::vector<T>& to, const vector_view<T>& from) {
          to.resize(static_cast<std::size_t>(from.size));
          backend().download(from.data, std::span<T>(to));
        },
        result, state_.memory.counts);
    return result;
  }
  /// The same in the form that losses read. Mean probabilities are zeros without a balancing loss. Views of the
  /// workspace, valid until the next call to the pass.
  depth_statistics<C> statistics() const { return form(state_.memory.counts, valid_tokens()); }
  /// The same of counts that were added up over ranges of layers or over ranks.
  depth_statistics<C> statistics(const routing_counts<C>& of_all) const {
    send(of_all);
    return form(state_.memory.given_counts, *std::max_element(of_all.tokens.begin(), of_all.tokens.end()));
  }

  /// The balancing loss of the layers that have run so far, its weights included, and its parts; 0 for `no_balancing`.
  /// Averages are over all layers of the mixture, whether or not they ran. Changes nothing. Waits where the backend
  /// works asynchronously.
  loss_value_type balance() const { return value_of(queue_balance()); }
  /// The same of counts that were added up over ranges of layers or over ranks.
  loss_value_type balance(const routing_counts<C>& of_all) const {
    send(of_all);
    value(state_.memory.given_counts);
    return value_of(state_.memory.loss);
  }
  /// The same as `balance()` without waiting: the loss will stand in the first element of the result, in the backend's
  /// memory, and its parts behind it.
  vector_view<const C> queue_balance() const {
    value(state_.memory.counts);
    return state_.memory.loss;
  }

  /// Makes the balancing loss take part in the backward runs that follow, its gradient multiplied by `scale`, until the
  /// next `begin` or `rewind`. Call it between the last forward and the first backward.
  void arm(C scale = C(1)) {
    checks().arm();
    checks().counted();
    arm(state_.memory.counts, {scale, {}});
  }
  /// The same with a scale for every part of a sum, [parts], or for every part at every layer, [parts, layers].
  void arm(std::span<const C> scales) {
    checks().arm();
    checks().counted();
    arm(state_.memory.counts, {C(1), send(scales)});
  }
  /// The same for the loss of counts that were added up over ranges of layers or over ranks.
  void arm(C scale, const routing_counts<C>& of_all) {
    checks().arm();
    send(of_all);
    arm(state_.memory.given_counts, {scale, {}});
  }
  void arm(std::span<const C> scales, const routing_counts<C>& of_all) {
    checks().arm();
    send(of_all);
    arm(state_.memory.given_counts, {C(1), send(scales)});
  }

 protected:
  using state_type = pass_state<MixtureT, S>;

  balanced_pass(const MixtureT& model, const pass_options& options, workspace& scratch)
      : state_(model, options, scratch) {}

  pass_checks checks() const {
    return {state_.options, state_.at, state_.memory.first, state_.memory.end, state_.model->width()};
  }

  /// Counts of `layer`, after its plan was made. `own`: of the router's own assignments, whose demand is what ran.
  void count(index_t layer, bool own) {
    if (!state_.at.batch.counts) return;
    const auto ops = state_.operations();
    const index_t first = state_.model->connections().candidate_offset(layer);
    const index_t n = state_.candidates(layer);
    const index_t experts = state_.model->experts();
    const auto& counts = state_.memory.counts;
    const auto probabilities = state_.shaped(state_.memory.probabilities, n);
    const auto part = [&](const auto& v) { return std::remove_cvref_t<decltype(v)>{v.data + first, n}; };
    if constexpr (state_type::balances)
      ops.column_sum(probabilities, matrix_view<C>{counts.probability.data + first, 1, n});
    ops.each_row((std::max)(n, experts),
                 count_candidate<C>{state_.candidate_ids(layer),
                                    state_.record(layer).run.plan.expert_offsets,
                                    state_.memory.valid_tokens,
                                    state_.valid(),
                                    state_.logits(layer),
                                    own && !state_type::stages_type::drops ? matrix_view<const std::int32_t>()
                                                                           : state_.selected(layer),
                                    counts.tokens.data + layer,
                                    part(counts.demand),
                                    part(counts.load),
                                    {counts.rows.data + layer * experts, experts},
                                    part(counts.open)});
    if constexpr (TokenLoss<loss_type>) {
      const auto values = state_.rows(state_.memory.token_losses);
      ops.each_row(state_.tokens(), token_loss_row<C, loss_type>{state_.model->loss(),
                                                                 {state_.visit_of(layer), state_.batch},
                                                                 state_.logits(layer),
                                                                 probabilities,
                                                                 values});
      ops.column_sum(values, matrix_view<C>{counts.token_loss.data + layer * parts, 1, parts});
    }
  }

  state_type state_;

 private:
  const backend_type& backend() const { return state_.model->backend(); }

  form_statistics<C> former(const counts_view<C>& counts) const {
    return {state_.memory.offsets, state_.memory.candidates_of_all, counts, state_.memory.tables, state_.visit_of(-1)};
  }
  depth_statistics<C> form(const counts_view<C>& counts, index_t tokens) const {
    const auto all = former(counts);
    state_.operations().each_row(1, all);
    return all.statistics(tokens);
  }
  /// Assigns the balancing loss of the counts and its parts to `memory.loss`.
  void value(const counts_view<C>& counts) const {
    state_.operations().each_row(
        1, value_of_depth<C, loss_type>{state_.model->loss(), former(counts), state_.memory.loss});
  }
  void arm(const counts_view<C>& counts, const loss_scales<C>& scales) {
    if constexpr (state_type::balances) {
      const auto& memory = state_.memory;
      state_.operations().each_row(
          1, gradient_of_depth<C, loss_type>{state_.model->loss(), former(counts), scales, memory.dprobability,
                                             memory.of_part, memory.token_scale});
      state_.at.armed = true;
    }
  }

  loss_value_type value_of(const vector_view<const C>& from) const {
    std::array<C, 1 + parts> values{};
    backend().download(from.data, std::span<C>(values));
    loss_value_type result{values[0]};
    std::copy(values.begin() + 1, values.end(), result.parts.begin());
    return result;
  }
  /// Scales where the backend can read them.
  vector_view<const C> send(std::span<const C> scales) const {
    require(
        std::ssize(scales) == parts || std::ssize(scales) == parts * state_.model->layers(), "pass",
        [&] {
          return std::to_string(scales.size()) + " scales were given for " + std::to_string(parts) +
                 " parts of the balancing loss";
        },
        "give one per part, or one per part and layer");
    backend().upload(scales, state_.memory.given_scales.data);
    return {state_.memory.given_scales.data, std::ssize(scales)};
  }
  void send(const routing_counts<C>& of_all) const {
    each_count(
        [&]<class T>(reduction, const std::vector<T>& from, const vector_view<T>& to) {
          require(
              std::ssize(from) == to.size, "pass",
              [] { return std::string("the counts are those of another mixture"); }, "add up what pass::counts gives");
          backend().upload(std::span<const T>(from), to.data);
        },
        of_all, state_.memory.given_counts);
  }
};

}  // namespace moue::inline v0_1::detail
