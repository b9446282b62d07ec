// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a score stage needs the member 'void backward\(ops, frame, gradient, p, temporary, dp\) const'
#include "moue/router/compose.hpp"

struct mine {
  void forward(const auto&, const auto&, const auto&, const auto&) const {}
#ifdef MOUE_TEST_FIXED
  void backward(const auto&, const auto&, const auto&, const auto&, const auto&, const auto&) const {}
#endif
};

template struct moue::router<mine, moue::top_k<1>, moue::softmax_of_selected>;
