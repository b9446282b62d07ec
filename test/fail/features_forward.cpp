// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a feature stage needs the member 'void forward\(ops, frame, p, temporary\) const'
#include "moue/router/compose.hpp"

struct mine {
  moue::index width(moue::index input) const { return input; }
#ifdef MOUE_TEST_MENDED
  void forward(const auto&, const auto&, const auto&, const auto&) const {}
#endif
  void backward(const auto&, const auto&, const auto&, const auto&, const auto&, const auto&) const {}
};

template struct moue::router<moue::linear_score, moue::top_k<1>, moue::softmax_of_selected, mine>;
