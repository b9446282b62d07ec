// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a feature stage needs the member 'void backward\(ops, frame, gradient, p, temporary, dp\) const'
#include "moue/router/compose.hpp"

struct mine {
  moue::index_t width(moue::index_t input) const { return input; }
  void forward(const auto&, const auto&, const auto&, const auto&) const {}
#ifdef MOUE_TEST_FIXED
  void backward(const auto&, const auto&, const auto&, const auto&, const auto&, const auto&) const {}
#endif
};

template struct moue::router<moue::linear_score, moue::top_k<1>, moue::softmax_of_selected, mine>;
