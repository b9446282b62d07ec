// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Root-mean-square normalisation with learned gains.

#include <cmath>

#include "dense.hpp"

namespace language_model {

/// y = x / sqrt(mean(x²) + 1e-6) * gain, row by row. `x` belongs to the caller and must not change until `backward`.
template <class S>
class rms_norm {
 public:
  void forward(const matrix<S>& x, moue::matrix_view<const S> gain, matrix<S>& y) {
    inverse_ = ((x.rowwise().squaredNorm() / S(x.cols())).array() + S(1e-6)).rsqrt().matrix();
    for (moue::index_t t = 0; t < x.rows(); ++t)
      y.row(t) = (x.row(t).array() * inverse_(t)) * as_matrix(gain).row(0).array();
  }

  /// Adds to `dx` and `dgain`.
  void backward(const matrix<S>& x, moue::matrix_view<const S> gain, const matrix<S>& dy, matrix<S>& dx,
                moue::matrix_view<S> dgain) const {
    const auto g = as_matrix(gain).row(0);
    auto dg = as_matrix(dgain).row(0);
    for (moue::index_t t = 0; t < x.rows(); ++t) {
      const S inverse = inverse_(t);
      dg.array() += dy.row(t).array() * x.row(t).array() * inverse;
      const S along = (dy.row(t).array() * g.array() * x.row(t).array()).sum() * inverse * inverse / S(x.cols());
      dx.row(t).array() += inverse * (dy.row(t).array() * g.array() - along * x.row(t).array());
    }
  }

 private:
  Eigen::Matrix<S, Eigen::Dynamic, 1> inverse_;
};

}  // namespace language_model
