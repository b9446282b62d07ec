// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Executor: runs a pool of experts over a routing, forward and backward. Usable with ids and gates from anywhere.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "moue/backend.hpp"
#include "moue/executor/checks.hpp"
#include "moue/executor/memory.hpp"
#include "moue/executor/rows.hpp"
#include "moue/executor/tensors.hpp"
#include "moue/expert.hpp"

namespace moue {

/// A pool of physical experts on a backend. Immutable; weights, records and scratch are arguments, so that one executor
/// serves many threads. `S` below is the storage type of the weights, `C = compute_t<S>` that of all arithmetic.
template <class ExpertT, class BackendT>
class executor {
  static_assert(detail::check_experts_of<ExpertT>::run() && check_backend<BackendT>());
  using pool_type = typename detail::pool_of<ExpertT>::type;

 public:
  /// `experts` physical experts, all of the one kind or as the pool says.
  executor(ExpertT expert, index_t experts, BackendT backend)
      : pool_(detail::pool_of<ExpertT>::make(std::move(expert))), backend_(std::move(backend)) {
    detail::require(
        pool_.width() > 0, "executor", [&] { return "experts have width " + std::to_string(pool_.width()); },
        "give them a positive width");
    for (index_t e = 0; e < experts; ++e) kinds_.push_back(pool_.kind_of(e));
    pool_.for_each_kind([&](std::size_t, const auto& kind) {
      saved_width_ = (std::max)(saved_width_, detail::row_width<grouped>(kind.saved()));
      temporary_width_ = (std::max)(temporary_width_, detail::row_width<grouped>(kind.temporaries()));
      most_tensors_ = (std::max)(most_tensors_, std::ssize(kind.parameters()));
      for (const auto& spec : kind.parameters()) largest_ = (std::max)(largest_, spec.rows * spec.cols);
    });
  }

  index_t width() const { return pool_.width(); }
  index_t experts() const { return static_cast<index_t>(kinds_.size()); }
  const BackendT& backend() const { return backend_; }
  const pool_type& pool() const { return pool_; }

  /// Appends the experts' tensors, "experts.<id>.<name>", to `layout`.
  void describe(parameter_layout& layout) const {
    for (index_t e = 0; e < experts(); ++e) {
      layout.begin_expert();
      pool_.visit_kind(kinds_[static_cast<std::size_t>(e)], [&](const auto& kind) {
        for (const auto& spec : kind.parameters())
          layout.add("experts." + std::to_string(e) + "." + std::string(spec.name), spec, -1, e);
      });
    }
  }

  /// The experts' tensors alone, for use without a mixture.
  std::shared_ptr<const parameter_layout> layout() const {
    auto result = std::make_shared<parameter_layout>();
    describe(*result);
    return result;
  }

  /// Bytes of workspace for batches of up to `tokens` tokens and `entries` assignments.
  template <Storage S>
  std::size_t workspace_bytes(index_t tokens, index_t entries) const {
    arena counter;
    take_memory<S>(counter, tokens, entries);
    return counter.bytes();
  }
  /// Carves that memory; it stays valid as long as `block` does and until the block is carved again.
  template <Storage S>
  expert_memory<compute_t<S>> carve(workspace& block, index_t tokens, index_t entries) const {
    if constexpr (grouped) detail::check_external(block.owned(), "executor", "workspaces", "make_workspace");
    arena memory(block.bytes());
    return take_memory<S>(memory, tokens, entries);
  }

