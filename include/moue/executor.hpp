// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Executor: runs a pool of experts over a routing, forward and backward. Usable with ids and gates from anywhere.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "moue/backend.hpp"
#include "moue/dispatch/offsets.hpp"
#include "moue/executor/checks.hpp"
#include "moue/executor/memory.hpp"
#include "moue/executor/rows.hpp"
#include "moue/executor/tensors.hpp"
#include "moue/expert.hpp"
#include "moue/gradients.hpp"
#include "moue/token_rows.hpp"

namespace moue::inline v0_1 {

/// A pool of physical experts on a backend. Immutable; weights, records and scratch are arguments, so that one executor
/// serves many threads. `S` below is the storage type of the weights, `C = compute_t<S>` that of all arithmetic.
template <class ExpertT, class BackendT>
class executor {
  static_assert(detail::check_experts_of<ExpertT>::run() && check_backend<BackendT>());
  using pool_type = typename detail::pool_of<ExpertT>::type;

 public:
  /// `experts` physical experts, all of the one kind or as the pool says. Throws if an expert declares a size that is not
  /// positive, a negative width, or parameters that share a name.
  executor(ExpertT expert, index_t experts, BackendT backend)
      : pool_(detail::pool_of<ExpertT>::make(std::move(expert))), backend_(std::move(backend)) {
    detail::require(
        pool_.width() > 0 && pool_.width() <= detail::largest_width, "executor",
        [&] { return "experts have width " + std::to_string(pool_.width()); },
        pool_.width() > 0 ? "give them a width up to 2^40" : "give them a positive width");
    detail::require(
        experts >= 0, "executor", [&] { return std::to_string(experts) + " experts were asked for"; },
        "ask for 0 or more");
    for (index_t e = 0; e < experts; ++e) kinds_.push_back(static_cast<std::int32_t>(pool_.kind_of(e)));
    pool_.for_each_kind([&](std::size_t position, const auto& kind) {
      if (std::find(kinds_.begin(), kinds_.end(), static_cast<std::int32_t>(position)) == kinds_.end()) return;
      const auto specs = kind.parameters();
      detail::check_declarations(specs, kind.saved(), kind.temporaries());
      saved_columns_ = (std::max)(saved_columns_, detail::row_width(kind.saved()));
      temporary_columns_ = (std::max)(temporary_columns_, detail::row_width(kind.temporaries()));
      most_tensors_ = (std::max)(most_tensors_, std::ssize(specs));
    });
    auto layout = std::make_shared<parameter_layout>();
    describe(*layout);
    layout_ = std::move(layout);
    for (const auto& tensor : *layout_) largest_ = (std::max)(largest_, tensor.size());
  }

  /// Columns of what goes in and comes out.
  index_t width() const { return pool_.width(); }
  /// Physical experts.
  index_t experts() const { return static_cast<index_t>(kinds_.size()); }
  /// The backend that runs them.
  const BackendT& backend() const& { return backend_; }
  /// The kinds of experts: an `expert_pool`, also if there is one kind.
  const pool_type& pool() const& { return pool_; }
  void backend() const&& = delete;
  void pool() const&& = delete;

  /// Appends the experts' tensors, "experts.<id>.<name>", to `layout`.
  void describe(parameter_layout& layout) const {
    for (index_t e = 0; e < experts(); ++e) {
      layout.begin_expert();
      pool_.visit_kind(static_cast<std::size_t>(kinds_[static_cast<std::size_t>(e)]), [&](const auto& kind) {
        for (const auto& spec : kind.parameters())
          layout.add("experts." + std::to_string(e) + "." + std::string(spec.name), spec, -1, e);
      });
    }
  }

  /// The experts' tensors alone, for use without a mixture.
  const std::shared_ptr<const parameter_layout>& layout() const& { return layout_; }
  const std::shared_ptr<const parameter_layout>& layout() const&& = delete;

  /// Bytes of workspace for batches of up to `tokens` tokens and `entries` assignments.
  template <Storage S>
  std::size_t workspace_bytes(index_t tokens, index_t entries) const {
    check_sizes(tokens, entries);
    arena counter;
    take_memory<S>(counter, tokens, entries);
    return counter.bytes();
  }
  /// Carves that memory; it stays valid as long as `block` does and until the block is carved again.
  template <Storage S>
  expert_memory<compute_t<S>> carve(workspace& block, index_t tokens, index_t entries) const {
    check_memory(block.owned(), "workspaces", "make_workspace");
    check_sizes(tokens, entries);
    return detail::carve(block, [&](arena& memory) { return take_memory<S>(memory, tokens, entries); });
  }

