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
#include <string>
#include <utility>
#include <vector>

#include "moue/backend.hpp"
#include "moue/executor/rows.hpp"
#include "moue/expert.hpp"

namespace moue {

/// What a forward run leaves for its backward run: the plan, the activations the experts asked for, and, for experts
/// whose `backward` takes gated gradients only in the plain form, their outputs. Views of caller memory.
template <class C>
struct expert_record {
  dispatch_plan plan;
  vector_view<C> kept;
  matrix_view<C> outputs;
};

/// Scratch of one run; contents do not matter between runs. Views of caller memory.
template <class C>
struct expert_scratch {
  matrix_view<C> in;           ///< [entries, width] gathered inputs
  matrix_view<C> out;          ///< [entries, width] outputs, or input gradients
  matrix_view<C> dout;         ///< [entries, width] gathered output gradients
  vector_view<C> gate;         ///< [entries]
  vector_view<C> dgate;        ///< [entries]
  vector_view<C> temporaries;  ///< what the experts asked for
  matrix_view<C> conversion;   ///< [workers, elements of the largest weight], no columns if nothing is converted
};

/// Memory for one batch through an executor that is used on its own.
template <class C>
struct expert_memory {
  expert_record<C> record;
  expert_scratch<C> scratch;
};

/// A pool of physical experts on a backend. Immutable; weights, records and scratch are arguments, so that one executor
/// serves many threads. `S` below is the storage type of the weights, `C = compute_t<S>` that of all arithmetic.
template <class ExpertT, class BackendT>
class executor {
  static_assert(detail::check_experts_of<ExpertT>::run() && check_backend<BackendT>());
  using pool_type = typename detail::pool_of<ExpertT>::type;

 public:
  /// `experts` physical experts, all of the one kind or as the pool says.
  executor(ExpertT expert, index experts, BackendT backend)
      : pool_(detail::pool_of<ExpertT>::make(std::move(expert))), backend_(std::move(backend)) {
    detail::require(
        pool_.width() > 0, "executor", [&] { return "experts have width " + std::to_string(pool_.width()); },
        "give them a positive width");
    for (index e = 0; e < experts; ++e) kinds_.push_back(pool_.kind_of(e));
    pool_.for_each_kind([&](std::size_t, const auto& kind) {
      kept_width_ = std::max(kept_width_, total(kind.kept()));
      temporary_width_ = std::max(temporary_width_, total(kind.temporaries()));
      for (const auto& spec : kind.parameters()) largest_ = std::max(largest_, spec.rows * spec.cols);
    });
  }

  index width() const { return pool_.width(); }
  index experts() const { return static_cast<index>(kinds_.size()); }
  const BackendT& backend() const { return backend_; }
  const pool_type& pool() const { return pool_; }

