// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Pass: one batch's trip through the depth, forward, balance and backward.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "moue/mixture.hpp"
#include "moue/pass/state.hpp"

namespace moue {

/// A layer's input, where the router reads something else than the experts. Both [tokens, width].
template <class S>
struct layer_input {
  matrix_view<const S> experts = {};
  matrix_view<const S> router = {};
};

/// The gradients of a `layer_input`.
template <class S>
struct layer_gradient {
  matrix_view<S> experts = {};
  matrix_view<S> router = {};
};

/// A batch on its way: `begin`, then `forward` for layers 0, 1, …, then (in training) `balance` once and `backward` for
/// the layers in reverse. The host model does its own work in between. All memory comes from the caller's workspace;
/// nothing is allocated after construction, but for lists of addresses on the host at the first run on backends with
/// memory of their own. `S` is the storage type of weights, inputs and outputs, `C` the type of all
/// arithmetic. Moves, and is not copied. Not thread-safe; any number of passes may run over the same mixture and weights at
/// once, each with a workspace of its own.
template <class MixtureT, Storage S>
class pass {
 public:
  using C = compute_t<S>;

  /// Throws if `scratch` is smaller than `workspace_bytes` says or `weights` belong to another layout.
  pass(const MixtureT& model, const parameters<S>& weights, const pass_options& options, workspace& scratch)
      : weights_(&weights), state_(model, options, scratch) {
    detail::require(
        weights.layout().same_shapes(*model.layout()), where,
        [] { return std::string("the weights belong to another layout"); }, "create them from this mixture's layout()");
    if constexpr (!detail::on_host<backend_type>)
      detail::check_external(weights.owned() && weights.layout().elements() > 0, where, "the weights",
                             "make_parameters");
    begin(0);
  }

  const MixtureT& model() const { return *state_.model; }
  index_t tokens() const { return state_.tokens; }
  /// Tokens of the batch that are not padding. Waits, where the backend works on its own.
  index_t valid_tokens() const {
    return detail::download<backend_type, index_t>(model().backend(), state_.memory.valid_tokens.data);
  }

  /// Starts a batch of `tokens` rows. `valid[t] == 0` marks padding, which is routed nowhere: its output and input
  /// gradient are 0, and it counts in no load and no loss. The mask is copied; the other side inputs are only viewed.
  void begin(index_t tokens, const side_inputs& inputs = {}) {
    detail::require(
        tokens >= 0 && tokens <= state_.options.tokens, where,
        [&] { return text(tokens) + " tokens were given, but it holds " + text(state_.options.tokens); },
        "start the pass for the largest batch");
    for (const auto& [name, size] : {std::pair<std::string_view, index_t>{"mask", inputs.valid.size},
                                     {"list of token ids", inputs.token_ids.size},
                                     {"list of labels", inputs.labels.size}})
      detail::require(
          size == 0 || size == tokens, where,
          [&, n = name, s = size] {
            return "the " + std::string(n) + " has " + text(s) + " entries for " + text(tokens) + " tokens";
          },
          "give one entry per token, or none at all");
    state_.begin(tokens, inputs);
    next_ = 0;
    unwinding_ = false;
  }

  /// y = the mixture of layer `layer`, with x and y [tokens, width]. y may be x. Layers must be visited in order.
  void forward(index_t layer, matrix_view<const S> x, matrix_view<S> y) { forward(layer, layer_input<S>{x, {}}, y); }

  /// The same with an input of its own for the router; needs `pass_options::router_input`.
  void forward(index_t layer, const layer_input<S>& x, matrix_view<S> y) {
    check_forward(layer, x, y);
    const auto input = state_.keep(layer, x.experts, state_.options.router_input ? x.router : x.experts);
    state_.route(layer, *weights_, input.router);
    model().experts_executor().template forward<S, S, S>(assignments(layer), *weights_, input.experts, y,
                                                         state_.record(layer).run, state_.memory.experts);
    state_.gather_statistics(layer);
    next_ = layer + 1;
  }

  /// The balancing loss of the batch, its own weight included; 0 for `no_balancing`. Call it after the last layer. In
  /// training it also arms the loss's gradient, multiplied by `scale`, for the backward runs that follow.
  C balance(C scale = C(1)) { return detail::download<backend_type, C>(model().backend(), queue_balance(scale).data); }

  /// The same without waiting: the loss will stand in the one element of the result, in the backend's memory.
  vector_view<const C> queue_balance(C scale = C(1)) {
    detail::require(
        next_ == model().layers() && !unwinding_, where,
        [&] { return "balance was called with " + text(next_) + " of " + text(model().layers()) + " layers run"; },
        "call it between the last forward and the first backward");
    const auto& memory = state_.memory;
    state_.balanced = state_.balances && state_.training();
    state_.operations().each_row(1, detail::balance_depth<C, loss_type>{
                                        model().loss(), statistics_of(0), memory.valid_tokens, memory.layer_token_loss,
                                        scale, state_.balanced, memory.loss, memory.dprobability, memory.token_scale});
    return memory.loss;
  }

  /// From dy, the gradient of layer `layer`'s output, assigns dx and adds to `into`. dx may be dy. Layers must come in
  /// reverse order, the last first. Only in training.
  void backward(index_t layer, matrix_view<const S> dy, matrix_view<S> dx, gradients<C>& into) {
    backward(layer, dy, layer_gradient<S>{dx, {}}, into);
  }

