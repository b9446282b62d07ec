// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a select stage needs the member 'index operator\(\)\(scores, candidates, slots\) const'
#include "moue/router/compose.hpp"

struct mine {
  moue::index most(moue::index) const { return 0; }
#ifdef MOUE_TEST_MENDED
  moue::index operator()(auto, auto, auto) const { return 0; }
#endif
};

template struct moue::router<moue::linear_score, mine, moue::softmax_of_selected>;
