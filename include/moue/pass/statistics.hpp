// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Row functors of a pass: what routing did, counted layer by layer, and the balancing loss of the counts.

#include <cstdint>
#include <type_traits>

#include "moue/balance.hpp"
#include "moue/lanes.hpp"
#include "moue/router.hpp"
#include "moue/routing_counts.hpp"
#include "moue/scalar.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::detail {

/// values(t, part) = the part's token loss of a valid row, else 0.
template <class C, class LossT>
struct token_loss_row {
  LossT loss;
  row_contexts contexts;
  matrix_view<const C> logits;
  matrix_view<const C> probabilities;
  matrix_view<C> values;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t t, const Lanes& lanes = {}) const {
    each_part(loss, [&](const auto& part, index_t position) {
      C value = C(0);
      if constexpr (TokenLoss<std::remove_cvref_t<decltype(part)>>)
        if (contexts.batch.valid[t])
          value = token_value(part, logits.row(t), probabilities.row(t), contexts.of(t), lanes);
      if (lanes.leads()) values(t, position) = value;
    });
  }
};

/// One token's probabilities, as its visit made them.
template <class C, class RouterT>
struct probability_row {
  RouterT router;
  row_contexts contexts;
  matrix_view<const C> logits;
  matrix_view<const C> extra;
  matrix_view<C> probabilities;
  index_t columns() const { return logits.cols; }
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t t, const Lanes& lanes = {}) const {
    const auto p = probabilities.row(t);
    if (contexts.batch.valid[t])
      call_stage(call_forward{}, contexts.of(t), lanes, router.probability, logits.row(t),
                 extra_for<decltype(RouterT::probability)>(extra.row(t)), p);
    else
      for (index_t j = lanes.first(); j < p.size; j += lanes.step()) p[j] = C(0);
  }
};

/// sums[part] += the part's value of a layer times its valid tokens, as token losses are summed.
template <class C>
struct add_layer_loss {
  vector_view<const C> values;
  vector_view<const index_t> valid_tokens;
  C* sums;
  MOUE_HD void operator()(index_t part) const {
    if (valid_tokens[0] > 0) sums[part] += values[part] * C(valid_tokens[0]);
  }
};
/// scales[part] = what a part's gradient at a layer is multiplied by, from the scale of one token.
template <class C>
struct scale_layer_loss {
  vector_view<const C> of_token;
  vector_view<const index_t> valid_tokens;
  vector_view<C> scales;
  MOUE_HD void operator()(index_t part) const { scales[part] = of_token[part] * C(valid_tokens[0]); }
};

/// One candidate's counts of a layer, and the rows of one physical expert. Whether a candidate is open is settled by the
/// first tokens, as a rule.
template <class C>
struct count_candidate {
  vector_view<const std::int32_t> candidates;
  vector_view<const index_t> expert_offsets;
  vector_view<const index_t> valid_tokens;
  vector_view<const std::uint8_t> valid;
  matrix_view<const C> logits;
  matrix_view<const std::int32_t> selected;  // no rows where what ran is what was selected
  std::int64_t* tokens;                      // of the layer
  vector_view<std::int64_t> demand;
  vector_view<std::int64_t> load;
  vector_view<std::int64_t> rows;  // [experts]
  vector_view<std::uint8_t> open;

  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t column, const Lanes& lanes = {}) const {
    if (column < rows.size && lanes.leads()) rows[column] = rows_of(column);
    if (column >= candidates.size) return;
    index_t t = lanes.first();
    while (t < logits.rows && (!valid[t] || logits(t, column) == minus_infinity<C>())) t += lanes.step();
    const bool is_open = lanes.sum(index_t(t < logits.rows)) > 0;
    index_t wanted = 0;
    for (t = lanes.first(); t < selected.rows; t += lanes.step())
      for (index_t i = 0; i < selected.cols && selected(t, i) >= 0; ++i) wanted += selected(t, i) == column;
    wanted = lanes.sum(wanted);
    if (!lanes.leads()) return;
    load[column] = rows_of(candidates[column]);
    demand[column] = selected.rows > 0 ? wanted : load[column];
    open[column] = is_open ? 1 : 0;
    if (column == 0) *tokens = valid_tokens[0];
  }

 private:
  MOUE_HD std::int64_t rows_of(index_t expert) const { return expert_offsets[expert + 1] - expert_offsets[expert]; }
};

/// Empties the counts of a depth, one column, layer or expert of a layer at a time.
template <class C>
struct clear_counts {
  counts_view<C> counts;
  MOUE_HD void operator()(index_t i) const {
    if (i < counts.tokens.size) {
      counts.tokens[i] = 0;
      for (index_t part = 0; part < counts.parts(); ++part) counts.token_loss[i * counts.parts() + part] = C(0);
    }
    if (i < counts.rows.size) counts.rows[i] = 0;
    if (i >= counts.demand.size) return;
    counts.demand[i] = counts.load[i] = 0;
    counts.probability[i] = C(0);
    counts.open[i] = 0;
  }
};

/// The tables behind `depth_statistics`, in the memory of a backend.
template <class C>
struct statistics_tables {
  vector_view<C> exposure;
  vector_view<C> share;
  vector_view<C> probability;
  vector_view<C> expert_share;
  vector_view<C> expert_probability;
};

