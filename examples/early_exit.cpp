// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Less than the whole depth: a loss on the output of an intermediate layer, behind which nothing runs, and a layer in
// the middle that is skipped.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <moue/moue.hpp>
#include <vector>

namespace {

constexpr moue::index_t tokens = 24, width = 8, depth = 5;

const moue::mixture model{moue::swiglu{.width = width, .hidden = 12},
                          moue::staggered_rotation{.depth = depth, .pool = 10, .window = 4, .stride = 2},
                          moue::universal_router(2, {.rank = 4}), moue::no_balancing{}, moue::cpu{1}};

std::vector<double> wave(double frequency) {
  std::vector<double> data(tokens * width);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = std::sin(frequency * static_cast<double>(i));
  return data;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

moue::matrix_view<double> rows(std::vector<double>& data) { return {data.data(), tokens, width}; }

void copy(moue::matrix_view<const double> from, moue::matrix_view<double> to) {
  std::copy_n(from.data, from.rows * from.cols, to.data);
}

/// Backward begins at the last layer that ran, wherever that was.
void leave_early(const moue::parameters<double>& weights, moue::index_t last) {
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.workspace_bytes<double>(options));
  auto pass = model.start(weights, options, scratch);
  moue::gradients<double> gradients(model.layout());
  auto data = wave(1);
  pass.begin(tokens);
  for (moue::index_t layer = 0; layer <= last; ++layer) pass.forward(layer, rows(data), rows(data));
  data = wave(2);  // the gradient of a loss on that layer's output
  for (moue::index_t layer = last + 1; layer-- > 0;) pass.backward(layer, rows(data), rows(data), gradients);

  const auto counts = pass.counts();
  for (moue::index_t layer = 0; layer < depth; ++layer)
    std::printf("layer %td saw %td tokens\n", layer,
                static_cast<moue::index_t>(counts.tokens[static_cast<std::size_t>(layer)]));
  std::printf("experts with a gradient:");
  for (moue::index_t e = 0; e < model.experts(); ++e)
    if (gradients.live(model.layout()->expert_first(e))) std::printf(" %td", e);
  std::printf("\n");
}

/// Runs all layers but `skipped`, whose neighbours are ranges of their own. The depth state, which tells later routers
/// where a token has been, is handed over the gap, and so is its gradient. Returns x's gradient, given that of y.
struct result {
  std::vector<double> y, dx;
  std::vector<std::int64_t> tokens;  ///< that each layer saw
};
result skip(const moue::parameters<double>& weights, moue::index_t skipped, std::vector<double> data,
            const std::vector<double>& dy) {
  const moue::pass_options before{.tokens = tokens, .count = skipped};
  const moue::pass_options behind{.tokens = tokens, .first = skipped + 1};
  moue::workspace scratch_before(model.workspace_bytes<double>(before));
  moue::workspace scratch_behind(model.workspace_bytes<double>(behind));
  auto first = model.start(weights, before, scratch_before);
  auto second = model.start(weights, behind, scratch_behind);
  moue::gradients<double> gradients(model.layout());
  result it;

  first.begin(tokens);
  for (moue::index_t layer = 0; layer < skipped; ++layer) first.forward(layer, rows(data), rows(data));
  second.begin(tokens);
  copy(first.state_out(), second.state_in());
  for (moue::index_t layer = skipped + 1; layer < depth; ++layer) second.forward(layer, rows(data), rows(data));
  it.y = data;
  it.tokens = (first.counts() + second.counts()).tokens;

  data = dy;
  for (moue::index_t layer = depth; layer-- > skipped + 1;) second.backward(layer, rows(data), rows(data), gradients);
  copy(second.dstate_in(), first.dstate_out());
  for (moue::index_t layer = skipped; layer-- > 0;) first.backward(layer, rows(data), rows(data), gradients);
  it.dx = data;
  return it;
}

}  // namespace

int main() {
  auto weights = model.initialize<double>(7);
  for (moue::index_t i = 0; i < weights.layout().tensors();
       ++i)  // fresh maps are zero: the state would have no say yet
    if (weights.layout()[i].name.ends_with("trajectory_map"))
      for (moue::index_t j = 0; j < weights.layout()[i].size(); ++j)
        weights[i].data[j] = std::cos(static_cast<double>(j));

  leave_early(weights, 1);

  // The derivative of <y, dy> along a direction, by dx and by a difference of outputs.
  const double step = 1e-6;
  const auto x = wave(1), dy = wave(2), direction = wave(3);
  auto there = x, back = x;
  for (std::size_t i = 0; i < x.size(); ++i) {
    there[i] += step * direction[i];
    back[i] -= step * direction[i];
  }
  const auto it = skip(weights, 2, x, dy);
  const double slope = dot(it.dx, direction);
  const double difference =
      (dot(skip(weights, 2, there, dy).y, dy) - dot(skip(weights, 2, back, dy).y, dy)) / (2 * step);
  std::printf("skipped:");
  for (moue::index_t layer = 0; layer < depth; ++layer)
    if (it.tokens[static_cast<std::size_t>(layer)] == 0) std::printf(" layer %td", layer);
  std::printf("; its neighbours' gradient is that of differences: %s\n",
              std::abs(slope - difference) < 1e-6 * std::abs(slope) ? "yes" : "no");
  std::fprintf(stderr, "%.9g %.9g\n", slope, difference);
}
