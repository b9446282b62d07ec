// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a select stage needs the member 'index most\(index candidates\) const'
#include "moue/router/compose.hpp"

struct mine {
#ifdef MOUE_TEST_MENDED
  moue::index most(moue::index) const { return 0; }
#endif
  moue::index operator()(auto, auto, auto) const { return 0; }
};

template struct moue::router<moue::linear_score, mine, moue::softmax_of_selected>;
