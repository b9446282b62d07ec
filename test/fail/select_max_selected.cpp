// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a select stage needs the member 'index_t max_selected\(index_t candidates\) const'
#include "moue/router/compose.hpp"

struct mine {
#ifdef MOUE_TEST_FIXED
  moue::index_t max_selected(moue::index_t) const { return 0; }
#endif
  moue::index_t operator()(auto, auto, auto) const { return 0; }
};

template struct moue::router<moue::linear_score, mine, moue::softmax_of_selected>;
