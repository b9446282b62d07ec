// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Mixtures in libtorch: a module that holds the weights, and trips through its layers that autograd follows. Knows no
/// composition: one translation unit of the host does, and gives an `any_model` (moue/any/erase.hpp).

#include <ATen/core/grad_mode.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "moue/adapt/torch/nodes.hpp"
#include "moue/adapt/torch/state.hpp"
#include "moue/any.hpp"

namespace moue::inline v0_1 {

template <Storage S>
class torch_trip;

/// What remains of a trip whose layers have all run: enough for its balancing loss. It keeps no workspace alive.
template <Storage S>
class torch_ended {
 public:
  /// What routing did.
  const routing_counts<compute_t<S>>& counts() const { return counts_; }

 private:
  friend class torch_trip<S>;
  template <Storage T>
  friend at::Tensor torch_balance(std::span<const torch_ended<T>> trips);

  detail::torch_trip_end<S> end_;
  routing_counts<compute_t<S>> counts_;
};

/// The balancing loss of a depth that several trips share, such as the stages of a pipeline or checkpointed blocks: of
/// the counts of all of them, with gradients for each. A scalar.
template <Storage S>
at::Tensor torch_balance(std::span<const torch_ended<S>> trips) {
  using C = compute_t<S>;
  detail::require(
      !trips.empty(), detail::in_torch, [] { return std::string("the balancing loss of no trip was asked for"); },
      "give one at least");
  std::vector<at::Tensor> links;
  std::vector<detail::torch_trip_end<S>> ends;
  routing_counts<C> sum;
  for (const auto& trip : trips) {
    links.push_back(trip.end_.link);
    ends.push_back(trip.end_);
    sum += trip.counts_;
  }
  auto counts = std::make_shared<const routing_counts<C>>(std::move(sum));
  const auto& state = *ends.front().state;
  // A pass over nothing: the loss reads the counts alone.
  const pass_options none{.tokens = 0, .how = mode::inference};
  const auto bytes = detail::torch_bytes(state.model->workspace_bytes(none), state.device);
  auto scratch = detail::scratch_in(bytes);
  const auto weights = detail::external_weights<S>(state.model->layout(), state.weights, state.device);
  const C value = state.model->start(weights, none, scratch)->balance(*counts).total;
  return detail::torch_nodes<S>::balance::apply(at::TensorList(links), ends, counts, value);
}

/// One batch's way through a range of layers. Any number of trips may be alive, and go backward in any order. One thread
/// at a time.
template <Storage S>
class torch_trip {
  using C = compute_t<S>;
  using nodes = detail::torch_nodes<S>;

 public:
  /// Over `weights`, in the order of the model's layout, as they lie in memory now. With gradients where
  /// `at::GradMode` is enabled, else in inference, which keeps the activations of one layer alone.
  torch_trip(std::shared_ptr<const any_model<S>> model, at::TensorList weights, const torch_batch& batch)
      : state_(c10::make_intrusive<detail::torch_trip_state<S>>(std::move(model), weights, batch)) {
    const auto& options = state_->options;
    const auto& of = *state_->model;
    const at::Device device = state_->device;
    auto external = detail::external_weights<S>(of.layout(), weights, device);
    run_ = std::make_unique<detail::torch_run<S>>(detail::torch_bytes(of.workspace_bytes(options), device),
                                                  std::move(external));
    run_->pass = of.start(run_->weights, options, run_->scratch);
    side_inputs sides = state_->sides();
    at::Tensor valid;
    if (batch.valid.defined()) {
      detail::check_place("valid", batch.valid, device);
      valid = batch.valid.to(at::kBool).reshape({batch.valid.numel()}).contiguous();
      sides.valid = {detail::numbers_of<const std::uint8_t>(valid), static_cast<index_t>(valid.numel())};
    }
    run_->pass->begin(options.tokens, sides, batch.how);
    std::vector<at::Tensor> inputs = state_->weights;
    if (batch.state.defined()) {
      state_->copy_state(batch.state, run_->pass->state_in());
      inputs.push_back(batch.state);
    }
    state_->stood = run_->pass->position();
    link_ = state_->training() ? nodes::weights::apply(at::TensorList(inputs), state_) : nodes::link(*state_);
  }

