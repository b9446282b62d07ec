// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Layers of a shape on a device, and the runs that are measured.

#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "fill.hpp"
#include "moue/policies.hpp"
#include "shapes.hpp"

namespace bench {

/// A depth of layers with weights, and gradients if they are to be trained.
template <class GpuT, class S, class TopologyT>
struct depth {
  using C = moue::compute_t<S>;
  using model_type = moue::mixture<moue::swiglu, TopologyT, decltype(moue::linear_router(1)), moue::switch_loss, GpuT>;
  using weights_type = decltype(std::declval<GpuT>().template make_parameters<S>(nullptr));
  using gradients_type = decltype(std::declval<GpuT>().template make_gradients<C>(nullptr));

  model_type model;
  weights_type weights;
  std::optional<gradients_type> gradients;

  depth(const GpuT& gpu, const shape& s, TopologyT topology, bool training)
      : model(moue::swiglu{.width = s.width, .hidden = s.hidden}, std::move(topology), moue::linear_router(s.k),
              moue::switch_loss{.weight = 0.01}, gpu),
        weights(gpu.template make_parameters<S>(model.layout())) {
    fill_weights(gpu.operations(moue::matrix_view<C>{}), weights_view(), 1);
    if (training) gradients.emplace(gpu.template make_gradients<C>(model.layout()));
  }
  moue::parameters<S>& weights_view() { return weights; }

  /// Bytes of weights and gradients.
  static double bytes(const shape& s, index_t experts, bool training) {
    return static_cast<double>(experts) * s.expert_weights() *
           static_cast<double>(sizeof(S) + (training ? sizeof(C) : 0));
  }
};

template <class GpuT, class S>
using single_layer = depth<GpuT, S, moue::layer_local>;

/// A batch through a single layer by a pass: router, experts, and the balancing loss in training.
template <class GpuT, class S>
class layer_pass {
  using C = moue::compute_t<S>;
  using layer_type = single_layer<GpuT, S>;

 public:
  layer_pass(const GpuT& gpu, layer_type& layer, index_t tokens, moue::mode how)
      : layer_(&layer),
        tokens_(tokens),
        scratch_(gpu.make_workspace(bytes(layer, tokens, how))),
        pass_(layer.model.start(layer.weights_view(), {.tokens = tokens, .how = how}, scratch_)) {}

  static std::size_t bytes(const layer_type& layer, index_t tokens, moue::mode how) {
    return layer.model.template workspace_bytes<S>({.tokens = tokens, .how = how});
  }

  void forward(moue::matrix_view<const S> x, moue::matrix_view<S> y) {
    pass_.begin(tokens_);
    pass_.forward(0, x, y);
  }
  void balance() { pass_.arm(); }
  void backward(moue::matrix_view<const S> dy, moue::matrix_view<S> dx) {
    pass_.backward(0, dy, dx, *layer_->gradients);
  }
  moue::routing<C> routing() const { return pass_.assignments(0); }

 private:
  layer_type* layer_;
  index_t tokens_;
  decltype(std::declval<GpuT>().make_workspace(0)) scratch_;
  moue::pass<typename layer_type::model_type, S> pass_;
};

/// A routing of one's own, so that experts can be run without a router.
template <class GpuT, class C>
class kept_routing {
 public:
  kept_routing(const GpuT& gpu, const moue::routing<C>& r)
      : offsets_(copy(gpu, r.offsets)), experts_(copy(gpu, r.expert)), gates_(copy(gpu, r.gate)) {}
  moue::routing<C> view() const { return {offsets_.view(), experts_.view(), gates_.view()}; }

 private:
  template <class T>
  static auto copy(const GpuT& gpu, moue::vector_view<const T> from) {
    auto to = gpu.template make_array<T>(from.size);
    gpu.runtime().copy(from.data, to.data(), static_cast<std::size_t>(from.size) * sizeof(T));
    return to;
  }
  template <class T>
  using array_type = decltype(std::declval<GpuT>().template make_array<T>(0));

  array_type<index_t> offsets_;
  array_type<std::int32_t> experts_;
  array_type<C> gates_;
};

/// A batch through the experts alone, with ids and gates given: dispatch, products, combination.
template <class GpuT, class S>
class experts_run {
  using C = moue::compute_t<S>;
  using layer_type = single_layer<GpuT, S>;

 public:
  experts_run(const GpuT& gpu, layer_type& layer, const moue::routing<C>& routing)
      : layer_(&layer),
        routing_(routing),
        scratch_(gpu.make_workspace(bytes(layer, routing.tokens(), routing.entries()))),
        memory_(layer.model.experts_executor().template carve<S>(scratch_, routing.tokens(), routing.entries())),
        dgate_(gpu.template make_array<C>(routing.entries())) {}

  static std::size_t bytes(const layer_type& layer, index_t tokens, index_t entries) {
    return layer.model.experts_executor().template workspace_bytes<S>(tokens, entries);
  }

  void forward(moue::matrix_view<const S> x, moue::matrix_view<S> y) {
    layer_->model.experts_executor().template forward<S, S, S>(routing_, layer_->weights_view(), x, y, memory_.record,
                                                               memory_.scratch);
  }
  void backward(moue::matrix_view<const S> x, moue::matrix_view<const S> dy, moue::matrix_view<S> dx) {
    layer_->model.experts_executor().template backward<S, S, S, S>(routing_, layer_->weights_view(), x, dy, dx,
                                                                   dgate_.view(), *layer_->gradients, memory_.record,
                                                                   memory_.scratch);
  }

 private:
  layer_type* layer_;
  moue::routing<C> routing_;
  decltype(std::declval<GpuT>().make_workspace(0)) scratch_;
  moue::expert_memory<C> memory_;
  decltype(std::declval<GpuT>().template make_array<C>(0)) dgate_;
};

}  // namespace bench
