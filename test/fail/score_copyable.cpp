// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a score stage must be copyable
#include "moue/router/compose.hpp"

struct mine {
#ifndef MOUE_TEST_FIXED
  mine() = default;
  mine(const mine&) = delete;
  mine& operator=(const mine&) = delete;
#endif
  void forward(const auto&, const auto&, const auto&, const auto&) const {}
  void backward(const auto&, const auto&, const auto&, const auto&, const auto&, const auto&) const {}
};

template struct moue::router<mine, moue::top_k<1>, moue::softmax_of_selected>;
