// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A selection that sees all tokens at once: experts choose tokens (Zhou et al., arXiv 2202.09368).

#include <cmath>
#include <cstdio>
#include <moue/moue.hpp>
#include <moue/testing/laws.hpp>
#include <vector>

#include "published/expert_choice.hpp"

using published::expert_choice;

int main() {
  const auto report = moue::testing::check_select_laws(expert_choice{.factor = 1});
  std::printf("laws: %s\n", report ? "hold" : report.summary().c_str());

  const moue::index_t tokens = 12, width = 8, pool = 4;
  const moue::router choice{moue::linear_score{.deviation = 1}, expert_choice{.factor = 2},
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
