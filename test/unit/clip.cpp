// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "moue/train/clip.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "training.hpp"

using namespace training;

TEST_CASE("clip_gradients scales down to the norm, counting only what is live") {
  problem<float> p;
  p.grads.zero();
  p.grads[router](1, 1) = 3;
  p.grads[up_0](2, 2) = -4;
  p.grads[up_1](0, 0) = 100;
  touch_routers(p.grads);
  touch(p.grads, 0);
  CHECK(moue::gradient_norm(p.grads) == 5);
  CHECK(moue::clip_gradients(p.grads, 5) == 5);
  CHECK(p.grads[router](1, 1) == 3);
  CHECK(moue::clip_gradients(p.grads, 1) == 5);
  CHECK(p.grads[router](1, 1) == 0.6f);
  CHECK(p.grads[up_0](2, 2) == -0.8f);
  CHECK(p.grads[up_1](0, 0) == 100);
  CHECK(moue::gradient_norm(p.grads) == doctest::Approx(1).epsilon(1e-7));  // two roundings to float

  p.grads[router](0, 0) = std::numeric_limits<float>::infinity();
  CHECK(std::isinf(moue::clip_gradients(p.grads, 0.1)));
  CHECK(p.grads[router](1, 1) == 0.6f);
  p.grads[router](0, 0) = 3e30f;  // its square is no float
  CHECK(moue::gradient_norm(p.grads) == doctest::Approx(3e30).epsilon(1e-7));
  CHECK_THROWS_WITH_AS(moue::clip_gradients(p.grads, 0),
                       "moue: clip_gradients: max_norm is 0.000000; give a positive norm", moue::error);
}
