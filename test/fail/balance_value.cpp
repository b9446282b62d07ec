// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a balancing loss with 'gradient\(statistics, d\)' needs the member 'C value\(statistics\) const'
#include "moue/balance/sum_of_losses.hpp"

struct mine {
#ifdef MOUE_TEST_FIXED
  double value(const auto&) const { return 0; }
#endif
  void gradient(const auto&, auto) const {}
};

template class moue::sum_of_losses<mine>;
