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
#include "moue/router.hpp"
#include "moue/router/compose.hpp"
#include "moue/view.hpp"

namespace moue::detail {

/// to = from, converted.
template <class From, class To>
struct convert_element {
  matrix_view<const From> from;
  matrix_view<To> to;
  MOUE_HD void operator()(index i, index j) const { to(i, j) = static_cast<To>(from(i, j)); }
};

/// to = from where the row is valid, else 0: what padding holds, NaN perhaps, must not meet a gradient of 0.
template <class S>
struct keep_element {
  vector_view<const std::uint8_t> valid;
  matrix_view<const S> from;
  matrix_view<S> to;
  MOUE_HD void operator()(index t, index j) const { to(t, j) = valid[t] ? from(t, j) : S(compute_t<S>(0)); }
};

/// valid[t] = 1 or 0 as the caller's mask says; without a mask all rows are valid.
struct copy_mask {
  vector_view<const std::uint8_t> mask;
  vector_view<std::uint8_t> valid;
  MOUE_HD void operator()(index t) const { valid[t] = mask.size == 0 || mask[t] != 0 ? 1 : 0; }
};

struct clear_mark {
  vector_view<std::uint8_t> marks;
  MOUE_HD void operator()(index i) const { marks[i] = 0; }
};

/// parts[i] = valid tokens among the rows of block `i`.
struct count_valid_block {
  vector_view<const std::uint8_t> valid;
  index block;
  vector_view<index> parts;
  MOUE_HD void operator()(index i) const {
    index sum = 0;
    for (index t = i * block; t < valid.size && t < (i + 1) * block; ++t) sum += valid[t];
    parts[i] = sum;
  }
};

/// total[0] = the sum of the parts.
struct add_parts {
  vector_view<const index> parts;
  vector_view<index> total;
  MOUE_HD void operator()(index) const {
    index sum = 0;
    for (const index part : parts) sum += part;
    total[0] = sum;
  }
};

/// offsets[t] = t width.
struct place_offset {
  vector_view<index> offsets;
  index width;
  MOUE_HD void operator()(index t) const { offsets[t] = t * width; }
};

/// to = a + b, converted.
template <class C, class To>
struct add_element {
  matrix_view<const C> a;
  matrix_view<const C> b;
  matrix_view<To> to;
  MOUE_HD void operator()(index i, index j) const { to(i, j) = static_cast<To>(a(i, j) + b(i, j)); }
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
  index layer;
  void operator()(index t) const {
    if (!valid[t]) return;
    for (index j = 0; j < logits.cols; ++j)
      require(
          !broken(logits(t, j)), "router",
          [&] {
            return "the logit of candidate " + std::to_string(j) + " for token " + std::to_string(t) + " at layer " +
                   std::to_string(layer) + " is not finite";
          },
          "look for NaN or infinity in the layer's input or router weights, or choose another moue::non_finite mode");
  }
};

/// One token's selection scores, closed where the logit is.
template <class C, class RouterT, class P>
struct prefer_row {
  RouterT router;
  P parameters;
  vector_view<const std::uint8_t> valid;
  matrix_view<C> logits;
  matrix_view<C> scores;
  MOUE_HD void operator()(index t) const {
    const auto z = logits.row(t);
    const auto q = scores.row(t);
    const bool masking = router.on_non_finite == non_finite::mask;
    if (!valid[t]) {
      for (index j = 0; j < q.size; ++j) q[j] = minus_infinity<C>();
      return;
    }
    if (masking)
      for (index j = 0; j < z.size; ++j)
        if (broken(z[j])) z[j] = minus_infinity<C>();
    router.preference(vector_view<const C>(z), parameters, q);
    for (index j = 0; j < z.size; ++j)  // closed stays closed, whatever the preference makes of it
      if (z[j] == minus_infinity<C>() || (masking && broken(q[j]))) q[j] = minus_infinity<C>();
  }
};

/// One token's way from scores to assignments: select (unless a table did) → gate, and its probabilities.
template <class C, class RouterT, bool Probabilities>
struct route_row {
  RouterT router;
  vector_view<const std::int32_t> candidates;
  vector_view<const std::int32_t> always;
  vector_view<const std::uint8_t> valid;
  matrix_view<C> logits;
  matrix_view<C> scores;
  matrix_view<C> probabilities;  // not touched unless Probabilities
  matrix_view<std::int32_t> slots;
  matrix_view<std::int32_t> experts;
  matrix_view<C> gates;