  /// Memory that one forward run fills for its backward run.
  template <class C>
  expert_record<C> take_record(arena& memory, index_t tokens, index_t entries) const {
    expert_record<C> record;
    const index_t scratch = backend_.template needs<C>(entries, experts(), largest_).dispatch;
    record.plan = dispatch_plan::take(memory, tokens, entries, experts(), scratch);
    record.saved = memory.take<C>(entries, saved_columns_, "saved activations");
    record.outputs = memory.take<C>(needs_outputs ? entries : 0, width(), "expert outputs");
    return record;
  }
  /// Scratch for runs of up to `entries` assignments; `training` says whether `backward` is to run, which needs more.
  template <Storage S>
  expert_scratch<compute_t<S>> take_scratch(arena& memory, index_t entries, bool training) const {
    using C = compute_t<S>;
    const block_needs needs = backend_.template needs<S>(entries, experts(), largest_);
    const index_t row = detail::padded(width());
    const auto table = [&](detail::pointer_table& pointers, std::string_view purpose) {
      const auto size = static_cast<std::size_t>(most_tensors_ * experts());
      if (!memory.counting()) pointers.sent.reserve(size);
      if constexpr (!detail::on_host<BackendT>)
        pointers.there = memory.take<void*>(most_tensors_, experts(), purpose).data;
    };
    expert_scratch<C> scratch;
    scratch.out = memory.take<C>(entries, width(), "expert outputs");
    scratch.gate = memory.take<C>(entries, "row gates");
    scratch.dgate = memory.take<C>(training ? entries : 0, "row gate gradients");
    scratch.gathered = !needs.gathers ? 0 : training ? 2 * row : row;
    scratch.rows =
        memory.take<C>(needs.rows, scratch.gathered + (training && needs_outputs ? row : 0) + temporary_columns_,
                       "expert temporaries");
    scratch.conversion = memory.take<C>(backend_.workers(), needs.converted, "widened weights");
    if constexpr (!detail::on_host<BackendT>)
      scratch.tables.kind_of = memory.take<std::int32_t>(experts(), "kinds of experts").data;
    table(scratch.tables.weights, "pointers to weights");
    table(scratch.tables.gradients, "pointers to gradients");
    table(scratch.tables.marks, "pointers to marks");
    return scratch;
  }
  /// Scratch for weights of up to `elements` that are stored in a narrower type than they are computed in.
  template <Storage S>
  matrix_view<compute_t<S>> take_conversion(arena& memory, index_t elements) const {
    return memory.take<compute_t<S>>(backend_.workers(), backend_.template needs<S>(0, experts(), elements).converted,
                                     "widened weights");
  }

  /// The runs below, with record and scratch from `carve`.
  template <Storage S, class X, class Y, class C = compute_t<S>>
  void forward(const routing<C>& r, const parameters<S>& weights, matrix_view<X> x, matrix_view<Y> y,
               expert_memory<C>& memory) const {
    forward<S, std::remove_const_t<X>, Y, C>(r, weights, x, y, memory.record, memory.scratch);
  }
  /// The way back, after `forward` with the same memory.
  template <Storage S, class X, class DY, class DX, class C = compute_t<S>>
  void backward(const routing<C>& r, const parameters<S>& weights, matrix_view<X> x, matrix_view<DY> dy,
                matrix_view<DX> dx, vector_view<C> dgate, gradients<C>& into, expert_memory<C>& memory) const {
    backward<S, std::remove_const_t<X>, std::remove_const_t<DY>, DX, C>(r, weights, x, dy, dx, dgate, into,
                                                                        memory.record, memory.scratch);
  }