  /// y = the mixture of layer `layer`, in the shape of x [..., width]. Under autocast, x is converted to the type of the
  /// mixture; anywhere else another type is refused.
  at::Tensor forward(index_t layer, const at::Tensor& x) {
    const auto& options = state_->options;
    detail::require(
        at::GradMode::is_enabled() == state_->training() || (!state_->training() && !x.requires_grad()),
        detail::in_torch,
        [&] {
          return std::string("the trip was started ") + (state_->training() ? "with gradients, and a layer ran without"
                                                                            : "without gradients, and x needs one");
        },
        "start it and run its layers in the same mode");
    const index_t due = run_->pass->position().next, end = options.first + run_->pass->layers();
    detail::require(
        layer == due && due < end, detail::in_torch,
        [&] {
          return "layer " + std::to_string(layer) + " was to run when " +
                 (due == end ? std::string("none") : "layer " + std::to_string(due)) + " was due";
        },
        "run the layers in order; what torch runs twice, such as a checkpointed block, starts a trip of its own");
    const at::Tensor input = cast(x);
    if (!state_->training()) return nodes::run_forward(*state_, *run_, layer, input);
    auto result = nodes::layer::apply(input, link_, state_, *run_, static_cast<int64_t>(layer));
    link_ = std::move(result[1]);
    return std::move(result[0]);
  }

  /// The depth state behind the last layer that ran, [tokens, state_width], for a trip that goes on from there.
  at::Tensor state() const {
    const auto numbers = detail::tensor_over(run_->pass->state_out(), state_->device).clone();
    return nodes::state_out::apply(link_, state_, numbers);
  }

  /// The trip without its workspace, after its last layer.
  torch_ended<S> end() const {
    torch_ended<S> result;
    result.end_ = {state_, link_, run_->pass->position().reached};
    result.counts_ = run_->pass->counts();
    return result;
  }

  /// The balancing loss of the layers that ran, a scalar. Call it after the last of them. Without it in the loss, no
  /// balancing gradient flows.
  at::Tensor balance() const {
    const auto ended = end();
    return torch_balance(std::span<const torch_ended<S>>(&ended, 1));
  }

  /// What the trip runs: assignments, logits and counts of its layers.
  const any_pass<S>& pass() const { return *run_->pass; }

 private:
  /// As torch does with what computes in one type alone.
  at::Tensor cast(const at::Tensor& x) const {
    const auto key = state_->model->on_host() ? c10::DispatchKey::AutocastCPU : c10::DispatchKey::AutocastCUDA;
    const bool autocast = !c10::impl::tls_is_dispatch_key_excluded(key);
    return autocast && x.is_floating_point() ? x.to(detail::torch_type<S>) : x;
  }

  c10::intrusive_ptr<detail::torch_trip_state<S>> state_;
  std::unique_ptr<detail::torch_run<S>> run_;
  at::Tensor link_;
};

/// A mixture as a module of torch's. Its parameters, and buffers for what is not trained, are called as in the library,
/// with `_` in place of `.`.
template <Storage S>
class torch_mixture : public torch::nn::Module {
 public:
  /// With the initial weights of the policies: on the CPU, or, where the model's backend has memory of its own, on the
  /// CUDA device that is current.
  explicit torch_mixture(std::shared_ptr<const any_model<S>> model, std::uint64_t seed = 0)
      : torch::nn::Module("moue"), model_(std::move(model)) {
    const at::Device device(model_->on_host() ? at::kCPU : at::kCUDA);
    for (const auto& info : *model_->layout()) {
      std::string name = info.name;
      std::replace(name.begin(), name.end(), '.', '_');
      const auto t = detail::empty_tensor({info.rows, info.cols}, detail::torch_type<S>, device);
      tensors_.push_back(info.trained ? register_parameter(name, t) : register_buffer(name, t));
    }
    if (model_->on_host()) {
      auto values = weights();
      initialize(values, seed);
    } else {
      const auto values = model_->initialize(seed);
      torch::NoGradGuard raw;
      for (index_t i = 0; i < model_->layout()->tensors(); ++i)
        tensors_[static_cast<std::size_t>(i)].copy_(detail::tensor_over(values[i], at::kCPU));
    }
  }

  /// What it computes.
  const any_model<S>& model() const { return *model_; }
  /// The memory of the module's tensors as the library's weights, as long as they stay where they are: to read them, or
  /// to load into them.
  moue::parameters<S> weights() const {
    return detail::external_weights<S>(model_->layout(), tensors_, detail::device_of(model_->on_host(), tensors_));
  }

  /// A batch's way through the layers.
  torch_trip<S> start(const torch_batch& batch) const { return torch_trip<S>(model_, tensors_, batch); }

 private:
  std::shared_ptr<const any_model<S>> model_;
  std::vector<at::Tensor> tensors_;
};

}  // namespace moue::inline v0_1
