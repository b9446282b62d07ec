// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a stage with depth state needs all of 'state_width', 'advance\(ops, frame, p, temporary\)' and 'advance_backward\(ops, frame, gradient, p, temporary, dp\)'
#include "moue/router/compose.hpp"

struct mine {
  void forward(const auto&, const auto&, const auto&, const auto&) const {}
  void backward(const auto&, const auto&, const auto&, const auto&, const auto&, const auto&) const {}
  moue::index_t state_width() const { return 2; }
#ifdef MOUE_TEST_FIXED
  void advance(const auto&, const auto&, const auto&, const auto&) const {}
#endif
  void advance_backward(const auto&, const auto&, const auto&, const auto&, const auto&, const auto&) const {}
};

template struct moue::router<mine, moue::top_k<1>, moue::softmax_of_selected>;
