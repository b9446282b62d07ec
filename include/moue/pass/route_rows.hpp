// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Row functors of a pass: one token's way through the row stages of a router, and back. Stages that take lanes share a
/// row; others run on its leading lane.

#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include "moue/balance.hpp"
#include "moue/error.hpp"
#include "moue/lanes.hpp"
#include "moue/pass/rows.hpp"
#include "moue/pass/transform_rows.hpp"
#include "moue/router.hpp"
#include "moue/router/compose.hpp"
#include "moue/router/stages.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::detail {

/// One token's selection scores. What is closed, by the score stage, by the preference or because it is broken and masked,
/// is minus infinity in them, whatever the rest says; what is broken and not closed is NaN in both.
template <class C, class RouterT, class P>
struct prefer_row {
  RouterT router;
  P parameters;
  row_contexts contexts;  // whose `valid` are the rows that this layer looks at
  matrix_view<C> logits;
  matrix_view<const C> extra;
  matrix_view<C> scores;

  index_t columns() const { return logits.cols; }
  MOUE_HD bool valid(index_t t) const { return contexts.batch.valid[t] != 0; }
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t t, const Lanes& lanes = {}) const {
    const auto z = logits.row(t);
    const auto q = scores.row(t);
    const bool masking = router.on_non_finite == non_finite::mask;
    if (!valid(t)) {
      for (index_t j = lanes.first(); j < q.size; j += lanes.step()) {
        q[j] = minus_infinity<C>();
        if (masking) z[j] = minus_infinity<C>();
      }
      return;
    }
    if (masking || !by_logits_alone) {
      for (index_t j = lanes.first(); j < z.size; j += lanes.step())
        if (!is_finite(z[j]) && !closed(z[j])) z[j] = masking ? minus_infinity<C>() : not_a_number();
      lanes.wait();
    }
    if constexpr (!by_logits_alone) {
      call_stage(call_operator{}, contexts.of(t), lanes, router.preference, vector_view<const C>(z),
                 extra_for<decltype(RouterT::preference)>(extra.row(t)), parameters.preference, q);
      lanes.wait();
    }
    for (index_t j = lanes.first(); j < z.size; j += lanes.step()) {
      if constexpr (by_logits_alone) q[j] = z[j];
      const bool whole = is_finite(z[j]);
      if (whole && (by_logits_alone || !(masking ? broken(q[j]) : q[j] != q[j]))) continue;
      const bool shut = masking || (whole ? false : closed(z[j]) || (!by_logits_alone && q[j] == minus_infinity<C>()));
      q[j] = shut ? minus_infinity<C>() : not_a_number();
      if (!whole || (!shut && router.on_non_finite == non_finite::propagate)) z[j] = q[j];
    }
  }

 private:
  static constexpr bool score_closes = router_stages<RouterT>::score_closes;
  static constexpr bool by_logits_alone =
      std::is_same_v<std::remove_cvref_t<decltype(std::declval<RouterT>().preference)>, by_logits>;

  MOUE_HD static constexpr C not_a_number() { return std::numeric_limits<C>::quiet_NaN(); }
  /// Whether a logit is a mark: without a stage that closes, minus infinity is as broken as NaN.
  MOUE_HD static constexpr bool closed(C logit) { return score_closes && logit == minus_infinity<C>(); }
};

/// Moves the columns of a row that are not closed to its front, and ends them by -1. What is no column stays: it is not
/// lawful, and is told as it was selected.
template <class C>
MOUE_HD void drop_closed(const vector_view<const C>& scores, const vector_view<std::int32_t>& selected) {
  index_t count = 0;
  for (const std::int32_t column : selected) {
    if (column == -1) break;
    if (column < 0 || column >= scores.size || scores[column] != minus_infinity<C>()) selected[count++] = column;
  }
  if (count < selected.size) selected[count] = -1;
}

/// One token's way from logits to assignments: prefer → select → gate, its probabilities, and where its entries begin.
/// A selection that sees the whole table has run before, and the preference before that; columns that were given are there
/// as well. Row `tokens`, one past the last, ends the last token's entries. On a device, which cannot throw, a token whose
/// selection breaks its rules goes nowhere.
template <class C, class RouterT, class P, bool Probabilities>
struct route_row {
  prefer_row<C, RouterT, P> prefer;
  vector_view<const std::int32_t> candidates;
  vector_view<const std::int32_t> always;
  bool given;                    // whether the columns are not to be selected
  matrix_view<C> probabilities;  // not touched unless Probabilities
  matrix_view<std::int32_t> selected;
  matrix_view<C> gates;
  vector_view<index_t> offsets;
  matrix_view<std::int32_t> experts;
  matrix_view<C> entry_gates;
  matrix_view<std::int32_t> columns_of_entries;

