// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// One training run: schedule, optimiser, and what is measured on held-out text.

#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "contender.hpp"
#include "moue/analysis/load.hpp"
#include "moue/analysis/size.hpp"
#include "moue/convert/carry.hpp"
#include "moue/train/adamw.hpp"
#include "moue/train/clip.hpp"
#include "text.hpp"
#include "transformer.hpp"

namespace language_model {

using grid = std::vector<std::vector<double>>;

/// What a model does on the held-out windows.
struct evaluation {
  double bits_per_byte = 0;
  moue::load_report load;
  grid share;  ///< [layers, experts]: share of the layer's assignments; NaN where the layer cannot reach the expert
  grid reuse;  ///< [layers, layers]: see moue::reuse_matrix
  grid similarity;  ///< [layers, layers]: mean over tokens of the cosine between what two layers' mixtures output
};

struct model_size {
  moue::index_t physical = 0;  ///< parameters in all
  moue::index_t active = 0;    ///< of these, used by one token
  moue::index_t virtual_width = 0;
};

template <class MixtureT>
model_size size_of(const MixtureT& mixture, const moue::parameter_layout& dense) {
  const auto sizes = moue::summarise_size(mixture);
  return {dense.elements() + sizes.physical, dense.elements() + static_cast<moue::index_t>(sizes.active),
          moue::virtual_width(mixture.topology())};
}

/// What of a run does not depend on the type of its mixture.
struct run_state {
  moue::parameters<float> dense;
  moue::parameters<float> experts;  ///< and routers
  moue::adamw<float> dense_optimiser;
  moue::adamw<float> expert_optimiser;
  moue::index_t step = 0;
};

/// The model of a run with its optimiser, somewhere between its first and its last step. `mixture` and `text` must
/// outlive it. Uses the calling thread alone; the same arguments give the same weights bit for bit.
template <class MixtureT>
class trainer {
 public:
  trainer(const MixtureT& mixture, const run_config& config, const corpus& text, const shape& sizes = {})
      : model(mixture, sizes, moue::mode::training, config.seed),
        config_(config),
        text_(&text),
        dense_optimiser_(model.dense, optimiser_options),
        expert_optimiser_(model.experts, optimiser_options) {}

  const run_config& config() const { return config_; }
  moue::index_t step() const { return step_; }
  bool done() const { return step_ >= config_.steps; }
  model_size size() const { return size_of(model.pass().model(), *model.layout.tensors); }

  /// One update; returns the training loss before it, in bits per byte.
  double advance() { return advance(learning_rate_at(step_, config_.steps, config_.warm_up, config_.learning_rate)); }

  /// The same at a learning rate of the caller's.
  double advance(double rate) {
    const auto& sizes = model.sizes();
    const auto windows = training_windows(text_->training, sizes.context, sizes.batch, config_.seed, step_);
    const batch data{windows, sizes.context};
    model.zero_gradients();
    const double loss = model.loss(data);
    model.backward(data);
    const double norm =
        std::hypot(moue::gradient_norm(model.dense_gradients), moue::gradient_norm(model.expert_gradients));
    if (!std::isfinite(norm)) throw std::runtime_error("training diverged; lower --lr or lengthen --warmup");
    if (norm > largest_gradient_norm) {
      moue::scale_gradients(model.dense_gradients, largest_gradient_norm / norm);
      moue::scale_gradients(model.expert_gradients, largest_gradient_norm / norm);
    }
    dense_optimiser_.step(model.dense, model.dense_gradients, rate);
    expert_optimiser_.step(model.experts, model.expert_gradients, rate);
    ++step_;
    return loss * std::numbers::log2e;
  }

