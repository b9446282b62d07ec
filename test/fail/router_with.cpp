// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: 'with' takes a features stage \(width, forward, backward\), a preference stage \(call operator\), a probability stage \(forward, backward\) or a transform stage \(call operator, backward\)
#include "moue/router/compose.hpp"

struct mine {
#ifdef MOUE_TEST_FIXED
  moue::index_t width(moue::index_t input) const { return input; }
#endif
  void forward(const auto&, const auto&, const auto&, const auto&) const {}
  void backward(const auto&, const auto&, const auto&, const auto&, const auto&, const auto&) const {}
};

int main() { moue::linear_router(1).with(mine{}); }
