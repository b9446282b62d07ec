// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The demo's mixture in torch's own operations: what moue's layers are compared with.

#include <torch/nn/module.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <moue/adapt/torch.hpp>
#include <string>
#include <utility>
#include <vector>

#include "../language_model/contender.hpp"

namespace torch_lm {

/// Has the weights of a model of the library's, under the same names and with the same initial values, and its topology as
/// lists of candidates. All else is torch: top-k, a sort of assignments by expert, one product per expert and matrix, and
/// `index_add`.
class plain_mixture : public torch::nn::Module {
 public:
  plain_mixture(std::shared_ptr<const moue::any_model<float>> model, std::uint64_t seed)
      : torch::nn::Module("plain"), model_(std::move(model)) {
    auto values = model_->initialize(seed);
    for (moue::index_t i = 0; i < model_->layout()->tensors(); ++i) {
      const auto& info = (*model_->layout())[i];
      std::string name = info.name;
      std::replace(name.begin(), name.end(), '.', '_');
      universal_ = universal_ || info.name == "router.shared_key";
      tensors_.push_back(register_parameter(name, torch::from_blob(values[i].data, {info.rows, info.cols}).clone()));
    }
    for (moue::index_t layer = 0; layer < model_->layers(); ++layer) {
      const auto ids = model_->connections().candidates(layer);
      candidates_.push_back(torch::tensor(std::vector<std::int64_t>(ids.begin(), ids.end())));
    }
  }

  const moue::any_model<float>& model() const { return *model_; }

  /// A batch's way through the layers.
  class trip {
   public:
    trip(const plain_mixture& module, std::int64_t tokens)
        : module_(module),
          balance_(torch::zeros({})),
          state_(torch::zeros({tokens, module.model_->state_width()})),
          share_(module.zeros()),
          probability_(module.zeros()),
          exposure_(module.zeros()) {}

    /// y [tokens, width] of x [tokens, width].
    at::Tensor forward(moue::index_t layer, const at::Tensor& x) {
      const auto& candidates = module_.candidates_[static_cast<std::size_t>(layer)];
      const std::int64_t count = candidates.numel();
      const auto logits = score(layer, x, candidates);
      const auto chosen = std::get<1>(logits.detach().topk(language_model::active_experts, 1));
      const auto gates = torch::softmax(logits.gather(1, chosen), 1);
      const auto taken = torch::bincount(chosen.flatten(), {}, count).to(torch::kFloat) / chosen.numel();
      const auto probability = torch::softmax(logits, 1).mean(0);
      if (module_.universal_) {
        const auto keys = module_.of("router.trajectory_key").index_select(0, candidates);
        state_ = 0.5 * state_ + torch::zeros_like(logits).scatter(1, chosen, gates).mm(keys);
        share_ = share_.index_add(0, candidates, taken);
        probability_ = probability_.index_add(0, candidates, probability);
        exposure_ = exposure_.index_add(0, candidates, torch::ones({count}));
      } else {
        balance_ = balance_ + static_cast<double>(count) * (taken * probability).sum();
      }
      return module_.run_experts(x, candidates.index_select(0, chosen.flatten()), gates);
    }
    /// The balancing loss, a scalar.
    at::Tensor balance() const {
      const auto layers = static_cast<double>(module_.model_->layers());
      if (!module_.universal_) return language_model::balance_weight / layers * balance_;
      const auto sum = (share_ * probability_ / exposure_.clamp_min(1)).sum();
      return language_model::balance_weight / (layers * layers) * exposure_.sum() * sum;
    }

   private:
    at::Tensor score(moue::index_t layer, const at::Tensor& x, const at::Tensor& candidates) const {
      const std::string router = "layers." + std::to_string(layer) + ".router.";
      const auto& weight = module_.of(router + "weight");
      if (!module_.universal_) return x.mm(weight.t());
      const auto row = weight + module_.of("router.shared_key").index_select(0, candidates);
      const auto norm = (row.square().sum(1, true) + 1e-12).sqrt();
      const auto keys = module_.of("router.trajectory_key").index_select(0, candidates);
      return module_.of(router + "temperature") * x.mm((row / norm).t()) +
             state_.mm(module_.of(router + "trajectory_map").t()).mm(keys.t());
    }

    const plain_mixture& module_;
    at::Tensor balance_, state_, share_, probability_, exposure_;
  };
  trip start(const moue::torch_batch& batch) const { return {*this, batch.tokens}; }

 private:
  const at::Tensor& of(const std::string& name) const {
    return tensors_[static_cast<std::size_t>(model_->layout()->find(name))];
  }
  at::Tensor zeros() const { return torch::zeros({static_cast<std::int64_t>(model_->experts())}); }

  /// Experts `ids` [tokens · k] on rows of x [tokens, width], weighted by `gates` [tokens, k].
  at::Tensor run_experts(const at::Tensor& x, const at::Tensor& ids, const at::Tensor& gates) const {
    const auto order = ids.argsort();
    const auto rows = order.div(gates.size(1), "floor");
    const auto gathered = x.index_select(0, rows);
    const auto counts = torch::bincount(ids, {}, static_cast<std::int64_t>(model_->experts()));
    std::vector<at::Tensor> outputs;
    std::int64_t first = 0;
    for (std::int64_t e = 0; e < counts.numel(); ++e) {
      const auto count = counts.data_ptr<std::int64_t>()[e];
      if (count == 0) continue;
      const std::string name = "experts." + std::to_string(e);
      const auto hidden = torch::silu(gathered.narrow(0, first, count).mm(of(name + ".up").t()));
      outputs.push_back(hidden.mm(of(name + ".down").t()));
      first += count;
    }
    const auto weighted = torch::cat(outputs) * gates.flatten().index_select(0, order).unsqueeze(1);
    return torch::zeros_like(x).index_add(0, rows, weighted);
  }

  std::shared_ptr<const moue::any_model<float>> model_;
  std::vector<at::Tensor> tensors_;
  std::vector<at::Tensor> candidates_;
  bool universal_ = false;
};

}  // namespace torch_lm
