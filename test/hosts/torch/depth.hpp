// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/autograd.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <moue/adapt/torch.hpp>
#include <span>
#include <vector>

// What tests of a device run on two models, one of which runs on the host.

constexpr int64_t tokens = 11, width = 8;

using model_pointer = std::shared_ptr<const moue::any_model<double>>;

/// The same numbers for every model of one layout, on the CPU.
inline std::vector<at::Tensor> weights_of(const model_pointer& model) {
  const auto initial = model->initialize(3);
  torch::manual_seed(5);
  std::vector<at::Tensor> result;
  for (const auto& info : *model->layout()) {
    const auto& values = initial[info.name];
    const auto t = torch::tensor(at::ArrayRef<double>(values.data, static_cast<std::size_t>(info.size())));
    result.push_back(t.reshape({info.rows, info.cols}) + 0.3 * at::randn({info.rows, info.cols}, at::kDouble));
  }
  return result;
}

/// Output, balancing loss, state, and all gradients of two losses, of a depth in two stages, with padding. On the CPU,
/// computed on `device`.
inline std::vector<at::Tensor> run_depth(const model_pointer& model, at::Device device) {
  std::vector<at::Tensor> weights;
  for (const auto& t : weights_of(model)) weights.push_back(t.to(device).requires_grad_());
  torch::manual_seed(1);
  const auto x = at::randn({tokens, width}, at::kDouble).to(device).requires_grad_();
  const auto valid = at::arange(tokens).ne(4).to(device);
  moue::torch_trip<double> front(model, weights, {.tokens = tokens, .valid = valid, .count = 1});
  auto h = x + front.forward(0, at::tanh(x));
  moue::torch_trip<double> back(model, weights, {.tokens = tokens, .valid = valid, .state = front.state(), .first = 1});
  for (moue::index_t layer = 1; layer < 3; ++layer) h = h + back.forward(layer, at::tanh(h));
  const std::vector<moue::torch_ended<double>> ends{front.end(), back.end()};
  const auto balance = moue::torch_balance(std::span<const moue::torch_ended<double>>(ends));
  auto by = weights;
  by.push_back(x);
  std::vector<at::Tensor> result{h, balance, back.state()};
  const auto loss = h.square().sum() + 3 * balance + back.state().sum();
  for (auto& g : torch::autograd::grad({loss}, by, {}, true, false, true)) result.push_back(g);
  for (auto& g : torch::autograd::grad({h.sum()}, by, {}, false, false, true)) result.push_back(g);
  for (auto& t : result)
    if (t.defined()) t = t.detach().cpu();
  return result;
}

/// Output and gradients of experts alone, nobody going to the last. On the CPU, computed on `device`.
inline std::vector<at::Tensor> run_experts(const moue::parameter_layout& layout, const auto& experts,
                                           at::Device device) {
  torch::manual_seed(2);
  const auto x = at::randn({tokens, width}, at::kDouble).to(device).requires_grad_();
  const auto gates = at::rand({tokens, 2}, at::kDouble).to(device).requires_grad_();
  const auto ids = at::randint(-1, 4, {tokens, 2}, at::kLong).to(device);
  std::vector<at::Tensor> weights;
  for (const auto& info : layout)
    weights.push_back((0.3 * at::randn({info.rows, info.cols}, at::kDouble)).to(device).requires_grad_());
  auto by = weights;
  by.push_back(x);
  by.push_back(gates);
  const at::Tensor y = experts(x, ids, gates, at::TensorList(weights));
  auto result = torch::autograd::grad({y.square().sum()}, by, {}, false, false, true);
  result.push_back(y);
  for (auto& t : result)
    if (t.defined()) t = t.detach().cpu();
  return result;
}

/// The largest difference; infinite if not the same tensors are defined.
inline double apart(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  double most = a.size() == b.size() ? 0 : INFINITY;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i].defined() != b[i].defined()) return INFINITY;
    if (a[i].defined()) most = (std::max)(most, (a[i] - b[i]).abs().max().item<double>());
  }
  return most;
}
