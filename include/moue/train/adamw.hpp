// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// AdamW: adaptive moments with decoupled weight decay.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "moue/backend/reference.hpp"
#include "moue/train.hpp"
#include "moue/train/adamw/resident.hpp"
#include "moue/train/adamw/rule.hpp"

namespace moue::inline v0_1 {

/// m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
/// w <- (1 - rate decay) w - rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon), with t counted per tensor.
///
/// Two numbers of the compute type per weight, and a third (the master copy) if weights are stored narrower.
/// Gradients are taken as they are: clip them, or leave a step out when their norm is not finite (train/clip.hpp,
/// train/gradient_sweep.hpp). Loshchilov and Hutter, arXiv 1711.05101. An `Optimiser`.
template <Storage S>
class adamw {
 public:
  using compute_type = compute_t<S>;

  /// Moments of zero for the layout of `weights`. Throws on options out of range.
  explicit adamw(const parameters<S>& weights, adamw_options options = {})
      : options_(options), state_(weights, where), first_(state_.layout()), second_(state_.layout()) {
    detail::check_options(options, where);
  }

  /// In external `memory`, which lies where the backend's does, as `weights` and `grads` with their marks do. It trains only
  /// these; what it shows lies there as well, and it cannot be copied. `step` and `adopt` then need the backend's operations.
  /// A step waits for nothing and allocates nothing, so that a graph of it can be captured.
  template <class B>
  adamw(const B& backend, parameters<S>& weights, const gradients<compute_type>& grads, workspace& memory,
        adamw_options options = {})
      : adamw(backend, weights, grads, detail::adamw_memory<S>::in(memory, *detail::layout_of(weights, where)),
              options) {}
  /// The addresses of gradients are kept, so a temporary cannot be given.
  template <class B>
  adamw(const B& backend, parameters<S>& weights, const gradients<compute_type>&& grads, workspace& memory,
        adamw_options options = {}) = delete;
  /// Bytes of memory that this takes.
  static std::size_t workspace_bytes(const parameter_layout& layout) {
    arena counter;
    detail::adamw_memory<S>(counter, layout);
    return counter.bytes();
  }

  void step(parameters<S>& weights, const gradients<compute_type>& grads, double learning_rate) {
    refuse_external("give step the operations of that backend");
    step(reference_operations{}, weights, grads, learning_rate);
  }
  /// Does not compile: gradients are in the compute type of the weights.
  template <class Other>
  void step(parameters<S>&, const gradients<Other>&, double) {
    detail::refuse_gradients<Other>();
  }
  template <class Ops>
  void step(const Ops& ops, parameters<S>& weights, const gradients<compute_type>& grads, double learning_rate) {
    state_.check(weights, grads, learning_rate);
    if (resident_) return resident_->step(ops, options_, weights, grads, {learning_rate});
    state_.each(ops, weights, grads, options_.skip_untouched,
                [&](index_t i, std::int64_t t, matrix_view<compute_type> w, matrix_view<const compute_type> g) {
                  const auto& info = (*state_.layout())[i];
                  ops.each_element(info.rows, info.cols,
                                   detail::adamw_element<compute_type>(options_, learning_rate, t, info.decayed, w, g,
                                                                       first_[i], second_[i]));
                });
  }
  /// With a learning rate [1] that lies where the weights do, so that a captured step can be given another one. A rate
  /// that is negative or not finite leaves the step out.
  template <class Ops>
  void step(const Ops& ops, parameters<S>& weights, const gradients<compute_type>& grads,
            vector_view<const double> learning_rate) {
    detail::require(
        learning_rate.size == 1 && learning_rate.data != nullptr, where,
        [&] { return "the learning rate is a list of " + std::to_string(learning_rate.size) + " numbers, or null"; },
        "give one number where the weights lie");
    if (resident_) {
      state_.check(weights, grads, 0);
      resident_->step(ops, options_, weights, grads, {0, learning_rate.data});
    } else if (std::isfinite(learning_rate[0]) && learning_rate[0] >= 0) {
      step(ops, weights, grads, learning_rate[0]);
    }
  }

  void adopt(const parameters<S>& weights) {
    refuse_external("give adopt the operations of that backend");
    state_.adopt(weights);
  }
  template <class Ops>
  void adopt(const Ops& ops, const parameters<S>& weights) {
    if (resident_)
      resident_->adopt(ops, weights);
    else
      state_.adopt(weights);
  }
  /// "first_moment", "second_moment", and "master" if there is one.
  template <class F>
  void visit(F&& f) {
    f("first_moment", first_);
    f("second_moment", second_);
    if constexpr (detail::training_state<S>::has_master) f("master", state_.master());
  }
  std::span<std::int64_t> steps() & { return state_.steps(); }

  /// The running mean of gradients, where the optimiser keeps it.
  parameters<compute_type>& first_moment() & { return first_; }
  /// The running mean of their squares.
  parameters<compute_type>& second_moment() & { return second_; }

 private:
  static constexpr std::string_view where = "adamw";

  template <class B>
  adamw(const B& backend, parameters<S>& weights, const gradients<compute_type>& grads,
        const detail::adamw_memory<S>& memory, const adamw_options& options)
      : options_(options),
        state_(weights.shared_layout(), where, memory.steps, memory.master),
        first_(weights.shared_layout(), memory.first),
        second_(weights.shared_layout(), memory.second) {
    detail::check_options(options, where);
    state_.check(weights, grads, 0);
    resident_.emplace(backend, weights, grads, memory);
  }

  void refuse_external(std::string_view fix) const {
    detail::require(
        !resident_, where, [] { return "what it remembers lies in the memory of a backend"; }, fix);
  }

  adamw_options options_;
  detail::training_state<S> state_;
  parameters<compute_type> first_;
  parameters<compute_type> second_;
  std::optional<detail::resident_adamw<S>> resident_;
};

}  // namespace moue::inline v0_1
