// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// USMoE (arXiv 2503.22996): one score serves tokens that choose experts and experts that choose tokens, and each
// sequence takes its best pairs, however they fall on tokens and experts.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <moue/policies.hpp>

#include "largest.hpp"

namespace published {

/// u(z) = (1 − mix) softmax(z) + mix 2/E sigmoid(z) of one row, with E its open candidates.
template <class C>
struct unified_row {
  C most = -std::numeric_limits<C>::infinity(), total = C(0), open = C(0), mix;

  MOUE_HD unified_row(moue::vector_view<const C> logits, double r) : mix(C(r)) {
    for (const C z : logits) most = z > most ? z : most;
    for (const C z : logits) total += std::exp(z - most);
    for (const C z : logits) open += z == -std::numeric_limits<C>::infinity() ? C(0) : C(1);
  }
  MOUE_HD C competing(C z) const { return (C(1) - mix) * std::exp(z - most) / total; }
  MOUE_HD C alone(C z) const { return mix * C(2) / open / (C(1) + std::exp(-z)); }
  MOUE_HD C operator()(C z) const { return competing(z) + alone(z); }
  /// Of `alone`.
  MOUE_HD C slope(C z) const { return alone(z) / (C(1) + std::exp(z)); }
};

/// Selection reads u.
struct unified_score {
  double mix = 0.5;

  template <class C>
  MOUE_HD void operator()(moue::vector_view<const C> logits, const auto&, moue::vector_view<C> scores) const {
    const unified_row<C> u(logits, mix);
    for (moue::index_t j = 0; j < logits.size; ++j)
      scores[j] = logits[j] == -std::numeric_limits<C>::infinity() ? logits[j] : u(logits[j]);
  }
};

/// w_i = u_i, or u_i / sum_j u_j over all candidates.
struct unified_gate {
  double mix = 0.5;
  bool normalised = false;

  template <class C>
  MOUE_HD void forward(moue::vector_view<const C> logits, moue::vector_view<const std::int32_t> selected,
                       moue::vector_view<C> gates) const {
    const unified_row<C> u(logits, mix);
    const C below = sum(logits, u);
    for (moue::index_t i = 0; i < selected.size; ++i) gates[i] = u(logits[selected[i]]) / below;
  }
  template <class C>
  MOUE_HD void backward(moue::vector_view<const C> logits, moue::vector_view<const std::int32_t> selected,
                        moue::vector_view<const C> gates, moue::vector_view<const C> dgates,
                        moue::vector_view<C> dlogits) const {
    if (selected.size == 0) return;
    const unified_row<C> u(logits, mix);
    const C below = sum(logits, u);
    C of_softmax = C(0), of_sum = C(0);
    for (moue::index_t i = 0; i < selected.size; ++i) {
      const C z = logits[selected[i]], du = dgates[i] / below;
      dlogits[selected[i]] += du * (u.competing(z) + u.slope(z));
      of_softmax += du * std::exp(z - u.most) / u.total;
      if (normalised) of_sum += du * gates[i];  // its part in the softmax is 0, for softmaxes sum to 1
    }
    for (moue::index_t j = 0; j < logits.size; ++j)
      dlogits[j] -= u.competing(logits[j]) * of_softmax + u.slope(logits[j]) * of_sum;
  }

 private:
  template <class C>
  MOUE_HD C sum(moue::vector_view<const C> logits, const unified_row<C>& u) const {
    if (!normalised) return C(1);
    C result = C(0);
    for (const C z : logits) result += u(z);
    return result;
  }
};

/// One sequence takes its `k` S best pairs, S being its valid tokens; ties go to the earlier token.
template <class C>
struct best_pairs {
  moue::select_frame<C> frame;
  moue::matrix_view<std::int32_t> selected;
  moue::matrix_view<C> scratch;  // [1, tokens · n]
  moue::index_t k;

  MOUE_HD moue::index_t begin(moue::index_t b) const {
    if (frame.batch.sequences.size > 0) return frame.batch.sequences[b];
    return b == 0 ? 0 : frame.scores.rows;
  }
  /// NaN counts as infinite, for broken logits are to be seen.
  MOUE_HD C score(moue::index_t t, moue::index_t j) const {
    const C s = frame.scores(t, j);
    return s == s ? s : std::numeric_limits<C>::infinity();
  }
  MOUE_HD void operator()(moue::index_t b) const {
    const moue::index_t n = frame.scores.cols;
    moue::vector_view<C> all{scratch.data + begin(b) * n, 0};
    for (moue::index_t t = begin(b); t < begin(b + 1); ++t)
      for (moue::index_t j = 0; j < n && frame.batch.valid[t]; ++j) all.data[all.size++] = score(t, j);
    moue::index_t room = k < n ? all.size / n * k : all.size;
    const C least = room > 0 ? largest_but(room - 1, all) : std::numeric_limits<C>::infinity();
    for (const C s : all) room -= s > least ? 1 : 0;  // what is left is for ties
    for (moue::index_t t = begin(b); t < begin(b + 1); ++t) {
      moue::index_t count = 0;
      for (moue::index_t j = 0; j < n && frame.batch.valid[t]; ++j)
        if (score(t, j) > least)
          ++count;
        else if (score(t, j) == least && room > 0)
          ++count, --room;
      count = moue::top_k{count}(frame.scores.row(t), frame.candidates, selected.row(t));
      for (moue::index_t i = count; i < selected.cols; ++i) selected(t, i) = -1;
    }
  }
};

/// Of each sequence the pairs of token and candidate that score best, `k` per token in all: a token may take any
/// number. All tokens are one sequence if the batch does not say where they begin. Tokens of a sequence see each
/// other: not for causal decoding, but one token on its own takes its k best. Linear in tokens; on a device one
/// thread works on a sequence.
struct best_of_sequence {
  moue::index_t k = 2;

  constexpr moue::index_t max_selected(moue::index_t candidates) const { return candidates; }
  constexpr moue::index_t most_entries(moue::index_t tokens, moue::index_t candidates) const {
    return tokens * std::min(k, candidates);
  }
  auto temporaries(moue::router_shape shape) const {
    return std::array{moue::matrix_shape{1, shape.tokens * shape.candidates}};
  }
  template <class C>
  void table(const auto& ops, const moue::select_frame<C>& frame, moue::matrix_view<std::int32_t> selected,
             const auto& temporary) const {
    const moue::index_t sequences = frame.batch.sequences.size > 0 ? frame.batch.sequences.size - 1 : 1;
    ops.each_row(sequences, best_pairs<C>{frame, selected, temporary[0], k});
  }
};
static_assert(moue::PreferenceStage<unified_score>);
static_assert(moue::GateStage<unified_gate>);
static_assert(moue::SelectStage<best_of_sequence>);

}  // namespace published
