// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The router's half of a layer, forward and backward, over the state of a pass.

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>

#include "moue/gradients.hpp"
#include "moue/pass/memory.hpp"
#include "moue/pass/overflow.hpp"
#include "moue/pass/route_rows.hpp"
#include "moue/pass/rows.hpp"
#include "moue/pass/state.hpp"
#include "moue/router/rows.hpp"
#include "moue/router/stages.hpp"

namespace moue::inline v0_1::detail {

/// What the router does at a layer. Cheap to make.
template <class MixtureT, Storage S>
struct router_steps {
  using C = compute_t<S>;
  using router_type = typename MixtureT::router_type;
  using loss_type = typename MixtureT::loss_type;
  using state_type = pass_state<MixtureT, S>;
  using stages_type = router_stages<router_type>;

  state_type& state;

  /// From the router's input to the layer's assignments and the next depth state. `Given` says which columns are selected
  /// in place of the router, if it may be called.
  template <class Given>
  void forward(index_t layer, const parameters<S>& values, const matrix_view<const S>& x, const Given& given) {
    constexpr bool selects = std::is_same_v<Given, router_selects>;
    const index_t tokens = state.at.tokens;
    const auto ops = state.operations();
    const stages_type stages(state.model->router());
    const auto weights = state.template router_weights<matrix_view<const S>>(values, layer);
    const auto scratch = state.temporaries(layer);
    const auto saved = state.stage_saved(layer);
    auto frame = make_frame(layer, x);
    frame.saved = saved;
    make_features(frame, weights, scratch);
    stages.make_logits(ops, frame, weights, scratch);
    const auto of_rows = stages.row_part(weights);
    using parameters_type = std::remove_const_t<decltype(of_rows)>;
    const auto logits = state.logits(layer);
    const matrix_view<const C> beside = frame.extra;
    if constexpr (stages_type::makes_extra) {
      if (state.masks()) ops.each_row(tokens, close_broken_rows<C>{frame.extra, {state.memory.usable.data, tokens}});
      if constexpr (on_host<typename MixtureT::backend_type>)
        if (state.model->router().on_non_finite == non_finite::reject)
          ops.each_row(tokens, reject_broken_extra<C>{beside, state.valid(), layer});
    }
    if constexpr (stages_type::transforms)
      ops.each_row(tokens, transform_row<C, router_type, parameters_type>{
                               state.model->router(), of_rows, {frame.at, looked_at()}, frame.logits, beside, logits});

    const vector_view<const std::int32_t> always_ids{
        state.memory.always_of_all.data + state.model->connections().always_offset(layer), state.always(layer)};
    auto& visit = state.record(layer);
    const index_t width = state.max_selected(layer) + state.always(layer);
    const auto scores = state.shaped(state.memory.scores, state.candidates(layer));
    const prefer_row<C, router_type, parameters_type> prefer{
        state.model->router(), of_rows, {frame.at, looked_at()}, logits, beside, scores};
    const auto& select = state.model->router().select;
    const select_frame<C> seen{frame.at, looked_at(), frame.candidates, matrix_view<const C>(scores)};
    constexpr bool by_row = has_select<std::remove_cvref_t<decltype(select)>>;
    const auto reject = [&] {
      if constexpr (on_host<typename MixtureT::backend_type>)
        if (state.model->router().on_non_finite == non_finite::reject)
          ops.each_row(tokens, reject_broken_row<C>{logits, scores, state.valid(), layer});
    };
    if constexpr (!by_row) {
      ops.each_row(tokens, prefer);
      reject();
      if constexpr (selects) {
        if constexpr (stage_parameter_count < std::remove_cvref_t < decltype(select) >>> 0)
          select.table(ops, seen, of_rows.select, state.selected(layer), stages.select_scratch(scratch));
        else
          select.table(ops, seen, state.selected(layer), stages.select_scratch(scratch));
      }
    }
    if constexpr (!selects) given(ops, frame.candidates, state.usable(), state.selected(layer));
    const auto run = [&](const auto& row) {
      if constexpr (on_host<typename MixtureT::backend_type>)
        ops.each_row(tokens + 1, checked_route_row{row, layer});
      else
        ops.each_row(tokens + 1, row);
    };
    run(route_row<C, router_type, parameters_type, state_type::balances>{
        prefer, frame.candidates, always_ids, !selects,
        state.shaped(state.memory.probabilities, state.candidates(layer)), state.selected(layer), state.gates(layer),
        visit.offsets, state.rectangle(visit.experts, width), state.rectangle(visit.entry_gates, width),
        state.rectangle(visit.columns, width)});
    if constexpr (by_row) reject();
    if constexpr (has_drop<std::remove_cvref_t<decltype(select)>>)
      select.drop(ops, seen, matrix_view<const std::int32_t>(state.selected(layer)),
                  matrix_view<const C>(state.gates(layer)),
                  state.rectangle(visit.experts, width).column_block(0, state.max_selected(layer)),
                  stages.select_scratch(scratch));
    if constexpr (pass_memory<MixtureT, S>::bounds_entries) {
      const index_t room = visit.run.plan.row_token.size - tokens * state.always(layer);
      drop_overflow(ops,
                    ranked_entries{{visit.offsets.data, tokens + 1},
                                   {visit.experts.data, tokens * width},
                                   {state.memory.overflow.data, state.max_selected(layer) + 1},
                                   state.max_selected(layer)},
                    (std::min)(room, select.most_entries(tokens, state.candidates(layer))));
    }
    state.at.entries[state.place(layer)] = tokens * width;
    if (state.model->state_width() > 0) {
      frame.gates = spread(layer);
      stages.advance(ops, frame, state.finite_weights(weights, layer), scratch);
    }
  }

