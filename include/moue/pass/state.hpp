// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The state of a pass: its memory, views into it, and the routing of one layer, forward and backward.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "moue/executor/rows.hpp"
#include "moue/mixture.hpp"
#include "moue/pass/memory.hpp"
#include "moue/pass/route_rows.hpp"
#include "moue/pass/rows.hpp"
#include "moue/router/rows.hpp"
#include "moue/router/stages.hpp"

namespace moue::detail {

/// What a pass knows. It checks nothing; `pass` does.
template <class MixtureT, Storage S>
struct pass_state {
  using C = compute_t<S>;
  using router_type = typename MixtureT::router_type;
  using loss_type = typename MixtureT::loss_type;
  using stages_type = router_stages<router_type>;
  static constexpr bool balances = !std::is_same_v<loss_type, no_balancing>;

  struct inputs {
    matrix_view<const S> experts;
    matrix_view<const S> router;
  };

  const MixtureT* model;
  pass_options options;
  pass_memory<MixtureT, S> memory;
  side_inputs batch;
  index_t tokens = 0;
  bool balanced = false;  // whether a balancing loss is armed

  pass_state(const MixtureT& mixture, const pass_options& wanted, workspace& scratch)
      : model(&mixture), options(wanted), memory(carve(mixture, wanted, scratch)) {
    if constexpr (is_grouped<typename MixtureT::backend_type>)
      require(
          mixture.router().on_non_finite != non_finite::reject, "pass",
          [] { return std::string("non_finite::reject was asked of a backend that cannot throw"); },
          "choose propagate or mask, or check the logits on the host");
  }

  void begin(index_t count, const side_inputs& given) {
    batch = given;
    batch.valid = {memory.valid.data, count};
    tokens = count;
    balanced = false;
    const auto ops = operations();
    constexpr index_t block = pass_memory<MixtureT, S>::count_block;
    const index_t parts = (count + block - 1) / block;
    ops.each_row(count, copy_mask{given.valid, memory.valid});
    ops.each_row(parts, count_valid_block{batch.valid, block, memory.valid_parts});
    ops.each_row(1, add_parts{{memory.valid_parts.data, parts}, memory.valid_tokens});
    if (!memory.states.empty()) clear(rows(memory.states[0]));
    for (const auto& table :
         std::array{memory.exposure, memory.share, memory.probability, memory.expert_share, memory.expert_probability})
      clear({table.data, 1, table.size});
    ops.each_row(memory.open.size, clear_entry<std::uint8_t>{memory.open});
    clear(memory.layer_token_loss);
  }

  // --- shapes and views ---------------------------------------------------------------------------------------------

  bool training() const { return options.how == mode::training; }
  index_t candidates(index_t layer) const {
    return static_cast<index_t>(model->connections().candidates(layer).size());
  }
  index_t always(index_t layer) const { return static_cast<index_t>(model->connections().always(layer).size()); }
  index_t max_selected(index_t layer) const { return model->router().select.max_selected(candidates(layer)); }

  /// The first `tokens` rows of a buffer that may hold more.
  template <class T>
  matrix_view<T> rows(const matrix_view<T>& m) const {
    return m.rows == 0 ? m : m.row_block(0, tokens);
  }
  /// `tokens` rows of `cols`, at the start of a buffer that may hold more of both.
  template <class T>
  matrix_view<T> shaped(const matrix_view<T>& m, index_t cols) const {
    return {m.data, tokens, cols};
  }
  visit_record<S, C>& record(index_t layer) { return memory.visits[training() ? static_cast<std::size_t>(layer) : 0]; }
  const visit_record<S, C>& record(index_t layer) const {
    return memory.visits[training() ? static_cast<std::size_t>(layer) : 0];
  }
  matrix_view<C> logits(index_t layer) const { return shaped(record(layer).logits, candidates(layer)); }
  matrix_view<std::int32_t> selected(index_t layer) const {
    return shaped(record(layer).selected, max_selected(layer));
  }
  matrix_view<C> gates(index_t layer) const { return shaped(record(layer).gates, max_selected(layer) + always(layer)); }
  vector_view<const std::uint8_t> valid() const { return batch.valid; }
  vector_view<const std::int32_t> candidate_ids(index_t layer) const {
    return {memory.candidates_of_all.data + model->connections().candidate_offset(layer), candidates(layer)};
  }
  matrix_view<C> depth_state(index_t layer) const {
    if (memory.states.empty()) return {nullptr, tokens, 0};
    return rows(memory.states[static_cast<std::size_t>(training() ? layer : layer % 2)]);
  }
  inputs saved(index_t layer) const {
    const auto& visit = record(layer);
    return {rows(visit.x), rows(options.router_input ? visit.router_x : visit.x)};
  }

