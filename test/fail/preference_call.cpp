// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a preference stage needs the member 'void operator\(\)\(logits, p, scores\) const'
#include "moue/router/compose.hpp"

struct mine {
#ifdef MOUE_TEST_FIXED
  void operator()(auto, const auto&, auto) const {}
#endif
};

template struct moue::router<moue::linear_score, moue::top_k<1>, moue::softmax_of_selected, moue::input_features, mine>;
