// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A selection that sees all tokens at once: experts choose tokens (Zhou et al., arXiv 2202.09368).

#include <cmath>
#include <cstdio>
#include <moue/moue.hpp>
#include <moue/testing/laws.hpp>
#include <vector>

/// Each candidate takes the `capacity` valid tokens that score highest with it; ties go to the earlier token. A token may
/// be taken by all candidates or by none. The layer's tokens see each other: not for causal decoding.
struct expert_choice {
  moue::index_t capacity = 1;

  constexpr moue::index_t max_selected(moue::index_t candidates) const { return candidates; }

  template <class C>
  void table(const auto& ops, moue::matrix_view<const C> scores, moue::vector_view<const std::uint8_t> valid,
             moue::vector_view<const std::int32_t> candidates, moue::matrix_view<std::int32_t> selected) const {
    ops.each_row(scores.rows, [=, limit = capacity](moue::index_t t) {
      moue::index_t count = 0;
      for (moue::index_t j = 0; j < scores.cols; ++j) {
        if (!valid[t] || scores(t, j) == -std::numeric_limits<C>::infinity()) continue;
        moue::index_t better = 0;
        for (moue::index_t other = 0; other < scores.rows; ++other)
          if (valid[other] && (scores(other, j) > scores(t, j) || (scores(other, j) == scores(t, j) && other < t)))
            ++better;
        if (better >= limit) continue;
        moue::index_t place = count++;  // by ascending id, so that the order of the candidates does not matter
        for (; place > 0 && candidates[selected(t, place - 1)] > candidates[j]; --place)
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
