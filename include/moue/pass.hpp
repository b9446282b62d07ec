// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Pass: one batch's way through a range of layers, forward, balance and backward.

#include <cstdint>
#include <string>
#include <string_view>

#include "moue/mixture.hpp"
#include "moue/pass/checks.hpp"
#include "moue/pass/routed.hpp"
#include "moue/pass/state.hpp"

namespace moue::inline v0_1 {

/// A batch on its way through a range of layers, all of them by default: `begin`, then `forward` for the layers in
/// order, then (in training) `backward` for those that ran, in reverse. The host model does its own work in between.
///
/// Each half of a layer is a step of its own as well: `forward` is `route` and then `run`, `backward` is `run_backward`
/// and then `route_backward`; what goes from one to the other may be read, changed, and run elsewhere.
///
/// All memory comes from the caller's workspace; nothing is allocated after construction, but for lists of addresses on
/// the host at the first run on backends with memory of their own. `S` is the storage type of weights, inputs and
/// outputs, `C` the type of all arithmetic. Moves, and is not copied. Not thread-safe; any number of passes may run
/// over the same mixture and weights at once, each with a workspace of its own.
///
/// Members of its bases: what it counts and its balancing loss, `counts`, `statistics`, `balance`, `arm`
/// (moue/pass/balance.hpp), what it shows of layers and depth state, `assignments`, `state_in` and their like
/// (moue/pass/shown.hpp), and what it works out again when asked, `features`, `scores`, `probabilities`
/// (moue/pass/routed.hpp).
template <class MixtureT, Storage S>
class pass : public detail::routed_pass<MixtureT, S> {
  using backend_type = typename MixtureT::backend_type;
  static constexpr std::string_view where = "pass";

 public:
  using C = compute_t<S>;
  using also_type = routing_gradient<const C>;  ///< gradients that reach a layer beside that of its output

  /// Throws if `scratch` is smaller than `workspace_bytes` says or `weights` belong to another layout.
  pass(const MixtureT& model, const parameters<S>& weights, const pass_options& options, workspace& scratch)
      : base_type(model, options, scratch) {
    this->rebind(weights);
    state_.begin(0, {}, {});
  }
  /// Picks up what was put down, see `mixture::resume`.
  pass(const MixtureT& model, const parameters<S>& weights, const pass_options& options, workspace& scratch,
       const pass_position& position, const side_inputs& inputs)
      : base_type(model, options, scratch) {
    this->rebind(weights);
    checks().position(position, state_.memory.visits);
    checks().batch(position.tokens, inputs, detail::on_host<backend_type>);
    state_.at = position;
    state_.attach(position.tokens, inputs);
    for (std::size_t i = 0; i < position.entries.size(); ++i) {  // the plans are there: the bytes were copied
      state_.memory.visits[i].run.tokens = position.tokens;
      state_.memory.visits[i].run.entries = position.entries[i];
    }
  }

  pass(const MixtureT&&, const parameters<S>&, const pass_options&, workspace&) = delete;
  pass(const MixtureT&, const parameters<S>&&, const pass_options&, workspace&) = delete;
  pass(const MixtureT&&, const parameters<S>&, const pass_options&, workspace&, const pass_position&,
       const side_inputs&) = delete;
  pass(const MixtureT&, const parameters<S>&&, const pass_options&, workspace&, const pass_position&,
       const side_inputs&) = delete;

  /// The mixture that it runs.
  const MixtureT& model() const { return *state_.model; }
  /// Rows of the batch, padding included.
  index_t tokens() const { return state_.at.tokens; }
  /// The first layer of the range, and how many follow from there.
  index_t first_layer() const { return state_.memory.first; }
  /// Layers of the range.
  index_t layers() const { return state_.memory.end - state_.memory.first; }

  /// Where the pass stands. With a copy of the workspace's `bytes` it is all that `mixture::resume` needs.
  const pass_position& position() const { return state_.at; }

  /// Starts a batch of `tokens` rows. `valid[t] == 0` marks padding, which is routed nowhere: its output and input
  /// gradient are 0, and it counts in no load and no loss. The mask is copied; the other side inputs are only viewed.
  /// Layers that are run again take the `options` of the first time, but for `counts`, and so the same noise.
  void begin(index_t tokens, const side_inputs& inputs = {}, const batch_options& options = {}) {
    checks().batch(tokens, inputs, detail::on_host<backend_type>);
    state_.begin(tokens, inputs, options);
    state_.at.begun = true;
  }

