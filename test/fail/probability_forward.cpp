// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: a probability stage needs the member 'void forward\(logits, p\) const'
#include "moue/router/compose.hpp"

struct mine {
#ifdef MOUE_TEST_FIXED
  void forward(auto, auto) const {}
#endif
  void backward(auto, auto, auto, auto) const {}
};

template struct moue::router<moue::linear_score, moue::top_k<1>, moue::softmax_of_selected, moue::input_features,
                             moue::by_logits, mine>;
