// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// Eigen's default order, with tokens where it has no rows.
// expected-first-error: moue: a column-major \[tokens, width\] has no rows to view: keep it as \[width, tokens\], whose columns are tokens, and say view_of_columns; or store it row by row
#include <Eigen/Core>

#include "moue/adapt/view_of.hpp"

void use() {
#ifdef MOUE_TEST_FIXED
  const Eigen::MatrixXf x(8, 32);
  (void)moue::view_of_columns(x);
#else
  const Eigen::MatrixXf x(32, 8);
  (void)moue::view_of(x);
#endif
}
