// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Mixtures and passes behind virtual functions: the interface between the one translation unit that knows a
/// composition and hosts that need not. `erase` (moue/any/erase.hpp) makes them.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "moue/balance.hpp"
#include "moue/gradients.hpp"
#include "moue/parameter.hpp"
#include "moue/pass_options.hpp"
#include "moue/routing.hpp"
#include "moue/routing_counts.hpp"
#include "moue/topology/connectivity.hpp"
#include "moue/view.hpp"
#include "moue/workspace.hpp"

namespace moue::inline v0_1 {

/// The value of a balancing loss and of its parts, however many there are.
template <class C>
struct any_loss_value {
  C total = C(0);             ///< weights included
  std::vector<C> parts = {};  ///< in the order of the sum; empty without a loss

  /// The total, so that it can be used like a number.
  operator C() const { return total; }
};

/// A `pass` of a mixture whose type is hidden; its members mean what they do in `pass`. Its weights and workspace must
/// outlive it; a model that `erase` made lives as long as its passes do.
template <Storage S>
class any_pass {
 public:
  using C = compute_t<S>;

  virtual ~any_pass() = default;
  virtual index_t tokens() const = 0;
  virtual index_t first_layer() const = 0;
  virtual index_t layers() const = 0;
  virtual index_t valid_tokens() const = 0;
  virtual void rebind(const parameters<S>& weights) = 0;
  void rebind(const parameters<S>&&) = delete;
  virtual const pass_position& position() const = 0;
  virtual void begin(index_t tokens, const side_inputs& inputs = {}, const batch_options& options = {}) = 0;

  void forward(index_t layer, matrix_view<const S> x, matrix_view<S> y) { forward(layer, layer_input<S>{x, {}}, y); }
  virtual void forward(index_t layer, const layer_input<S>& x, matrix_view<S> y) = 0;
  virtual routing<C> route(index_t layer, matrix_view<const S> x) = 0;
  virtual routing<C> replay(index_t layer, matrix_view<const S> x, matrix_view<const std::int32_t> ids) = 0;
  virtual void run(index_t layer, matrix_view<const S> x, const routing<C>& r, matrix_view<S> y) = 0;
  virtual void ran(index_t layer, const routing<C>& r) = 0;

  virtual any_loss_value<C> balance() const = 0;
  virtual any_loss_value<C> balance(const routing_counts<C>& of_all) const = 0;
  virtual vector_view<const C> queue_balance() const = 0;
  virtual void arm(C scale = C(1)) = 0;
  virtual void arm(std::span<const C> scales) = 0;
  virtual void arm(C scale, const routing_counts<C>& of_all) = 0;
  virtual void arm(std::span<const C> scales, const routing_counts<C>& of_all) = 0;
  virtual routing_counts<C> counts() const = 0;
  virtual depth_statistics<C> statistics() const = 0;
  virtual depth_statistics<C> statistics(const routing_counts<C>& of_all) const = 0;

  using also_type = routing_gradient<const C>;  ///< gradients that reach a layer beside that of its output
  void backward(index_t layer, matrix_view<const S> dy, matrix_view<S> dx, gradients<C>& into,
                const also_type& also = {}) {
    backward(layer, dy, layer_gradient<S>{dx, {}}, into, also);
  }
  virtual void backward(index_t layer, matrix_view<const S> dy, const layer_gradient<S>& dx, gradients<C>& into,
                        const also_type& also = {}) = 0;
  virtual void run_backward(index_t layer, matrix_view<const S> dy, matrix_view<S> dx, vector_view<C> dgates,
                            gradients<C>& into, const also_type& also = {}) = 0;
  virtual void route_backward(index_t layer, vector_view<const C> dgates, matrix_view<S> dx, gradients<C>& into,
                              const also_type& also = {}) = 0;

  // Do not compile: gradients are in the compute type of the weights.

  template <class Other>
  void backward(index_t, matrix_view<const S>, matrix_view<S>, gradients<Other>&) {
    detail::refuse_gradients<Other>();
  }
  template <class Other>
  void backward(index_t, matrix_view<const S>, const layer_gradient<S>&, gradients<Other>&) {
    detail::refuse_gradients<Other>();
  }
  template <class Other>
  void run_backward(index_t, matrix_view<const S>, matrix_view<S>, vector_view<C>, gradients<Other>&) {
    detail::refuse_gradients<Other>();
  }
  template <class Other>
  void route_backward(index_t, vector_view<const C>, matrix_view<S>, gradients<Other>&) {
    detail::refuse_gradients<Other>();
  }

  virtual void rewind() = 0;
  virtual void rebind_input(index_t layer, const layer_input<S>& x) = 0;

  virtual matrix_view<C> state_in() = 0;
  virtual matrix_view<const C> state_out() const = 0;
  virtual matrix_view<C> dstate_out() = 0;
  virtual matrix_view<const C> dstate_in() const = 0;

  virtual routing<C> assignments(index_t layer) const = 0;
  virtual const dispatch_plan& plan(index_t layer) const = 0;
  /// Throws for mixtures that show none.
  virtual matrix_view<const C> outputs(index_t layer) const = 0;
  virtual matrix_view<const C> logits(index_t layer) const = 0;
  virtual void features(index_t layer, matrix_view<C> into) = 0;
  virtual void scores(index_t layer, matrix_view<C> into) = 0;
  virtual void probabilities(index_t layer, matrix_view<C> into) = 0;
  virtual matrix_view<const std::int32_t> selected(index_t layer) const = 0;
  virtual matrix_view<const C> state(index_t layer) const = 0;
};

/// A `mixture` whose type is hidden; its members mean what they do in `mixture`.
template <Storage S>
class any_model {
 public:
  using C = compute_t<S>;

  virtual ~any_model() = default;
  virtual index_t width() const = 0;
  virtual index_t layers() const = 0;
  virtual index_t experts() const = 0;
  virtual index_t state_width() const = 0;
  virtual const moue::connectivity& connections() const = 0;
  virtual std::shared_ptr<const parameter_layout> layout() const = 0;
  virtual std::size_t workspace_bytes(const pass_options& options) const = 0;
  /// Whether all that a pass works on lies in memory of the host: weights, gradients, inputs, workspace.
  virtual bool on_host() const = 0;

  parameters<S> initialize(std::uint64_t seed) const {
    parameters<S> values(layout());
    moue::initialize(values, seed);
    return values;
  }
  std::unique_ptr<any_pass<S>> start(const parameters<S>& weights, const pass_options& options,
                                     workspace& scratch) const {
    return make_pass(weights, options, scratch);
  }
  void start(const parameters<S>&& weights, const pass_options& options, workspace& scratch) const = delete;
  std::unique_ptr<any_pass<S>> resume(const parameters<S>& weights, const pass_options& options, workspace& scratch,
                                      const pass_position& position, const side_inputs& inputs = {}) const {
    return pick_up(weights, options, scratch, position, inputs);
  }
  void resume(const parameters<S>&& weights, const pass_options& options, workspace& scratch,
              const pass_position& position, const side_inputs& inputs = {}) const = delete;

 protected:
  /// What `start` calls: a new pass behind its virtual functions.
  virtual std::unique_ptr<any_pass<S>> make_pass(const parameters<S>& weights, const pass_options& options,
                                                 workspace& scratch) const = 0;
  /// What `resume` calls.
  virtual std::unique_ptr<any_pass<S>> pick_up(const parameters<S>& weights, const pass_options& options,
                                               workspace& scratch, const pass_position& position,
                                               const side_inputs& inputs) const = 0;
};

}  // namespace moue::inline v0_1
