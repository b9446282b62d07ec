// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// What there is to look at: sizes, tensors, connections, assignments, and the load of several batches.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <moue/analysis/load.hpp>
#include <moue/analysis/text.hpp>
#include <moue/analysis/trace.hpp>
#include <moue/analysis/usage.hpp>
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
  moue::routing_trace trace;
  moue::expert_usage usage(model.layers(), model.experts());
  for (int batch = 0; batch < 4; ++batch) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(batch + 2 * static_cast<double>(i));
    pass.begin(tokens);
    for (moue::index_t layer = 0; layer < model.layers(); ++layer) {
      pass.forward(layer, rows, rows);
      trace.record(pass, layer);
      usage.add(pass, layer);
    }
    counts += pass.counts();  // shares and means do not add up, counts do
  }
  print(moue::summarise_load(counts, model.connections()));

  const std::string all = moue::to_string(pass.assignments(2));
  std::printf("%s\n\n", all.substr(0, all.find("\n1:")).c_str());  // up to the first token

  const std::size_t at = usage.at(2, 1);
  std::printf("expert 1 ran %d times at layer 2, with gates of %.2f in all\n", static_cast<int>(usage.load[at]),
              usage.gate_mass[at]);
  const std::string csv = moue::to_csv(trace);
  std::printf("%d assignments are in the trace:\n%s...\n",
              static_cast<int>(std::count(csv.begin(), csv.end(), '\n') - 1),
              csv.substr(0, csv.find('\n') + 1).c_str());
}
