// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// A byte-level transformer whose feed-forward part is a moue mixture; forward and backward by hand.

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "attention.hpp"
#include "embedding.hpp"
#include "moue/moue.hpp"
#include "norm.hpp"

namespace language_model {

/// Sizes of the part around the mixture, which itself brings width and depth.
struct shape {
  moue::index_t context = 64;
  moue::index_t batch = 16;
  moue::index_t heads = 4;

  moue::index_t tokens() const { return context * batch; }
};

/// The tensors of everything but the mixture, so that the library's own machinery initialises, updates and stores them.
class dense_layout {
 public:
  dense_layout(moue::index_t width, moue::index_t layers, moue::index_t context) {
    using moue::initializer;
    auto layout = std::make_shared<moue::parameter_layout>();
    const auto add = [&](std::string name, moue::index_t rows, moue::index_t cols, initializer init, bool decayed) {
      return layout->add(std::move(name), {"", rows, cols, init, moue::scope::model, true, decayed}, -1, -1);
    };
    const auto gain = [&](std::string name) { return add(std::move(name), 1, width, initializer::constant(1), false); };
    for (moue::index_t ago = 0; ago < history; ++ago)
      add("embedding." + std::to_string(ago), vocabulary, width, initializer::normal(0.3), true);
    positions = add("positions", context, width, initializer::normal(0.02), true);
    first_block = layout->tensors();
    for (moue::index_t l = 0; l < layers; ++l) {
      const auto prefix = "layers." + std::to_string(l) + ".";
      gain(prefix + "attention_gain");
      add(prefix + "qkv", 3 * width, width, initializer::normal(1 / std::sqrt(static_cast<double>(width))), true);
      // Residual projections start at zero: otherwise the noise between seeds drowns the differences between models.
      add(prefix + "out", width, width, initializer::constant(0), true);
      gain(prefix + "mixture_gain");
    }
    final_gain = gain("final_gain");
    head = add("head", vocabulary, width, initializer::normal(0.02), true);
    tensors = std::move(layout);
  }

  moue::index_t attention_gain(moue::index_t layer) const { return first_block + 4 * layer; }
  moue::index_t qkv(moue::index_t layer) const { return first_block + 4 * layer + 1; }
  moue::index_t out(moue::index_t layer) const { return first_block + 4 * layer + 2; }
  moue::index_t mixture_gain(moue::index_t layer) const { return first_block + 4 * layer + 3; }

  std::shared_ptr<const moue::parameter_layout> tensors;
  moue::index_t positions = 0;
  moue::index_t first_block = 0;
  moue::index_t final_gain = 0;
  moue::index_t head = 0;
};

/// Weights, gradients and the activations of one batch. Pre-norm residual blocks of attention and mixture. The mixture
/// must outlive it.
template <class MixtureT, class S>
class transformer {
 public:
  transformer(const MixtureT& mixture, const shape& sizes, moue::mode how, std::uint64_t seed)
      : layout(mixture.width(), mixture.layers(), sizes.context),
        dense(layout.tensors),
        experts(mixture.layout()),
        dense_gradients(layout.tensors),
        expert_gradients(mixture.layout()),
        sizes_(sizes),
        layers_(mixture.layers()),
        scratch_(mixture.template workspace_bytes<S>({.tokens = sizes.tokens(), .how = how})),
        pass_(mixture.start(experts, {.tokens = sizes.tokens(), .how = how}, scratch_)),
        norms_(static_cast<std::size_t>(2 * layers_ + 1)),
        attention_(static_cast<std::size_t>(layers_), attention<S>(sizes.context, sizes.heads)) {
    moue::initialize(dense, seed);
    moue::initialize(experts, seed);
    for (moue::index_t i = 0; i < experts.layout().tensors(); ++i)  // the other residual projection
      if (experts.layout()[i].name.ends_with(".down")) std::fill_n(experts[i].data, experts.layout()[i].size(), S(0));
  }
  transformer(const transformer&) = delete;  // the pass points at the weights
  transformer& operator=(const transformer&) = delete;

  const shape& sizes() const { return sizes_; }
  const auto& pass() const { return pass_; }
  /// What the mixture of `layer` read, [tokens, width].
  const matrix<S>& mixture_input(moue::index_t layer) const { return inputs_[static_cast<std::size_t>(2 * layer + 1)]; }
  /// What the mixture of `layer` added to the residual stream, [tokens, width].
  const matrix<S>& mixture_output(moue::index_t layer) const { return outputs_[static_cast<std::size_t>(layer)]; }
  /// After `logits`: [tokens, 256]; after `loss`: the gradient of the loss with respect to them.
  const matrix<S>& last_logits() const { return logits_; }

