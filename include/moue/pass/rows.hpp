// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Row functors of a pass: from logits to assignments, and back.

#include <cstdint>
#include <string>
#include <type_traits>

#include "moue/balance.hpp"
#include "moue/error.hpp"
#include "moue/lanes.hpp"
#include "moue/router.hpp"
#include "moue/router/compose.hpp"
#include "moue/view.hpp"

namespace moue::detail {

/// to = from, converted.
template <class From, class To>
struct convert_element {
  matrix_view<const From> from;
  matrix_view<To> to;
  MOUE_HD void operator()(index_t i, index_t j) const { to(i, j) = static_cast<To>(from(i, j)); }
};

/// to = from where the row is valid, else 0: what padding holds, NaN perhaps, must not meet a gradient of 0.
template <class S>
struct keep_element {
  vector_view<const std::uint8_t> valid;
  matrix_view<const S> from;
  matrix_view<S> to;
  MOUE_HD void operator()(index_t t, index_t j) const { to(t, j) = valid[t] ? from(t, j) : S(compute_t<S>(0)); }
};

/// valid[t] = 1 or 0 as the caller's mask says; without a mask all rows are valid.
struct copy_mask {
  vector_view<const std::uint8_t> mask;
  vector_view<std::uint8_t> valid;
  MOUE_HD void operator()(index_t t) const { valid[t] = mask.size == 0 || mask[t] != 0 ? 1 : 0; }
};

/// parts[i] = valid tokens among the rows of block `i`.
struct count_valid_block {
  vector_view<const std::uint8_t> valid;
  index_t block;
  vector_view<index_t> parts;
  MOUE_HD void operator()(index_t i) const {
    index_t sum = 0;
    for (index_t t = i * block; t < valid.size && t < (i + 1) * block; ++t) sum += valid[t];
    parts[i] = sum;
  }
};

/// total[0] = the sum of the parts.
struct add_parts {
  vector_view<const index_t> parts;
  vector_view<index_t> total;
  MOUE_HD void operator()(index_t) const {
    index_t sum = 0;
    for (const index_t part : parts) sum += part;
    total[0] = sum;
  }
};

/// to = a + b, converted.
template <class C, class To>
struct add_element {
  matrix_view<const C> a;
  matrix_view<const C> b;
  matrix_view<To> to;
  MOUE_HD void operator()(index_t i, index_t j) const { to(i, j) = static_cast<To>(a(i, j) + b(i, j)); }
};

template <class C>
MOUE_HD bool broken(C logit) {
  return !is_finite(logit) && logit != minus_infinity<C>();
}

/// Host only: throws at the first NaN or plus infinity of a valid row.
template <class C>
struct reject_broken_row {
  matrix_view<const C> logits;
  vector_view<const std::uint8_t> valid;
  index_t layer;
  void operator()(index_t t) const {
    if (!valid[t]) return;
    for (index_t j = 0; j < logits.cols; ++j)
      require(
          !broken(logits(t, j)), "router",
          [&] {
            return "the logit of candidate " + std::to_string(j) + " for token " + std::to_string(t) + " at layer " +
                   std::to_string(layer) + " is not finite";
          },
          "look for NaN or infinity in the layer's input or router weights, or choose another moue::non_finite mode");
  }
};

/// dense(t, column) = the column's gate, or 0 where it was not selected.
template <class C>
struct spread_gates {
  matrix_view<const std::int32_t> selected;
  matrix_view<const C> gates;
  matrix_view<C> dense;
  MOUE_HD void operator()(index_t t) const {
    for (index_t j = 0; j < dense.cols; ++j) dense(t, j) = C(0);
    for (index_t i = 0; i < selected.cols && selected(t, i) >= 0; ++i) dense(t, selected(t, i)) = gates(t, i);
  }
};

/// values(t, 0) = the token loss of a valid row, else 0.
template <class C, class LossT>
struct token_loss_row {
  LossT loss;
  vector_view<const std::uint8_t> valid;
  matrix_view<const C> logits;
  matrix_view<const C> probabilities;
  matrix_view<C> values;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t t, const Lanes& lanes = {}) const {
    C value = C(0);
    if (valid[t]) value = token_value(loss, logits.row(t), probabilities.row(t), lanes);
    if (lanes.leads()) values(t, 0) = value;
  }
};

