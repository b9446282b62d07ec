// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The pool that an executor runs: its experts and tensors, and the memory that runs of it take.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moue/backend.hpp"
#include "moue/executor/checks.hpp"
#include "moue/executor/memory.hpp"
#include "moue/executor/tensors.hpp"
#include "moue/expert.hpp"
#include "moue/parameter.hpp"
#include "moue/workspace.hpp"

namespace moue::inline v0_1::detail {

/// The part of an executor that runs nothing. Immutable.
template <class ExpertT, class BackendT>
class placed_pool {
  static_assert(check_experts_of<ExpertT>::run() && check_backend<BackendT>());

 protected:
  using pool_type = typename pool_of<ExpertT>::type;

 public:
  placed_pool(ExpertT expert, index_t experts, BackendT backend)
      : pool_(pool_of<ExpertT>::make(std::move(expert))), backend_(std::move(backend)) {
    require(
        pool_.width() > 0 && pool_.width() <= largest_width, "executor",
        [&] { return "experts have width " + std::to_string(pool_.width()); },
        pool_.width() > 0 ? "give them a width up to 2^40" : "give them a positive width");
    require(
        experts >= 0, "executor", [&] { return std::to_string(experts) + " experts were asked for"; },
        "ask for 0 or more");
    for (index_t e = 0; e < experts; ++e) kinds_.push_back(static_cast<std::int32_t>(pool_.kind_of(e)));
    pool_.for_each_kind([&](std::size_t position, const auto& kind) {
      if (std::find(kinds_.begin(), kinds_.end(), static_cast<std::int32_t>(position)) == kinds_.end()) return;
      const auto specs = kind.parameters();
      check_declarations(specs, kind.saved(), kind.temporaries());
      saved_columns_ = (std::max)(saved_columns_, row_width(kind.saved()));
      temporary_columns_ = (std::max)(temporary_columns_, row_width(kind.temporaries()));
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

  /// Memory that one forward run fills for its backward run, of up to `entries` assignments. `show` says whether the
  /// experts' outputs stay in any case, and `most_rows` how many assignments name an expert at most, if not all.
  template <class C>
  expert_record<C> take_record(arena& memory, index_t tokens, index_t entries, bool show = false,
                               index_t most_rows = -1) const {
    expert_record<C> record;
    const index_t rows = most_rows < 0 ? entries : most_rows;
    const index_t scratch = backend_.template needs<C>(entries, experts(), largest_).dispatch;
    record.room = entries;
    record.plan = dispatch_plan::take(memory, tokens, rows, experts(), scratch);
    record.saved = memory.take<C>(rows, saved_columns_, "saved activations");
    record.outputs = memory.take<C>(needs_outputs || show ? rows : 0, width(), "expert outputs");
    return record;
  }
  /// Scratch for runs of up to `rows` assignments that name an expert; `training` says whether `backward` is to run, which
  /// needs more, and `show` whether it is to be given gradients of outputs.
  template <Storage S>
  expert_scratch<compute_t<S>> take_scratch(arena& memory, index_t rows, bool training, bool show = false) const {
    using C = compute_t<S>;
    const block_needs needs = backend_.template needs<S>(rows, experts(), largest_);
    const index_t padded_row = padded(width());
    const auto table = [&](pointer_table& pointers, std::string_view purpose) {
      const auto size = static_cast<std::size_t>(most_tensors_ * experts());
      if (!memory.counting()) pointers.sent.reserve(size);
      if constexpr (!on_host<BackendT>) pointers.there = memory.take<void*>(most_tensors_, experts(), purpose).data;
    };
    expert_scratch<C> scratch;
    scratch.out = memory.take<C>(rows, width(), "expert outputs");
    scratch.gate = memory.take<C>(rows, "row gates");
    scratch.dgate = memory.take<C>(training ? rows : 0, "row gate gradients");
    scratch.gathered = !needs.gathers ? 0 : training ? 2 * padded_row : padded_row;
    scratch.rows = memory.take<C>(
        needs.rows, scratch.gathered + (training && (needs_outputs || show) ? padded_row : 0) + temporary_columns_,
        "expert temporaries");
    scratch.conversion = memory.take<C>(backend_.workers(), needs.converted, "widened weights");
    if constexpr (!on_host<BackendT>)
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

 protected:
  static void check_sizes(index_t tokens, index_t entries) {
    require(
        tokens >= 0 && tokens <= (std::numeric_limits<std::int32_t>::max)() && entries >= 0 && entries <= largest_width,
        "executor",
        [&] {
          return "memory for " + std::to_string(tokens) + " tokens with " + std::to_string(entries) +
                 " entries was asked for";
        },
        "ask for 0 or more, and for no more than 2147483647 tokens");
  }
  static void check_memory(bool owned, std::string_view what, std::string_view maker) {
    if (!on_host<BackendT>) check_external(owned, "executor", what, maker);
  }

  template <Storage S>
  expert_memory<compute_t<S>> take_memory(arena& memory, index_t tokens, index_t entries) const {
    using C = compute_t<S>;
    return {take_record<C>(memory, tokens, entries), take_scratch<S>(memory, entries, true)};
  }

  template <class... Es>
  static constexpr bool outputs_needed(const expert_pool<Es...>*) {
    return (!has_gated_backward<Es> || ...);
  }
  static constexpr bool needs_outputs = outputs_needed(static_cast<const pool_type*>(nullptr));

  pool_type pool_;
  BackendT backend_;
  std::vector<std::int32_t> kinds_;
  std::shared_ptr<const parameter_layout> layout_;
  index_t saved_columns_ = 0;
  index_t temporary_columns_ = 0;
  index_t largest_ = 0;
  index_t most_tensors_ = 0;  // of one expert
};

}  // namespace moue::inline v0_1::detail
