// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// What there is to look at: sizes, tensors, connections, assignments, and the load of several batches.

#include <cmath>
#include <cstdio>
#include <moue/analysis/load.hpp>
#include <moue/analysis/text.hpp>
#include <moue/moue.hpp>
#include <string>
#include <vector>

namespace {

void print(const auto& what) { std::printf("%s\n\n", moue::to_string(what).c_str()); }

}  // namespace

int main() {
  const moue::index_t tokens = 64, width = 8;
  const moue::mixture model{
      moue::swiglu{.width = width, .hidden = 16},
      moue::always_on{moue::staggered_rotation{.depth = 3, .pool = 6, .window = 4, .stride = 2}, 0, 1},
      moue::linear_router(2)};
  const auto weights = model.initialize<double>(11);
  print(moue::summarise_size(model));
  print(model.topology());
  print(weights["layers.0.router.weight"].row_block(0, 1));

  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.workspace_bytes<double>(options));
  auto pass = model.start(weights, options, scratch);
  std::vector<double> x(tokens * width);
  const moue::matrix_view<double> rows{x.data(), tokens, width};
  moue::routing_counts<double> counts;
  for (int batch = 0; batch < 4; ++batch) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(batch + 2 * static_cast<double>(i));
    pass.begin(tokens);
    for (moue::index_t layer = 0; layer < model.layers(); ++layer) pass.forward(layer, rows, rows);
    counts += pass.counts();  // shares and means do not add up, counts do
  }
  print(moue::summarise_load(counts, model.connections()));

  const std::string all = moue::to_string(pass.assignments(2));
  std::printf("%s\n", all.substr(0, all.find("\n1:")).c_str());  // up to the first token
}
