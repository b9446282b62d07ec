// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A composition that uses all a pass has, and a host around it whose ways through the depth can be compared to the bit.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "leaning_stages.hpp"
#include "moue/policies.hpp"
#include "restless_score.hpp"
#include "seen_loss.hpp"
#include "stack.hpp"

namespace test {

/// Depth state, noise, columns beside the logits, transformed logits, gates with parameters, always-on experts, tied routers with a buffer, and a layer-wise and a universal balance, beside a
/// loss that looks at whole layers and the outputs of their experts.
template <bool Outputs = true, class BackendT>
auto whole_mixture(const BackendT& backend) {
  const moue::staggered_rotation ring{.depth = 2, .pool = 5, .window = 3, .stride = 2, .local = 1};
  return moue::mixture{moue::swiglu{.width = 6, .hidden = 5}, moue::always_on{moue::revisit{ring, 2, true}, 1, 1},
                       moue::router{moue::score_sum{moue::keyed_score{}, moue::trajectory{.rank = 3}, restless_score{}},
                                    moue::top_k{2}, leaning_gate{}}
                           .with(moue::biased_sigmoid{})
                           .with(stretched{})
                           .with(leaning_probability{}),
                       moue::sum_of_losses{moue::switch_loss{0.3}, moue::z_loss{0.2}, moue::universal_balance{0.4, 0.7},
                                           basic_seen_loss<Outputs>{0.05}},
                       backend};
}

/// A batch with padding on its way through the layers: x += y after each, tanh before the next.
struct whole_host {
  using numbers = std::vector<double>;

  const any_model<double>& model;
  moue::index_t tokens = 9;
  std::vector<std::uint8_t> valid{1, 1, 0, 1, 1, 1, 1, 0, 1};
  std::vector<std::int64_t> ids{5, 3, 1, 2, 9, 4, 4, 0, 7};
  moue::batch_options how{.step = 7, .seed = 11};
  numbers input = noise_vector(3, tokens* model.width());
  numbers target = noise_vector(4, tokens* model.width());
  std::vector<numbers> entered = std::vector<numbers>(static_cast<std::size_t>(model.layers()) + 1);
  numbers dx;
  moue::parameters<double> weights;
  moue::gradients<double> gradients{model.layout()};

  explicit whole_host(const any_model<double>& m) : model(m), weights(random_weights(m, 1)) { entered[0] = input; }
  /// Of that batch the tokens [first, first + count) alone.
  whole_host(const any_model<double>& m, moue::index_t first, moue::index_t count) : whole_host(m) {
    const auto take = [&](auto& of_all, moue::index_t each) {
      of_all = {of_all.begin() + first * each, of_all.begin() + (first + count) * each};
    };
    tokens = count;
    how.first_token = first;
    take(valid, 1);
    take(ids, 1);
    take(input, m.width());
    take(target, m.width());
    entered[0] = input;
  }

  moue::matrix_view<double> view(numbers& v) const { return {v.data(), tokens, model.width()}; }
  numbers& at(moue::index_t layer) { return entered[static_cast<std::size_t>(layer)]; }
  moue::side_inputs inputs() const {
    return {.valid = {valid.data(), tokens}, .token_ids = {ids.data(), tokens}, .labels = {}};
  }

  /// What enters the layer behind `layer`, from what the layer made of its own input.
  void leave(moue::index_t layer, const numbers& y) {
    auto& next = at(layer + 1);
    next = at(layer);
    for (std::size_t i = 0; i < y.size(); ++i) next[i] = std::tanh(next[i] + y[i]);
  }
  void forward(any_pass<double>& pass, moue::index_t layer) {
    numbers y(input.size());
    pass.forward(layer, view(at(layer)), view(y));
    leave(layer, y);
  }
  /// The gradient of what `layer` made of its input, and `dx` of what it takes part in otherwise.
  numbers enter_backward(moue::index_t layer) {
    if (layer + 1 == model.layers()) dx = target;
    const auto& out = at(layer + 1);
    for (std::size_t i = 0; i < dx.size(); ++i) dx[i] *= 1 - out[i] * out[i];
    return dx;
  }
  void leave_backward(const numbers& from_layer) {
    for (std::size_t i = 0; i < dx.size(); ++i) dx[i] += from_layer[i];
  }
  void backward(any_pass<double>& pass, moue::index_t layer) { backward(pass, layer, gradients); }
  void backward(any_pass<double>& pass, moue::index_t layer, moue::gradients<double>& into) {
    numbers dy = enter_backward(layer);
    pass.backward(layer, view(dy), view(dy), into);
    leave_backward(dy);
  }
  /// All layers of the pass, one after another.
  void forward(any_pass<double>& pass) {
    pass.begin(tokens, inputs(), how);
    for (moue::index_t l = 0; l < model.layers(); ++l) forward(pass, l);
  }
  void backward(any_pass<double>& pass) { backward(pass, gradients); }
  void backward(any_pass<double>& pass, moue::gradients<double>& into) {
    for (moue::index_t l = model.layers(); l-- > 0;) backward(pass, l, into);
  }

  bool same_bits_as(const whole_host& other) const {
    return entered == other.entered && dx == other.dx && test::same_bits(gradients, other.gradients);
  }
};

/// A pass with the memory it works in.
struct placed_pass {
  moue::workspace scratch;
  std::unique_ptr<any_pass<double>> it;

  placed_pass(const whole_host& host, moue::pass_options options) : placed_pass(host, options, host.weights) {}
  placed_pass(const whole_host& host, moue::pass_options options, const moue::parameters<double>& weights)
      : scratch((options.tokens = host.tokens, host.model.workspace_bytes(options))),
        it(host.model.start(weights, options, scratch)) {}
  any_pass<double>* operator->() const { return it.get(); }
  any_pass<double>& operator*() const { return *it; }
};

/// The whole depth in one pass, the balancing loss armed.
inline double run_whole(whole_host& host, moue::pass_options options = {}, bool armed = true) {
  const placed_pass pass(host, options);
  host.forward(*pass);
  const double balance = pass->balance();
  if (armed) pass->arm();
  host.backward(*pass);
  return balance;
}

}  // namespace test