  auto operations() const { return model->backend().operations(memory.router_conversion); }
  void clear(const matrix_view<C>& m) const { operations().each_element(m.rows, m.cols, clear_element<C>{m}); }

  template <class View, class Values>
  auto router_weights(Values& values, index_t layer) const {
    std::array<View, stages_type::parameters> result;
    for (index_t column = 0; auto& tensor : result) tensor = values[model->layout()->router(layer, column++)];
    return result;
  }
  auto temporaries(index_t layer) const {
    std::array<matrix_view<C>, stages_type::temporaries> result;
    const auto shapes = model->stage_temporaries(layer, tokens);
    auto* at = memory.stage_temporaries.data;
    for (auto shape = shapes.begin(); auto& m : result) {
      m = {at, shape->rows, shape->cols};
      at += pass_memory<MixtureT, S>::elements(*shape);
      ++shape;
    }
    return result;
  }

  // --- forward ------------------------------------------------------------------------------------------------------

  /// In training, copies the inputs, since the caller may overwrite them before backward.
  inputs keep(index_t layer, matrix_view<const S> experts, matrix_view<const S> router) {
    if (!training()) return {experts, router};
    const auto& visit = record(layer);
    const auto copy = [&](const matrix_view<const S>& from, const matrix_view<S>& to) {
      operations().each_element(tokens, to.cols, keep_element<S>{valid(), from, to});
    };
    copy(experts, rows(visit.x));
    if (options.router_input) copy(router, rows(visit.router_x));
    return saved(layer);
  }

  router_frame<C> make_frame(index_t layer, const matrix_view<const S>& x) const {
    router_frame<C> frame;
    frame.candidates = candidate_ids(layer);
    frame.batch = batch;
    if constexpr (pass_memory<MixtureT, S>::converts) {
      operations().each_element(tokens, x.cols, convert_element<S, C>{x, rows(memory.x)});
      frame.input = rows(memory.x);
    } else {
      frame.input = x;
    }
    if constexpr (stages_type::own_features)
      frame.features = rows(memory.features);
    else  // nobody writes features that are the input itself
      frame.features = {const_cast<C*>(frame.input.data), tokens, frame.input.cols, frame.input.stride};
    frame.logits = logits(layer);
    frame.state = depth_state(layer);
    frame.next_state = depth_state(layer + 1);
    return frame;
  }

  /// The gates of `layer` as a [tokens, candidates] matrix.
  matrix_view<C> spread(index_t layer) const {
    const auto dense = shaped(memory.dense_gates, candidates(layer));
    operations().each_row(tokens, spread_gates<C>{selected(layer), gates(layer), dense});
    return dense;
  }

  /// From the router's input to the layer's assignments and the next depth state.
  void route(index_t layer, const parameters<S>& values, const matrix_view<const S>& x) {
    const auto ops = operations();
    const stages_type stages(model->router());
    const auto weights = router_weights<matrix_view<const S>>(values, layer);
    const auto scratch = temporaries(layer);
    auto frame = make_frame(layer, x);
    stages.make_features(ops, frame, weights, scratch);
    stages.make_logits(ops, frame, weights, scratch);
    if constexpr (!is_grouped<typename MixtureT::backend_type>)
      if (model->router().on_non_finite == non_finite::reject)
        ops.each_row(tokens, reject_broken_row<C>{frame.logits, valid(), layer});

    const auto preference = stages.preference_part(weights);
    const vector_view<const std::int32_t> always_ids{
        memory.always_of_all.data + model->connections().always_offset(layer), always(layer)};
    auto& visit = record(layer);
    const index_t width = max_selected(layer) + always(layer);
    const auto scores = shaped(memory.scores, candidates(layer));
    using parameters_type = std::remove_const_t<decltype(preference)>;
    const prefer_row<C, router_type, parameters_type> prefer{model->router(), preference, valid(), frame.logits,
                                                             scores};
    if constexpr (!has_select<std::remove_cvref_t<decltype(model->router().select)>>) {
      ops.each_row(tokens, prefer);
      model->router().select.table(ops, matrix_view<const C>(scores), valid(), frame.candidates, selected(layer));
    }
    ops.each_row(tokens + 1, route_row<C, router_type, parameters_type, balances>{
                                 prefer, frame.candidates, always_ids, shaped(memory.probabilities, candidates(layer)),
                                 selected(layer), shaped(visit.experts, width), gates(layer), visit.offsets});
    if (stages.state_width() > 0) {
      frame.gates = spread(layer);
      stages.advance(ops, frame, weights, scratch);
    }
  }