  // --- forward ------------------------------------------------------------------------------------------------------

  /// y = the mixture of layer `layer`, with x and y [tokens, width]. y may be x. Layers must be visited in order.
  void forward(index_t layer, matrix_view<const S> x, matrix_view<S> y) { forward(layer, layer_input<S>{x, {}}, y); }

  /// The same with an input of its own for the router; needs `pass_options::router_input`.
  void forward(index_t layer, const layer_input<S>& x, matrix_view<S> y) {
    checks().forward("forward", layer, false);
    checks().input(x);
    checks().matrix("y", y);
    check_output(x.experts, y);
    if (state_.options.router_input) check_output(x.router, y);
    route_rows(layer, state_.options.router_input ? x.router : x.experts);
    run_rows(layer, x.experts, state_.assignments(layer), y, true);
  }

  /// The first half of `forward`: the assignments of the tokens x [tokens, width], a [tokens, columns] rectangle by
  /// decreasing preference, then the always-on experts with gate 1, and the next depth state. They may be copied and
  /// edited: entries dropped (expert −1), sent to other experts, given other gates, added or left out.
  routing<C> route(index_t layer, matrix_view<const S> x) {
    checks().forward("route", layer, false);
    checks().matrix("x", x);
    route_rows(layer, x);
    return this->assignments(layer);
  }
  /// `route` with a selection that is given, such as one that was recorded: `ids` [tokens, at most as many as the
  /// router selects], physical ids, −1 for none. Gates and gradients are the router's own. Ids that are no candidates
  /// of the layer, and ids that a token repeats, are left out.
  routing<C> replay(index_t layer, matrix_view<const S> x, matrix_view<const std::int32_t> ids) {
    checks().forward("replay", layer, false);
    checks().matrix("x", x);
    detail::require(
        ids.rows == tokens() && ids.cols <= state_.max_selected(layer) && (ids.data != nullptr || ids.empty()), where,
        [&] { return "the ids to replay have shape " + detail::shape_text(ids.rows, ids.cols) + ", or are null"; },
        "give [tokens, k] with k no more than the router selects");
    route_rows(layer, x, detail::ids_select{ids});
    return this->assignments(layer);
  }

  /// The second half: y = the outputs of the experts for x, combined as `r` says. Without `pass_options::router_input`,
  /// x is what was routed. `r` is copied into the pass, and backward goes over what ran. The gradients of its gates
  /// belong to its entries and go back to the router's columns in entry order; an entry without a column, or with one
  /// that the token did not select, sends nothing back. What the router selected counts as demand, what ran as load.
  void run(index_t layer, matrix_view<const S> x, const routing<C>& r, matrix_view<S> y) {
    checks().forward("run", layer, true);
    checks().matrix("x", x);
    checks().matrix("y", y);
    check_output(x, y);
    if (!state_.external.empty()) check_output(state_.external[state_.of_range(layer)].router, y);
    detail::require(
        state_.options.router_input || routed_.data == nullptr || x.data == routed_.data, where,
        [] { return std::string("the experts were given another input than the router"); },
        "set pass_options::router_input");
    if (state_.training() && !state_.options.router_input) checks().there(layer, state_.saved(layer).experts);
    const bool own = adopt(layer, r);
    run_rows(layer, x, state_.assignments(layer), y, own);
  }
  /// In place of `run`, when somebody else has run the experts as `r` says: counts, and remembers it for
  /// `route_backward`.
  void ran(index_t layer, const routing<C>& r) {
    checks().forward("ran", layer, true);
    const bool own = adopt(layer, r);
    model().backend().dispatch(state_.assignments(layer), state_.record(layer).run.plan);
    state_.at.elsewhere[state_.of_range(layer)] = 1;
    finish(layer, own);
  }

  // --- backward -----------------------------------------------------------------------------------------------------

  /// From dy, the gradient of layer `layer`'s output, assigns dx and adds to `into`. dx may be dy. Layers must come in
  /// reverse order, from the last that ran. Only in training.
  ///
  /// `also` holds gradients that reach the layer beside dy, such as those of a loss of the caller's that reads logits or
  /// gates. Gradients of probabilities need a balancing loss, those of outputs one that sees them (`show_outputs`).
  void backward(index_t layer, matrix_view<const S> dy, matrix_view<S> dx, gradients<C>& into,
                const also_type& also = {}) {
    backward(layer, dy, layer_gradient<S>{dx, {}}, into, also);
  }

