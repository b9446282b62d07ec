// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The state of a pass: its memory, views into it, and the routing of one layer, forward and backward.

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "moue/executor/rows.hpp"
#include "moue/gradients.hpp"
#include "moue/mixture.hpp"
#include "moue/pass/memory.hpp"
#include "moue/pass/route_rows.hpp"
#include "moue/pass/rows.hpp"
#include "moue/pass/statistics.hpp"
#include "moue/router/rows.hpp"
#include "moue/router/stages.hpp"

namespace moue::inline v0_1::detail {

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
  pass_position at;
  std::vector<inputs> external;  ///< [layers of the range] in the caller's memory

  pass_state(const MixtureT& mixture, const pass_options& wanted, workspace& scratch)
      : model(&mixture), options(wanted), memory(carve(mixture, wanted, scratch)) {
    if constexpr (!on_host<typename MixtureT::backend_type>)
      require(
          mixture.router().on_non_finite != non_finite::reject, "pass",
          [] { return std::string("non_finite::reject was asked of a backend that cannot throw"); },
          "choose propagate or mask, or check the logits on the host");
    at.elsewhere.resize(static_cast<std::size_t>(memory.end - memory.first), 0);
    at.entries.resize(memory.visits.size(), 0);
    if (training() && options.external_inputs) external.resize(at.elsewhere.size());
  }

  void begin(index_t count, const side_inputs& given, const batch_options& wanted) {
    attach(count, given);
    at.next = at.reached = memory.first;
    at.backward = at.halfway = at.armed = false;
    at.counts = wanted.counts;
    std::fill(at.elsewhere.begin(), at.elsewhere.end(), std::uint8_t{0});
    const auto ops = operations();
    constexpr index_t block = pass_memory<MixtureT, S>::count_block;
    const index_t parts = (count + block - 1) / block;
    ops.each_row(count, copy_mask{given.valid, memory.valid});
    ops.each_row(parts, count_valid_block{batch.valid, block, memory.valid_parts});
    ops.each_row(1, add_parts{{memory.valid_parts.data, parts}, memory.valid_tokens});
    if (!memory.states.empty()) clear(rows(depth_state(memory.first)));
    if (training() && memory.dstate_out.cols > 0) {
      clear(rows(memory.dstate_out));
      clear(rows(memory.dstates[static_cast<std::size_t>(memory.first % 2)]));
    }
    ops.each_row((std::max)(memory.counts.demand.size, memory.counts.tokens.size), clear_counts<C>{memory.counts});
  }
  /// Sets the views of a batch whose numbers are already in the workspace.
  void attach(index_t count, const side_inputs& given) {
    at.tokens = count;
    batch = given;
    batch.valid = {memory.valid.data, count};
  }

  // --- shapes and views ---------------------------------------------------------------------------------------------

  bool training() const { return options.how == mode::training; }
  index_t tokens() const { return at.tokens; }
  index_t candidates(index_t layer) const {
    return static_cast<index_t>(model->connections().candidates(layer).size());
  }
  index_t always(index_t layer) const { return static_cast<index_t>(model->connections().always(layer).size()); }
  index_t max_selected(index_t layer) const { return model->router().select.max_selected(candidates(layer)); }

