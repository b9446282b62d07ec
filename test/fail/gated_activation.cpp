// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: the activation of gated_mlp needs static 'value\(x\)' and 'derivative\(x\)', or static 'value
#include "moue/expert/gated_mlp.hpp"

struct mine {
  static double value(double gate, double up) { return gate * up; }
  static double gate_derivative(double, double up) { return up; }
#ifdef MOUE_TEST_FIXED
  static double up_derivative(double gate, double) { return gate; }
#endif
};

template struct moue::gated_mlp<mine>;
