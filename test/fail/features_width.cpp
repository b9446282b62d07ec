// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a feature stage needs the member 'index_t width\(index_t\) const'
#include "moue/router/compose.hpp"

struct mine {
#ifdef MOUE_TEST_FIXED
  moue::index_t width(moue::index_t input) const { return input; }
#endif
  void forward(const auto&, const auto&, const auto&, const auto&) const {}
  void backward(const auto&, const auto&, const auto&, const auto&, const auto&, const auto&) const {}
};

template struct moue::router<moue::linear_score, moue::top_k<1>, moue::softmax_of_selected, mine>;
