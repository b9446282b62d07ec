// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Experts alone as a function of torch's: (x, ids, gates, weights) -> y, with a router from anywhere.

#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "moue/adapt/torch/rows.hpp"
#include "moue/executor.hpp"

namespace moue::inline v0_1 {
namespace detail {

/// An executor behind virtual functions, with a record and scratch that lie in the bytes that it is given.
template <Storage S>
struct torch_executor : torch::CustomClassHolder {
  using C = compute_t<S>;

  virtual index_t width() const = 0;
  virtual bool on_host() const = 0;
  virtual const std::shared_ptr<const parameter_layout>& layout() const = 0;
  virtual std::size_t workspace_bytes(index_t tokens, index_t entries) const = 0;
  virtual void forward(const routing<C>& r, const parameters<S>& weights, matrix_view<const S> x, matrix_view<S> y,
                       workspace& scratch) const = 0;
  virtual void backward(const routing<C>& r, const parameters<S>& weights, matrix_view<const S> x,
                        matrix_view<const S> dy, matrix_view<S> dx, vector_view<C> dgates, gradients<C>& into,
                        workspace& scratch) const = 0;
};

template <class ExpertT, class BackendT, Storage S>
struct torch_executor_of : torch_executor<S> {
  using C = compute_t<S>;
  executor<ExpertT, BackendT> it;

  explicit torch_executor_of(executor<ExpertT, BackendT> run) : it(std::move(run)) {}
  index_t width() const override { return it.width(); }
  bool on_host() const override { return moue::detail::on_host<BackendT>; }
  const std::shared_ptr<const parameter_layout>& layout() const override { return it.layout(); }
  std::size_t workspace_bytes(index_t tokens, index_t entries) const override {
    return it.template workspace_bytes<S>(tokens, entries);
  }
  void forward(const routing<C>& r, const parameters<S>& weights, matrix_view<const S> x, matrix_view<S> y,
               workspace& scratch) const override {
    auto memory = it.template carve<S>(scratch, r.tokens(), r.entries());
    it.forward(r, weights, x, y, memory);
  }
  void backward(const routing<C>& r, const parameters<S>& weights, matrix_view<const S> x, matrix_view<const S> dy,
                matrix_view<S> dx, vector_view<C> dgates, gradients<C>& into, workspace& scratch) const override {
    auto memory = it.template carve<S>(scratch, r.tokens(), r.entries());
    memory.record.tokens = r.tokens();  // the record lies there: forward had the same bytes
    memory.record.entries = r.entries();
    it.backward(r, weights, x, dy, dx, dgates, into, memory);
  }
};

/// The one node of a call. All that it needs again it saves as tensors, so that torch may do with it what it likes.
template <Storage S>
struct torch_experts_node : torch::autograd::Function<torch_experts_node<S>> {
  using C = compute_t<S>;
  using list = torch::autograd::variable_list;
  using context = torch::autograd::AutogradContext;
  using executor_ptr = c10::intrusive_ptr<torch_executor<S>>;

  /// Every token has as many entries as `ids` has columns.
  static routing<C> assignments(const at::Tensor& offsets, const at::Tensor& ids, const at::Tensor& gates) {
    return {{numbers_of<const index_t>(offsets), static_cast<index_t>(offsets.numel())},
            {numbers_of<const std::int32_t>(ids), static_cast<index_t>(ids.numel())},
            {numbers_of<const C>(gates), static_cast<index_t>(gates.numel())}};
  }
  static at::Tensor offsets_of(const at::Tensor& ids) {
    return at::arange(ids.size(0) + 1, at::TensorOptions().dtype(at::kLong).device(ids.device())) * ids.size(1);
  }

