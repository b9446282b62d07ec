// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Host models around a mixture, and a model in a host as a function of all numbers it depends on.

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "moue/any.hpp"
#include "moue/testing/values.hpp"

namespace moue::inline v0_1::testing {

/// A host that says what happens between two layers: `forward` assigns the input of the next layer (of the last one,
/// the output of the model) from a layer's input x and output y; `backward` assigns dx, without the part that goes
/// through the layer, and dy. All are [tokens, width].
template <class H>
concept LayerHost = requires(H& host, index_t layer, matrix_view<const double> in, matrix_view<double> out) {
  host.forward(layer, in, in, out);
  host.backward(layer, in, in, in, out, out);
};

/// A host that takes a batch through the whole pass itself, after `begin`: `forward` assigns the output of the model
/// from x, and `backward` assigns dx from dout and adds to `into`, both [tokens, width]. The balancing loss is armed in
/// between. It may keep what it needs in its members; any number of forwards may follow each other.
template <class H>
concept ModelHost = requires(H& host, any_pass<double>& pass, matrix_view<const double> in, matrix_view<double> out,
                             gradients<double>& into) {
  host.forward(pass, in, out);
  host.backward(pass, in, out, into);
};

namespace detail {

inline void assign(const matrix_view<double>& to, const matrix_view<const double>& from) {
  for (index_t i = 0; i < to.rows; ++i)
    for (index_t j = 0; j < to.cols; ++j) to(i, j) = from(i, j);
}

/// Takes a batch through layers [first, end) with a `LayerHost` between them.
template <LayerHost H>
class layer_stack {
 public:
  layer_stack(H& between, index_t first, index_t end) : between_(between), first_(first), end_(end) {}

  void forward(any_pass<double>& pass, matrix_view<const double> x, matrix_view<double> out) {
    x_.assign(static_cast<std::size_t>(end_ - first_ + 1), numbers(x.rows, x.cols));
    y_ = x_;
    assign(x_.front().view(), x);
    for (index_t layer = first_; layer < end_; ++layer) {
      const std::size_t at = place(layer);
      pass.forward(layer, std::as_const(x_[at]).view(), y_[at].view());
      between_.forward(layer, std::as_const(x_[at]).view(), std::as_const(y_[at]).view(), x_[at + 1].view());
    }
    assign(out, std::as_const(x_.back()).view());
  }
  void backward(any_pass<double>& pass, matrix_view<const double> dout, matrix_view<double> dx,
                gradients<double>& into) {
    numbers dnext(dout.rows, dout.cols), dy = dnext, through = dnext;
    assign(dnext.view(), dout);
    for (index_t layer = end_; layer-- > first_;) {
      const std::size_t at = place(layer);
      between_.backward(layer, std::as_const(x_[at]).view(), std::as_const(y_[at]).view(), std::as_const(dnext).view(),
                        dx, dy.view());
      pass.backward(layer, std::as_const(dy).view(), through.view(), into);
      dnext.each([&](double& d, index_t i, index_t j) { d = dx(i, j) + through(i, j); });
    }
    assign(dx, std::as_const(dnext).view());
  }

 private:
  std::size_t place(index_t layer) const { return static_cast<std::size_t>(layer - first_); }

  H& between_;
  index_t first_, end_;
  std::vector<numbers> x_, y_;
};

/// A model, its weights and one batch, as a function of all numbers it depends on. The loss is a weighted sum of the
/// output, of the depth state that leaves the range, and of the parts of the balancing loss.
template <ModelHost H>
class model_trial {
 public:
  numbers x, state;
  parameters<double> weights;
  gradients<double> dweights;
  numbers dx, dstate;