  /// The layer as losses see it, of the router's input `x`, once it has run. `again` says that features and probabilities
  /// are to be computed anew.
  layer_frame<C> seen(index_t layer, const parameters<S>& values, const matrix_view<const S>& x, bool again) {
    const auto weights = state.template router_weights<matrix_view<const S>>(values, layer);
    const auto scratch = state.temporaries(layer);
    const auto saved = state.stage_saved(layer);
    if (again && state.masks()) state.find_usable(layer, x);
    auto frame = make_frame(layer, x, again);
    frame.saved = saved;
    const index_t n = state.candidates(layer);
    const auto ops = state.operations();
    const auto probabilities = state.shaped(state.memory.probabilities, n);
    if (again) {
      make_features(frame, weights, scratch);
      ops.each_row(
          state.at.tokens,
          probability_row<C, router_type>{
              state.model->router(), {frame.at, state.batch}, state.logits(layer), frame.extra, probabilities});
    }
    const auto& visit = state.record(layer);
    const vector_view<std::int64_t> demand{state.memory.layer_demand.data, n}, load{state.memory.layer_load.data, n};
    ops.each_row(n,
                 count_of_layer{frame.candidates, visit.run.plan.expert_offsets, state.selected(layer), demand, load});
    if (state.masks())
      ops.each_row(state.at.tokens,
                   find_open_row<C>{state.valid(), state.logits(layer), {state.memory.usable.data, state.at.tokens}});
    const bool elsewhere = state.at.elsewhere[state.of_range(layer)] != 0;
    return {frame.at,
            looked_at(),
            frame.candidates,
            frame.features,
            state.logits(layer),
            frame.extra,
            probabilities,
            state.selected(layer),
            state.gates(layer),
            demand,
            load,
            state.assignments(layer),
            visit.run.plan,
            elsewhere ? matrix_view<const C>{} : state.outputs(layer)};
  }