/// One candidate's statistics of a layer, from counts and summed probabilities to shares and means. Whether it is open is
/// settled by the first tokens, as a rule.
template <class C>
struct finish_candidate {
  vector_view<const std::int32_t> candidates;
  vector_view<const index_t> expert_offsets;
  vector_view<const index_t> valid_tokens;
  index_t always;  // experts that take every valid token and do not count
  vector_view<const std::uint8_t> valid;
  matrix_view<const C> logits;
  vector_view<C> share;
  vector_view<C> probability;
  vector_view<std::uint8_t> open;
  vector_view<C> exposure;
  vector_view<C> expert_share;
  vector_view<C> expert_probability;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t column, const Lanes& lanes = {}) const {
    index_t t = lanes.first();
    while (t < logits.rows && (!valid[t] || logits(t, column) == minus_infinity<C>())) t += lanes.step();
    const bool is_open = lanes.sum(index_t(t < logits.rows)) > 0;
    if (lanes.leads()) finish(column, is_open);
  }

 private:
  MOUE_HD void finish(index_t column, bool is_open) const {
    const index_t e = candidates[column], tokens = valid_tokens[0];
    const index_t assignments = expert_offsets[expert_offsets.size - 1] - tokens * always;
    const C per_assignment = assignments > 0 ? C(1) / C(assignments) : C(0);
    const C per_token = tokens > 0 ? C(1) / C(tokens) : C(0);
    open[column] = is_open ? 1 : 0;
    exposure[e] += C(open[column]);
    share[column] = C(expert_offsets[e + 1] - expert_offsets[e]) * per_assignment;
    probability[column] *= per_token;
    expert_share[e] += share[column];
    expert_probability[e] += probability[column];
  }
};

/// sum(0, 0) becomes a mean over the valid tokens.
template <class C>
struct divide_by_valid {
  vector_view<const index_t> valid_tokens;
  matrix_view<C> sum;
  MOUE_HD void operator()(index_t) const {
    if (valid_tokens[0] > 0) sum(0, 0) /= C(valid_tokens[0]);
  }
};

/// The balancing loss of a depth and, if armed, what it sends back.
template <class C, class LossT>
struct balance_depth {
  LossT loss;
  depth_statistics<C> statistics;
  vector_view<const index_t> valid_tokens;
  matrix_view<const C> layer_token_loss;
  C scale;
  bool armed;
  vector_view<C> value;
  vector_view<C> dprobability;
  vector_view<C> token_scale;

  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t, const Lanes& lanes = {}) const {
    auto s = statistics;
    s.tokens = valid_tokens[0];
    C sum = C(0);
    if constexpr (DepthLoss<LossT>) sum += depth_value(loss, s, lanes);
    if constexpr (TokenLoss<LossT>)
      for (index_t layer = 0; layer < s.layers; ++layer) sum += layer_token_loss(0, layer) / C(s.layers);
    if (lanes.leads()) value[0] = sum;
    if (!armed) return;
    for (index_t i = lanes.first(); i < dprobability.size; i += lanes.step()) dprobability[i] = C(0);
    const bool some = s.tokens > 0;  // else nobody will read what follows
    if (lanes.leads()) token_scale[0] = some ? scale / C(s.tokens * s.layers) : C(0);
    if (!some) return;
    lanes.wait();
    if constexpr (DepthLoss<LossT>) depth_gradient(loss, s, dprobability, lanes);
    for (index_t i = lanes.first(); i < dprobability.size; i += lanes.step()) dprobability[i] *= scale / C(s.tokens);
  }
};

}  // namespace moue::detail