  index_t columns() const { return candidates.size; }
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t t, const Lanes& lanes = {}) const {
    const index_t count = take(t, lanes);
    assign(t, lawful(t, count, lanes) ? count : 0, lanes);
  }

  /// How many columns the token selects; they stand in `selected`. What a selection breaks is not repaired here.
  template <class Lanes = one_lane>
  MOUE_HD index_t take(index_t t, const Lanes& lanes = {}) const {
    if (t == selected.rows) return 0;
    if constexpr (has_select<select_type>) prefer(t, lanes);
    return prefer.valid(t) ? select(t, lanes) : 0;
  }
  /// Whether there is room for the columns, each is one of the layer, and none comes twice.
  template <class Lanes = one_lane>
  MOUE_HD bool lawful(index_t t, index_t count, const Lanes& lanes = {}) const {
    if (count < 0 || count > selected.cols) return false;
    if constexpr (selects_distinct<select_type>)
      if (!given) return true;
    index_t wrong = 0;
    for (index_t i = lanes.first(); i < count; i += lanes.step()) {
      const std::int32_t column = selected(t, i);
      wrong += static_cast<std::uint32_t>(column) >= static_cast<std::uint32_t>(candidates.size);
      for (index_t j = 0; j < i; ++j) wrong += selected(t, j) == column;
    }
    return lanes.sum(wrong) == 0;
  }
  /// Gates of the selected columns, and the token's entries.
  template <class Lanes = one_lane>
  MOUE_HD void assign(index_t t, index_t count, const Lanes& lanes = {}) const {
    if (lanes.leads()) offsets[t] = t * experts.cols;
    if (t == selected.rows) return;
    const bool valid = prefer.valid(t);
    const vector_view<const C> z = prefer.logits.row(t);
    const auto beside = prefer.extra.row(t);
    if (valid)
      call_stage(call_forward{}, prefer.contexts.of(t), lanes, prefer.router.gate, z, extra_for<gate_type>(beside),
                 vector_view<const std::int32_t>{selected.row(t).data, count},
                 parameters_for<gate_type>(prefer.parameters.gate), vector_view<C>{gates.row(t).data, count});
    lanes.wait();
    for (index_t i = lanes.first(); i < selected.cols; i += lanes.step()) {
      if (i >= count) {
        selected(t, i) = -1;
        gates(t, i) = C(0);
      }
      columns_of_entries(t, i) = selected(t, i);
      experts(t, i) = i < count ? candidates[selected(t, i)] : -1;
      entry_gates(t, i) = gates(t, i);
    }
    for (index_t i = lanes.first(); i < always.size; i += lanes.step()) {
      columns_of_entries(t, selected.cols + i) = -1;
      experts(t, selected.cols + i) = valid ? always[i] : -1;
      entry_gates(t, selected.cols + i) = valid ? C(1) : C(0);
    }
    if constexpr (Probabilities) {
      const auto p = probabilities.row(t);
      if (valid)
        call_stage(call_forward{}, prefer.contexts.of(t), lanes, prefer.router.probability, z,
                   extra_for<decltype(RouterT::probability)>(beside), p);
      else
        for (index_t j = lanes.first(); j < p.size; j += lanes.step()) p[j] = C(0);
    }
  }

 private:
  using select_type = std::remove_cvref_t<decltype(std::declval<RouterT>().select)>;
  using gate_type = std::remove_cvref_t<decltype(std::declval<RouterT>().gate)>;

  template <class Lanes>
  MOUE_HD index_t select(index_t t, const Lanes& lanes) const {
    index_t count = 0;
    bool select = false;
    if constexpr (has_select<select_type>) select = !given;
    lanes.wait();  // all scores are there
    if (!select) {
      if (lanes.leads()) drop_closed(vector_view<const C>(prefer.scores.row(t)), selected.row(t));
      lanes.wait();
      while (count < selected.cols && selected(t, count) != -1) ++count;
    }
    if constexpr (has_select<select_type>)
      if (select)
        count = call_stage<index_t>(call_operator{}, prefer.contexts.of(t), lanes, prefer.router.select,
                                    vector_view<const C>(prefer.scores.row(t)), candidates,
                                    parameters_for<select_type>(prefer.parameters.select), selected.row(t));
    lanes.wait();
    return count;
  }
};

/// Which rule a selection broke, by what it selected.
[[noreturn]] inline void refuse_selection(vector_view<const std::int32_t> selected, index_t count, index_t candidates,
                                          index_t token, index_t layer) {
  std::string what = "the selection of token " + std::to_string(token) + " at layer " + std::to_string(layer);
  if (count < 0 || count > selected.size) {
    what += " has " + std::to_string(count) + " columns where max_selected allows " + std::to_string(selected.size);
  } else {
    what += " is [";
    for (index_t i = 0; i < count; ++i) what += (i > 0 ? ", " : "") + std::to_string(selected[i]);
    what += "], of " + std::to_string(candidates) + " candidates";
  }
  throw error("selection", what,
              "let the select stage write distinct columns from 0 to candidates - 1, and return how many, or end a row "
              "of a table with -1");
}

/// The same where the host can throw: a selection that breaks its rules is refused.
template <class Row>
struct checked_route_row {
  Row row;
  index_t layer;
  void operator()(index_t t) const {
    const index_t count = row.take(t);
    if (!row.lawful(t, count)) refuse_selection(row.selected.row(t), count, row.candidates.size, t, layer);
    row.assign(t, count);
  }
};
template <class Row>
checked_route_row(Row, index_t) -> checked_route_row<Row>;

