// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Mixtures and passes behind virtual functions, so that a test of many compositions is compiled once.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "moue/mixture.hpp"
#include "moue/pass.hpp"

namespace test {

template <moue::Storage S>
struct any_pass {
  using C = moue::compute_t<S>;
  virtual ~any_pass() = default;
  virtual void begin(moue::index_t tokens, const moue::side_inputs& inputs) = 0;
  virtual void forward(moue::index_t layer, const moue::layer_input<S>& x, moue::matrix_view<S> y) = 0;
  virtual C balance(C scale) = 0;
  virtual void backward(moue::index_t layer, moue::matrix_view<const S> dy, const moue::layer_gradient<S>& dx,
                        moue::gradients<C>& into) = 0;
  virtual moue::routing<C> assignments(moue::index_t layer) const = 0;
  virtual moue::matrix_view<const C> logits(moue::index_t layer) const = 0;
  virtual moue::matrix_view<const std::int32_t> selected(moue::index_t layer) const = 0;
  virtual moue::matrix_view<const C> state(moue::index_t layer) const = 0;
  virtual moue::depth_statistics<C> statistics() const = 0;
};

template <moue::Storage S>
struct any_model {
  virtual ~any_model() = default;
  virtual moue::index_t width() const = 0;
  virtual moue::index_t layers() const = 0;
  virtual moue::index_t experts() const = 0;
  virtual const moue::connectivity& connections() const = 0;
  virtual std::shared_ptr<const moue::parameter_layout> layout() const = 0;
  virtual std::size_t workspace_bytes(const moue::pass_options& options) const = 0;
  virtual std::unique_ptr<any_pass<S>> start(const moue::parameters<S>& weights, const moue::pass_options& options,
                                             moue::workspace& scratch) const = 0;
};

template <moue::Storage S>
using model_pointer = std::shared_ptr<const any_model<S>>;

template <class MixtureT, moue::Storage S>
struct erased_pass final : any_pass<S> {
  using C = moue::compute_t<S>;
  moue::pass<MixtureT, S> it;

  explicit erased_pass(moue::pass<MixtureT, S> p) : it(std::move(p)) {}
  void begin(moue::index_t tokens, const moue::side_inputs& inputs) override { it.begin(tokens, inputs); }
  void forward(moue::index_t layer, const moue::layer_input<S>& x, moue::matrix_view<S> y) override {
    it.forward(layer, x, y);
  }
  C balance(C scale) override { return it.balance(scale); }
  void backward(moue::index_t layer, moue::matrix_view<const S> dy, const moue::layer_gradient<S>& dx,
                moue::gradients<C>& into) override {
    it.backward(layer, dy, dx, into);
  }
  moue::routing<C> assignments(moue::index_t layer) const override { return it.assignments(layer); }
  moue::matrix_view<const C> logits(moue::index_t layer) const override { return it.logits(layer); }
  moue::matrix_view<const std::int32_t> selected(moue::index_t layer) const override { return it.selected(layer); }
  moue::matrix_view<const C> state(moue::index_t layer) const override { return it.state(layer); }
  moue::depth_statistics<C> statistics() const override { return it.statistics(); }
};

/// All of a model but its passes.
template <class MixtureT, moue::Storage S>
struct described_model : any_model<S> {
  MixtureT it;

  explicit described_model(MixtureT m) : it(std::move(m)) {}
  moue::index_t width() const override { return it.width(); }
  moue::index_t layers() const override { return it.layers(); }
  moue::index_t experts() const override { return it.experts(); }
  const moue::connectivity& connections() const override { return it.connections(); }
  std::shared_ptr<const moue::parameter_layout> layout() const override { return it.layout(); }
  std::size_t workspace_bytes(const moue::pass_options& options) const override {
    return it.template workspace_bytes<S>(options);
  }
};

template <class MixtureT, moue::Storage S>
struct erased_model final : described_model<MixtureT, S> {
  using described_model<MixtureT, S>::described_model;
  std::unique_ptr<any_pass<S>> start(const moue::parameters<S>& weights, const moue::pass_options& options,
                                     moue::workspace& scratch) const override {
    return std::make_unique<erased_pass<MixtureT, S>>(this->it.start(weights, options, scratch));
  }
};

template <class MixtureT, moue::Storage S>
struct carried_model;  // carried.hpp

template <moue::Storage S, class MixtureT>
model_pointer<S> erase(MixtureT model) {
  if constexpr (!moue::detail::on_host<typename MixtureT::backend_type>)
    return std::make_shared<carried_model<MixtureT, S>>(std::move(model));
  else
    return std::make_shared<erased_model<MixtureT, S>>(std::move(model));
}

}  // namespace test