  /// y[t] = sum over t's assignments, by ascending expert id, of gate · expert(x[t]). `x` and `y` are [tokens, width] and
  /// may be of any element type that converts; `x` may repeat one row, with a stride of 0; `y` is assigned, also where a
  /// token has no assignment. Throws if shapes, weights or memory do not fit, or if the routing breaks its rules where the
  /// host can see it.
  template <Storage S, class X, class Y, class C = compute_t<S>>
  void forward(const routing<C>& r, const parameters<S>& weights, matrix_view<const X> x, matrix_view<Y> y,
               expert_record<C>& record, expert_scratch<C>& scratch) const {
    detail::check_routing(r, record);
    check_weights(weights);
    detail::check_batch("x", x, r.tokens(), width());
    detail::check_batch("y", y, r.tokens(), width());
    detail::check_overlap("executor", "x", x, "y", y);
    record.tokens = record.entries = -1;
    backend_.dispatch(r, record.plan);
    record.tokens = r.tokens(), record.entries = r.entries();
    const auto& plan = record.plan;
    detail::require(
        scratch.gate.size >= r.entries(), "executor",
        [&] {
          return std::to_string(r.entries()) + " entries were given to scratch for " +
                 std::to_string(scratch.gate.size);
        },
        "take scratch for the largest batch");
    const bool save_outputs = needs_outputs && !record.outputs.empty();
    const matrix_view<C> out = save_outputs ? record.outputs : scratch.out;
    send_weights(weights, scratch.tables);
    each_block<S>(plan, r.entries(), scratch, [&](const auto& ops, const auto& kind, const plan_block& at) {
      ops.each_row(at.rows, detail::gather_gate<C>{entries_of(r, plan, at), {scratch.gate.data + at.first, at.rows}});
      kind.forward(ops, detail::tensors_of_kind<const S>(kind, scratch.tables.weights, plan, at),
                   rows_of<C>(x, plan, at), detail::row_matrices<C>(kind.saved(), record.saved, at.first, at.rows),
                   temporaries_of(kind, scratch, at), out.row_block(at.first, at.rows));
    });
    backend_.operations(scratch.conversion).each_row(r.tokens(), detail::combine<C, Y>{plan, scratch.gate, out, y});
  }

  /// After `forward` with the same routing, weights, x and record: assigns `dx` [tokens, width] and `dgate` [entries, 0
  /// where empty], writes the gradients that `into` wants: the first write of a tensor since `reset` assigns. `x` and `dy` must still be what they were.
  template <Storage S, class X, class DY, class DX, class C = compute_t<S>>
  void backward(const routing<C>& r, const parameters<S>& weights, matrix_view<const X> x, matrix_view<const DY> dy,
                matrix_view<DX> dx, vector_view<C> dgate, gradients<C>& into, const expert_record<C>& record,
                expert_scratch<C>& scratch) const {
    detail::check_routing(r, record);
    detail::check_ran(r, record);
    if constexpr (detail::on_host<BackendT>) detail::check_offsets(r.offsets, r.entries());
    check_weights(weights);
    detail::check_experts(into.layout(), experts());
    check_memory(into.owns_marks() && experts() > 0, "the gradients", "make_gradients");
    detail::check_batch("x", x, r.tokens(), width());
    detail::check_batch("dy", dy, r.tokens(), width());
    detail::check_batch("dx", dx, r.tokens(), width());
    detail::check_overlap("executor", "dy", dy, "dx", dx);
    detail::require(
        dgate.size == r.entries() && (dgate.data != nullptr || dgate.size == 0), "executor",
        [&] {
          return "dgate has " + std::to_string(dgate.size) + " entries for " + std::to_string(r.entries()) +
                 (dgate.data == nullptr ? " and is null" : "");
        },
        "give one per routing entry");
    detail::require(
        scratch.dgate.size >= r.entries(), "executor",
        [] { return std::string("the scratch was taken for inference, or for fewer entries"); },
        "take it for training and for the largest batch");
    const auto batch_ops = backend_.operations(scratch.conversion);
    const auto& plan = record.plan;
    batch_ops.each_row(dgate.size, detail::clear_entry<C>{dgate});
    send_weights(weights, scratch.tables);
    send(scratch.tables.gradients, into.layout(), [&](index_t tensor) { return into[tensor].data; });
    send(scratch.tables.marks, into.layout(), [&](index_t tensor) { return into.marks().data + tensor; });
    each_block<S>(plan, r.entries(), scratch, [&](const auto& ops, const auto& kind, const plan_block& at) {
      using kind_type = std::remove_cvref_t<decltype(kind)>;
      const auto dout = rows_of<C>(dy, plan, at);
      const auto din = scratch.out.row_block(at.first, at.rows);
      const vector_view<C> gate{scratch.gate.data + at.first, at.rows};
      const vector_view<C> dgate_rows{scratch.dgate.data + at.first, at.rows};
      const auto entries = entries_of(r, plan, at);
      ops.each_row(at.rows, detail::gather_gate<C>{entries, gate});
      const auto p = detail::tensors_of_kind<const S>(kind, scratch.tables.weights, plan, at);
      detail::block_targets<C, detail::parameter_count<kind_type>> written(kind, scratch.tables, plan, at);
      const auto& dp = written.targets();
      const auto saved = detail::row_matrices<const C>(kind.saved(), record.saved, at.first, at.rows);
      const auto temporaries = temporaries_of(kind, scratch, at);
      if constexpr (detail::has_gated_backward<kind_type>) {
        kind.backward(ops, p, rows_of<C>(x, plan, at), saved, temporaries,
                      gated_gradient<C, DY>{dout, gate, dgate_rows}, din, dp);
      } else {
        const auto scaled = scratch.rows.row_block(at.scratch, at.rows).column_block(scratch.gathered, width());
        ops.each_row(at.rows, detail::gate_from_output<C, DY>{record.outputs.row_block(at.first, at.rows), dout, gate,
                                                              dgate_rows, scaled});
        kind.backward(ops, p, rows_of<C>(x, plan, at), saved, temporaries, matrix_view<const C>(scaled), din, dp);
      }
      ops.each_row(at.rows, detail::scatter_gate<C>{entries, dgate_rows, dgate});
      written.settle(ops);
    });
    batch_ops.each_row(r.tokens(), detail::sum_rows<C, DX>{plan, scratch.out, dx});
  }