  MOUE_HD void operator()(index t) const {
    index count = 0;
    const vector_view<const C> z = logits.row(t);
    if (valid[t]) {
      if constexpr (has_select<std::remove_cvref_t<decltype(router.select)>>)
        count = router.select(vector_view<const C>(scores.row(t)), candidates, slots.row(t));
      else
        while (count < slots.cols && slots(t, count) >= 0) ++count;
      router.gate.forward(z, vector_view<const std::int32_t>{slots.row(t).data, count},
                          vector_view<C>{gates.row(t).data, count});
    }
    for (index i = 0; i < slots.cols; ++i) {
      const bool taken = i < count;
      if (!taken) slots(t, i) = -1;
      experts(t, i) = taken ? candidates[slots(t, i)] : -1;
      if (!taken) gates(t, i) = C(0);
    }
    for (index i = 0; i < always.size; ++i) {
      experts(t, slots.cols + i) = valid[t] ? always[i] : -1;
      gates(t, slots.cols + i) = valid[t] ? C(1) : C(0);
    }
    if constexpr (Probabilities) {
      const auto p = probabilities.row(t);
      if (valid[t])
        router.probability.forward(z, p);
      else
        for (index j = 0; j < p.size; ++j) p[j] = C(0);
    }
  }
};

/// dense(t, slot) = the slot's gate, or 0 where it was not selected.
template <class C>
struct spread_gates {
  matrix_view<const std::int32_t> slots;
  matrix_view<const C> gates;
  matrix_view<C> dense;
  MOUE_HD void operator()(index t) const {
    for (index j = 0; j < dense.cols; ++j) dense(t, j) = C(0);
    for (index i = 0; i < slots.cols && slots(t, i) >= 0; ++i) dense(t, slots(t, i)) = gates(t, i);
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
  MOUE_HD void operator()(index t) const {
    values(t, 0) = valid[t] ? loss.token_value(logits.row(t), probabilities.row(t)) : C(0);
  }
};

/// One candidate's statistics of a layer, from counts and summed probabilities to shares and means. Whether it is open is
/// settled by the first token, as a rule.
template <class C>
struct finish_candidate {
  vector_view<const std::int32_t> candidates;
  vector_view<const index> expert_offsets;
  vector_view<const index> valid_tokens;
  index always;  // experts that take every valid token and do not count
  vector_view<const std::uint8_t> valid;
  matrix_view<const C> logits;
  vector_view<C> share;
  vector_view<C> probability;
  vector_view<std::uint8_t> open;
  vector_view<C> exposure;
  vector_view<C> expert_share;
  vector_view<C> expert_probability;
  MOUE_HD void operator()(index slot) const {
    const index e = candidates[slot], tokens = valid_tokens[0];
    const index assignments = expert_offsets[expert_offsets.size - 1] - tokens * always;
    const C per_assignment = assignments > 0 ? C(1) / C(assignments) : C(0);
    const C per_token = tokens > 0 ? C(1) / C(tokens) : C(0);
    index t = 0;
    while (t < logits.rows && (!valid[t] || logits(t, slot) == minus_infinity<C>())) ++t;
    open[slot] = t < logits.rows ? 1 : 0;
    exposure[e] += C(open[slot]);
    share[slot] = C(expert_offsets[e + 1] - expert_offsets[e]) * per_assignment;
    probability[slot] *= per_token;
    expert_share[e] += share[slot];
    expert_probability[e] += probability[slot];
  }
};

/// sum(0, 0) becomes a mean over the valid tokens.
template <class C>
struct divide_by_valid {
  vector_view<const index> valid_tokens;
  matrix_view<C> sum;
  MOUE_HD void operator()(index) const {
    if (valid_tokens[0] > 0) sum(0, 0) /= C(valid_tokens[0]);
  }
};

/// The balancing loss of a depth and, if armed, what it sends back.
template <class C, class LossT>
struct balance_depth {
  LossT loss;
  depth_statistics<C> statistics;
  vector_view<const index> valid_tokens;
  matrix_view<const C> layer_token_loss;
  C scale;
  bool armed;
  vector_view<C> value;
  vector_view<C> dprobability;
  vector_view<C> token_scale;

  MOUE_HD void operator()(index) const {
    auto s = statistics;
    s.tokens = valid_tokens[0];
    C sum = C(0);
    if constexpr (DepthLoss<LossT>) sum += loss.value(s);
    if constexpr (TokenLoss<LossT>)
      for (index layer = 0; layer < s.layers; ++layer) sum += layer_token_loss(0, layer) / C(s.layers);
    value[0] = sum;
    if (!armed) return;
    for (auto& d : dprobability) d = C(0);
    token_scale[0] = C(0);
    if (s.tokens == 0) return;  // nobody will read them
    if constexpr (DepthLoss<LossT>) loss.gradient(s, dprobability);
    for (auto& d : dprobability) d *= scale / C(s.tokens);
    token_scale[0] = scale / C(s.tokens * s.layers);
  }
};

/// One token's way back: from the gradients of its gates, and from the balancing loss, to those of its logits.
template <class C, class RouterT, class LossT>
struct route_backward_row {
  RouterT router;
  LossT loss;
  vector_view<const std::uint8_t> valid;
  matrix_view<const C> logits;
  matrix_view<const std::int32_t> slots;
  matrix_view<const C> gates;
  matrix_view<C> dgates;
  matrix_view<const C> dense_dgates;  // no columns where no stage keeps state
  vector_view<const C> dprobability;  // of every token; empty without an armed loss
  vector_view<const C> token_scale;   // [1]; empty without an armed loss
  matrix_view<C> probabilities;
  matrix_view<C> dlogits;

  MOUE_HD void operator()(index t) const {
    const auto dz = dlogits.row(t);
    for (index j = 0; j < dz.size; ++j) dz[j] = C(0);
    if (!valid[t]) return;
    index count = 0;
    while (count < slots.cols && slots(t, count) >= 0) ++count;
    if (dense_dgates.cols > 0)
      for (index i = 0; i < count; ++i) dgates(t, i) += dense_dgates(t, slots(t, i));
    const auto z = logits.row(t);
    router.gate.backward(z, vector_view<const std::int32_t>{slots.row(t).data, count},
                         vector_view<const C>{gates.row(t).data, count},
                         vector_view<const C>{dgates.row(t).data, count}, dz);
    if constexpr (!std::is_same_v<LossT, no_balancing>) {
      if (dprobability.size == 0) return;
      const auto p = probabilities.row(t);
      router.probability.forward(z, p);
      router.probability.backward(z, vector_view<const C>(p), dprobability, dz);
      if constexpr (TokenLoss<LossT>) loss.token_gradient(z, vector_view<const C>(p), token_scale[0], dz);
    }
  }
};

}  // namespace moue::detail