  /// The same with the router's input gradient apart; needs `pass_options::router_input`.
  void backward(index_t layer, matrix_view<const S> dy, const layer_gradient<S>& dx, gradients<C>& into) {
    check_backward(layer, dy, dx, into);
    const auto given = assignments(layer);
    auto& memory = state_.memory;
    const auto dx_experts = state_.rows(memory.dx);
    const vector_view<C> dgates{memory.dgates.data, given.entries()};
    model().experts_executor().template backward<S, S, S, C>(given, *weights_, state_.saved(layer).experts, dy,
                                                             dx_experts, dgates, into, state_.record(layer).run,
                                                             memory.experts);
    const auto dx_router = state_.route_backward(layer, *weights_, dgates, into);
    const auto ops = state_.operations();
    if (state_.options.router_input) {
      ops.each_element(tokens(), model().width(), detail::convert_element<C, S>{dx_experts, dx.experts});
      ops.each_element(tokens(), model().width(), detail::convert_element<C, S>{dx_router, dx.router});
    } else {
      ops.each_element(tokens(), model().width(), detail::add_element<C, S>{dx_experts, dx_router, dx.experts});
    }
    unwinding_ = true;
    next_ = layer;
  }

  /// Layer `layer`'s assignments: a [tokens, columns] rectangle by decreasing preference, then the always-on experts with
  /// gate 1. Valid until the next `begin`; in inference, until the next `forward`.
  routing<C> assignments(index_t layer) const {
    const auto& visit = state_.record(layer);
    const index_t entries = tokens() * (state_.max_selected(layer) + state_.always(layer));
    return {{visit.offsets.data, tokens() + 1}, {visit.experts.data, entries}, {visit.gates.data, entries}};
  }
  /// Layer `layer`'s logits [tokens, candidates]; valid as long as its `assignments`.
  matrix_view<const C> logits(index_t layer) const { return state_.logits(layer); }
  /// Selected columns [tokens, most], best first, −1 where fewer were taken; valid as long as the `assignments`.
  matrix_view<const std::int32_t> selected(index_t layer) const { return state_.selected(layer); }
  /// The depth state [tokens, state_width] on entry to `layer`; `layers()` asks for the last. In inference only that of
  /// the layer to come is there. Empty if no stage keeps state.
  matrix_view<const C> state(index_t layer) const { return state_.depth_state(layer); }
  /// Loads so far, for losses and for watching: shares are exact, mean probabilities are gathered only for a mixture
  /// with a balancing loss. Valid until the next `begin`.
  depth_statistics<C> statistics() const { return statistics_of(valid_tokens()); }

 private:
  using loss_type = typename MixtureT::loss_type;
  using backend_type = typename MixtureT::backend_type;
  static constexpr std::string_view where = "pass";

  depth_statistics<C> statistics_of(index_t valid) const {
    const auto& memory = state_.memory;
    return {model().layers(),         model().experts(),         valid,        memory.offsets,
            memory.candidates_of_all, memory.exposure,           memory.share, memory.probability,
            memory.expert_share,      memory.expert_probability, memory.open};
  }

  static std::string text(index_t n) { return std::to_string(n); }

  template <class T>
  void check_matrix(std::string_view name, const matrix_view<T>& m) const {
    detail::require(
        m.rows == state_.tokens && m.cols == model().width(), where,
        [&] {
          return std::string(name) + " has shape " + detail::shape_text(m.rows, m.cols) + ", not " +
                 detail::shape_text(state_.tokens, model().width());
        },
        "give [tokens, width], with the tokens of begin");
    detail::require(
        m.data != nullptr || m.empty(), where, [&] { return std::string(name) + " is null"; }, "point it at your data");
    detail::require(
        m.stride >= m.cols, where,
        [&] { return std::string(name) + " has rows " + text(m.stride) + " elements apart"; },
        "set its stride to at least its columns");
  }

  void check_forward(index_t layer, const layer_input<S>& x, const matrix_view<S>& y) const {
    detail::require(
        layer == next_ && layer < model().layers() && !unwinding_, where,
        [&] {
          const bool done = unwinding_ || next_ == model().layers();
          return "forward of layer " + text(layer) + " came when " + (done ? "none" : "layer " + text(next_)) +
                 " was due";
        },
        "visit layers in order, and call begin before the next batch");
    check_matrix("x", x.experts);
    check_matrix("y", y);
    if (state_.options.router_input)
      check_matrix("the router's x", x.router);
    else
      detail::require(
          x.router.data == nullptr, where, [] { return std::string("the router got an input of its own"); },
          "set pass_options::router_input");
  }

  void check_backward(index_t layer, const matrix_view<const S>& dy, const layer_gradient<S>& dx,
                      const gradients<C>& into) const {
    detail::require(
        state_.training(), where, [] { return std::string("backward was called in inference"); },
        "start the pass with mode::training");
    detail::require(
        next_ == layer + 1 && (unwinding_ || next_ == model().layers()), where,
        [&] { return "backward of layer " + text(layer) + " came when " + text(next_) + " layers were due"; },
        "run all layers forward, then visit them in reverse");
    detail::require(
        into.layout().same_shapes(*model().layout()), where,
        [] { return std::string("the gradients belong to another layout"); },
        "create them from this mixture's layout()");
    check_matrix("dy", dy);
    check_matrix("dx", dx.experts);
    if (state_.options.router_input)
      check_matrix("the router's dx", dx.router);
    else
      detail::require(
          dx.router.data == nullptr, where, [] { return std::string("the router got a gradient of its own"); },
          "set pass_options::router_input");
  }

  const parameters<S>* weights_;
  detail::pass_state<MixtureT, S> state_;
  index_t next_ = 0;        // the layer whose forward is due; while unwinding, the number whose backward is due
  bool unwinding_ = false;  // whether backward has begun
};

}  // namespace moue