  /// Mean cross entropy of the batch in nats; the balancing loss is not in it.
  double loss(const batch& text) {
    logits(text);
    return cross_entropy(text, logits_);
  }

  void logits(const batch& text) {
    const moue::index_t tokens = text.tokens();
    const moue::index_t width = pass_.model().width();
    streams_.resize(static_cast<std::size_t>(2 * layers_ + 1));
    inputs_.resize(streams_.size());
    outputs_.resize(static_cast<std::size_t>(layers_));
    for (auto* all : {&streams_, &inputs_, &outputs_})
      for (auto& m : *all) m.resize(tokens, width);
    embed<S>(
        text, [&](moue::index_t ago) { return weight(ago); }, weight(layout.positions), streams_[0]);
    pass_.begin(tokens);
    for (moue::index_t l = 0; l < layers_; ++l) {
      const auto i = static_cast<std::size_t>(2 * l);
      norms_[i].forward(streams_[i], weight(layout.attention_gain(l)), inputs_[i]);
      head(l).forward(inputs_[i], weight(layout.qkv(l)), weight(layout.out(l)), streams_[i + 1]);
      streams_[i + 1] += streams_[i];
      norms_[i + 1].forward(streams_[i + 1], weight(layout.mixture_gain(l)), inputs_[i + 1]);
      auto& y = outputs_[static_cast<std::size_t>(l)];
      pass_.forward(l, view(std::as_const(inputs_[i + 1])), view(y));
      streams_[i + 2] = streams_[i + 1] + y;
    }
    norms_.back().forward(streams_.back(), weight(layout.final_gain), inputs_.back());
    logits_.noalias() = inputs_.back() * as_matrix(weight(layout.head)).transpose();
  }

  /// After `loss`: adds the gradients of loss plus balancing loss, and returns the balancing loss.
  double backward(const batch& text) {
    return backward(text, [](moue::index_t, const matrix<S>&) {});
  }

  /// The same; `watch(layer, gradient)` sees the gradient of what each layer's mixture added, last layer first.
  template <class F>
  double backward(const batch& text, const F& watch) {
    const double balancing = balance();
    dx_.setZero(logits_.rows(), pass_.model().width());
    dinput_.noalias() = logits_ * as_matrix(weight(layout.head));
    as_matrix(gradient(layout.head)).noalias() += logits_.transpose() * inputs_.back();
    norm_backward(norms_.size() - 1, layout.final_gain);
    for (moue::index_t l = layers_; l-- > 0;) {
      const auto i = static_cast<std::size_t>(2 * l);
      watch(l, std::as_const(dx_));
      pass_.backward(l, view(std::as_const(dx_)), view(dinput_), expert_gradients);
      norm_backward(i + 1, layout.mixture_gain(l));
      head(l).backward(inputs_[i], weight(layout.qkv(l)), weight(layout.out(l)), dx_, dinput_, gradient(layout.qkv(l)),
                       gradient(layout.out(l)));
      norm_backward(i, layout.attention_gain(l));
    }
    embed_backward<S>(
        text, dx_, [&](moue::index_t ago) { return gradient(ago); }, gradient(layout.positions));
    return balancing;
  }

  /// The balancing loss of the last batch, its weight included.
  double balance() { return static_cast<double>(pass_.balance()); }

  void zero_gradients() {
    dense_gradients.zero();
    for (moue::index_t i = 0; i < layout.tensors->tensors(); ++i) dense_gradients.set_live(i);  // backward adds to all
    expert_gradients.reset();
  }

  const dense_layout layout;
  moue::parameters<S> dense;
  moue::parameters<S> experts;  ///< of the mixture: its experts and routers
  moue::gradients<S> dense_gradients;
  moue::gradients<S> expert_gradients;

 private:
  moue::matrix_view<const S> weight(moue::index_t tensor) const { return dense[tensor]; }
  moue::matrix_view<S> gradient(moue::index_t tensor) { return dense_gradients[tensor]; }
  attention<S>& head(moue::index_t layer) { return attention_[static_cast<std::size_t>(layer)]; }
  void norm_backward(std::size_t place, moue::index_t gain) {
    norms_[place].backward(streams_[place], weight(gain), dinput_, dx_, gradient(gain));
  }

  shape sizes_;
  moue::index_t layers_;
  moue::workspace scratch_;
  moue::pass<MixtureT, S> pass_;
  std::vector<rms_norm<S>> norms_;
  std::vector<attention<S>> attention_;
  std::vector<matrix<S>> streams_;  // the residual stream before each norm
  std::vector<matrix<S>> inputs_;   // what each norm made of it
  std::vector<matrix<S>> outputs_;  // of the mixture, per layer
  matrix<S> logits_;
  matrix<S> dx_;      // gradient of the residual stream
  matrix<S> dinput_;  // gradient of the current norm's output
};

}  // namespace language_model