  static at::Tensor forward(context* ctx, const at::Tensor& x, const at::Tensor& ids, const at::Tensor& gates,
                            at::TensorList weights, const executor_ptr& run) {
    const index_t width = run->width();
    at::Tensor kept_x;
    const at::Device device = device_of(run->on_host(), weights);
    const auto rows = rows_of<S>("x", x, width, device, kept_x);
    check_place("ids", ids, device);
    require(
        ids.dim() == 2 && ids.size(0) == rows.rows && (ids.scalar_type() == at::kInt || ids.scalar_type() == at::kLong),
        in_torch,
        [&] { return "ids have shape " + c10::str(ids.sizes()) + " and dtype " + at::toString(ids.scalar_type()); },
        "give [tokens, k] physical ids in int32 or int64, -1 for none");
    check_tensor("gates", gates, torch_type<C>, device);
    require(
        gates.sizes() == ids.sizes(), in_torch,
        [&] { return "gates have shape " + c10::str(gates.sizes()) + " for ids of " + c10::str(ids.sizes()); },
        "give one gate per id");
    const at::Tensor experts = ids.to(at::kInt).contiguous(), factors = gates.detach().contiguous();
    const auto bytes = torch_bytes(run->workspace_bytes(rows.rows, static_cast<index_t>(experts.numel())), device);
    auto scratch = scratch_in(bytes);
    const auto y = empty_tensor(x.sizes(), torch_type<S>, device);
    const at::Tensor offsets = offsets_of(experts);
    run->forward(assignments(offsets, experts, factors), external_weights<S>(run->layout(), weights, device), rows,
                 all_rows<S>(y, width), scratch);
    list saved{x, gates, experts, bytes};
    saved.insert(saved.end(), weights.begin(), weights.end());
    ctx->save_for_backward(std::move(saved));
    ctx->saved_data["run"] = at::IValue::make_capsule(run);
    return y;
  }
  static list backward(context* ctx, list dy) {
    refuse_create_graph();
    const auto run = c10::static_intrusive_pointer_cast<torch_executor<S>>(ctx->saved_data["run"].toCapsule());
    const auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &experts = saved[2];
    const at::Tensor gates = saved[1].detach().contiguous(), offsets = offsets_of(experts);
    const at::TensorList weights = at::TensorList(saved).slice(4);
    const index_t width = run->width();
    const at::Device device = x.device();
    torch_sums<C> sums(run->layout(), weights, device);
    const auto dx = empty_tensor(x.sizes(), torch_type<S>, device),
               dgates = empty_tensor(gates.sizes(), torch_type<C>, device);
    auto scratch = scratch_in(saved[3]);
    at::Tensor kept_x, kept_dy;
    run->backward(assignments(offsets, experts, gates), external_weights<S>(run->layout(), weights, device),
                  rows_of<S>("x", x, width, device, kept_x),
                  rows_of<S>("the gradient of y", dy[0], width, device, kept_dy), all_rows<S>(dx, width),
                  {numbers_of<C>(dgates), static_cast<index_t>(dgates.numel())}, sums.into, scratch);
    list result{dx, {}, dgates};
    for (auto& sum : sums.results()) result.push_back(std::move(sum));
    result.emplace_back();
    return result;
  }
};

}  // namespace detail

/// Experts as a function of tensors. Nothing is remembered between calls and nothing is ordered. Made where the experts
/// are known; used anywhere.
template <Storage S>
class torch_experts {
 public:
  /// Over any executor, such as `moue::executor{moue::swiglu{...}, experts, moue::cpu{}}`.
  template <class ExpertT, class BackendT>
  explicit torch_experts(executor<ExpertT, BackendT> run)
      : run_(c10::make_intrusive<detail::torch_executor_of<ExpertT, BackendT, S>>(std::move(run))) {}

  /// Names and shapes of the weights.
  const parameter_layout& layout() const { return *run_->layout(); }

  /// y[t] = sum over j of gates[t, j] · expert ids[t, j] (x[t]), with x and y [..., width]. `ids` [tokens, k] in int32 or
  /// int64, −1 for none; `gates` [tokens, k] in the compute type; `weights` in the order of `layout`.
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& ids, const at::Tensor& gates,
                        at::TensorList weights) const {
    return detail::torch_experts_node<S>::apply(x, ids, gates, weights, run_);
  }

 private:
  c10::intrusive_ptr<detail::torch_executor<S>> run_;
};

}  // namespace moue::inline v0_1
