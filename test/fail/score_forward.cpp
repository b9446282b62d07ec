// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a score stage needs the member 'void forward\(ops, frame, p, temporary\) const'
#include "moue/router/compose.hpp"

struct mine {
#ifdef MOUE_TEST_FIXED
  void forward(const auto&, const auto&, const auto&, const auto&) const {}
#endif
  void backward(const auto&, const auto&, const auto&, const auto&, const auto&, const auto&) const {}
};

template struct moue::router<mine, moue::top_k<1>, moue::softmax_of_selected>;
