// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Executor: runs a pool of experts over a routing, forward and backward. Usable with ids and gates from anywhere.

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "moue/backend.hpp"
#include "moue/dispatch/offsets.hpp"
#include "moue/executor/checks.hpp"
#include "moue/executor/memory.hpp"
#include "moue/executor/pool.hpp"
#include "moue/executor/rows.hpp"
#include "moue/executor/tensors.hpp"
#include "moue/expert.hpp"
#include "moue/gradients.hpp"
#include "moue/token_rows.hpp"

namespace moue::inline v0_1 {

/// A pool of physical experts on a backend. Immutable; weights, records and scratch are arguments, so that one executor
/// serves many threads. `S` below is the storage type of the weights, `C = compute_t<S>` that of all arithmetic. Its
/// layout, and the memory that it takes, are members of its base (moue/executor/pool.hpp).
template <class ExpertT, class BackendT>
class executor : public detail::placed_pool<ExpertT, BackendT> {
  using base_type = detail::placed_pool<ExpertT, BackendT>;
  using base_type::backend_, base_type::check_memory, base_type::kinds_, base_type::most_tensors_,
      base_type::needs_outputs, base_type::pool_, base_type::temporary_columns_;
  using typename base_type::pool_type;

 public:
  /// `experts` physical experts, all of the one kind or as the pool says. Throws if an expert declares a size that is not
  /// positive, a negative width, or parameters that share a name.
  executor(ExpertT expert, index_t experts, BackendT backend)
      : base_type(std::move(expert), experts, std::move(backend)) {}

  /// The runs below, with record and scratch from `carve`.
  template <Storage S, class X, class Y, class C = compute_t<S>>
  void forward(const routing<C>& r, const parameters<S>& weights, matrix_view<X> x, matrix_view<Y> y,
               expert_memory<C>& memory) const {
    forward<S, std::remove_const_t<X>, Y, C>(r, weights, x, y, memory.record, memory.scratch);
  }
  /// After `forward` with the same memory.
  template <Storage S, class X, class DY, class DX, class C = compute_t<S>>
  void backward(const routing<C>& r, const parameters<S>& weights, matrix_view<X> x, matrix_view<DY> dy,
                matrix_view<DX> dx, vector_view<C> dgate, gradients<C>& into, expert_memory<C>& memory) const {
    backward<S, std::remove_const_t<X>, std::remove_const_t<DY>, DX, C>(r, weights, x, dy, dx, dgate, into,
                                                                        memory.record, memory.scratch);
  }

  /// Does not compile: gradients are in the compute type of the weights.
  template <Storage S, class X, class DY, class DX, class C = compute_t<S>, class Other>
    requires(!std::same_as<C, Other>)
  void backward(const routing<C>&, const parameters<S>&, matrix_view<X>, matrix_view<DY>, matrix_view<DX>,
                vector_view<C>, gradients<Other>&, expert_memory<C>&) const {
    detail::refuse_gradients<Other>();
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
    detail::check_batch("x", x, r.tokens(), this->width());
    detail::check_batch("y", y, r.tokens(), this->width());
    detail::check_overlap("executor", "x", x, "y", y);
    record.tokens = record.entries = -1;
    backend_.dispatch(r, record.plan);
    record.tokens = r.tokens(), record.entries = r.entries();
    const auto& plan = record.plan;
    const index_t rows = most_rows(r.entries(), plan);
    detail::require(
        scratch.gate.size >= rows, "executor",
        [&] {
          return std::to_string(rows) + " entries were given to scratch for " + std::to_string(scratch.gate.size);
        },
        "take scratch for the largest batch", error_kind::memory);
    const matrix_view<C> out = record.outputs.empty() ? scratch.out : record.outputs;
    send_weights(weights, scratch.tables);
    each_block<S>(plan, rows, scratch, [&](const auto& ops, const auto& kind, const plan_block& at) {
      ops.each_row(at.rows, detail::gather_gate<C>{entries_of(r, plan, at), {scratch.gate.data + at.first, at.rows}});
      kind.forward(ops, detail::tensors_of_kind<const S>(kind, scratch.tables.weights, plan, at),
                   rows_of<C>(x, plan, at), detail::row_matrices<C>(kind.saved(), record.saved, at.first, at.rows),
                   temporaries_of(kind, scratch, at), out.row_block(at.first, at.rows));
    });
    backend_.operations(scratch.conversion).each_row(r.tokens(), detail::combine<C, Y>{plan, scratch.gate, out, y});
  }

