// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What losses of noisy routers share: the noise itself, the normal distribution, and the squared coefficient of variation.
// With nvcc, functors written as lambdas need --extended-lambda.

#include <array>
#include <cmath>
#include <moue/policies.hpp>

namespace published {

/// Noise of deviation 1, by seed, step, layer, token and column.
struct normal_noise {
  MOUE_HD double operator()(const moue::visit& at, moue::index_t token, moue::index_t column) const {
    return moue::normal_at(at, token, column);
  }
};

/// The probability that noise of deviation 1 is below z, and its derivative.
template <class C>
MOUE_HD C normal_below(C z) {
  return std::erfc(-z / std::sqrt(C(2))) / C(2);
}
template <class C>
MOUE_HD C normal_density(C z) {
  return std::exp(-z * z / C(2)) / std::sqrt(C(2) * C(3.14159265358979323846));
}

/// weight · var / mean² over candidates of a number that each token has for each of them, summed over tokens. `Term` has
/// `value(frame, t, j)` and `backward(frame, t, j, d, add)`. Linear in tokens for terms that take as long for each.
template <class Term>
struct variation_of {
  double weight = 0.01;
  Term term = {};

  auto temporaries(moue::layer_shape s) const { return std::array{moue::matrix_shape{2, s.candidates}}; }
  template <class C>
  void layer_value(const auto& ops, const moue::layer_frame<C>& f, moue::vector_view<C> value,
                   const auto& temporary) const {
    vary(ops, f, temporary[0], value.data);
  }
  template <class C>
  void layer_gradient(const auto& ops, const moue::layer_frame<C>& f, moue::vector_view<const C> scale,
                      const moue::routing_gradient<C>& add, const auto& temporary) const {
    const auto slopes = temporary[0].row(1);
    vary(ops, f, temporary[0], static_cast<C*>(nullptr));
    ops.each_row(f.logits.rows, [=, term = term] MOUE_HD(moue::index_t t) {
      for (moue::index_t j = 0; j < f.logits.cols && f.batch.valid[t] != 0; ++j)
        term.backward(f, t, j, scale[0] * slopes[j], add);
    });
  }

 private:
  /// Sums in row 0, and in row 1 the loss's derivative by each.
  template <class C>
  void vary(const auto& ops, const moue::layer_frame<C>& f, const moue::matrix_view<C>& of, C* value) const {
    ops.each_row(of.cols, [=, term = term] MOUE_HD(moue::index_t j) {
      of(0, j) = C(0);
      for (moue::index_t t = 0; t < f.logits.rows; ++t)
        if (f.batch.valid[t] != 0) of(0, j) += term.value(f, t, j);
    });
    ops.each_row(1, [=, weight = C(weight)] MOUE_HD(moue::index_t) {
      const C n = C(of.cols);
      C mean = C(0), variance = C(0);
      for (const C sum : of.row(0)) mean += sum / n;
      if (mean == C(0)) mean = C(1);  // nothing was selected
      for (const C sum : of.row(0)) variance += (sum - mean) * (sum - mean) / n / (mean * mean);
      for (moue::index_t j = 0; j < of.cols; ++j)
        of(1, j) = weight * C(2) / (n * mean) * (of(0, j) / mean - C(1) - variance);
      if (value != nullptr) *value = weight * variance;
    });
  }
};

}  // namespace published