  /// The same with the router's input gradient apart; needs `pass_options::router_input`.
  void backward(index_t layer, matrix_view<const S> dy, const layer_gradient<S>& dx, gradients<C>& into,
                const also_type& also = {}) {
    checks().backward("backward", layer, false);
    detail::check_gradients<backend_type>(model(), into);
    checks().matrix("dy", dy);
    checks().gradient(dx);
    detail::check_overlap(where, "dy", dy, "dx", dx.experts);
    if (state_.options.router_input) {
      detail::check_overlap(where, "dy", dy, "the router's dx", dx.router);
      if (detail::overlap(dx.experts, dx.router)) detail::refuse_overlap(where, "the experts' dx", "the router's dx");
    }
    checks().there(layer, state_.saved(layer).experts);
    checks().there(layer, state_.saved(layer).router);
    check_also(layer, also);
    const also_type more = with_losses(layer, also);
    const auto dgates = own_dgates(layer);
    run_back<C>(layer, dy, state_.rows(state_.memory.dx), dgates, into, more);
    const matrix_view<const C> dx_experts = state_.rows(state_.memory.dx);
    const matrix_view<const C> dx_router = router_steps().backward(layer, *weights_, dgates, into, more);
    const auto ops = state_.operations();
    if (state_.options.router_input) {
      ops.each_element(tokens(), model().width(), detail::convert_element<C, S>{dx_experts, dx.experts});
      ops.each_element(tokens(), model().width(), detail::convert_element<C, S>{dx_router, dx.router});
    } else {
      ops.each_element(tokens(), model().width(), detail::add_element<C, S>{dx_experts, dx_router, dx.experts});
    }
    finish_backward(layer);
  }

  /// Does not compile: gradients are in the compute type of the weights.
  template <class Other>
  void backward(index_t, matrix_view<const S>, matrix_view<S>, gradients<Other>&) {
    detail::refuse_gradients<Other>();
  }
  template <class Other>
  void backward(index_t, matrix_view<const S>, const layer_gradient<S>&, gradients<Other>&) {
    detail::refuse_gradients<Other>();
  }

  /// The first half of `backward`: from dy assigns dx, the gradient of the experts' input, and `dgates`, those of the
  /// gates of the entries that ran (0 where nothing ran). Adds the experts' gradients to `into`. dx may be dy. Of `also` it
  /// takes the gradients of outputs, and those of gates, which are part of `dgates`, as those of layer losses are.
  void run_backward(index_t layer, matrix_view<const S> dy, matrix_view<S> dx, vector_view<C> dgates,
                    gradients<C>& into, const also_type& also = {}) {
    checks().backward("run_backward", layer, false);
    detail::check_gradients<backend_type>(model(), into);
    checks().matrix("dy", dy);
    checks().matrix("dx", dx);
    detail::check_overlap(where, "dy", dy, "dx", dx);
    checks().dgates(dgates.data, dgates.size, state_.assignments(layer).entries());
    checks().there(layer, state_.saved(layer).experts);
    check_also(layer, also);
    const also_type more = with_losses(layer, {{}, {}, also.gates, also.outputs, {}});
    run_back<S>(layer, dy, dx, dgates, into, more);
    if (more.gates.size > 0) state_.operations().each_row(dgates.size, detail::add_entry<C>{more.gates, dgates});
    state_.at.backward = state_.at.halfway = true;
  }
  /// The second half: from `dgates`, the gradients of the gates of the entries that ran, assigns dx, the gradient of
  /// the router's input, and adds the router's gradients to `into`. It alone is called for layers that somebody else
  /// ran.
  void route_backward(index_t layer, vector_view<const C> dgates, matrix_view<S> dx, gradients<C>& into,
                      const also_type& also = {}) {
    checks().backward("route_backward", layer, true);
    detail::check_gradients<backend_type>(model(), into);
    checks().matrix("dx", dx);
    checks().dgates(dgates.data, dgates.size, state_.assignments(layer).entries());
    checks().there(layer, state_.saved(layer).router);
    check_also(layer, also);
    const bool elsewhere = state_.at.elsewhere[state_.of_range(layer)] != 0;
    const vector_view<const C> none, gates = elsewhere ? also.gates : none;
    also_type more = with_losses(layer, {also.logits, also.probabilities, gates, {}, also.extra});
    if (!elsewhere) more.gates = none;  // they are in dgates
    const matrix_view<const C> dx_router = router_steps().backward(layer, *weights_, dgates, into, more);
    state_.operations().each_element(tokens(), model().width(), detail::convert_element<C, S>{dx_router, dx});
    finish_backward(layer);
  }

