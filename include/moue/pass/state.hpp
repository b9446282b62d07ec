// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The state of a pass: its memory, views into it, and what is saved of a layer's input and assignments.

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "moue/mixture.hpp"
#include "moue/pass/memory.hpp"
#include "moue/pass/overflow.hpp"
#include "moue/pass/rows.hpp"
#include "moue/pass/statistics.hpp"
#include "moue/router/rows.hpp"
#include "moue/router/stages.hpp"

namespace moue::inline v0_1::detail {

/// A pointer that a move takes away: what was moved from is refused, not followed.
template <class T>
class movable_pointer {
 public:
  explicit movable_pointer(T* to) : to_(to) {}
  movable_pointer(movable_pointer&& other) noexcept : to_(std::exchange(other.to_, nullptr)) {}
  movable_pointer& operator=(movable_pointer&& other) noexcept {
    to_ = std::exchange(other.to_, nullptr);
    return *this;
  }
  T& operator*() const {
    if (to_ == nullptr) [[unlikely]]
      refuse_moved();
    return *to_;
  }
  T* operator->() const { return &**this; }

 private:
  [[noreturn]] static void refuse_moved() {
    throw error("pass", "it was moved from", "use the pass that it was moved to, or start another");
  }

  T* to_;
};

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

  movable_pointer<const MixtureT> model;
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
    at.layout = memory.layout;
    if (training() && options.external_inputs) external.resize(at.elsewhere.size());
  }

  void begin(index_t count, const side_inputs& given, const batch_options& wanted) {
    attach(count, given);
    at.next = at.reached = memory.first;
    at.backward = at.halfway = at.armed = false;
    at.batch = wanted;
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
    const auto& counts = memory.counts;
    ops.each_row((std::max)({counts.demand.size, counts.tokens.size, counts.rows.size}), clear_counts<C>{counts});
  }
  /// Sets the views of a batch whose numbers are already in the workspace.
  void attach(index_t count, const side_inputs& given) {
    at.tokens = count;
    batch = given;
    batch.valid = {memory.valid.data, count};
  }

  // --- shapes and views ---------------------------------------------------------------------------------------------

  bool training() const { return options.how == mode::training; }
  /// The turn of `layer`, or of a loss of the whole depth, −1.
  visit visit_of(index_t layer) const {
    const auto& how = at.batch;
    const auto place = mix(how.step ^ mix(static_cast<std::uint64_t>(layer)));
    return {layer, options.how, how.step, mix(how.seed ^ place), how.first_token};
  }
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
  /// As the score made them.
  matrix_view<C> raw_logits(index_t layer) const {
    if constexpr (!stages_type::transforms) return logits(layer);
    return shaped(record(layer).raw_logits, candidates(layer));
  }
  matrix_view<C> extra(index_t layer) const {
    if constexpr (!stages_type::makes_extra) return {nullptr, at.tokens, 0};
    return shaped(record(layer).extra, model->extra(layer));
  }
  matrix_view<std::int32_t> selected(index_t layer) const {
    return shaped(record(layer).selected, max_selected(layer));
  }
  matrix_view<C> gates(index_t layer) const { return shaped(record(layer).gates, max_selected(layer)); }
  vector_view<const std::uint8_t> valid() const { return batch.valid; }
  bool masks() const { return model->router().on_non_finite == non_finite::mask; }
  /// The rows that the router of the layer at work looks at.
  vector_view<const std::uint8_t> usable() const {
    return masks() ? vector_view<const std::uint8_t>{memory.usable.data, at.tokens} : valid();
  }
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

  /// The router's weights as sums over candidates may see them. What is no number in them belongs to candidates that are
  /// closed, or shows in the gradients of their logits; a buffer's minus infinity is a mark.
  auto finite_weights(std::array<matrix_view<const S>, stages_type::parameters> weights, index_t layer) const {
    if (!pass_memory<MixtureT, S>::may_close && !masks()) return weights;
    S* next = memory.finite_weights.data;
    index_t column = 0;
    for (auto& weight : weights) {
      if (!(*model->layout())[model->layout()->router(layer, column++)].trained) continue;
      const matrix_view<S> copy{next, weight.rows, weight.cols};
      operations().each_element(copy.rows, copy.cols, finite_element<S>{weight, copy});
      next += pass_memory<MixtureT, S>::weight_elements(copy.rows, copy.cols);
      weight = copy;
    }
    return weights;
  }
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

  /// What the router's stages save of a layer.
  auto stage_saved(index_t layer) const {
    return row_matrices<C>(model->stage_saved(layer), record(layer).stage_saved, 0, at.tokens);
  }

  // --- forward ------------------------------------------------------------------------------------------------------

  /// What backward will read of an input: in training a copy, since the caller may overwrite the original, unless the
  /// inputs are external.
  matrix_view<const S> save(const matrix_view<const S>& from, const matrix_view<S>& to) const {
    if (!training() || options.external_inputs) return from;
    operations().each_element(at.tokens, from.cols, save_element<S>{usable(), from, rows(to)});
    return rows(to);
  }
  matrix_view<const S> save_router(index_t layer, const matrix_view<const S>& x) {
    if (masks()) find_usable(layer, x);
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

  void find_usable(index_t layer, const matrix_view<const S>& x) const {
    operations().each_row(at.tokens,
                          find_usable_row<S, C>{valid(), x, depth_state(layer), {memory.usable.data, at.tokens}});
  }

  /// Copies what is to run into the pass, but for what lies there already, and says whether that is all of it. Entries of
  /// padding, and of rows that are masked, run nowhere.
  bool adopt(index_t layer, const routing<C>& r) {
    const auto ops = operations();
    auto& visit = record(layer);
    const auto apart = [&](const auto& from, const auto& own) {
      if (static_cast<const void*>(from.data) != static_cast<const void*>(own.data)) check_apart(from, visit);
    };
    apart(r.offsets, visit.offsets);
    apart(r.expert, visit.experts);
    apart(r.gate, visit.entry_gates);
    apart(r.column, visit.columns);
    const auto take = [&]<class T>(const vector_view<const T>& from, T* to) {
      if (from.data == to) return true;
      ops.each_row(from.size, copy_entry<T>{from, {to, from.size}});
      return false;
    };
    bool own = take(r.offsets, visit.offsets.data);
    own = take(r.expert, visit.experts.data) && own;
    own = take(r.gate, visit.entry_gates.data) && own;
    own = take(r.column, visit.columns.data) && own;
    if (!own) ops.each_row(at.tokens, drop_unusable{usable(), r.offsets, {visit.experts.data, r.entries()}});
    if (r.column.size == 0 && r.entries() > 0) ops.each_row(r.entries(), no_column{{visit.columns.data, r.entries()}});
    at.entries[place(layer)] = r.entries();
    if constexpr (pass_memory<MixtureT, S>::bounds_entries)
      if (!own)
        drop_overflow(ops, ranked_entries{r.offsets, {visit.experts.data, r.entries()}, memory.overflow, -1},
                      visit.run.plan.row_token.size);
    return own;
  }
  /// What the experts of `layer` said, in the order of its plan; empty unless a loss looks at that.
  matrix_view<const C> outputs(index_t layer) const {
    if constexpr (!pass_memory<MixtureT, S>::shows) return {};
    const auto& of_all = record(layer).run.outputs;
    return of_all.row_block(0, (std::min)(of_all.rows, at.entries[place(layer)]));
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

 private:
  /// Throws if an array that a caller gives lies where one of the pass's own does.
  static void check_apart(const auto& from, const visit_record<S, C>& visit) {
    const auto bytes = [](const auto& v) {
      return matrix_view<const std::byte>(reinterpret_cast<const std::byte*>(v.data), 1,
                                          v.size * static_cast<index_t>(sizeof *v.data));
    };
    const auto overlaps = [&](const auto&... own) { return (overlap(bytes(from), bytes(own)) || ...); };
    if (overlaps(visit.offsets, visit.experts, visit.entry_gates, visit.columns))
      throw error("routing", "one of its arrays lies where another of the pass's own does",
                  "give the pass's array whole and in its place, or a copy");
  }
  static pass_memory<MixtureT, S> carve(const MixtureT& mixture, const pass_options& options, workspace& scratch) {
    if constexpr (!on_host<typename MixtureT::backend_type>)
      check_external(scratch.owned(), "pass", "workspaces", "make_workspace");
    return detail::carve(scratch, [&](arena& room) { return pass_memory<MixtureT, S>(mixture, options, room); });
  }
};

}  // namespace moue::inline v0_1::detail
