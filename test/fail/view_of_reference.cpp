// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// A temporary reference to const may hold a copy of what it was made of.
// expected-first-error: moue: a view of a temporary would dangle; give the matrix a name
#include <Eigen/Core>

#include "moue/adapt/view_of.hpp"

using rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void use(const rows& x) {
#ifdef MOUE_TEST_FIXED
  const Eigen::Ref<const rows> sum(x + x);
  (void)moue::view_of(sum);
#else
  (void)moue::view_of(Eigen::Ref<const rows>(x + x));
#endif
}
