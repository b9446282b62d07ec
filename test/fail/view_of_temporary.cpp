// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// Views of what is gone at the end of the line: a matrix and a vector.
// expected-error: moue: a view of a temporary would dangle; give the matrix a name
// expected-error: moue: a view of a temporary would dangle; give the range a name
#include <Eigen/Core>
#include <span>
#include <utility>
#include <vector>

#include "moue/adapt/view_of.hpp"

using rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void use(rows& x, std::vector<float>& numbers) {
#ifdef MOUE_TEST_FIXED
  (void)moue::view_of(x);
  const Eigen::Ref<const rows> reference(x);
  (void)moue::view_of(reference);
  (void)moue::view_of(Eigen::Ref<rows>(x));
  (void)moue::view_of(Eigen::Map<const rows>(x.data(), 1, 1));
  (void)moue::view_of(std::as_const(x).leftCols(1));
  (void)moue::view_of(std::span(numbers), 1, 1);
#else
  (void)moue::view_of(rows(x));
  (void)moue::view_of(std::vector<float>(numbers), 1, 1);
#endif
}
