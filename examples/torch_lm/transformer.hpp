// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The demo's transformer in libtorch, around any mixture that is a module.

#include <torch/nn/functional.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <moue/adapt/torch.hpp>
#include <string>
#include <utility>
#include <vector>

#include "../language_model/transformer.hpp"

namespace torch_lm {

/// Pre-norm residual blocks of attention and mixture, with the demo's initial values. `MixtureT` has `model()`,
/// `parameters()` and `start({.tokens = n})`, as `moue::torch_mixture` does.
template <class MixtureT>
class transformer : public torch::nn::Module {
 public:
  transformer(std::shared_ptr<MixtureT> mixture, const language_model::shape& sizes, std::uint64_t seed)
      : sizes_(sizes), layout_(mixture->model().width(), mixture->model().layers(), sizes.context) {
    moue::parameters<float> values(layout_.tensors);
    moue::initialize(values, seed);
    for (moue::index_t i = 0; i < layout_.tensors->tensors(); ++i) {
      const auto& info = (*layout_.tensors)[i];
      std::string name = info.name;
      std::replace(name.begin(), name.end(), '.', '_');
      dense_.push_back(register_parameter(name, torch::from_blob(values[i].data, {info.rows, info.cols}).clone()));
    }
    mixture_ = register_module("mixture", std::move(mixture));
    torch::NoGradGuard raw;
    for (auto& p : mixture_->named_parameters())  // the other residual projection
      if (p.key().ends_with("_down")) p.value().zero_();
  }

  /// Weights that decay, and all others.
  std::pair<std::vector<at::Tensor>, std::vector<at::Tensor>> by_decay() const {
    std::pair<std::vector<at::Tensor>, std::vector<at::Tensor>> result;
    const auto add = [&](const moue::parameter_layout& layout, const std::vector<at::Tensor>& tensors) {
      for (std::size_t i = 0; i < tensors.size(); ++i)
        (layout[static_cast<moue::index_t>(i)].decayed ? result.first : result.second).push_back(tensors[i]);
    };
    add(*layout_.tensors, dense_);
    add(*mixture_->model().layout(), mixture_->parameters());
    return result;
  }

  /// Mean cross entropy of a batch in nats, and the balancing loss.
  std::pair<at::Tensor, at::Tensor> forward(const language_model::batch& text) const {
    const auto tokens = text.tokens();
    auto h = weight(layout_.positions).repeat({tokens / sizes_.context, 1});
    for (moue::index_t ago = 0; ago < language_model::history; ++ago)
      h = h + weight(ago).index_select(0, bytes(text, [&](moue::index_t t) { return text.input(t, ago); }));
    auto trip = mixture_->start({.tokens = tokens});
    for (moue::index_t layer = 0; layer < mixture_->model().layers(); ++layer) {
      h = h + attention(layer, norm(h, layout_.attention_gain(layer)));
      h = h + trip.forward(layer, norm(h, layout_.mixture_gain(layer)));
    }
    const auto logits = norm(h, layout_.final_gain).mm(weight(layout_.head).t());
    const auto targets = bytes(text, [&](moue::index_t t) { return text.target(t); });
    return {torch::nn::functional::cross_entropy(logits, targets), trip.balance()};
  }

 private:
  const at::Tensor& weight(moue::index_t tensor) const { return dense_[static_cast<std::size_t>(tensor)]; }

  template <class At>
  static at::Tensor bytes(const language_model::batch& text, const At& at) {
    auto result = torch::empty({text.tokens()}, torch::kLong);
    for (moue::index_t t = 0; t < text.tokens(); ++t) result.template data_ptr<std::int64_t>()[t] = at(t);
    return result;
  }

  at::Tensor norm(const at::Tensor& x, moue::index_t gain) const {
    return x * (x.square().mean(1, true) + 1e-6).rsqrt() * weight(gain);
  }

  /// Causal attention over windows of `context` tokens, one after another.
  at::Tensor attention(moue::index_t layer, const at::Tensor& u) const {
    const auto width = u.size(1), windows = u.size(0) / sizes_.context, head = width / sizes_.heads;
    const auto qkv = u.mm(weight(layout_.qkv(layer)).t()).view({windows, sizes_.context, 3, sizes_.heads, head});
    const auto part = [&](std::int64_t which) { return qkv.select(2, which).transpose(1, 2); };
    const auto later = torch::ones({sizes_.context, sizes_.context}, torch::kBool).triu(1);
    const auto scores = part(0).matmul(part(1).transpose(2, 3)) / std::sqrt(static_cast<double>(head));
    const auto share = torch::softmax(scores.masked_fill(later, -INFINITY), 3);
    return share.matmul(part(2)).transpose(1, 2).reshape({u.size(0), width}).mm(weight(layout_.out(layer)).t());
  }

  language_model::shape sizes_;
  language_model::dense_layout layout_;
  std::vector<at::Tensor> dense_;
  std::shared_ptr<MixtureT> mixture_;
};

}  // namespace torch_lm