  /// The first `tokens` rows of a buffer that may hold more.
  template <class T>
  matrix_view<T> rows(const matrix_view<T>& m) const {
    return m.rows == 0 ? m : m.row_block(0, at.tokens);
  }
  /// `tokens` rows of `cols`, at the start of a buffer that may hold more of both.
  template <class T>
  matrix_view<T> shaped(const matrix_view<T>& m, index_t cols) const {
    return {m.data, at.tokens, cols};
  }
  template <class T>
  matrix_view<T> rectangle(const vector_view<T>& v, index_t cols) const {
    return {v.data, at.tokens, cols};
  }
  std::size_t of_range(index_t layer) const { return static_cast<std::size_t>(layer - memory.first); }
  std::size_t place(index_t layer) const { return training() ? of_range(layer) : 0; }
  visit_record<S, C>& record(index_t layer) { return memory.visits[place(layer)]; }
  const visit_record<S, C>& record(index_t layer) const { return memory.visits[place(layer)]; }
  matrix_view<C> logits(index_t layer) const { return shaped(record(layer).logits, candidates(layer)); }
  matrix_view<std::int32_t> selected(index_t layer) const {
    return shaped(record(layer).selected, max_selected(layer));
  }
  matrix_view<C> gates(index_t layer) const { return shaped(record(layer).gates, max_selected(layer)); }
  vector_view<const std::uint8_t> valid() const { return batch.valid; }
  vector_view<const std::int32_t> candidate_ids(index_t layer) const {
    return {memory.candidates_of_all.data + model->connections().candidate_offset(layer), candidates(layer)};
  }
  matrix_view<C> depth_state(index_t layer) const {
    if (memory.states.empty()) return {nullptr, at.tokens, 0};
    return rows(memory.states[training() ? of_range(layer) : static_cast<std::size_t>(layer % 2)]);
  }
  /// The gradient of the state before `layer`; of that after the last layer that ran, what the caller gave.
  matrix_view<C> depth_gradient(index_t layer) const {
    if (layer == at.reached) return rows(memory.dstate_out);
    return rows(memory.dstates[static_cast<std::size_t>(layer % 2)]);
  }
  inputs saved(index_t layer) const {
    if (options.external_inputs) return external[of_range(layer)];
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
    const auto shapes = model->stage_temporaries(layer, at.tokens);
    auto* next = memory.stage_temporaries.data;
    for (auto shape = shapes.begin(); auto& m : result) {
      m = {next, shape->rows, shape->cols};
      next += pass_memory<MixtureT, S>::elements(*shape);
      ++shape;
    }
    return result;
  }

  // --- forward ------------------------------------------------------------------------------------------------------

  /// What backward will read of an input: in training a copy, since the caller may overwrite the original, unless the
  /// inputs are external.
  matrix_view<const S> save(const matrix_view<const S>& from, const matrix_view<S>& to) const {
    if (!training() || options.external_inputs) return from;
    operations().each_element(at.tokens, from.cols, save_element<S>{valid(), from, rows(to)});
    return rows(to);
  }
  matrix_view<const S> save_router(index_t layer, const matrix_view<const S>& x) {
    if (!external.empty())
      (options.router_input ? external[of_range(layer)].router : external[of_range(layer)].experts) = x;
    if (!external.empty() && !options.router_input) external[of_range(layer)].router = x;
    return save(x, options.router_input ? record(layer).router_x : record(layer).x);
  }
  matrix_view<const S> save_experts(index_t layer, const matrix_view<const S>& x) {
    if (!options.router_input) return training() ? saved(layer).experts : x;
    if (!external.empty()) external[of_range(layer)].experts = x;
    return save(x, record(layer).x);
  }

  router_frame<C> make_frame(index_t layer, const matrix_view<const S>& x) const {
    router_frame<C> frame;
    frame.candidates = candidate_ids(layer);
    frame.batch = batch;
    if constexpr (pass_memory<MixtureT, S>::converts) {
      operations().each_element(at.tokens, x.cols, convert_element<S, C>{x, rows(memory.x)});
      frame.input = rows(memory.x);
    } else {
      frame.input = x;
    }
    if constexpr (stages_type::own_features)
      frame.features = rows(memory.features);
    else  // nobody writes features that are the input itself
      frame.features = {const_cast<C*>(frame.input.data), at.tokens, frame.input.cols, frame.input.stride};
    frame.logits = logits(layer);
    frame.state = depth_state(layer);
    frame.next_state = depth_state(layer + 1);
    return frame;
  }

