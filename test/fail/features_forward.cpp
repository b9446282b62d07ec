// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a feature stage needs the member 'void forward\(ops, frame, p, temporary\) const'
#include "moue/router/compose.hpp"

struct mine {
  moue::index_t width(moue::index_t input) const { return input; }
#ifdef MOUE_TEST_FIXED
  void forward(const auto&, const auto&, const auto&, const auto&) const {}
#endif
  void backward(const auto&, const auto&, const auto&, const auto&, const auto&, const auto&) const {}
};

template struct moue::router<moue::linear_score, moue::top_k<1>, moue::softmax_of_selected, mine>;
