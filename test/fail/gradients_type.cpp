// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-first-error: moue: gradients are in the compute type of the weights: 'gradients<float>' for weights in float,
#include "moue/backend/reference.hpp"
#include "moue/expert/copy.hpp"
#include "moue/pass.hpp"
#include "moue/topology/shared_pool.hpp"
#include "moue/train/adamw.hpp"

using model = moue::mixture<moue::copy_expert, moue::shared_pool, decltype(moue::linear_router(1)), moue::no_balancing,
                            moue::reference>;
#ifdef MOUE_TEST_FIXED
using gradients = moue::gradients<float>;
#else
using gradients = moue::gradients<double>;
#endif

void use(moue::pass<model, float>& pass, moue::adamw<float>& optimiser, moue::parameters<float>& weights,
         moue::matrix_view<float> dx, gradients& into) {
  pass.backward(0, dx, dx, into);
  optimiser.step(weights, into, 0.1);
}