  /// After `forward` with the same routing, weights, x and record: assigns `dx` [tokens, width] and `dgate` [entries, 0
  /// where empty], writes the gradients that `into` wants: the first write of a tensor since `reset` assigns. `x` and
  /// `dy` must still be what they were. `doutputs` [rows, width], in the order of the plan, is a further gradient of the
  /// experts' outputs, for records and scratch that were taken to show them.
  template <Storage S, class X, class DY, class DX, class C = compute_t<S>, class Extra = detail::no_extra>
  void backward(const routing<C>& r, const parameters<S>& weights, matrix_view<const X> x, matrix_view<const DY> dy,
                matrix_view<DX> dx, vector_view<C> dgate, gradients<C>& into, const expert_record<C>& record,
                expert_scratch<C>& scratch, const Extra& doutputs = {}) const {
    constexpr bool extra = !std::is_same_v<Extra, detail::no_extra>;
    detail::check_routing(r, record);
    detail::check_ran(r, record);
    if constexpr (detail::on_host<BackendT>) detail::check_offsets(r.offsets, r.entries());
    check_weights(weights);
    detail::check_experts(into.layout(), this->experts());
    check_memory(into.owns_marks() && this->experts() > 0, "the gradients", "make_gradients");
    detail::check_batch("x", x, r.tokens(), this->width());
    detail::check_batch("dy", dy, r.tokens(), this->width());
    detail::check_batch("dx", dx, r.tokens(), this->width());
    detail::check_overlap("executor", "dy", dy, "dx", dx);
    detail::require(
        dgate.size == r.entries() && (dgate.data != nullptr || dgate.size == 0), "executor",
        [&] {
          return "dgate has " + std::to_string(dgate.size) + " entries for " + std::to_string(r.entries()) +
                 (dgate.data == nullptr ? " and is null" : "");
        },
        "give one per routing entry");
    const index_t rows = most_rows(r.entries(), record.plan);
    detail::require(
        scratch.dgate.size >= rows, "executor",
        [] { return std::string("the scratch was taken for inference, or for fewer entries"); },
        "take it for training and for the largest batch", error_kind::memory);
    const auto batch_ops = backend_.operations(scratch.conversion);
    const auto& plan = record.plan;
    batch_ops.each_row(dgate.size, detail::clear_entry<C>{dgate});
    send_weights(weights, scratch.tables);
    send(scratch.tables.gradients, into.layout(), [&](index_t tensor) { return into[tensor].data; });
    send(scratch.tables.marks, into.layout(), [&](index_t tensor) { return into.marks().data + tensor; });
    each_block<S>(plan, rows, scratch, [&](const auto& ops, const auto& kind, const plan_block& at) {
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
      if constexpr (extra) {
        const auto scaled = scratch.rows.row_block(at.scratch, at.rows).column_block(scratch.gathered, this->width());
        ops.each_row(at.rows, detail::gate_from_output<C, DY, Extra>{record.outputs.row_block(at.first, at.rows), dout,
                                                                     gate, dgate_rows, scaled, doutputs, at.first});
        ops.each_row(at.rows, detail::scatter_gate<C>{entries, dgate_rows, dgate});
        ops.each_row(at.rows, detail::unit_entry<C>{gate});
        const token_rows<C, C> dscaled{matrix_view<const C>(scaled)};
        if constexpr (detail::has_gated_backward<kind_type>)
          kind.backward(ops, p, rows_of<C>(x, plan, at), saved, temporaries,
                        gated_gradient<C, C>{dscaled, gate, dgate_rows}, din, dp);
        else
          kind.backward(ops, p, rows_of<C>(x, plan, at), saved, temporaries, matrix_view<const C>(scaled), din, dp);
      } else if constexpr (detail::has_gated_backward<kind_type>) {
        kind.backward(ops, p, rows_of<C>(x, plan, at), saved, temporaries,
                      gated_gradient<C, DY>{dout, gate, dgate_rows}, din, dp);
      } else {
        const auto scaled = scratch.rows.row_block(at.scratch, at.rows).column_block(scratch.gathered, this->width());
        ops.each_row(at.rows, detail::gate_from_output<C, DY>{record.outputs.row_block(at.first, at.rows), dout, gate,
                                                              dgate_rows, scaled});
        kind.backward(ops, p, rows_of<C>(x, plan, at), saved, temporaries, matrix_view<const C>(scaled), din, dp);
      }
      if constexpr (!extra) ops.each_row(at.rows, detail::scatter_gate<C>{entries, dgate_rows, dgate});
      written.settle(ops);
    });
    batch_ops.each_row(r.tokens(), detail::sum_rows<C, DX>{plan, scratch.out, dx});
  }

 private:
  template <Storage S>
  void check_weights(const parameters<S>& weights) const {
    detail::check_experts(weights.layout(), this->experts());
    check_memory(weights.owned() && weights.layout().elements() > 0, "the weights", "make_parameters");
  }

  /// Calls `body(ops, kind, block)` until all rows of the plan have been in one block.
  template <Storage S, class C, class Body>
  void each_block(const dispatch_plan& plan, index_t entries, const expert_scratch<C>& scratch,
                  const Body& body) const {
    backend_.template each_block<S>(
        plan, entries, vector_view<const std::int32_t>{kinds_where_read(scratch.tables), this->experts()},
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

  /// Rows that `entries` assignments can become.
  static index_t most_rows(index_t entries, const dispatch_plan& plan) {
    return (std::min)(entries, plan.row_token.size);
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
};

}  // namespace moue::inline v0_1
