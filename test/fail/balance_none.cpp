// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a balancing loss needs 'value\(statistics\)' with 'gradient\(statistics, d\)', or 'token_value\(logits, p\)' with 'token_gradient\(logits, p, scale, dlogits\)'
#include "moue/balance/sum_of_losses.hpp"

struct mine {
#ifdef MOUE_TEST_FIXED
  double value(const auto&) const { return 0; }
  void gradient(const auto&, auto) const {}
#endif
};

template class moue::sum_of_losses<mine>;