  /// On `batches` batches of windows spread over the held-out text.
  evaluation evaluate(moue::index_t batches = 64) {
    const auto count = static_cast<double>(batches);
    const auto& sizes = model.sizes();
    const auto& mixture = model.pass().model();
    const auto layers = static_cast<std::size_t>(mixture.layers());
    const auto selected = static_cast<std::size_t>(mixture.connections().candidate_offset(mixture.layers()));
    std::vector<float> share(selected), expert_share(static_cast<std::size_t>(mixture.experts()));
    evaluation result;
    result.reuse = result.similarity = grid(layers, std::vector<double>(layers));
    const auto mean = [&](auto& sum, const auto& values) {
      for (std::size_t i = 0; i < sum.size(); ++i)
        sum[i] += values[static_cast<moue::index_t>(i)] / static_cast<float>(count);
    };
    moue::depth_statistics<float> statistics;
    for (moue::index_t i = 0; i < batches; ++i) {
      const auto windows =
          held_out_windows(text_->held_out, sizes.context, i * sizes.batch, sizes.batch, batches * sizes.batch);
      result.bits_per_byte += model.loss({windows, sizes.context}) * std::numbers::log2e / count;
      statistics = model.pass().statistics();
      mean(share, statistics.share);
      mean(expert_share, statistics.expert_share);
      const auto reuse = moue::reuse_matrix(model.pass());
      for (std::size_t a = 0; a < layers; ++a)
        for (std::size_t b = 0; b < layers; ++b) {
          const auto from = static_cast<moue::index_t>(a), to = static_cast<moue::index_t>(b);
          result.reuse[a][b] += reuse(from, to) / count;
          result.similarity[a][b] += mean_cosine(model.mixture_output(from), model.mixture_output(to)) / count;
        }
    }
    statistics.share = {share.data(), static_cast<moue::index_t>(share.size())};
    statistics.expert_share = {expert_share.data(), static_cast<moue::index_t>(expert_share.size())};
    result.load = moue::summarise_load(statistics);
    result.share = grid(layers, std::vector<double>(expert_share.size(), std::numeric_limits<double>::quiet_NaN()));
    for (std::size_t layer = 0; layer < layers; ++layer) {
      const auto l = static_cast<moue::index_t>(layer);
      const auto candidates = mixture.connections().candidates(l);
      for (std::size_t j = 0; j < candidates.size(); ++j)
        result.share[layer][static_cast<std::size_t>(candidates[j])] =
            static_cast<double>(share[static_cast<std::size_t>(mixture.connections().candidate_offset(l)) + j]);
    }
    return result;
  }

  /// Calls `f` with a span of every block of numbers that a resumed run needs beside configuration and step.
  template <class F>
  void visit_state(F&& f) {
    const auto values = [&](std::string_view, moue::parameters<float>& p) {
      for (moue::index_t i = 0; i < p.layout().tensors(); ++i)
        f(std::span(p[i].data, static_cast<std::size_t>(p.layout()[i].size())));
    };
    values("", model.dense);
    values("", model.experts);
    for (auto* optimiser : {&dense_optimiser_, &expert_optimiser_}) {
      optimiser->visit(values);
      f(optimiser->steps());
    }
  }
  void resume_at(moue::index_t step) { step_ = step; }

  /// All that training goes on from, apart from the mixture.
  run_state state() const { return {model.dense, model.experts, dense_optimiser_, expert_optimiser_, step_}; }
  /// Goes on from a run whose tensors this one has under the same names, and perhaps more (moue/convert/carry.hpp).
  /// Throws, with the run unchanged, if they do not fit.
  void adopt(run_state from) {
    moue::convert::carry(from.experts, model.experts);
    moue::convert::carry(from.dense, model.dense);
    moue::convert::carry(from.dense_optimiser, dense_optimiser_);
    moue::convert::carry(from.expert_optimiser, expert_optimiser_);
    step_ = from.step;
  }

  transformer<MixtureT, float> model;

 private:
  static double mean_cosine(const matrix<float>& a, const matrix<float>& b) {
    const auto norms = (a.rowwise().norm().array() * b.rowwise().norm().array()).max(1e-30f);
    return static_cast<double>(((a.array() * b.array()).rowwise().sum() / norms).mean());
  }

  run_config config_;
  const corpus* text_;
  moue::adamw<float> dense_optimiser_;
  moue::adamw<float> expert_optimiser_;
  moue::index_t step_ = 0;
};

}  // namespace language_model
