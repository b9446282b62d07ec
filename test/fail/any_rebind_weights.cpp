// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: deleted
#include "moue/any/erase.hpp"
#include "moue/moue.hpp"

void use(moue::any_pass<float>& pass, const moue::any_model<float>& model) {
  const moue::parameters<float> weights(model.layout());
#ifdef MOUE_TEST_FIXED
  pass.rebind(weights);
#else
  pass.rebind(moue::parameters<float>(model.layout()));
#endif
  pass.begin(1);
}
