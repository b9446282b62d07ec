// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a balancing loss with 'token_value\(logits, p\)' needs the member 'void token_gradient\(logits, p, scale, dlogits\) const'
#include "moue/balance/sum_of_losses.hpp"

struct mine {
  double token_value(auto, auto) const { return 0; }
#ifdef MOUE_TEST_FIXED
  void token_gradient(auto, auto, auto, auto) const {}
#endif
};

template class moue::sum_of_losses<mine>;