  /// Memory that one forward run fills for its backward run.
  template <class C>
  expert_record<C> take_record(arena& memory, index_t tokens, index_t entries) const {
    expert_record<C> record;
    index_t scratch = 0;
    if constexpr (requires { backend_.dispatch_scratch(entries, experts()); })
      scratch = backend_.dispatch_scratch(entries, experts());
    record.plan = dispatch_plan::take(memory, tokens, entries, experts(), scratch);
    record.saved = memory.take<C>(entries * saved_width_, "saved activations");
    record.outputs = memory.take<C>(needs_outputs ? entries : 0, width(), "expert outputs");
    return record;
  }
  template <Storage S>
  expert_scratch<compute_t<S>> take_scratch(arena& memory, index_t entries, bool training) const {
    using C = compute_t<S>;
    expert_scratch<C> scratch;
    scratch.in = memory.take<C>(entries, width(), "expert inputs");
    scratch.out = memory.take<C>(entries, width(), "expert outputs");
    scratch.dout = memory.take<C>(training ? entries : 0, width(), "expert output gradients");
    scratch.gate = memory.take<C>(entries, "row gates");
    scratch.dgate = memory.take<C>(training ? entries : 0, "row gate gradients");
    scratch.temporaries = memory.take<C>(entries * temporary_width_, "expert temporaries");
    scratch.conversion = take_conversion<S>(memory, largest_);
    if constexpr (grouped) {
      scratch.tables.kind_of = memory.take<std::int32_t>(experts(), "kinds of experts");
      scratch.tables.weights.there = memory.take<void*>(most_tensors_ * experts(), "pointers to weights");
      scratch.tables.gradients.there = memory.take<void*>(most_tensors_ * experts(), "pointers to gradients");
    }
    return scratch;
  }
  /// Scratch for weights of up to `elements` that are stored in a narrower type than they are computed in.
  template <Storage S>
  matrix_view<compute_t<S>> take_conversion(arena& memory, index_t elements) const {
    return memory.take<compute_t<S>>(backend_.workers(), grouped || std::is_same_v<S, compute_t<S>> ? 0 : elements,
                                     "widened weights");
  }

  /// The runs below, with record and scratch from `carve`.
  template <Storage S, class X, class Y, class C = compute_t<S>>
  void forward(const routing<C>& r, const parameters<S>& weights, matrix_view<X> x, matrix_view<Y> y,
               expert_memory<C>& memory) const {
    forward<S, std::remove_const_t<X>, Y, C>(r, weights, x, y, memory.record, memory.scratch);
  }
  template <Storage S, class X, class DY, class DX, class C = compute_t<S>>
  void backward(const routing<C>& r, const parameters<S>& weights, matrix_view<X> x, matrix_view<DY> dy,
                matrix_view<DX> dx, vector_view<C> dgate, gradients<C>& into, expert_memory<C>& memory) const {
    backward<S, std::remove_const_t<X>, std::remove_const_t<DY>, DX, C>(r, weights, x, dy, dx, dgate, into,
                                                                        memory.record, memory.scratch);
  }

  /// y[t] = sum over t's assignments, by ascending expert id, of gate · expert(x[t]). `x` and `y` are [tokens, width] and
  /// may be of any element type that converts; `y` is assigned, also where a token has no assignment. Throws if shapes,
  /// weights or memory do not fit, or if the routing breaks its rules where the host can see it.
  template <Storage S, class X, class Y, class C = compute_t<S>>
  void forward(const routing<C>& r, const parameters<S>& weights, matrix_view<const X> x, matrix_view<Y> y,
               expert_record<C>& record, expert_scratch<C>& scratch) const {
    check(r, record);
    check_weights(weights);
    detail::check_batch("x", x, r.tokens(), width());
    detail::check_batch("y", y, r.tokens(), width());
    const auto ops = backend_.operations(scratch.conversion);
    backend_.dispatch(r, record.plan);
    const auto& plan = record.plan;
    const bool keep_outputs = needs_outputs && !record.outputs.empty();
    const matrix_view<C> out = keep_outputs ? record.outputs : scratch.out;
    if constexpr (grouped) send_weights(weights, scratch.tables);
    each_group<S>(plan, r.entries(), scratch, [&](const auto& group, const auto& kind, const auto& at) {
      const auto in = scratch.in.row_block(at.first, at.rows);
      group.each_row(at.rows, detail::gather_tokens<C, X>{x, plan.row_token, at.first, in});
      kind.forward(group, weights_of<S>(kind, weights, scratch.tables.weights, plan, at), matrix_view<const C>(in),
                   detail::row_matrices<grouped, C>(kind.saved(), record.saved, saved_width_, at),
                   detail::row_matrices<grouped, C>(kind.temporaries(), scratch.temporaries, temporary_width_, at),
                   out.row_block(at.first, at.rows));
    });
    ops.each_row(r.tokens(), detail::combine<C, Y>{plan, r.gate, out, y});
  }