  /// Appends the experts' tensors, "experts.<id>.<name>", to `layout`.
  void describe(parameter_layout& layout) const {
    for (index e = 0; e < experts(); ++e) {
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
  std::size_t workspace_bytes(index tokens, index entries) const {
    arena counter;
    take_memory<S>(counter, tokens, entries);
    return counter.bytes();
  }
  /// Carves that memory; it stays valid as long as `block` does.
  template <Storage S>
  expert_memory<compute_t<S>> carve(workspace& block, index tokens, index entries) const {
    arena memory(block.bytes());
    return take_memory<S>(memory, tokens, entries);
  }

  /// Memory that one forward run fills for its backward run.
  template <class C>
  expert_record<C> take_record(arena& memory, index tokens, index entries) const {
    expert_record<C> record;
    record.plan = dispatch_plan::take(memory, tokens, entries, experts());
    record.kept = memory.take<C>(entries * kept_width_, "kept activations");
    record.outputs = memory.take<C>(needs_outputs ? entries : 0, width(), "expert outputs");
    return record;
  }
  template <Storage S>
  expert_scratch<compute_t<S>> take_scratch(arena& memory, index entries, bool training) const {
    using C = compute_t<S>;
    expert_scratch<C> scratch;
    scratch.in = memory.take<C>(entries, width(), "expert inputs");
    scratch.out = memory.take<C>(entries, width(), "expert outputs");
    scratch.dout = memory.take<C>(training ? entries : 0, width(), "expert output gradients");
    scratch.gate = memory.take<C>(entries, "row gates");
    scratch.dgate = memory.take<C>(training ? entries : 0, "row gate gradients");
    scratch.temporaries = memory.take<C>(entries * temporary_width_, "expert temporaries");
    scratch.conversion = take_conversion<S>(memory, largest_);
    return scratch;
  }
  /// Scratch for weights of up to `elements` that are stored in a narrower type than they are computed in.
  template <Storage S>
  matrix_view<compute_t<S>> take_conversion(arena& memory, index elements) const {
    return memory.take<compute_t<S>>(backend_.workers(), std::is_same_v<S, compute_t<S>> ? 0 : elements,
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
                matrix_view<DX> dx, vector_view<C> dgate, gradients<C>& into, const expert_memory<C>& memory) const {
    backward<S, std::remove_const_t<X>, std::remove_const_t<DY>, DX, C>(r, weights, x, dy, dx, dgate, into,
                                                                        memory.record, memory.scratch);
  }

  /// y[t] = sum over t's assignments, by ascending expert id, of gate · expert(x[t]). `x` and `y` are [tokens, width] and
  /// may be of any element type that converts; `y` is assigned, also where a token has no assignment. Throws if shapes,
  /// weights or memory do not fit, or if the routing breaks its rules.
  template <Storage S, class X, class Y, class C = compute_t<S>>
  void forward(const routing<C>& r, const parameters<S>& weights, matrix_view<const X> x, matrix_view<Y> y,
               expert_record<C>& record, const expert_scratch<C>& scratch) const {
    check(r, weights.layout(), record);
    check_matrix("x", x, r.tokens());
    check_matrix("y", y, r.tokens());
    const auto ops = backend_.operations(scratch.conversion);
    backend_.dispatch(r, record.plan);
    const auto& plan = record.plan;
    const bool keep_outputs = needs_outputs && !record.outputs.empty();
    const matrix_view<C> out = keep_outputs ? record.outputs : scratch.out;
    backend_.each_group(plan, scratch.conversion, [&](const auto& group, index e, index first, index rows) {
      pool_.visit_kind(kinds_[static_cast<std::size_t>(e)], [&](const auto& kind) {
        const auto in = scratch.in.row_block(first, rows);
        group.each_row(rows, detail::gather_tokens<C, X>{x, plan.row_token, first, in});
        kind.forward(group, weights_of<S>(kind, weights, e), matrix_view<const C>(in),
                     matrices<C>(kind.kept(), record.kept, kept_width_, first, rows),
                     matrices<C>(kind.temporaries(), scratch.temporaries, temporary_width_, first, rows),
                     out.row_block(first, rows));
      });
    });
    ops.each_row(r.tokens(), detail::combine<C, Y>{plan, r.gate, out, y});
  }

  /// After `forward` with the same routing, weights, x and record: assigns `dx` [tokens, width] and `dgate` [entries, 0
  /// where empty], adds to `into` and marks the experts touched. `x` and `dy` must still be what they were.
  template <Storage S, class X, class DY, class DX, class C = compute_t<S>>
  void backward(const routing<C>& r, const parameters<S>& weights, matrix_view<const X> x, matrix_view<const DY> dy,
                matrix_view<DX> dx, vector_view<C> dgate, gradients<C>& into, const expert_record<C>& record,
                const expert_scratch<C>& scratch) const {
    check(r, weights.layout(), record);
    check(r, into.layout(), record);
    check_matrix("x", x, r.tokens());
    check_matrix("dy", dy, r.tokens());
    check_matrix("dx", dx, r.tokens());
    detail::require(
        dgate.size == r.entries(), "executor",
        [&] { return "dgate has " + std::to_string(dgate.size) + " entries for " + std::to_string(r.entries()); },
        "give one per routing entry");
    detail::require(
        scratch.dgate.size >= r.entries(), "executor",
        [] { return std::string("the scratch was taken for inference"); }, "take it for training");
    const auto ops = backend_.operations(scratch.conversion);
    const auto& plan = record.plan;
    for (index e = 0; e < experts(); ++e)
      if (plan.expert_rows(e) > 0) into.touch(e);
    ops.each_row(dgate.size, detail::clear_entry<C>{dgate});
    backend_.each_group(plan, scratch.conversion, [&](const auto& group, index e, index first, index rows) {
      pool_.visit_kind(kinds_[static_cast<std::size_t>(e)], [&](const auto& kind) {
        using kind_type = std::remove_cvref_t<decltype(kind)>;
        const auto in = scratch.in.row_block(first, rows);
        const auto dout = scratch.dout.row_block(first, rows);
        const auto din = scratch.out.row_block(first, rows);
        const vector_view<C> gate{scratch.gate.data + first, rows};
        const vector_view<C> dgate_rows{scratch.dgate.data + first, rows};
        group.each_row(rows, detail::gather_tokens<C, X>{x, plan.row_token, first, in});
        group.each_row(rows, detail::gather_tokens<C, DY>{dy, plan.row_token, first, dout});
        group.each_row(rows, detail::gather_gate<C>{r.gate, plan.row_entry, first, gate});
        const auto p = weights_of<S>(kind, weights, e);
        const auto dp = gradients_of(kind, into, e);
        const auto kept = matrices<const C>(kind.kept(), record.kept, kept_width_, first, rows);
        const auto temporaries = matrices<C>(kind.temporaries(), scratch.temporaries, temporary_width_, first, rows);
        if constexpr (detail::has_gated_backward<kind_type>) {
          kind.backward(group, p, matrix_view<const C>(in), kept, temporaries,
                        gated_gradient<C>{dout, gate, dgate_rows}, din, dp);
        } else {
          group.each_row(rows,
                         detail::gate_from_output<C>{record.outputs.row_block(first, rows), gate, dout, dgate_rows});
          kind.backward(group, p, matrix_view<const C>(in), kept, temporaries, matrix_view<const C>(dout), din, dp);
        }
        group.each_row(rows, detail::scatter_gate<C>{dgate_rows, plan.row_entry, first, dgate});
      });
    });
    ops.each_row(r.tokens(), detail::sum_rows<C, DX>{plan, scratch.out, dx});
  }

 private:
  template <class C>
  void check(const routing<C>& r, const parameter_layout& layout, const expert_record<C>& record) const {
    constexpr auto where = "executor";
    const index named = r.offsets.size > 0 ? r.offsets[r.tokens()] : 0;
    detail::require(
        r.expert.size == named && r.gate.size == named, where,
        [&] {
          return "the routing's offsets end at " + std::to_string(named) + ", but it has " +
                 std::to_string(r.expert.size) + " experts and " + std::to_string(r.gate.size) + " gates";
        },
        "give one expert and one gate per entry");
    detail::require(
        named <= record.plan.row_token.size && r.tokens() < record.plan.token_offsets.size, where,
        [&] {
          return std::to_string(r.tokens()) + " tokens with " + std::to_string(named) +
                 " entries were given to memory for " + std::to_string(record.plan.token_offsets.size - 1) + " with " +
                 std::to_string(record.plan.row_token.size);
        },
        "take memory for the largest batch");
    detail::require(
        layout.experts() == experts(), where,
        [&] {
          return "the weights or gradients hold " + std::to_string(layout.experts()) + " experts, not " +
                 std::to_string(experts());
        },
        "create them from this executor's layout()");
  }
  template <class T>
  void check_matrix(const char* name, const matrix_view<T>& m, index tokens) const {
    detail::require(
        m.rows == tokens && m.cols == width() && m.stride >= m.cols && (m.data != nullptr || m.empty()), "executor",
        [&] {
          return std::string(name) + " has shape " + detail::shape_text(m.rows, m.cols) + ", not " +
                 detail::shape_text(tokens, width()) + ", or is null or overlaps itself";
        },
        "give [tokens, width] with the tokens of the routing");
  }

  template <Storage S>
  expert_memory<compute_t<S>> take_memory(arena& memory, index tokens, index entries) const {
    using C = compute_t<S>;
    return {take_record<C>(memory, tokens, entries), take_scratch<S>(memory, entries, true)};
  }

  template <class... Es>
  static constexpr bool outputs_needed(const expert_pool<Es...>*) {
    return (!detail::has_gated_backward<Es> || ...);
  }
  static constexpr bool needs_outputs = outputs_needed(static_cast<const pool_type*>(nullptr));

  static index total(const auto& widths) {
    index sum = 0;
    for (const index width : widths) sum += width;
    return sum;
  }

  /// The row matrices of one expert, side by side in its part of a flat buffer with `width` elements a row.
  template <class T, std::size_t N, class C>
  static std::array<matrix_view<T>, N> matrices(const std::array<index, N>& widths, vector_view<C> buffer, index width,
                                                index first, index rows) {
    std::array<matrix_view<T>, N> result;
    auto* at = buffer.data + first * width;
    for (std::size_t i = 0; i < N; ++i) {
      result[i] = {at, rows, widths[i]};
      at += rows * widths[i];
    }
    return result;
  }

  template <Storage S, class E>
  static auto weights_of(const E&, const parameters<S>& weights, index e) {
    std::array<matrix_view<const S>, detail::parameter_count<E>> result;
    const index first = weights.layout().expert_first(e);
    for (std::size_t i = 0; i < result.size(); ++i) result[i] = weights[first + static_cast<index>(i)];
    return result;
  }
  template <class C, class E>
  static auto gradients_of(const E&, gradients<C>& into, index e) {
    std::array<matrix_view<C>, detail::parameter_count<E>> result;
    const index first = into.layout().expert_first(e);
    for (std::size_t i = 0; i < result.size(); ++i) result[i] = into[first + static_cast<index>(i)];
    return result;
  }

  pool_type pool_;
  BackendT backend_;
  std::vector<std::size_t> kinds_;
  index kept_width_ = 0;
  index temporary_width_ = 0;
  index largest_ = 0;
};

}  // namespace moue
