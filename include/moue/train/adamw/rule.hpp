// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What AdamW does to one number.

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

#include "moue/error.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {

/// How `adamw` steps. Throws on what is out of range when the optimiser is made.
struct adamw_options {
  double beta1 = 0.9;         ///< of the mean of gradients, at least 0 and less than 1
  double beta2 = 0.95;        ///< usual for language models; 0.999 elsewhere
  double epsilon = 1e-8;      ///< at least 0
  double weight_decay = 0.1;  ///< only for tensors that are `decayed`
  /// Whether tensors whose gradient is not live, such as those of experts that no token reached, are left as they are:
  /// neither their moments nor their weights decay, and their bias correction counts only the steps they took part in. If
  /// false they see a gradient of zero. Tensors whose gradient is not wanted are always left as they are.
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

/// What changes from step to step and from tensor to tensor.
template <class C>
struct adamw_step {
  C rate = C(0), root = C(0);  // rate = learning rate / (1 - beta1^step), root = 1 / sqrt(1 - beta2^step)
  C keep = C(0);               // 1 - learning rate * decay

  MOUE_HD static adamw_step of(const adamw_options& o, double learning_rate, std::int64_t step, bool decayed) {
    using std::pow;
    using std::sqrt;
    return {static_cast<C>(learning_rate / (1 - pow(o.beta1, static_cast<double>(step)))),
            static_cast<C>(1 / sqrt(1 - pow(o.beta2, static_cast<double>(step)))),
            static_cast<C>(decayed ? 1 - learning_rate * o.weight_decay : 1.0)};
  }
};

template <class C>
struct adamw_rule {
  C beta1, rest1, beta2, rest2;  // rest = 1 - beta, rounded once
  C epsilon;

  explicit adamw_rule(const adamw_options& o)
      : beta1(static_cast<C>(o.beta1)),
        rest1(static_cast<C>(1 - o.beta1)),
        beta2(static_cast<C>(o.beta2)),
        rest2(static_cast<C>(1 - o.beta2)),
        epsilon(static_cast<C>(o.epsilon)) {}

  /// The weight after the step; `m` and `v` are the moments.
  MOUE_HD C operator()(const adamw_step<C>& now, C w, C gradient, C& m, C& v) const {
    using std::sqrt;
    const C first = m = beta1 * m + rest1 * gradient;
    const C second = v = beta2 * v + rest2 * gradient * gradient;
    const C scale = now.root * sqrt(second) + epsilon;
    // With epsilon 0 and nothing but zero gradients so far, 0/0 would poison the weight.
    return now.keep * w - (scale > C(0) ? now.rate * first / scale : C(0));
  }
};

template <class C>
struct adamw_element {
  matrix_view<C> w;
  matrix_view<const C> g;  // empty: zeros
  matrix_view<C> m;
  matrix_view<C> v;
  adamw_rule<C> rule;
  adamw_step<C> now;

  adamw_element(const adamw_options& o, double learning_rate, std::int64_t step, bool decayed, matrix_view<C> weight,
                matrix_view<const C> gradient, matrix_view<C> first, matrix_view<C> second)
      : w(weight), g(gradient), m(first), v(second), rule(o), now(adamw_step<C>::of(o, learning_rate, step, decayed)) {}

  MOUE_HD void operator()(index_t i, index_t j) const {
    w(i, j) = rule(now, w(i, j), g.data != nullptr ? g(i, j) : C(0), m(i, j), v(i, j));
  }
};

}  // namespace detail
}  // namespace moue::inline v0_1
