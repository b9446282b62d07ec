// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What ../train_layer.cpp does, with everything in the memory of a backend: three layers with residuals learn a map that
// no single linear layer can. Written for any backend that offers what `moue::cuda` does, so that its tests run it, too.

#include <cmath>
#include <cstddef>
#include <moue/policies.hpp>
#include <moue/train/adamw.hpp>
#include <moue/train/gradient_sweep.hpp>
#include <utility>
#include <vector>

/// The host model's own work is functors of a row or of an element; MOUE_HD makes them callable on the device.
template <class C>
struct add_to {
  moue::matrix_view<const C> y;
  moue::matrix_view<C> x;
  MOUE_HD void operator()(moue::index_t i, moue::index_t j) const { x(i, j) += y(i, j); }
};

template <class C>
struct copy_to {
  moue::matrix_view<const C> from;
  moue::matrix_view<C> to;
  MOUE_HD void operator()(moue::index_t i, moue::index_t j) const { to(i, j) = from(i, j); }
};

/// The mean squared error of a token, and its gradient.
template <class C>
struct token_error {
  moue::matrix_view<const C> x, target;
  moue::matrix_view<C> dx, loss;
  MOUE_HD void operator()(moue::index_t i) const {
    const C part = C(1) / static_cast<C>(x.rows * x.cols);
    C sum = C(0);
    for (moue::index_t j = 0; j < x.cols; ++j) {
      const C error = x(i, j) - target(i, j);
      sum += error * error * part;
      dx(i, j) = 2 * error * part;
    }
    loss(i, 0) = sum;
  }
};

template <class C>
struct copy_number {
  moue::vector_view<const C> from;
  moue::matrix_view<C> to;
  MOUE_HD void operator()(moue::index_t) const { to(0, 0) = from[0]; }
};

template <class GpuT, class C = float>
class regression {
 public:
  regression(const GpuT& gpu, moue::index_t tokens, moue::index_t width)
      : tokens_(tokens),
        width_(width),
        gpu_(gpu),
        model_(make_model(gpu, width)),
        weights_(gpu.make_parameters(model_.template initialize<C>(11))),
        gradients_(gpu.template make_gradients<C>(model_.layout())),
        scratch_(gpu.make_workspace(model_.template workspace_bytes<C>({.tokens = tokens}))),
        pass_(model_.start(parameters(), {.tokens = tokens}, scratch_)),
        optimiser_memory_(gpu.make_workspace(moue::adamw<C>::workspace_bytes(*model_.layout()))),
        optimiser_(gpu, parameters(), gradients(), optimiser_memory_, {.weight_decay = 0}),
        sweep_memory_(gpu.make_workspace(moue::gradient_sweep<C>::workspace_bytes(*model_.layout()))),
        sweep_(gpu, gradients(), sweep_memory_),
        numbers_(gpu.template make_array<C>(6 * tokens * width)),
        losses_(gpu.template make_array<C>(tokens + 1)) {
    std::vector<C> values;
    for (const bool target : {false, true})
      for (moue::index_t i = 0; i < tokens * width; ++i) {
        const C value = std::sin(static_cast<C>(i * i % 211));
        values.push_back(target ? std::abs(value) : value);
      }
    numbers_.upload(values);
  }

  /// Queues a whole training step. It waits for nothing and allocates nothing.
  void step() {
    const auto ops = gpu_.operations(moue::matrix_view<C>{});
    const auto input = rows(0), target = rows(1), x = rows(2), y = rows(3), dx = rows(4), dy = rows(5);
    const moue::matrix_view<C> token_losses{losses_.data() + 1, tokens_, 1}, loss{losses_.data(), 1, 1};

    pass_.begin(tokens_);
    ops.each_element(tokens_, width_, copy_to<C>{input, x});
    for (moue::index_t layer = 0; layer < model_.layers(); ++layer) {
      pass_.forward(layer, x, y);
      ops.each_element(tokens_, width_, add_to<C>{y, x});
    }
    ops.each_row(1, copy_number<C>{pass_.queue_balance(), loss});
    pass_.arm();
    ops.each_row(tokens_, token_error<C>{x, target, dx, token_losses});
    ops.column_sum(token_losses, loss);  // adds
    for (moue::index_t layer = model_.layers(); layer-- > 0;) {
      pass_.backward(layer, dx, dy, gradients_);
      ops.each_element(tokens_, width_, add_to<C>{dy, dx});
    }
    sweep_.clip(ops, 1.0);
    optimiser_.step(ops, weights_, gradients_, 0.01);
    sweep_.zero(ops);
  }

  /// The loss of the last step. Waits for it.
  C loss() const {
    std::vector<C> value(1);
    losses_.download(value);
    return value[0];
  }
  /// All weights, on the host. Waits.
  moue::parameters<C> weights() const {
    moue::parameters<C> host(model_.layout());
    weights_.copy_to(host);
    return host;
  }

 private:
  static auto make_model(const GpuT& gpu, moue::index_t width) {
    return moue::mixture{moue::mlp<moue::silu>{.width = width, .hidden = 2 * width},
                         moue::staggered_rotation{.depth = 3, .pool = 6, .window = 4, .stride = 2},
                         moue::universal_router(2, {.rank = 4}), moue::universal_balance{.weight = 0.01}, gpu};
  }
  using model_type = decltype(make_model(std::declval<GpuT>(), 0));
  using weights_type = decltype(std::declval<GpuT>().make_parameters(std::declval<moue::parameters<C>>()));
  using gradients_type = decltype(std::declval<GpuT>().template make_gradients<C>(nullptr));
  using workspace_type = decltype(std::declval<GpuT>().make_workspace(0));

  moue::parameters<C>& parameters() { return weights_; }
  moue::gradients<C>& gradients() { return gradients_; }
  moue::matrix_view<C> rows(moue::index_t which) const {
    return {numbers_.data() + which * tokens_ * width_, tokens_, width_};
  }

  moue::index_t tokens_, width_;
  GpuT gpu_;
  model_type model_;
  weights_type weights_;
  gradients_type gradients_;
  workspace_type scratch_;
  moue::pass<model_type, C> pass_;
  workspace_type optimiser_memory_;
  moue::adamw<C> optimiser_;
  workspace_type sweep_memory_;
  moue::gradient_sweep<C> sweep_;
  decltype(std::declval<GpuT>().template make_array<C>(0)) numbers_, losses_;
};