/// One token's backward: from the gradients of its gates, and from the balancing loss, to those of its logits.
template <class C, class RouterT, class LossT, class P>
struct route_backward_row {
  RouterT router;
  LossT loss;
  P parameters;
  row_contexts contexts;
  matrix_view<const C> logits;
  matrix_view<const C> extra;
  matrix_view<const std::int32_t> selected;
  matrix_view<const C> gates;
  vector_view<const index_t> offsets;  // of the entries that ran
  vector_view<const std::int32_t> columns_of_entries;
  vector_view<const C> dentries;   // the gradients of their gates
  routing_gradient<const C> also;  // what else reaches the row; empty views are zeros
  matrix_view<C> dgates;
  matrix_view<const C> dense_dgates;  // no columns where no stage keeps state
  vector_view<const C> dprobability;  // of every token; empty without an armed loss
  vector_view<const C> token_scale;   // [parts]; empty without an armed loss
  matrix_view<C> probabilities;
  bool adds;  // whether the state's gradients of logits and extra columns are there already
  matrix_view<C> dlogits;
  matrix_view<C> dextra;
  std::array<matrix_view<C>, stage_parameter_count<decltype(RouterT::gate)>> dparameters;

  index_t columns() const { return logits.cols; }
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t t, const Lanes& lanes = {}) const {
    const auto dz = dlogits.row(t);
    const bool valid = contexts.batch.valid[t] != 0;
    const auto dbeside = dextra.row(t);
    if (!valid || !adds)
      for (index_t j = lanes.first(); j < dz.size; j += lanes.step()) dz[j] = C(0);
    if (!valid || dense_dgates.cols == 0)
      for (index_t j = lanes.first(); j < dbeside.size; j += lanes.step()) dbeside[j] = C(0);
    const auto dp = clear_rows_of_all(dparameters, t, lanes);
    if (!valid) return;
    if (!also.logits.empty())
      for (index_t j = lanes.first(); j < dz.size; j += lanes.step()) dz[j] += also.logits(t, j);
    const bool may_close = router_stages<RouterT>::may_close || router.on_non_finite == non_finite::mask;
    if (may_close && (adds || !also.logits.empty()))  // what is closed has no gradient, from others neither
      for (index_t j = lanes.first(); j < dz.size; j += lanes.step())
        if (logits(t, j) == minus_infinity<C>()) dz[j] = C(0);
    if (!also.extra.empty())
      for (index_t j = lanes.first(); j < dbeside.size; j += lanes.step()) dbeside[j] += also.extra(t, j);
    const auto at = contexts.of(t);
    const auto z = logits.row(t);
    index_t count = 0;
    while (count < selected.cols && selected(t, count) >= 0) ++count;
    for (index_t i = lanes.first(); i < count; i += lanes.step()) {
      C sum = C(0);
      for (index_t j = offsets[t]; j < offsets[t + 1]; ++j)
        if (columns_of_entries[j] == selected(t, i)) sum += dentries[j] + (also.gates.size > 0 ? also.gates[j] : C(0));
      if (dense_dgates.cols > 0) sum += dense_dgates(t, selected(t, i));
      dgates(t, i) = sum;
    }
    lanes.wait();
    using gate_type = decltype(RouterT::gate);
    const auto beside = extra.row(t);
    call_stage(call_backward{}, at, lanes, router.gate, z, extra_for<gate_type>(beside),
               vector_view<const std::int32_t>{selected.row(t).data, count}, parameters_for<gate_type>(parameters.gate),
               vector_view<const C>{gates.row(t).data, count}, vector_view<const C>{dgates.row(t).data, count}, dz,
               extra_for<gate_type>(dbeside), parameters_for<gate_type>(dp));
    if constexpr (!std::is_same_v<LossT, no_balancing>) {
      if (dprobability.size == 0 && also.probabilities.empty()) return;
      lanes.wait();
      const auto p = probabilities.row(t);
      const vector_view<const C> known = p;
      using probability_type = decltype(RouterT::probability);
      call_stage(call_forward{}, at, lanes, router.probability, z, extra_for<probability_type>(beside), p);
      lanes.wait();
      const auto back = [&](const vector_view<const C>& dprobability_row) {
        call_stage(call_backward{}, at, lanes, router.probability, z, extra_for<probability_type>(beside), known,
                   dprobability_row, dz, extra_for<probability_type>(dbeside));
        lanes.wait();
      };
      if (!also.probabilities.empty()) back(also.probabilities.row(t));
      if (dprobability.size == 0) return;
      back(dprobability);
      each_part(loss, [&](const auto& part, index_t position) {
        if constexpr (TokenLoss<std::remove_cvref_t<decltype(part)>>)
          token_gradient(part, z, known, token_scale[position], dz, at, lanes);
      });
    }
  }
};

}  // namespace moue::inline v0_1::detail
