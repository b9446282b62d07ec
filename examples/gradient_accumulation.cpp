// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A batch of 64 tokens in four micro-batches of 16: gradients add up to those of the whole batch, in memory for 16.

#include <cmath>
#include <cstdio>
#include <moue/moue.hpp>
#include <moue/train/adamw.hpp>
#include <moue/train/clip.hpp>
#include <vector>

namespace {

using moue::index_t;
using numbers = std::vector<double>;

constexpr index_t width = 8, tokens = 64, micro = 16;
constexpr double once[] = {1};

const moue::mixture model{moue::swiglu{.width = width, .hidden = 16},
                          moue::staggered_rotation{.depth = 3, .pool = 6, .window = 4, .stride = 2},
                          moue::universal_router(2, {.rank = 4}), moue::universal_balance{.weight = 0.01}};

moue::matrix_view<double> rows(numbers& x) { return {x.data(), static_cast<index_t>(x.size()) / width, width}; }

/// Rows [first, first + count) of the batch, and what the model should make of them.
struct part {
  numbers x, target;

  part(index_t first, index_t count) {
    for (index_t i = first * width; i < (first + count) * width; ++i) {
      x.push_back(std::sin(static_cast<double>(i * i % 211)));
      target.push_back(std::abs(x.back()));
    }
  }
};

/// All layers; x becomes the output.
template <class Pass>
void forward(Pass& pass, numbers& x, const moue::batch_options& how = {}) {
  pass.begin(static_cast<index_t>(x.size()) / width, {}, how);
  for (index_t layer = 0; layer < model.layers(); ++layer) pass.forward(layer, rows(x), rows(x));
}

/// All layers in reverse, from the derivative of the mean squared error of all `tokens` tokens.
template <class Pass>
void backward(Pass& pass, const numbers& y, const numbers& target, moue::gradients<double>& gradients) {
  numbers dx(y.size());
  for (std::size_t i = 0; i < y.size(); ++i) dx[i] = 2 * (y[i] - target[i]) / static_cast<double>(tokens * width);
  for (index_t layer = model.layers(); layer-- > 0;) pass.backward(layer, rows(dx), rows(dx), gradients);
}

/// The gradients of the whole batch, in memory for the whole batch.
moue::gradients<double> at_once(const moue::parameters<double>& weights) {
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.workspace_bytes<double>(options));
  auto pass = model.start(weights, options, scratch);
  moue::gradients<double> gradients(model.layout());
  part batch(0, tokens);
  forward(pass, batch.x);
  pass.arm();
  backward(pass, batch.x, batch.target, gradients);
  return gradients;
}

/// Every micro-batch is balanced by itself: the balancing loss is the mean of theirs.
moue::gradients<double> in_parts(const moue::parameters<double>& weights) {
  const moue::pass_options options{.tokens = micro};
  moue::workspace scratch(model.workspace_bytes<double>(options));
  auto pass = model.start(weights, options, scratch);
  moue::gradients<double> gradients(model.layout());
  for (index_t first = 0; first < tokens; first += micro) {
    part batch(first, micro);
    forward(pass, batch.x);
    pass.arm(double{micro} / double{tokens});
    backward(pass, batch.x, batch.target, gradients);  // adds to what the earlier ones left
  }
  return gradients;
}

/// The balancing loss is that of the whole batch, whose counts are needed before the first backward: every micro-batch
/// runs forward twice.
moue::gradients<double> in_parts_balanced_as_one(const moue::parameters<double>& weights) {
  const moue::pass_options options{.tokens = micro};
  moue::workspace scratch(model.workspace_bytes<double>(options));
  auto pass = model.start(weights, options, scratch);
  moue::gradients<double> gradients(model.layout());
  moue::routing_counts<double> counts;
  for (index_t first = 0; first < tokens; first += micro) {
    part batch(first, micro);
    forward(pass, batch.x);
    counts += pass.counts();
  }
  for (index_t first = 0; first < tokens; first += micro) {
    part batch(first, micro);
    forward(pass, batch.x, {.counts = false});  // it has been counted
    pass.arm(once, counts);
    backward(pass, batch.x, batch.target, gradients);
  }
  return gradients;
}

/// The largest difference between two sets of gradients, in units of the largest number.
double difference(const moue::gradients<double>& a, const moue::gradients<double>& b) {
  double most = 0, largest = 0;
  for (index_t i = 0; i < a.layout().tensors(); ++i)
    for (index_t j = 0; a.live(i) && j < a.layout()[i].size(); ++j) {
      const double other = b.live(i) ? b[i].data[j] : 0;
      most = std::fmax(most, std::abs(a[i].data[j] - other));
      largest = std::fmax(largest, std::abs(a[i].data[j]));
    }
  return most / largest;
}

}  // namespace

int main() {
  auto weights = model.initialize<double>(11);
  moue::adamw<double> optimiser(weights);

  const auto whole = at_once(weights);
  const double apart = difference(whole, in_parts(weights));
  auto gradients = in_parts_balanced_as_one(weights);
  std::printf("balanced one by one: %s\n", apart > 1e-6 ? "close" : "the same");
  std::printf("balanced as one: %s\n",
              difference(whole, gradients) < 1e-12 ? "the same but for rounding" : "different");

  moue::clip_gradients(gradients, 1.0);
  optimiser.step(weights, gradients, 0.01);  // once for all micro-batches
  gradients.reset();
}