/// From counts to statistics: shares and means of every layer, and their sums over layers, formed in layer order.
template <class C>
struct form_statistics {
  vector_view<const index_t> offsets;
  vector_view<const std::int32_t> candidates;
  counts_view<C> counts;
  statistics_tables<C> tables;
  visit at = {};  // of no layer

  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t, const Lanes& lanes = {}) const {
    for (index_t e = lanes.first(); e < tables.exposure.size; e += lanes.step())
      tables.exposure[e] = tables.expert_share[e] = tables.expert_probability[e] = C(0);
    for (index_t layer = 0; layer < counts.tokens.size; ++layer) {
      lanes.wait();  // an expert's sums grow by one layer at a time, and by one candidate of each
      std::int64_t part = 0;
      for (index_t i = offsets[layer] + lanes.first(); i < offsets[layer + 1]; i += lanes.step())
        part += counts.demand[i];
      const std::int64_t assignments = lanes.sum(part), valid = counts.tokens[layer];
      const C per_assignment = assignments > 0 ? C(1) / C(assignments) : C(0);
      const C per_token = valid > 0 ? C(1) / C(valid) : C(0);
      for (index_t i = offsets[layer] + lanes.first(); i < offsets[layer + 1]; i += lanes.step()) {
        const index_t e = candidates[i];
        tables.share[i] = C(counts.demand[i]) * per_assignment;
        tables.probability[i] = counts.probability[i] * per_token;
        tables.exposure[e] += C(counts.open[i]);
        tables.expert_share[e] += tables.share[i];
        tables.expert_probability[e] += tables.probability[i];
      }
    }
    lanes.wait();
  }

  /// What has been formed. Counts may lie on a device, so the caller says how many tokens there were.
  MOUE_HD depth_statistics<C> statistics(index_t tokens) const {
    return {counts.tokens.size,  tables.exposure.size,      tokens,       offsets,
            candidates,          tables.exposure,           tables.share, tables.probability,
            tables.expert_share, tables.expert_probability, counts.open,  at};
  }
  MOUE_HD index_t most_tokens() const {
    std::int64_t most = 0;
    for (const std::int64_t of_layer : counts.tokens) most = of_layer > most ? of_layer : most;
    return detail::integer<index_t>(most);
  }
};

/// The balancing loss of a depth: value[0] is the whole, value[1 + part] a part of it.
template <class C, class LossT>
struct value_of_depth {
  LossT loss;
  form_statistics<C> form;
  vector_view<C> value;

  template <class Lanes = one_lane>
  MOUE_HD void operator()([[maybe_unused]] index_t row, const Lanes& lanes = {}) const {
    C total = C(0);
    if constexpr (!std::is_same_v<LossT, no_balancing>) {
      form(row, lanes);
      const auto s = form.statistics(form.most_tokens());
      each_part(loss, [&](const auto& part, index_t position) {
        using part_type = std::remove_cvref_t<decltype(part)>;
        C sum = C(0);
        if constexpr (DepthLoss<part_type>) sum += depth_value(part, s, lanes);
        if constexpr (TokenLoss<part_type> || LayerLoss<part_type>)
          for (index_t layer = 0; layer < s.layers; ++layer)
            if (form.counts.tokens[layer] > 0)
              sum += form.counts.token_loss[layer * part_count<LossT> + position] / C(form.counts.tokens[layer]) /
                     C(s.layers);
        if (lanes.leads()) value[1 + position] = sum;
        total += sum;
      });
    }
    if (lanes.leads()) value[0] = total;
  }
};

/// The factor of a part's gradient at a layer: one for all, one per part, or one per part and layer.
template <class C>
struct loss_scales {
  C all = C(1);
  vector_view<const C> given = {};  ///< empty, [parts] or [parts, layers]

  MOUE_HD C operator()(index_t part, index_t layer, index_t layers, index_t parts) const {
    return given.size == 0 ? all : given[given.size == parts ? part : part * layers + layer];
  }
};

/// What an armed loss sends back to the probabilities of every token, and the scales of its token losses.
template <class C, class LossT>
struct gradient_of_depth {
  LossT loss;
  form_statistics<C> form;
  loss_scales<C> scales;
  vector_view<C> dprobability;
  vector_view<C> of_part;      // [columns] where a sum has several parts
  matrix_view<C> token_scale;  // [layers, parts]

  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t row, const Lanes& lanes = {}) const {
    form(row, lanes);
    const auto s = form.statistics(form.most_tokens());
    const auto clear = [&](const vector_view<C>& v) {
      for (index_t i = lanes.first(); i < v.size; i += lanes.step()) v[i] = C(0);
    };
    clear(dprobability);
    each_part(loss, [&](const auto& part, index_t position) {
      const bool only = part_count<LossT> == 1;
      const auto scale = [&](index_t layer) {
        const std::int64_t valid = form.counts.tokens[layer];
        return valid > 0 ? scales(position, layer, s.layers, part_count<LossT>) / C(valid) : C(0);
      };
      for (index_t layer = lanes.first(); layer < s.layers; layer += lanes.step())
        token_scale(layer, position) = scale(layer) / C(s.layers);
      if constexpr (DepthLoss<std::remove_cvref_t<decltype(part)>>) {
        const auto& d = only ? dprobability : of_part;
        lanes.wait();  // the part before may still be read
        if (!only) clear(d);
        lanes.wait();
        depth_gradient(part, s, d, lanes);
        for (index_t layer = 0; layer < s.layers; ++layer) {
          const C factor = scale(layer);
          for (index_t i = s.offsets[layer] + lanes.first(); i < s.offsets[layer + 1]; i += lanes.step())
            dprobability[i] =
                factor == C(0) ? (only ? C(0) : dprobability[i]) : (only ? C(0) : dprobability[i]) + d[i] * factor;
        }
      }
    });
  }
};

}  // namespace moue::inline v0_1::detail