  /// Loads and mean probabilities of `layer`, after its experts have run.
  void gather_statistics(index_t layer) {
    const auto ops = operations();
    const auto& plan = record(layer).run.plan;
    const index_t first = model->connections().candidate_offset(layer);
    const index_t n = candidates(layer);
    const vector_view<C> share{memory.share.data + first, n};
    const vector_view<C> probability{memory.probability.data + first, n};
    if constexpr (balances) ops.column_sum(shaped(memory.probabilities, n), matrix_view<C>{probability.data, 1, n});
    ops.each_row(n, finish_candidate<C>{candidate_ids(layer),
                                        plan.expert_offsets,
                                        memory.valid_tokens,
                                        always(layer),
                                        valid(),
                                        logits(layer),
                                        share,
                                        probability,
                                        {memory.open.data + first, n},
                                        memory.exposure,
                                        memory.expert_share,
                                        memory.expert_probability});
    if constexpr (TokenLoss<loss_type>) {
      const auto values = rows(memory.token_losses);
      ops.each_row(tokens, token_loss_row<C, loss_type>{model->loss(), valid(), logits(layer),
                                                        shaped(memory.probabilities, n), values});
      const auto sum = memory.layer_token_loss.column_block(layer, 1);
      ops.column_sum(values, sum);
      ops.each_row(1, divide_by_valid<C>{memory.valid_tokens, sum});
    }
  }

  // --- backward -----------------------------------------------------------------------------------------------------

  /// From the gradients of the gates to those of the router's weights and input; returns the latter.
  matrix_view<C> route_backward(index_t layer, const parameters<S>& values, const vector_view<C>& dgates,
                                gradients<C>& into) {
    const auto ops = operations();
    const stages_type stages(model->router());
    const auto weights = router_weights<matrix_view<const S>>(values, layer);
    const auto dweights = router_weights<matrix_view<C>>(into, layer);
    const auto scratch = temporaries(layer);
    const index_t n = candidates(layer);
    auto frame = make_frame(layer, saved(layer).router);
    stages.make_features(ops, frame, weights, scratch);

    router_gradient<C> gradient;
    gradient.input = rows(memory.dinput);
    gradient.features = stages_type::own_features ? rows(memory.dfeatures) : gradient.input;
    gradient.logits = shaped(memory.dlogits, n);
    gradient.gates = shaped(memory.dense_dgates, stages.state_width() > 0 ? n : 0);
    gradient.state = shaped(memory.dstate, stages.state_width());
    gradient.next_state = shaped(memory.dnext_state, stages.state_width());
    clear(gradient.input);
    if constexpr (stages_type::own_features) clear(gradient.features);
    if (stages.state_width() > 0) {
      if (layer == model->layers() - 1) clear(shaped(memory.dnext_state, stages.state_width()));
      clear(gradient.state);
      clear(gradient.gates);
      frame.gates = spread(layer);
      stages.advance_backward(ops, frame, gradient, weights, scratch, dweights);
    }
    const vector_view<const C> dprobability =
        balanced ? vector_view<const C>{memory.dprobability.data + model->connections().candidate_offset(layer), n}
                 : vector_view<const C>{};
    const vector_view<const C> scale = balanced ? memory.token_scale : vector_view<C>{};
    ops.each_row(tokens, route_backward_row<C, router_type, loss_type>{
                             model->router(), model->loss(), valid(), logits(layer), selected(layer), gates(layer),
                             matrix_view<C>{dgates.data, tokens, max_selected(layer) + always(layer)}, gradient.gates,
                             dprobability, scale, shaped(memory.probabilities, n), shaped(memory.dlogits, n)});
    stages.backward(ops, frame, gradient, weights, scratch, dweights);
    std::swap(memory.dstate, memory.dnext_state);
    return gradient.input;
  }

 private:
  static pass_memory<MixtureT, S> carve(const MixtureT& mixture, const pass_options& options, workspace& scratch) {
    if constexpr (is_grouped<typename MixtureT::backend_type>)
      check_external(scratch.owned(), "pass", "workspaces", "make_workspace");
    arena cursor(scratch.bytes());
    return pass_memory<MixtureT, S>(mixture, options, cursor);
  }
};

}  // namespace moue::detail