  /// The features of a layer that was routed, from the router's input `x`; in inference those that it was routed by.
  matrix_view<const C> features(index_t layer, const parameters<S>& values, const matrix_view<const S>& x) {
    if (!state.training()) {
      if constexpr (stages_type::own_features) return state.rows(state.memory.features);
      return make_frame(layer, x, false).features;
    }
    const auto weights = state.template router_weights<matrix_view<const S>>(values, layer);
    const auto saved = state.stage_saved(layer);
    if (state.masks() && (!state.at.halfway || state.at.backward)) state.find_usable(layer, x);
    auto frame = make_frame(layer, x);
    frame.saved = saved;
    make_features(frame, weights, state.temporaries(layer));
    return frame.features;
  }
  /// Whether `features` can say them of a layer in inference whose input is the caller's again.
  bool keeps_features() const { return stages_type::own_features || copies_input(); }
  /// The scores that selection reads, from the logits that are there.
  void scores(index_t layer, const parameters<S>& values, const matrix_view<C>& into) {
    const auto weights = stages_type::row_part(state.template router_weights<matrix_view<const S>>(values, layer));
    state.operations().each_row(state.at.tokens, prefer_row<C, router_type, std::remove_const_t<decltype(weights)>>{
                                                     state.model->router(),
                                                     weights,
                                                     {state.visit_of(layer), state.batch},
                                                     state.logits(layer),
                                                     state.extra(layer),
                                                     into});
  }
  void probabilities(index_t layer, const matrix_view<C>& into) {
    state.operations().each_row(state.at.tokens, probability_row<C, router_type>{state.model->router(),
                                                                                 {state.visit_of(layer), state.batch},
                                                                                 state.logits(layer),
                                                                                 state.extra(layer),
                                                                                 into});
  }

  /// From the gradients of the gates of what ran to those of the router's weights and input; returns the latter. `also` is
  /// what reaches logits, probabilities and gates beside them.
  matrix_view<C> backward(index_t layer, const parameters<S>& values, const vector_view<const C>& dentries,
                          gradients<C>& into, const routing_gradient<const C>& also) {
    const index_t tokens = state.at.tokens;
    const auto ops = state.operations();
    const stages_type stages(state.model->router());
    const auto weights =
        state.finite_weights(state.template router_weights<matrix_view<const S>>(values, layer), layer);
    call_targets<C, stages_type::parameters> written(
        into, [&](index_t column) { return state.model->layout()->router(layer, column); });
    const auto& dweights = written.targets();
    const auto scratch = state.temporaries(layer);
    const index_t n = state.candidates(layer);
    if (state.masks()) state.find_usable(layer, state.saved(layer).router);
    const auto saved = state.stage_saved(layer);
    auto frame = make_frame(layer, state.saved(layer).router);
    frame.saved = saved;
    make_features(frame, weights, scratch);

    router_gradient<C> gradient;
    gradient.input = state.rows(state.memory.dinput);
    gradient.features = stages_type::own_features ? state.rows(state.memory.dfeatures) : gradient.input;
    gradient.logits = state.shaped(state.memory.dlogits, n);
    gradient.extra = state.shaped(state.memory.dextra, frame.extra.cols);
    const bool keeps_state = state.model->state_width() > 0;
    gradient.gates = state.shaped(state.memory.dense_dgates, keeps_state ? n : 0);
    gradient.state = state.depth_gradient(layer);
    gradient.next_state = state.depth_gradient(layer + 1);
    state.clear(gradient.input);
    if constexpr (stages_type::own_features) state.clear(gradient.features);
    if (keeps_state) {
      state.clear(gradient.state);
      state.clear(gradient.gates);
      state.clear(gradient.logits);
      state.clear(gradient.extra);
      frame.gates = spread(layer);
      stages.advance_backward(ops, frame, gradient, weights, scratch, dweights);
    }
    const vector_view<const C> dprobability =
        state.at.armed
            ? vector_view<const C>{state.memory.dprobability.data + state.model->connections().candidate_offset(layer),
                                   n}
            : vector_view<const C>{};
    const auto scale = state.at.armed ? state.memory.token_scale.row(layer) : vector_view<C>{};
    const auto ran = state.assignments(layer);
    const auto of_rows = stages.row_part(weights);
    using parameters_type = std::remove_const_t<decltype(of_rows)>;
    const auto dparameters = row_gradients(layer);
    constexpr std::size_t of_gate = stage_parameter_count<decltype(router_type::gate)>;
    const matrix_view<const C> beside = frame.extra;
    ops.each_row(tokens,
                 route_backward_row<C, router_type, loss_type, parameters_type>{
                     state.model->router(),
                     state.model->loss(),
                     of_rows,
                     {frame.at, state.batch},
                     state.logits(layer),
                     beside,
                     state.selected(layer),
                     state.gates(layer),
                     ran.offsets,
                     ran.column,
                     dentries,
                     also,
                     state.shaped(state.memory.dgates, state.max_selected(layer)),
                     gradient.gates,
                     dprobability,
                     scale,
                     state.shaped(state.memory.probabilities, n),
                     keeps_state && !stages_type::transforms,
                     state.shaped(stages_type::transforms ? state.memory.dtransformed : state.memory.dlogits, n),
                     gradient.extra,
                     sub_array<stages_type::row_gradients - of_gate, of_gate>(dparameters)});
    if constexpr (stages_type::transforms)
      ops.each_row(tokens, transform_backward_row<C, router_type, parameters_type>{
                               state.model->router(),
                               of_rows,
                               {frame.at, state.batch},
                               state.raw_logits(layer),
                               beside,
                               state.logits(layer),
                               state.shaped(state.memory.dtransformed, n),
                               keeps_state,
                               gradient.logits,
                               gradient.extra,
                               sub_array<0, stages_type::row_gradients - of_gate>(dparameters)});
    for (std::size_t i = 0; i != dparameters.size(); ++i)
      ops.column_sum(matrix_view<const C>(dparameters[i]), dweights[stages_type::place_of_row_gradient(i)]);
    stages.backward(ops, frame, gradient, weights, scratch, dweights);
    written.settle(ops);
    return gradient.input;
  }