  /// After `forward` with the same routing, weights, x and record: assigns `dx` [tokens, width] and `dgate` [entries, 0
  /// where empty], adds to `into` and marks the experts touched. `x` and `dy` must still be what they were.
  template <Storage S, class X, class DY, class DX, class C = compute_t<S>>
  void backward(const routing<C>& r, const parameters<S>& weights, matrix_view<const X> x, matrix_view<const DY> dy,
                matrix_view<DX> dx, vector_view<C> dgate, gradients<C>& into, const expert_record<C>& record,
                expert_scratch<C>& scratch) const {
    check(r, record);
    check_weights(weights);
    detail::check_experts(into.layout(), experts());
    if constexpr (grouped)
      detail::check_external(into.owns_marks() && experts() > 0, "executor", "the gradients", "make_gradients");
    detail::check_batch("x", x, r.tokens(), width());
    detail::check_batch("dy", dy, r.tokens(), width());
    detail::check_batch("dx", dx, r.tokens(), width());
    detail::require(
        dgate.size == r.entries(), "executor",
        [&] { return "dgate has " + std::to_string(dgate.size) + " entries for " + std::to_string(r.entries()); },
        "give one per routing entry");
    detail::require(
        scratch.dgate.size >= r.entries(), "executor",
        [] { return std::string("the scratch was taken for inference"); }, "take it for training");
    const auto ops = backend_.operations(scratch.conversion);
    const auto& plan = record.plan;
    ops.each_row(experts(), detail::touch_expert{plan.expert_offsets, into.marks()});
    ops.each_row(dgate.size, detail::clear_entry<C>{dgate});
    if constexpr (grouped) {
      send_weights(weights, scratch.tables);
      send(scratch.tables.gradients, into.layout(), [&](index_t tensor) { return into[tensor].data; });
    }
    each_group<S>(plan, r.entries(), scratch, [&](const auto& group, const auto& kind, const auto& at) {
      using kind_type = std::remove_cvref_t<decltype(kind)>;
      const auto in = scratch.in.row_block(at.first, at.rows);
      const auto dout = scratch.dout.row_block(at.first, at.rows);
      const auto din = scratch.out.row_block(at.first, at.rows);
      const vector_view<C> gate{scratch.gate.data + at.first, at.rows};
      const vector_view<C> dgate_rows{scratch.dgate.data + at.first, at.rows};
      group.each_row(at.rows, detail::gather_tokens<C, X>{x, plan.row_token, at.first, in});
      group.each_row(at.rows, detail::gather_tokens<C, DY>{dy, plan.row_token, at.first, dout});
      group.each_row(at.rows, detail::gather_gate<C>{r.gate, plan.row_entry, at.first, gate});
      const auto p = weights_of<S>(kind, weights, scratch.tables.weights, plan, at);
      const auto dp = gradients_of(kind, into, scratch.tables.gradients, plan, at);
      const auto saved = detail::row_matrices<grouped, const C>(kind.saved(), record.saved, saved_width_, at);
      const auto temporaries =
          detail::row_matrices<grouped, C>(kind.temporaries(), scratch.temporaries, temporary_width_, at);
      if constexpr (detail::has_gated_backward<kind_type>) {
        kind.backward(group, p, matrix_view<const C>(in), saved, temporaries, gated_gradient<C>{dout, gate, dgate_rows},
                      din, dp);
      } else {
        group.each_row(
            at.rows, detail::gate_from_output<C>{record.outputs.row_block(at.first, at.rows), gate, dout, dgate_rows});
        kind.backward(group, p, matrix_view<const C>(in), saved, temporaries, matrix_view<const C>(dout), din, dp);
      }
      group.each_row(at.rows, detail::scatter_gate<C>{dgate_rows, plan.row_entry, at.first, dgate});
    });
    ops.each_row(r.tokens(), detail::sum_rows<C, DX>{plan, scratch.out, dx});
  }

