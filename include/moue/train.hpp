// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Optimiser: what changes weights by their gradients. The contract, and the state that every optimiser has.

#include <cmath>
#include <concepts>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "moue/error.hpp"
#include "moue/gradients.hpp"
#include "moue/operations.hpp"
#include "moue/parameter.hpp"

namespace moue::inline v0_1 {
namespace detail {

struct visitor_archetype {
  template <class C>
  void operator()(std::string_view, parameters<C>&) const {}
};

}  // namespace detail

/// Changes weights stored as `S` by their gradients, and remembers what that takes in memory of its own.
///
///     void step(parameters<S>& weights, const gradients<C>& grads, double learning_rate);
///     void step(const auto& ops, ...the same...);  // with the bulk operations of a backend
///     void adopt(const parameters<S>& weights);    // after the weights were changed by anything but `step`
///     void visit(auto f);                          // f(std::string_view name, parameters<C>& values)
///     std::span<std::int64_t> steps();             // updates so far, one number per tensor
///
/// `step` allocates nothing, leaves tensors that are not `trained`, or whose gradient is not wanted, alone, reads gradients
/// that are live and no others, and decays only tensors that are `decayed`. Weights in read-only memory are refused. What
/// `visit` and `steps` show is all that is remembered: put back into an optimiser built alike, it resumes bit for bit.
/// Weights stored in a narrower type than they are computed in have a master copy in the compute type; `step` changes
/// the master and rounds it into the weights, so that updates below the storage's resolution are not lost.
template <class O, class S>
concept Optimiser = Storage<S> && std::copyable<O> &&
    requires(O o, parameters<S>& weights, const parameters<S>& source, const gradients<compute_t<S>>& grads,
             const detail::archetype_operations& ops) {
  o.step(weights, grads, 0.0);
  o.step(ops, weights, grads, 0.0);
  o.adopt(source);
  o.visit(detail::visitor_archetype{});
  { o.steps() } -> std::same_as<std::span<std::int64_t>>;
};

namespace detail {

template <class S, class C>
struct round_element {
  matrix_view<const C> from;
  matrix_view<S> to;
  MOUE_HD void operator()(index_t i, index_t j) const { to(i, j) = S(from(i, j)); }
};

inline void require_same_tensors(const parameter_layout& mine, const parameter_layout& other, std::string_view where,
                                 std::string_view whose) {
  const auto what = [&] {
    std::string text(whose);
    for (index_t i = 0; i < mine.tensors() && i < other.tensors(); ++i)
      if (mine[i].rows != other[i].rows || mine[i].cols != other[i].cols || mine[i].expert != other[i].expert)
        return text + " have '" + other[i].name + "' " + shape_text(other[i].rows, other[i].cols) +
               " where the optimiser has '" + mine[i].name + "' " + shape_text(mine[i].rows, mine[i].cols);
    return text + " have " + std::to_string(other.tensors()) + " tensors, the optimiser has " +
           std::to_string(mine.tensors());
  };
  require(mine.same_shapes(other), where, what,
          "build the optimiser from the weights it is to train, and the gradients from the same layout");
}

/// The part of an optimiser that does not depend on its rule: which tensors are due, their step counts, and the master
/// copy of narrow weights.
template <Storage S>
class training_state {
 public:
  using compute_type = compute_t<S>;
  static constexpr bool has_master = !std::is_same_v<S, compute_type>;

  training_state(const parameters<S>& weights, std::string_view where)
      : layout_(layout_of(weights, where)), where_(where) {
    steps_.assign(static_cast<std::size_t>(layout_->tensors()), 0);
    if constexpr (has_master) master_ = parameters<compute_type>(layout_);
    adopt(weights);
  }
  /// In external memory, as it is found there; `master` is looked at only if there is one.
  training_state(std::shared_ptr<const parameter_layout> layout, std::string_view where,
                 vector_view<std::int64_t> steps, std::span<compute_type* const> master)
      : layout_(std::move(layout)), where_(where), external_steps_(steps) {
    if constexpr (has_master) master_ = parameters<compute_type>(layout_, master);
  }

  const std::shared_ptr<const parameter_layout>& layout() const { return layout_; }
  std::span<std::int64_t> steps() {
    if (external_steps_.data != nullptr) return {external_steps_.begin(), external_steps_.end()};
    return steps_;
  }
  parameters<compute_type>& master() { return master_; }

  void check(const parameters<S>& weights, const gradients<compute_type>& grads, double learning_rate) const {
    require_layout(layout_, where_, "the optimiser's moments");
    require_same_tensors(*layout_, weights.layout(), where_, "the weights");
    require_same_tensors(*layout_, grads.layout(), where_, "the gradients");
    require(
        std::isfinite(learning_rate) && learning_rate >= 0, where_,
        [&] { return "the learning rate is " + std::to_string(learning_rate); }, "pass a finite rate of at least 0");
    for (index_t i = 0; i < layout_->tensors(); ++i)
      require(
          weights.writable(i) || !(*layout_)[i].trained || !grads.wanted(i), where_,
          [&] { return "the weights of '" + (*layout_)[i].name + "' lie in read-only memory"; },
          "give weights that may be written, or gradients that leave this tensor out");
  }

  void adopt(const parameters<S>& weights) {
    require_layout(layout_, where_, "the optimiser's moments");
    require_same_tensors(*layout_, weights.layout(), where_, "the weights");
    if constexpr (has_master)
      for (index_t i = 0; i < layout_->tensors(); ++i)
        for (index_t j = 0; j < (*layout_)[i].size(); ++j)
          master_[i].data[j] = static_cast<compute_type>(weights[i].data[j]);
  }

  /// Calls `update(tensor, step, w, g)` for every tensor that is due: `step` counts from 1, `w` is to be changed, and `g`
  /// is empty where the gradient is zero. Reads marks and counts, so all of it has to lie on the host.
  template <class Ops, class Update>
  void each(const Ops& ops, parameters<S>& weights, const gradients<compute_type>& grads, bool skip_untouched,
            const Update& update) {
    for (index_t i = 0; i < layout_->tensors(); ++i) {
      const auto& info = (*layout_)[i];
      const bool live = grads.live(i);
      if (!info.trained || !grads.wanted(i) || (skip_untouched && !live)) continue;
      const std::int64_t step = ++steps_[static_cast<std::size_t>(i)];
      const matrix_view<const compute_type> g = live ? grads[i] : matrix_view<const compute_type>{};
      if constexpr (has_master) {
        update(i, step, master_[i], g);
        ops.each_element(info.rows, info.cols, round_element<S, compute_type>{master_[i], weights[i]});
      } else {
        update(i, step, weights[i], g);
      }
    }
  }

 private:
  std::shared_ptr<const parameter_layout> layout_;
  std::string_view where_;  // a literal, for errors
  std::vector<std::int64_t> steps_;
  vector_view<std::int64_t> external_steps_;
  parameters<compute_type> master_;
};

}  // namespace detail
}  // namespace moue::inline v0_1
