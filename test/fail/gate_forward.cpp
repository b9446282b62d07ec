// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a gate stage needs the member 'void forward\(logits, selected, gates\) const'
#include "moue/router/compose.hpp"

struct mine {
#ifdef MOUE_TEST_FIXED
  void forward(auto, auto, auto) const {}
#endif
  void backward(auto, auto, auto, auto, auto) const {}
};

template struct moue::router<moue::linear_score, moue::top_k<1>, mine>;
