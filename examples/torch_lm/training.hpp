// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The demo's training step in libtorch: its batches, schedule, clipping and AdamW.

#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/adamw.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <numbers>
#include <stdexcept>
#include <utility>
#include <vector>

#include "layers.hpp"
#include "transformer.hpp"

namespace torch_lm {

/// Two groups, the first of which decays.
inline torch::optim::AdamW make_optimiser(
    const std::pair<std::vector<at::Tensor>, std::vector<at::Tensor>>& parameters) {
  const auto& wanted = language_model::optimiser_options;
  const auto group = [&](const std::vector<at::Tensor>& tensors, double decay) {
    torch::optim::AdamWOptions options;
    options.betas({wanted.beta1, wanted.beta2}).eps(wanted.epsilon).weight_decay(decay);
    return torch::optim::OptimizerParamGroup(tensors, std::make_unique<torch::optim::AdamWOptions>(options));
  };
  return torch::optim::AdamW({group(parameters.first, wanted.weight_decay), group(parameters.second, 0)});
}

/// The transformer around `mixture`. `text` must outlive it.
template <class MixtureT>
class in_torch final : public contestant {
 public:
  in_torch(std::shared_ptr<MixtureT> mixture, const run_config& config, const corpus& text)
      : config_(config),
        text_(&text),
        model_(std::move(mixture), sizes_, config.seed),
        optimiser_(make_optimiser(model_.by_decay())) {}

  double advance() override {
    const auto windows =
        language_model::training_windows(text_->training, sizes_.context, sizes_.batch, config_.seed, step_);
    for (auto& group : optimiser_.param_groups())
      group.options().set_lr(
          language_model::learning_rate_at(step_, config_.steps, config_.warm_up, config_.learning_rate));
    // What 1.13 has as zero_grad() fills with zeros, for which an optimiser does not skip experts that nobody reached.
    for (auto& p : model_.parameters()) p.mutable_grad() = at::Tensor();
    const auto [loss, balance] = model_.forward({windows, sizes_.context});
    (loss + balance).backward();
    const double norm = torch::nn::utils::clip_grad_norm_(model_.parameters(), language_model::largest_gradient_norm);
    if (!std::isfinite(norm)) throw std::runtime_error("training diverged");
    optimiser_.step();
    ++step_;
    return loss.template item<double>() * std::numbers::log2e;
  }

  double evaluate(moue::index_t batches) override {
    torch::NoGradGuard inference;
    double sum = 0;
    for (moue::index_t i = 0; i < batches; ++i) {
      const auto windows = language_model::held_out_windows(text_->held_out, sizes_.context, i * sizes_.batch,
                                                            sizes_.batch, batches * sizes_.batch);
      sum += model_.forward({windows, sizes_.context}).first.template item<double>();
    }
    return sum * std::numbers::log2e / static_cast<double>(batches);
  }

 private:
  run_config config_;
  const corpus* text_;
  language_model::shape sizes_;
  transformer<MixtureT> model_;
  torch::optim::AdamW optimiser_;
  std::int64_t step_ = 0;
};

}  // namespace torch_lm
