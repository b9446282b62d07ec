// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// From a mixture to an `any_model`: included by the one translation unit that knows the composition.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "moue/any.hpp"
#include "moue/mixture.hpp"
#include "moue/pass.hpp"

namespace moue::inline v0_1 {
namespace detail {

template <class MixtureT, Storage S>
class erased_pass final : public any_pass<S> {
 public:
  using C = compute_t<S>;

  /// `model` is kept as long as the pass lives.
  erased_pass(pass<MixtureT, S> it, std::shared_ptr<const void> model) : model_(std::move(model)), it_(std::move(it)) {}

  index_t tokens() const override { return it_.tokens(); }
  index_t first_layer() const override { return it_.first_layer(); }
  index_t layers() const override { return it_.layers(); }
  index_t valid_tokens() const override { return it_.valid_tokens(); }
  void rebind(const parameters<S>& weights) override { it_.rebind(weights); }
  const pass_position& position() const override { return it_.position(); }
  void begin(index_t tokens, const side_inputs& inputs, const batch_options& options) override {
    it_.begin(tokens, inputs, options);
  }

  void forward(index_t layer, const layer_input<S>& x, matrix_view<S> y) override { it_.forward(layer, x, y); }
  routing<C> route(index_t layer, matrix_view<const S> x) override { return it_.route(layer, x); }
  routing<C> replay(index_t layer, matrix_view<const S> x, matrix_view<const std::int32_t> ids) override {
    return it_.replay(layer, x, ids);
  }
  void run(index_t layer, matrix_view<const S> x, const routing<C>& r, matrix_view<S> y) override {
    it_.run(layer, x, r, y);
  }
  void ran(index_t layer, const routing<C>& r) override { it_.ran(layer, r); }

  any_loss_value<C> balance() const override { return any_of(it_.balance()); }
  any_loss_value<C> balance(const routing_counts<C>& of_all) const override { return any_of(it_.balance(of_all)); }
  vector_view<const C> queue_balance() const override { return it_.queue_balance(); }
  void arm(C scale) override { it_.arm(scale); }
  void arm(std::span<const C> scales) override { it_.arm(scales); }
  void arm(C scale, const routing_counts<C>& of_all) override { it_.arm(scale, of_all); }
  void arm(std::span<const C> scales, const routing_counts<C>& of_all) override { it_.arm(scales, of_all); }
  routing_counts<C> counts() const override { return it_.counts(); }
  depth_statistics<C> statistics() const override { return it_.statistics(); }
  depth_statistics<C> statistics(const routing_counts<C>& of_all) const override { return it_.statistics(of_all); }

  void backward(index_t layer, matrix_view<const S> dy, const layer_gradient<S>& dx, gradients<C>& into,
                const routing_gradient<const C>& also) override {
    it_.backward(layer, dy, dx, into, also);
  }
  void run_backward(index_t layer, matrix_view<const S> dy, matrix_view<S> dx, vector_view<C> dgates,
                    gradients<C>& into, const routing_gradient<const C>& also) override {
    it_.run_backward(layer, dy, dx, dgates, into, also);
  }
  void route_backward(index_t layer, vector_view<const C> dgates, matrix_view<S> dx, gradients<C>& into,
                      const routing_gradient<const C>& also) override {
    it_.route_backward(layer, dgates, dx, into, also);
  }
  void rewind() override { it_.rewind(); }
  void rebind_input(index_t layer, const layer_input<S>& x) override { it_.rebind_input(layer, x); }

  matrix_view<C> state_in() override { return it_.state_in(); }
  matrix_view<const C> state_out() const override { return it_.state_out(); }
  matrix_view<C> dstate_out() override { return it_.dstate_out(); }
  matrix_view<const C> dstate_in() const override { return it_.dstate_in(); }

  routing<C> assignments(index_t layer) const override { return it_.assignments(layer); }
  const dispatch_plan& plan(index_t layer) const override { return it_.plan(layer); }
  matrix_view<const C> outputs(index_t layer) const override {
    if constexpr (detail::sees_outputs<typename MixtureT::loss_type>)
      return it_.outputs(layer);
    else
      throw error("pass", "the outputs of experts were asked of a mixture that does not show them",
                  "add moue::show_outputs to its losses");
  }
  matrix_view<const C> logits(index_t layer) const override { return it_.logits(layer); }
  void features(index_t layer, matrix_view<C> into) override { it_.features(layer, into); }
  void scores(index_t layer, matrix_view<C> into) override { it_.scores(layer, into); }
  void probabilities(index_t layer, matrix_view<C> into) override { it_.probabilities(layer, into); }
  matrix_view<const std::int32_t> selected(index_t layer) const override { return it_.selected(layer); }
  matrix_view<const C> state(index_t layer) const override { return it_.state(layer); }

 private:
  static any_loss_value<C> any_of(const auto& value) { return {value.total, {value.parts.begin(), value.parts.end()}}; }

  std::shared_ptr<const void> model_;
  pass<MixtureT, S> it_;
};

template <class MixtureT, Storage S>
class erased_model : public any_model<S>, public std::enable_shared_from_this<erased_model<MixtureT, S>> {
 public:
  explicit erased_model(MixtureT it) : it_(std::move(it)) {}

  index_t width() const override { return it_.width(); }
  index_t layers() const override { return it_.layers(); }
  index_t experts() const override { return it_.experts(); }
  index_t state_width() const override { return it_.state_width(); }
  const moue::connectivity& connections() const override { return it_.connections(); }
  std::shared_ptr<const parameter_layout> layout() const override { return it_.layout(); }
  std::size_t workspace_bytes(const pass_options& options) const override {
    return it_.template workspace_bytes<S>(options);
  }
  bool on_host() const override { return moue::detail::on_host<typename MixtureT::backend_type>; }

 protected:
  std::unique_ptr<any_pass<S>> make_pass(const parameters<S>& weights, const pass_options& options,
                                         workspace& scratch) const override {
    return std::make_unique<erased_pass<MixtureT, S>>(it_.start(weights, options, scratch),
                                                      this->weak_from_this().lock());
  }
  std::unique_ptr<any_pass<S>> pick_up(const parameters<S>& weights, const pass_options& options, workspace& scratch,
                                       const pass_position& position, const side_inputs& inputs) const override {
    return std::make_unique<erased_pass<MixtureT, S>>(it_.resume(weights, options, scratch, position, inputs),
                                                      this->weak_from_this().lock());
  }

  MixtureT it_;
};

}  // namespace detail

/// `mixture` as a model that stores weights, inputs and outputs as `S`.
template <Storage S, class MixtureT>
std::shared_ptr<const any_model<S>> erase(MixtureT mixture) {
  return std::make_shared<const detail::erased_model<MixtureT, S>>(std::move(mixture));
}

}  // namespace moue::inline v0_1