 private:
  template <class C>
  void check(const routing<C>& r, const expert_record<C>& record) const {
    index_t entries = r.entries();
    if constexpr (!grouped)  // else only the backend can read them
      if (r.offsets.size > 0) entries = r.offsets[r.tokens()];
    detail::check_routing(r, entries, record);
  }
  template <Storage S>
  void check_weights(const parameters<S>& weights) const {
    detail::check_experts(weights.layout(), experts());
    if constexpr (grouped)
      detail::check_external(weights.owned() && weights.layout().elements() > 0, "executor", "the weights",
                             "make_parameters");
  }

  template <Storage S>
  expert_memory<compute_t<S>> take_memory(arena& memory, index_t tokens, index_t entries) const {
    using C = compute_t<S>;
    return {take_record<C>(memory, tokens, entries), take_scratch<S>(memory, entries, true)};
  }

  template <class... Es>
  static constexpr bool outputs_needed(const expert_pool<Es...>*) {
    return (!detail::has_gated_backward<Es> || ...);
  }
  static constexpr bool needs_outputs = outputs_needed(static_cast<const pool_type*>(nullptr));

  static constexpr bool grouped = detail::is_grouped<BackendT>;

  /// Calls `body(ops, kind, place)` for every expert that has rows, or once per kind on grouped backends.
  template <Storage S, class C, class Body>
  void each_group(const dispatch_plan& plan, index_t entries, const expert_scratch<C>& scratch,
                  const Body& body) const {
    if constexpr (grouped)
      pool_.for_each_kind([&](std::size_t position, const auto& kind) {
        body(group_of_kind<S>(plan, scratch, static_cast<index_t>(position)), kind,
             detail::group_place{-1, 0, entries});
      });
    else
      backend_.each_group(plan, scratch.conversion, [&](const auto& group, index_t e, index_t first, index_t rows) {
        pool_.visit_kind(kinds_[static_cast<std::size_t>(e)], [&](const auto& kind) {
          body(group, kind, detail::group_place{e, first, rows});
        });
      });
  }

  template <Storage S, class C>
  auto group_of_kind(const dispatch_plan& plan, const expert_scratch<C>& scratch, index_t kind) const {
    const vector_view<const std::int32_t> kinds = scratch.tables.kind_of;
    if constexpr (requires { backend_.template group<C, S>(plan, kinds, kind); })
      return backend_.template group<C, S>(plan, kinds, kind);
    else
      return backend_.template group<C>(plan, kinds, kind);
  }

  /// Sends the weights' addresses and the kinds of experts, unless they are there already.
  template <Storage S>
  void send_weights(const parameters<S>& weights, detail::grouped_tables& tables) const {
    if (!tables.kinds_sent) {
      const std::vector<std::int32_t> kinds(kinds_.begin(), kinds_.end());
      detail::upload(backend_, std::span<const std::int32_t>(kinds), tables.kind_of.data);
      tables.kinds_sent = true;
    }
    send(tables.weights, weights.layout(), [&](index_t tensor) { return const_cast<S*>(weights[tensor].data); });
  }
  template <class F>
  void send(detail::pointer_table& table, const parameter_layout& layout, const F& address) const {
    if (!detail::list_addresses(table.sent, layout, most_tensors_, address)) return;
    try {
      detail::upload(backend_, std::span<void* const>(table.sent), table.there.data);
    } catch (...) {
      table.sent.clear();  // whatever is there is not this
      throw;
    }
  }

  template <Storage S, class E>
  static auto weights_of(const E& kind, const parameters<S>& weights, const detail::pointer_table& table,
                         const dispatch_plan& plan, const detail::group_place& at) {
    if constexpr (grouped)
      return detail::tensors_of_kind<const S>(kind, table, plan);
    else
      return detail::tensors_of_expert<const S, E>(weights, at.expert);
  }
  template <class C, class E>
  static auto gradients_of(const E& kind, gradients<C>& into, const detail::pointer_table& table,
                           const dispatch_plan& plan, const detail::group_place& at) {
    if constexpr (grouped)
      return detail::tensors_of_kind<C>(kind, table, plan);
    else
      return detail::tensors_of_expert<C, E>(into, at.expert);
  }

  pool_type pool_;
  BackendT backend_;
  std::vector<std::size_t> kinds_;
  index_t saved_width_ = 0;
  index_t temporary_width_ = 0;
  index_t largest_ = 0;
  index_t most_tensors_ = 0;  // of one expert
};

}  // namespace moue