  /// The gates of `layer` as a [tokens, candidates] matrix.
  matrix_view<C> spread(index_t layer) const {
    const auto dense = shaped(memory.dense_gates, candidates(layer));
    operations().each_row(at.tokens, spread_gates<C>{selected(layer), gates(layer), dense});
    return dense;
  }

  /// From the router's input to the layer's assignments and the next depth state. `Given` says which columns are selected
  /// in place of the router, if it may be called.
  template <class Given>
  void route(index_t layer, const parameters<S>& values, const matrix_view<const S>& x, const Given& given) {
    constexpr bool selects = std::is_same_v<Given, router_selects>;
    const index_t tokens = at.tokens;
    const auto ops = operations();
    const stages_type stages(model->router());
    const auto weights = router_weights<matrix_view<const S>>(values, layer);
    const auto scratch = temporaries(layer);
    auto frame = make_frame(layer, x);
    stages.make_features(ops, frame, weights, scratch);
    stages.make_logits(ops, frame, weights, scratch);
    if constexpr (on_host<typename MixtureT::backend_type>)
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
      if constexpr (selects)
        model->router().select.table(ops, matrix_view<const C>(scores), valid(), frame.candidates, selected(layer));
    }
    if constexpr (!selects) given(ops, frame.candidates, valid(), selected(layer));
    ops.each_row(tokens + 1,
                 route_row<C, router_type, parameters_type, balances>{
                     prefer, frame.candidates, always_ids, !selects, shaped(memory.probabilities, candidates(layer)),
                     selected(layer), gates(layer), visit.offsets, rectangle(visit.experts, width),
                     rectangle(visit.entry_gates, width), rectangle(visit.columns, width)});
    at.entries[place(layer)] = tokens * width;
    if (stages.state_width() > 0) {
      frame.gates = spread(layer);
      stages.advance(ops, frame, weights, scratch);
    }
  }

  /// Copies what is to run into the pass, but for what lies there already, and says whether that is all of it.
  bool adopt(index_t layer, const routing<C>& r) {
    const auto ops = operations();
    auto& visit = record(layer);
    const auto take = [&]<class T>(const vector_view<const T>& from, T* to) {
      if (from.data == to) return true;
      ops.each_row(from.size, copy_entry<T>{from, {to, from.size}});
      return false;
    };
    bool own = take(r.offsets, visit.offsets.data);
    own = take(r.expert, visit.experts.data) && own;
    own = take(r.gate, visit.entry_gates.data) && own;
    own = take(r.column, visit.columns.data) && own;
    if (r.column.size == 0 && r.entries() > 0) ops.each_row(r.entries(), no_column{{visit.columns.data, r.entries()}});
    at.entries[place(layer)] = r.entries();
    return own;
  }
  /// What is to run or ran at `layer`.
  routing<C> assignments(index_t layer) const {
    const auto& visit = record(layer);
    const index_t entries = at.entries[place(layer)];
    return {{visit.offsets.data, at.tokens + 1},
            {visit.experts.data, entries},
            {visit.entry_gates.data, entries},
            {visit.columns.data, entries}};
  }

  /// Counts of `layer`, after its plan was made. `own`: of the router's own assignments, whose demand is what ran.
  void count(index_t layer, bool own) {
    if (!at.counts) return;
    const auto ops = operations();
    const index_t first = model->connections().candidate_offset(layer);
    const index_t n = candidates(layer);
    const auto& counts = memory.counts;
    const auto part = [&](const auto& v) { return std::remove_cvref_t<decltype(v)>{v.data + first, n}; };
    if constexpr (balances)
      ops.column_sum(shaped(memory.probabilities, n), matrix_view<C>{counts.probability.data + first, 1, n});
    ops.each_row(
        n, count_candidate<C>{candidate_ids(layer), record(layer).run.plan.expert_offsets, memory.valid_tokens, valid(),
                              logits(layer), own ? matrix_view<const std::int32_t>() : selected(layer),
                              counts.tokens.data + layer, part(counts.demand), part(counts.load), part(counts.open)});
    if constexpr (TokenLoss<loss_type>) {
      const auto values = rows(memory.token_losses);
      ops.each_row(at.tokens, token_loss_row<C, loss_type>{model->loss(), valid(), logits(layer),
                                                           shaped(memory.probabilities, n), values});
      ops.column_sum(values, counts.token_loss.row_block(layer, 1));
    }
  }

  form_statistics<C> former(const counts_view<C>& counts) const {
    return {memory.offsets, memory.candidates_of_all, counts, memory.tables};
  }

  /// Assigns the balancing loss of the counts and its parts to `memory.loss`.
  void value(const counts_view<C>& counts) const {
    operations().each_row(1, value_of_depth<C, loss_type>{model->loss(), former(counts), memory.loss});
  }
  void arm(const counts_view<C>& counts, const loss_scales<C>& scales) {
    if constexpr (balances) {
      operations().each_row(
          1, gradient_of_depth<C, loss_type>{model->loss(), former(counts), scales, memory.dprobability, memory.of_part,
                                             memory.token_scale});
      at.armed = true;
    }
  }

  // --- backward -----------------------------------------------------------------------------------------------------

  /// From the gradients of the gates of what ran to those of the router's weights and input; returns the latter.
  matrix_view<C> route_backward(index_t layer, const parameters<S>& values, const vector_view<const C>& dentries,
                                gradients<C>& into) {
    const index_t tokens = at.tokens;
    const auto ops = operations();
    const stages_type stages(model->router());
    const auto weights = router_weights<matrix_view<const S>>(values, layer);
    call_targets<C, stages_type::parameters> written(
        into, [&](index_t column) { return model->layout()->router(layer, column); });
    const auto& dweights = written.targets();
    const auto scratch = temporaries(layer);
    const index_t n = candidates(layer);
    auto frame = make_frame(layer, saved(layer).router);
    stages.make_features(ops, frame, weights, scratch);

    router_gradient<C> gradient;
    gradient.input = rows(memory.dinput);
    gradient.features = stages_type::own_features ? rows(memory.dfeatures) : gradient.input;
    gradient.logits = shaped(memory.dlogits, n);
    gradient.gates = shaped(memory.dense_dgates, stages.state_width() > 0 ? n : 0);
    gradient.state = depth_gradient(layer);
    gradient.next_state = depth_gradient(layer + 1);
    clear(gradient.input);
    if constexpr (stages_type::own_features) clear(gradient.features);
    if (stages.state_width() > 0) {
      clear(gradient.state);
      clear(gradient.gates);
      frame.gates = spread(layer);
      stages.advance_backward(ops, frame, gradient, weights, scratch, dweights);
    }
    const vector_view<const C> dprobability =
        at.armed ? vector_view<const C>{memory.dprobability.data + model->connections().candidate_offset(layer), n}
                 : vector_view<const C>{};
    const auto scale = at.armed ? memory.token_scale.row(layer) : vector_view<C>{};
    const auto ran = assignments(layer);
    ops.each_row(tokens,
                 route_backward_row<C, router_type, loss_type>{
                     model->router(), model->loss(), valid(), logits(layer), selected(layer), gates(layer), ran.offsets,
                     ran.column, dentries, shaped(memory.dgates, max_selected(layer)), gradient.gates, dprobability,
                     scale, shaped(memory.probabilities, n), shaped(memory.dlogits, n)});
    stages.backward(ops, frame, gradient, weights, scratch, dweights);
    written.settle(ops);
    return gradient.input;
  }

 private:
  static pass_memory<MixtureT, S> carve(const MixtureT& mixture, const pass_options& options, workspace& scratch) {
    if constexpr (!on_host<typename MixtureT::backend_type>)
      check_external(scratch.owned(), "pass", "workspaces", "make_workspace");
    arena cursor(scratch.bytes());
    return pass_memory<MixtureT, S>(mixture, options, cursor);
  }
};

}  // namespace moue::inline v0_1::detail
