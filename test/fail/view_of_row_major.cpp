// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// Columns that are not dense.
// expected-first-error: moue: the columns of a row-major matrix are not dense; say view_of of a row-major \[tokens, width\]
#include <Eigen/Core>

#include "moue/adapt/view_of.hpp"

void use(const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>& x) {
#ifdef MOUE_TEST_FIXED
  (void)moue::view_of(x);
#else
  (void)moue::view_of_columns(x);
#endif
}
