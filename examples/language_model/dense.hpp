// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Dense matrices of the example: Eigen owns them, the library's views look at them.

#include <Eigen/Core>

#include "moue/view.hpp"

namespace language_model {

template <class S>
using matrix = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class S>
auto as_matrix(moue::matrix_view<const S> m) {
  return Eigen::Map<const matrix<S>>(m.data, m.rows, m.cols);
}
template <class S>
auto as_matrix(moue::matrix_view<S> m) requires(!std::is_const_v<S>) {
  return Eigen::Map<matrix<S>>(m.data, m.rows, m.cols);
}

template <class S>
moue::matrix_view<S> view(matrix<S>& m) {
  return {m.data(), m.rows(), m.cols()};
}
template <class S>
moue::matrix_view<const S> view(const matrix<S>& m) {
  return {m.data(), m.rows(), m.cols()};
}

}  // namespace language_model
