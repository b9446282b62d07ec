// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// AdamW: adaptive moments with decoupled weight decay.

#include <cmath>
#include <cstdint>
#include <span>
#include <string>

#include "moue/backend/reference.hpp"
#include "moue/train.hpp"

namespace moue {

struct adamw_options {
  double beta1 = 0.9;
  double beta2 = 0.95;  ///< usual for language models; 0.999 elsewhere
  double epsilon = 1e-8;
  double weight_decay = 0.1;  ///< only for tensors that are `decayed`
  /// Whether the tensors of experts that no token reached are left as they are: neither their moments nor their weights
  /// decay, and their bias correction counts only the steps they took part in. If false they see a gradient of zero.
  bool skip_untouched = true;
};

namespace detail {

inline void check_options(const adamw_options& options, std::string_view where) {
  const auto is_rate = [](double beta) { return beta >= 0 && beta < 1; };
  require(
      is_rate(options.beta1) && is_rate(options.beta2), where,
      [&] { return "beta1 is " + std::to_string(options.beta1) + ", beta2 is " + std::to_string(options.beta2); },
      "give both at least 0 and less than 1");
  require(
      options.epsilon >= 0 && options.weight_decay >= 0, where,
      [&] {
        return "epsilon is " + std::to_string(options.epsilon) + ", weight_decay is " +
               std::to_string(options.weight_decay);
      },
      "give neither a negative value");
}

template <class C>
struct adamw_element {
  matrix_view<C> w;
  matrix_view<const C> g;
  matrix_view<C> m;
  matrix_view<C> v;
  C beta1, rest1, beta2, rest2;  // rest = 1 - beta, rounded once
  C rate, root, epsilon;         // rate = learning rate / (1 - beta1^step), root = 1 / sqrt(1 - beta2^step)
  C keep;                        // 1 - learning rate * decay

  adamw_element(const adamw_options& o, double learning_rate, std::int64_t step, bool decayed, matrix_view<C> weight,
                matrix_view<const C> gradient, matrix_view<C> first, matrix_view<C> second)
      : w(weight),
        g(gradient),
        m(first),
        v(second),
        beta1(static_cast<C>(o.beta1)),
        rest1(static_cast<C>(1 - o.beta1)),
        beta2(static_cast<C>(o.beta2)),
        rest2(static_cast<C>(1 - o.beta2)),
        rate(static_cast<C>(learning_rate / (1 - std::pow(o.beta1, static_cast<double>(step))))),
        root(static_cast<C>(1 / std::sqrt(1 - std::pow(o.beta2, static_cast<double>(step))))),
        epsilon(static_cast<C>(o.epsilon)),
        keep(static_cast<C>(decayed ? 1 - learning_rate * o.weight_decay : 1.0)) {}

  MOUE_HD void operator()(index i, index j) const {
    using std::sqrt;
    const C gradient = g(i, j);
    const C first = m(i, j) = beta1 * m(i, j) + rest1 * gradient;
    const C second = v(i, j) = beta2 * v(i, j) + rest2 * gradient * gradient;
    const C scale = root * sqrt(second) + epsilon;
    // With epsilon 0 and nothing but zero gradients so far, 0/0 would poison the weight.
    w(i, j) = keep * w(i, j) - (scale > C(0) ? rate * first / scale : C(0));
  }
};

}  // namespace detail

/// m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
/// w <- (1 - rate decay) w - rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon), with t counted per tensor.
///
/// Two numbers of the compute type per weight, and a third (the master copy) if weights are stored narrower.
/// Gradients are taken as they are: clip them, or leave a step out when their norm is not finite (train/clip.hpp).
/// Loshchilov and Hutter, arXiv 1711.05101. An `Optimiser`.
template <Storage S>
class adamw {
 public:
  using compute_type = compute_t<S>;

  /// Moments of zero for the layout of `weights`. Throws on options out of range.
  explicit adamw(const parameters<S>& weights, adamw_options options = {})
      : options_(options), state_(weights, "adamw"), first_(state_.layout()), second_(state_.layout()) {
    detail::check_options(options, "adamw");
  }

  void step(parameters<S>& weights, const gradients<compute_type>& grads, double learning_rate) {
    step(reference_operations{}, weights, grads, learning_rate);
  }
  template <class Ops>
  void step(const Ops& ops, parameters<S>& weights, const gradients<compute_type>& grads, double learning_rate) {
    state_.each(ops, weights, grads, learning_rate, options_.skip_untouched,
                [&](index i, std::int64_t t, matrix_view<compute_type> w) {
                  const auto& info = (*state_.layout())[i];
                  ops.each_element(info.rows, info.cols,
                                   detail::adamw_element<compute_type>(options_, learning_rate, t, info.decayed, w,
                                                                       grads[i], first_[i], second_[i]));
                });
  }

  void adopt(const parameters<S>& weights) { state_.adopt(weights); }
  /// "first_moment", "second_moment", and "master" if there is one.
  template <class F>
  void visit(F&& f) {
    f("first_moment", first_);
    f("second_moment", second_);
    if constexpr (detail::training_state<S>::has_master) f("master", state_.master());
  }
  std::span<std::int64_t> steps() { return state_.steps(); }

  parameters<compute_type>& first_moment() { return first_; }
  parameters<compute_type>& second_moment() { return second_; }

 private:
  adamw_options options_;
  detail::training_state<S> state_;
  parameters<compute_type> first_;
  parameters<compute_type> second_;
};

}  // namespace moue