  /// Does not compile, as above.
  template <class Other>
  void run_backward(index_t, matrix_view<const S>, matrix_view<S>, vector_view<C>, gradients<Other>&) {
    detail::refuse_gradients<Other>();
  }
  /// Does not compile, as above.
  template <class Other>
  void route_backward(index_t, vector_view<const C>, matrix_view<S>, gradients<Other>&) {
    detail::refuse_gradients<Other>();
  }

  /// Back to where forward ended, so that backward can run again over what was saved: for several losses, or for a
  /// check of gradients. Disarms the balancing loss. `dstate_out` keeps what it holds.
  void rewind() {
    checks().rewind();
    state_.at.next = state_.at.reached;
    state_.at.backward = state_.at.halfway = state_.at.armed = false;
  }
  /// Gives a pass with external inputs, which was picked up elsewhere, the input of a layer that ran.
  void rebind_input(index_t layer, const layer_input<S>& x) {
    checks().shown("inputs", layer);
    detail::require(
        !state_.external.empty(), where, [] { return std::string("this pass keeps inputs of its own"); },
        "set pass_options::external_inputs for training");
    checks().matrix("x", x.experts);
    if (state_.options.router_input) checks().matrix("the router's x", x.router);
    state_.external[state_.of_range(layer)] = {x.experts, state_.options.router_input ? x.router : x.experts};
  }

 private:
  using base_type = detail::routed_pass<MixtureT, S>;
  using base_type::check_also, base_type::checks, base_type::layer_losses, base_type::routed, base_type::route_rows,
      base_type::router_steps, base_type::routed_, base_type::sees_layers, base_type::shows, base_type::state_,
      base_type::weights_, base_type::with_losses;

  /// y may lie where x does, unless that is to stay for backward.
  void check_output(const matrix_view<const S>& x, const matrix_view<S>& y) const {
    detail::check_overlap(where, "x", x, "y", y);
    detail::require(
        state_.external.empty() || !detail::overlap(x, y), where,
        [] { return std::string("y was to be written where x lies, which backward reads"); },
        "give y memory of its own, or leave pass_options::external_inputs out");
  }

  bool adopt(index_t layer, const routing<C>& r) {
    detail::check_given(r, tokens(), state_.record(layer).experts.size);
    if constexpr (detail::on_host<backend_type>) detail::check_given_ids(r, model().experts());
    return state_.adopt(layer, r);
  }
  void run_rows(index_t layer, const matrix_view<const S>& x, const routing<C>& r, const matrix_view<S>& y, bool own) {
    model().experts_executor().template forward<S, S, S>(r, *weights_, state_.save_experts(layer, x), y,
                                                         state_.record(layer).run, state_.memory.experts);
    finish(layer, own);
  }
  void finish(index_t layer, bool own) {
    this->count(layer, own);
    if constexpr (sees_layers)
      if (state_.at.batch.counts) layer_losses(layer, routed(layer), false).count();
    state_.at.halfway = false;
    state_.at.next = state_.at.reached = layer + 1;
  }
  vector_view<C> own_dgates(index_t layer) const {
    return {state_.memory.dentries.data, state_.assignments(layer).entries()};
  }
  template <class DX>
  void run_back(index_t layer, const matrix_view<const S>& dy, const matrix_view<DX>& dx, const vector_view<C>& dgates,
                gradients<C>& into, [[maybe_unused]] const also_type& also) {
    const auto run = [&](const auto&... doutputs) {
      model().experts_executor().template backward<S, S, S, DX>(
          state_.assignments(layer), *weights_, state_.saved(layer).experts, dy, dx, dgates, into,
          state_.record(layer).run, state_.memory.experts, doutputs...);
    };
    if constexpr (shows)
      if (!also.outputs.empty()) return run(also.outputs);
    run();
  }

  void finish_backward(index_t layer) {
    state_.at.backward = true;
    state_.at.halfway = false;
    state_.at.next = layer;
  }
};

}  // namespace moue::inline v0_1
