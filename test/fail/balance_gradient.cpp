// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a balancing loss with 'value\(statistics\)' needs the member 'void gradient\(statistics, d\) const'
#include "moue/balance/sum_of_losses.hpp"

struct mine {
  double value(const auto&) const { return 0; }
#ifdef MOUE_TEST_FIXED
  void gradient(const auto&, auto) const {}
#endif
};

template class moue::sum_of_losses<mine>;
