// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A selection that sees all tokens at once: experts choose tokens (Zhou et al., arXiv 2202.09368).

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <moue/policies.hpp>

#include "largest.hpp"

namespace published {

/// Each open candidate takes the valid tokens that score highest with it, `factor` times its even share of them, rounded
/// up; ties go to the earlier token. A token may be taken by all candidates or by none. The layer's tokens see each other:
/// not for causal decoding. Linear in tokens; on a device one thread works for a candidate. With nvcc, functors written as
/// lambdas need --extended-lambda.
struct expert_choice {
  double factor = 1;  ///< of the even share: tokens over open candidates

  constexpr moue::index_t max_selected(moue::index_t candidates) const { return candidates; }
  /// Shares are rounded up.
  constexpr moue::index_t most_entries(moue::index_t batch, moue::index_t candidates) const {
    return static_cast<moue::index_t>(std::ceil(factor * static_cast<double>(batch))) + candidates;
  }

  auto temporaries(moue::router_shape shape) const {
    return std::array{moue::matrix_shape{shape.candidates, shape.tokens}};
  }

  template <class C>
  void table(const auto& ops, const moue::select_frame<C>& frame, moue::matrix_view<std::int32_t> selected,
             const auto& temporary) const {
    ops.each_row(frame.scores.cols, [=, factor = factor, taken = temporary[0]] MOUE_HD(moue::index_t j) {
      const auto score = [&](moue::index_t t, moue::index_t column) {
        return frame.batch.valid[t] ? frame.scores(t, column) : -std::numeric_limits<C>::infinity();
      };
      const auto is_open = [&](moue::index_t column) {
        moue::index_t t = 0;
        while (t < frame.scores.rows && score(t, column) == -std::numeric_limits<C>::infinity()) ++t;
        return t < frame.scores.rows;
      };
      moue::index_t all = 0, open = 0;
      for (const auto valid : frame.batch.valid) all += valid;
      for (moue::index_t column = 0; column < frame.scores.cols; ++column) open += is_open(column);
      const auto limit = std::min(
          all, static_cast<moue::index_t>(std::ceil(static_cast<double>(all) * factor / std::max(1.0, double(open)))));
      const auto row = taken.row(j);
      for (moue::index_t t = 0; t < row.size; ++t) row[t] = score(t, j);
      C least = -std::numeric_limits<C>::infinity();  // of those that are taken
      if (limit > 0 && limit < row.size) least = largest_but(limit - 1, row);
      moue::index_t better = 0;
      for (moue::index_t t = 0; t < row.size; ++t) better += score(t, j) > least;
      for (moue::index_t t = 0; t < row.size; ++t) {
        const bool tie = score(t, j) == least && better < limit && score(t, j) > -std::numeric_limits<C>::infinity();
        if (tie) ++better;
        row[t] = tie || score(t, j) > least ? C(1) : C(0);
      }
    });
    ops.each_row(selected.rows, [=, taken = temporary[0]] MOUE_HD(moue::index_t t) {
      moue::index_t count = 0;
      for (moue::index_t j = 0; j < frame.scores.cols; ++j) {
        if (taken(j, t) == C(0)) continue;
        moue::index_t place = count++;  // by ascending id, so that the order of the candidates does not matter
        for (; place > 0 && frame.candidates[selected(t, place - 1)] > frame.candidates[j]; --place)
          selected(t, place) = selected(t, place - 1);
        selected(t, place) = static_cast<std::int32_t>(j);
      }
      for (moue::index_t i = count; i < selected.cols; ++i) selected(t, i) = -1;
    });
  }
};
static_assert(moue::SelectStage<expert_choice>);

}  // namespace published
