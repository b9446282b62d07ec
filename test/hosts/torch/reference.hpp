// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/nn/functional.h>
#include <torch/types.h>

#include <cstdint>
#include <moue/any.hpp>
#include <string>
#include <vector>

/// The depth of "universal" in torch's own operations, over the same tensors.
class reference {
 public:
  reference(const moue::any_model<double>& model, const std::vector<at::Tensor>& weights, int64_t tokens)
      : model_(model), weights_(weights), state_(at::zeros({tokens, model.state_width()}, at::kDouble)) {}

  at::Tensor forward(moue::index_t layer, const at::Tensor& x) {
    const auto ids = model_.connections().candidates(layer);
    const auto candidates = at::tensor(std::vector<int64_t>(ids.begin(), ids.end()));
    const std::string router = "layers." + std::to_string(layer) + ".router.";
    const auto row = of(router + "weight") + of("router.shared_key").index_select(0, candidates);
    const auto norm = (row.square().sum(1, true) + 1e-12).sqrt();
    const auto keys = of("router.trajectory_key").index_select(0, candidates);
    const auto logits = of(router + "temperature") * at::matmul(x, (row / norm).t()) +
                        at::matmul(at::matmul(state_, of(router + "trajectory_map").t()), keys.t());
    const auto chosen = std::get<1>(logits.detach().topk(2, 1));
    const auto gates = at::zeros_like(logits).scatter(1, chosen, at::softmax(logits.gather(1, chosen), 1));
    auto y = at::zeros_like(x);
    for (int64_t column = 0; column < candidates.numel(); ++column) {
      const auto e = std::to_string(candidates[column].item<int64_t>());
      const auto hidden =
          at::silu(at::matmul(x, of("experts." + e + ".gate").t())) * at::matmul(x, of("experts." + e + ".up").t());
      y = y + gates.select(1, column).unsqueeze(1) * at::matmul(hidden, of("experts." + e + ".down").t());
    }
    state_ = 0.5 * state_ + at::matmul(gates, keys);

    const auto taken = at::zeros_like(logits).scatter(1, chosen, 1.0).detach();
    const auto experts = static_cast<int64_t>(model_.experts());
    const auto spread = [&](const at::Tensor& v) {
      return at::zeros({experts}, at::kDouble).index_add(0, candidates, v);
    };
    const double entries = static_cast<double>(2 * x.size(0));
    share_.push_back(spread(taken.sum(0) / entries));
    probability_.push_back(spread(at::softmax(logits, 1).mean(0)));
    exposure_.push_back(spread(at::ones({candidates.numel()}, at::kDouble)));
    return y;
  }
  at::Tensor state() const { return state_; }
  void set_state(const at::Tensor& state) { state_ = state; }

  /// Of the layers that ran; averages are over all layers of the model.
  at::Tensor balance() const {
    const auto sum = [](const std::vector<at::Tensor>& list) { return at::stack(list).sum(0); };
    const auto exposure = sum(exposure_), layers = at::scalar_tensor(static_cast<double>(model_.layers()), at::kDouble);
    const auto reached = exposure.clamp_min(1e-300);
    return 0.5 * exposure.sum() * (sum(share_) * sum(probability_) / reached).sum() / layers.square();
  }

 private:
  const at::Tensor& of(const std::string& name) const {
    return weights_[static_cast<std::size_t>(model_.layout()->find(name))];
  }

  const moue::any_model<double>& model_;
  std::vector<at::Tensor> weights_;
  at::Tensor state_;
  std::vector<at::Tensor> share_, probability_, exposure_;
};