 private:
  static void check_sizes(index_t tokens, index_t entries) {
    detail::require(
        tokens >= 0 && tokens <= (std::numeric_limits<std::int32_t>::max)() && entries >= 0 &&
            entries <= detail::largest_width,
        "executor",
        [&] {
          return "memory for " + std::to_string(tokens) + " tokens with " + std::to_string(entries) +
                 " entries was asked for";
        },
        "ask for 0 or more, and for no more than 2147483647 tokens");
  }
  static void check_memory(bool owned, std::string_view what, std::string_view maker) {
    if (!detail::on_host<BackendT>) detail::check_external(owned, "executor", what, maker);
  }
  template <Storage S>
  void check_weights(const parameters<S>& weights) const {
    detail::check_experts(weights.layout(), experts());
    check_memory(weights.owned() && weights.layout().elements() > 0, "the weights", "make_parameters");
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

  /// Calls `body(ops, kind, block)` until all rows of the plan have been in one block.
  template <Storage S, class C, class Body>
  void each_block(const dispatch_plan& plan, index_t entries, const expert_scratch<C>& scratch,
                  const Body& body) const {
    backend_.template each_block<S>(
        plan, entries, vector_view<const std::int32_t>{kinds_where_read(scratch.tables), experts()},
        static_cast<index_t>(pool_type::kinds),
        block_scratch<C>{scratch.rows.column_block(0, scratch.gathered), scratch.conversion},
        [&](const auto& ops, index_t kind, const plan_block& at) {
          pool_.visit_kind(static_cast<std::size_t>(kind), [&](const auto& expert) { body(ops, expert, at); });
        });
  }

  template <class C>
  static detail::block_entries<C> entries_of(const routing<C>& r, const dispatch_plan& plan, const plan_block& at) {
    return {r, plan.row_token, plan.row_entry, at.first};
  }
  template <class C, class X>
  static token_rows<X, C> rows_of(const matrix_view<const X>& x, const dispatch_plan& plan, const plan_block& at) {
    return {x, {plan.row_token.data + at.first, at.rows}};
  }
  template <class E, class C>
  auto temporaries_of(const E& kind, const expert_scratch<C>& scratch, const plan_block& at) const {
    return detail::row_matrices<C>(kind.temporaries(), scratch.rows, at.scratch, at.rows,
                                   scratch.rows.cols - temporary_columns_);
  }

  const std::int32_t* kinds_where_read(const detail::grouped_tables& tables) const {
    return detail::on_host<BackendT> ? kinds_.data() : tables.kind_of;
  }
  /// Has the weights' addresses and the kinds of experts where the backend reads them.
  template <Storage S>
  void send_weights(const parameters<S>& weights, detail::grouped_tables& tables) const {
    if constexpr (!detail::on_host<BackendT>)
      if (!tables.kinds_sent) {
        backend_.upload(std::span<const std::int32_t>(kinds_), tables.kind_of);
        tables.kinds_sent = true;
      }
    send(tables.weights, weights.layout(), [&](index_t tensor) { return const_cast<S*>(weights[tensor].data); });
  }
  template <class F>
  void send(detail::pointer_table& table, const parameter_layout& layout, const F& address) const {
    const bool changed = detail::list_addresses(table.sent, layout, most_tensors_, address);
    if constexpr (detail::on_host<BackendT>) {
      table.there = table.sent.data();
    } else if (changed) {
      try {
        backend_.upload(std::span<void* const>(table.sent), table.there);
      } catch (...) {
        table.sent.clear();  // whatever is there is not this
        throw;
      }
    }
  }

  pool_type pool_;
  BackendT backend_;
  std::vector<std::int32_t> kinds_;
  std::shared_ptr<const parameter_layout> layout_;
  index_t saved_columns_ = 0;
  index_t temporary_columns_ = 0;
  index_t largest_ = 0;
  index_t most_tensors_ = 0;  // of one expert
};

}  // namespace moue::inline v0_1
