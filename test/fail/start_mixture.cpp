// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: deleted
#include "moue/moue.hpp"

void use(moue::workspace& scratch) {
  const moue::mixture model{moue::swiglu{.width = 4, .hidden = 4}, moue::shared_pool{1, 2}, moue::linear_router(1)};
  const auto weights = model.initialize<float>(1);
#ifdef MOUE_TEST_FIXED
  auto pass = model.start(weights, {.tokens = 4}, scratch);
#else
  auto pass =
      moue::mixture{moue::swiglu{.width = 4, .hidden = 4}, moue::shared_pool{1, 2}, moue::linear_router(1)}.start(
          weights, {.tokens = 4}, scratch);
#endif
  pass.begin(1);
}
