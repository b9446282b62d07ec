// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A selection that sees all tokens at once: experts choose tokens (Zhou et al., arXiv 2202.09368).

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <functional>
#include <limits>
#include <moue/moue.hpp>
#include <moue/testing/laws.hpp>
#include <vector>

/// Each candidate takes the `capacity` valid tokens that score highest with it; ties go to the earlier token. A token may
/// be taken by all candidates or by none. The layer's tokens see each other: not for causal decoding. Linear in tokens.
struct expert_choice {
  moue::index_t capacity = 1;

  constexpr moue::index_t max_selected(moue::index_t candidates) const { return candidates; }

  auto temporaries(moue::router_shape shape) const {
    return std::array{moue::matrix_shape{shape.candidates, shape.tokens}};
  }

  template <class C>
  void table(const auto& ops, const moue::select_frame<C>& frame, moue::matrix_view<std::int32_t> selected,
             const auto& temporary) const {
    ops.each_row(frame.scores.cols, [=, limit = capacity, taken = temporary[0]](moue::index_t j) {
      const auto score = [&](moue::index_t t) {
        return frame.batch.valid[t] ? frame.scores(t, j) : -std::numeric_limits<C>::infinity();
      };
      const auto row = taken.row(j);
      for (moue::index_t t = 0; t < row.size; ++t) row[t] = score(t);
      C least = -std::numeric_limits<C>::infinity();  // of those that are taken
      if (limit < row.size) {
        std::nth_element(row.begin(), row.begin() + limit - 1, row.end(), std::greater<>());
        least = row[limit - 1];
      }
      moue::index_t better = 0;
      for (moue::index_t t = 0; t < row.size; ++t) better += score(t) > least;
      for (moue::index_t t = 0; t < row.size; ++t) {
        const bool tie = score(t) == least && better < limit && score(t) > -std::numeric_limits<C>::infinity();
        if (tie) ++better;
        row[t] = tie || score(t) > least ? C(1) : C(0);
      }
    });
    ops.each_row(selected.rows, [=, taken = temporary[0]](moue::index_t t) {
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

int main() {
  const auto report = moue::testing::check_select_laws(expert_choice{.capacity = 2});
  std::printf("laws: %s\n", report ? "hold" : report.summary().c_str());

  const moue::index_t tokens = 12, width = 8, pool = 4;
  const moue::router choice{moue::linear_score{.deviation = 1}, expert_choice{.capacity = 6},
                            moue::softmax_then_select{}};
  const moue::mixture model{moue::swiglu{.width = width, .hidden = 8}, moue::shared_pool{.depth = 1, .pool = pool},
                            choice};
  const auto weights = model.initialize<float>(4);
  moue::gradients<float> gradients(model.layout());
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.workspace_bytes<float>(options));
  auto pass = model.start(weights, options, scratch);

  std::vector<float> data(tokens * width);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = std::sin(static_cast<float>(i * i % 53));
  const moue::matrix_view<float> x{data.data(), tokens, width};
  pass.begin(tokens);
  pass.forward(0, x, x);
  pass.backward(0, x, x, gradients);
  const auto shares = pass.statistics().share;
  std::printf("load per expert:");
  for (const float share : shares) std::printf(" %.2f", share);
  std::printf("\n");
  return report ? 0 : 1;
}