 private:
  /// Whether the router reads a copy of its input.
  bool copies_input() const {
    using memory_type = pass_memory<MixtureT, S>;
    return memory_type::converts || (state.masks() && (!state.training() || state.options.external_inputs)) ||
           (memory_type::by_layer && !state.training());
  }
  /// `anew`: whether a copy of the input is to be made, which else is there.
  router_frame<C> make_frame(index_t layer, const matrix_view<const S>& x, bool anew = true) const {
    router_frame<C> frame;
    frame.at = state.visit_of(layer);
    frame.experts = state.model->experts();
    frame.candidates = state.candidate_ids(layer);
    frame.batch = state.batch;
    if (copies_input()) {
      const auto input = state.rows(state.memory.x);
      if (anew) state.operations().each_element(state.at.tokens, x.cols, save_element<S, C>{state.usable(), x, input});
      frame.input = input;
    } else {
      if constexpr (!pass_memory<MixtureT, S>::converts) frame.input = x;
    }
    if constexpr (stages_type::own_features)
      frame.features = state.rows(state.memory.features);
    else  // nobody writes features that are the input itself
      frame.features = {const_cast<C*>(frame.input.data), state.at.tokens, frame.input.cols, frame.input.stride};
    frame.logits = state.raw_logits(layer);
    frame.extra = state.extra(layer);
    frame.state = state.depth_state(layer);
    frame.next_state = state.depth_state(layer + 1);
    return frame;
  }

  /// The batch with the rows that the router of the layer at work looks at.
  side_inputs looked_at() const {
    side_inputs batch = state.batch;
    batch.valid = state.usable();
    return batch;
  }

  void make_features(const router_frame<C>& frame, const auto& weights, const auto& scratch) const {
    const auto ops = state.operations();
    stages_type(state.model->router()).make_features(ops, frame, weights, scratch);
    if constexpr (stages_type::own_features)
      if (state.masks())
        ops.each_row(state.at.tokens,
                     close_broken_rows<C>{frame.features, {state.memory.usable.data, state.at.tokens}});
  }

  /// Where the gradients of the parameters of transform and gate are made, token by token.
  auto row_gradients(index_t layer) const {
    std::array<matrix_view<C>, stages_type::row_gradients> result;
    for (std::size_t i = 0; i != result.size(); ++i) {
      const auto place = static_cast<index_t>(stages_type::place_of_row_gradient(i));
      const auto& layout = *state.model->layout();
      result[i] = {state.memory.dparameters[i].data, state.at.tokens, layout[layout.router(layer, place)].cols};
    }
    return result;
  }

  /// The gates of `layer` as a [tokens, candidates] matrix.
  matrix_view<C> spread(index_t layer) const {
    const auto dense = state.shaped(state.memory.dense_gates, state.candidates(layer));
    state.operations().each_row(state.at.tokens, spread_gates<C>{state.selected(layer), state.gates(layer), dense});
    return dense;
  }
};

}  // namespace moue::inline v0_1::detail
