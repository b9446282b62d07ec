// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// Views of what is gone at the end of the line.
// expected-error: deleted.*connections
// expected-error: deleted.*(::router\(\)|'router')
// expected-error: deleted.*candidates
// expected-error: deleted.*operator ?'?\[\]
// expected-error: deleted.*marks
// expected-error: deleted.*bytes
// expected-error: deleted.*adamw
// expected-error: deleted.*(pass<MixtureT, S>::pass\(|constructor of 'moue::pass<)
#include "moue/moue.hpp"
#include "moue/train/adamw.hpp"

const moue::mixture model{moue::copy_expert{4}, moue::shared_pool{1, 2}, moue::linear_router(1)};

auto make() { return model; }

void use(moue::parameters<float>& weights, moue::workspace& scratch) {
#ifdef MOUE_TEST_FIXED
  const auto kept = make();
  const moue::connectivity topology(moue::shared_pool{1, 2});
  const auto fresh = model.initialize<float>(7);
  moue::gradients<float> gradients(model.layout());
  const moue::workspace other(100);
  (void)kept.connections(), (void)kept.router(), (void)topology.candidates(0), (void)fresh[0];
  (void)gradients[0], (void)gradients.marks(), (void)other.bytes();
  moue::adamw<float> optimiser(moue::cpu{}, weights, gradients, scratch);
  moue::pass<decltype(make()), float> pass(kept, fresh, {}, scratch, {}, {});
#else
  (void)make().connections();
  (void)make().router();
  (void)moue::connectivity(moue::shared_pool{1, 2}).candidates(0);
  (void)model.initialize<float>(7)[0];
  (void)moue::gradients<float>(model.layout())[0];
  (void)moue::gradients<float>(model.layout()).marks();
  (void)moue::workspace(100).bytes();
  moue::adamw<float> optimiser(moue::cpu{}, weights, moue::gradients<float>(model.layout()), scratch);
  moue::pass<decltype(make()), float> pass(model, model.initialize<float>(1), {}, scratch, {}, {});
#endif
  (void)optimiser.steps(), (void)pass.tokens();
}
