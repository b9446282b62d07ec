// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a balancing loss with 'token_gradient\(logits, p, scale, dlogits\)' needs the member 'C token_value\(logits, p\) const'
#include "moue/balance/sum_of_losses.hpp"

struct mine {
#ifdef MOUE_TEST_FIXED
  double token_value(auto, auto) const { return 0; }
#endif
  void token_gradient(auto, auto, auto, auto) const {}
};

template class moue::sum_of_losses<mine>;
