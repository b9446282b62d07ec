// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// What has not been computed, and what is no memory of numbers.
// expected-error: moue: an Eigen expression has no memory to view; evaluate it into a matrix first
// expected-error: moue: views are made of Eigen matrices, maps, references and blocks, of mdspans with pointers, and of contiguous ranges of numbers
// expected-error: moue: this has a shape of its own; say view_of\(matrix\)
// expected-error: moue: a range has no columns; say view_of\(range, rows, cols\)
#include <Eigen/Core>
#include <vector>

#include "moue/adapt/view_of.hpp"

void use(const Eigen::Matrix<float, 4, 4, Eigen::RowMajor>& x, const std::vector<std::vector<float>>& nested,
         const std::vector<float>& numbers) {
#ifdef MOUE_TEST_FIXED
  const Eigen::Matrix<float, 4, 4, Eigen::RowMajor> sum = x + x;
  (void)moue::view_of(sum), (void)moue::view_of(nested[0]), (void)moue::view_of(x), (void)moue::view_of(numbers, 1, 1);
#else
  (void)moue::view_of(x + x);
  (void)moue::view_of(nested);
  (void)moue::view_of(x, 2, 8);
  (void)moue::view_of_columns(numbers);
#endif
}