  model_trial(const any_model<double>& model, H& host, const pass_options& options, std::uint64_t seed)
      : x(options.tokens, model.width()),
        weights(model.layout()),
        dweights(model.layout()),
        host_(host),
        tokens_(options.tokens),
        scratch_(model.workspace_bytes(options)),
        out_(tokens_, model.width()),
        out_weight_(out_) {
    for (index_t i = 0; i < weights.layout().tensors(); ++i) {
      const auto& info = weights.layout()[i];
      const numbers values = drawn(info, key(seed, 10 + i));
      assign(weights[i], values.view());
    }
    x.randomise(key(seed, 1));
    out_weight_.randomise(key(seed, 2));
    for (index_t t = 0; t < tokens_; ++t) {
      valid_.push_back(t % 4 != 2);
      token_ids_.push_back(t * 7 % 5);
      labels_.push_back(t % 3);
      for (const float side : {0.5f, -0.25f}) side_.push_back(side * static_cast<float>(t + 1));
    }
    pass_ = model.start(weights, options, scratch_);
    begin();
    state = numbers(tokens_, pass_->state_in().cols).randomise(key(seed, 3));
    state_weight_ = numbers(tokens_, pass_->dstate_out().cols).randomise(key(seed, 4));
    state_weight_.each([&](double& v, index_t t, index_t) {  // the state of padding belongs to nobody
      if (valid_[static_cast<std::size_t>(t)] == 0) v = 0;
    });
  }

  /// The loss; what it selected is recorded.
  double forward() {
    begin();
    assign(pass_->state_in(), std::as_const(state).view());
    host_.forward(*pass_, std::as_const(x).view(), out_.view());
    selected_.clear();
    for (index_t layer = first_; layer < pass_->position().reached; ++layer) {
      const auto ran = pass_->assignments(layer);
      selected_.insert(selected_.end(), ran.expert.begin(), ran.expert.end());
      selected_.insert(selected_.end(), ran.column.begin(), ran.column.end());
    }
    const auto loss = pass_->balance();
    double sum = dot(out_, out_weight_);
    scales_.clear();
    for (const double part : loss.parts) {
      scales_.push_back(2 + static_cast<double>(scales_.size()));
      sum += scales_.back() * part;
    }
    const auto left = pass_->state_out();
    for (index_t t = 0; t < state_weight_.rows(); ++t)
      for (index_t j = 0; j < state_weight_.cols(); ++j) sum += left(t, j) * state_weight_(t, j);
    return sum;
  }
  /// The gradients of the loss that `forward` has just given.
  void backward() {
    if (!scales_.empty()) pass_->arm(scales_);
    if (state_weight_.cols() > 0) assign(pass_->dstate_out(), std::as_const(state_weight_).view());
    dx = numbers(x.rows(), x.cols());
    host_.backward(*pass_, std::as_const(out_weight_).view(), dx.view(), dweights);
    dstate = numbers(state.rows(), state.cols());
    if (state.cols() > 0) assign(dstate.view(), pass_->dstate_in());
  }
  const std::vector<std::int32_t>& selected() const { return selected_; }

  /// The gradient of a tensor, zeros if it got none.
  numbers gradient(index_t tensor) const {
    const auto& info = weights.layout()[tensor];
    numbers result(info.rows, info.cols, 0);
    if (dweights.live(tensor)) assign(result.view(), dweights[tensor]);
    return result;
  }

 private:
  static std::uint64_t key(std::uint64_t seed, index_t what) {
    return moue::detail::mix(moue::detail::mix(seed) + static_cast<std::uint64_t>(what));
  }
  static numbers drawn(const tensor_info& info, std::uint64_t key) {
    parameter_spec spec;
    spec.rows = info.rows;
    spec.cols = info.cols;
    spec.init = info.init;
    return parameter_values(spec, key);
  }
  void begin() {
    side_inputs inputs;
    inputs.valid = {valid_.data(), tokens_};
    inputs.token_ids = {token_ids_.data(), tokens_};
    inputs.labels = {labels_.data(), tokens_};
    inputs.sequences = {sequences_.data(), std::ssize(sequences_)};
    inputs.side = {side_.data(), tokens_, 2};
    pass_->begin(tokens_, inputs, {.step = 3, .seed = 11});
    first_ = pass_->position().next;
  }

  H& host_;
  index_t tokens_, first_ = 0;
  workspace scratch_;
  numbers out_, out_weight_, state_weight_;
  std::vector<std::uint8_t> valid_;
  std::vector<std::int64_t> token_ids_, labels_;
  std::vector<index_t> sequences_{0, tokens_ / 2, tokens_};
  std::vector<float> side_;
  std::vector<double> scales_;
  std::vector<std::int32_t> selected_;
  std::unique_ptr<any_pass<double>> pass_;
};

}  // namespace detail
}  // namespace moue::inline v0_1::testing
