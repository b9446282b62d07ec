// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Training where weights, gradients and all that is remembered lie in memory that the host cannot see.

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "island.hpp"
#include "moue/train/clip.hpp"
#include "moue/train/gradient_sweep.hpp"
#include "resident_training.hpp"

namespace {

using namespace training;

template <class C>
C value_at(const auto& there, const C* place) {
  return there.carrier.fetch(place, 1)[0];
}

}  // namespace

TEST_CASE_TEMPLATE("adamw in a backend's memory gives the host's bits", S, float, double, moue::bf16, moue::half) {
  for (const bool skip : {true, false}) {
    auto o = options;
    o.skip_untouched = skip;
    check_same_as_host<S>(test::island{}, o);
  }
}

TEST_CASE("a rate that is no rate leaves the step out, wherever the state lies") {
  moue::parameters<float> weights(make_uneven_layout());
  fill(weights, 1);
  const auto before = weights;
  const auto grads = step_gradients<float>(weights.shared_layout(), 2, {0, 1});
  resident<test::island, float> there(test::island{}, weights);
  there.send(grads);
  auto memory = there.memory(moue::adamw<float>::workspace_bytes(*there.layout));
  moue::adamw here(weights);
  moue::adamw resident_optimiser(there.backend, there.weights, there.grads, memory);
  const auto place = there.carrier.make<double>(1);
  for (const double rate : {std::nan(""), std::numeric_limits<double>::infinity(), -0.1}) {
    there.carrier.send(&rate, place, 1);
    here.step(moue::reference_operations{}, weights, grads, moue::vector_view<const double>{&rate, 1});
    resident_optimiser.step(there.operations(), there.weights, there.grads, moue::vector_view<const double>{place, 1});
    CHECK(same_bits(weights, before));
    CHECK(same_bits(there.fetch(there.weights), before));
    CHECK(here.steps()[0] == 0);
    CHECK(there.steps(resident_optimiser)[0] == 0);
  }
}

TEST_CASE("masters follow weights that something else changed") {
  moue::parameters<moue::bf16> weights(make_uneven_layout());
  fill(weights, 1);
  resident<test::island, moue::bf16> there(test::island{}, weights);
  auto memory = there.memory(moue::adamw<moue::bf16>::workspace_bytes(*there.layout));
  moue::adamw optimiser(there.backend, there.weights, there.grads, memory, {.weight_decay = 0});
  const auto before = there.fetch(there.weights);
  moue::gradients<float> zeros(there.layout);
  touch_all(zeros);
  there.send(zeros);
  fill(weights, 2);
  there.send(weights, there.weights);
  optimiser.step(there.operations(), there.weights, there.grads, 0);
  CHECK(same_bits(there.fetch(there.weights), before, 0));  // the master wins ...
  there.send(weights, there.weights);
  optimiser.adopt(there.operations(), there.weights);
  optimiser.step(there.operations(), there.weights, there.grads, 0);
  CHECK(same_bits(there.fetch(there.weights), weights));  // ... until it is told
}

TEST_CASE("what an optimiser shows can be carried away and back") {
  moue::parameters<moue::half> weights(make_uneven_layout());
  fill(weights, 1);
  using optimiser_type = moue::adamw<moue::half>;
  struct run {
    resident<test::island, moue::half> there;
    moue::workspace memory;
    optimiser_type optimiser;
    explicit run(const moue::parameters<moue::half>& w)
        : there(test::island{}, w),
          memory(there.memory(optimiser_type::workspace_bytes(*there.layout))),
          optimiser(there.backend, there.weights, there.grads, memory, options) {}
    void step(std::uint64_t key) {
      there.send(step_gradients<float>(there.layout, key, {0, 2}));
      optimiser.step(there.operations(), there.weights, there.grads, 0.1);
    }
  };
  run straight(weights);
  straight.step(5);
  run resumed(straight.there.fetch(straight.there.weights));
  std::vector<moue::parameters<float>> shown;
  straight.optimiser.visit([&](auto, auto& set) { shown.push_back(straight.there.fetch(set)); });
  std::size_t next = 0;
  resumed.optimiser.visit([&](auto, auto& set) { resumed.there.send(shown[next++], set); });
  const auto steps = straight.there.steps(straight.optimiser);
  resumed.there.carrier.send(steps.data(), resumed.optimiser.steps().data(), std::ssize(steps));
  straight.step(6);
  resumed.step(6);
  CHECK(same_bits(straight.there.fetch(straight.there.weights), resumed.there.fetch(resumed.there.weights)));
}

TEST_CASE("a sweep resets, clears and finishes gradients as their own members do on the host") {
  resident<test::island, float> there(test::island{}, moue::parameters<float>(make_uneven_layout()));
  auto memory = there.memory(moue::gradient_sweep<float>::workspace_bytes(*there.layout));
  const moue::gradient_sweep sweep(there.backend, there.grads, memory);
  moue::gradients<float> grads(there.layout);
  const auto prepare = [&] {
    fill(grads, 3);
    grads.reset();
    touch(grads, 1);
    there.send(grads);
  };
  const auto check = [&] {
    const auto after = there.fetch_gradients();
    CHECK(same_bits(after, grads));
    for (moue::index_t i = 0; i < there.layout->tensors(); ++i) CHECK(after.live(i) == grads.live(i));
  };
  prepare();
  sweep.reset(there.operations());
  grads.reset();
  check();
  prepare();
  sweep.finish(there.operations());
  grads.finish();
  check();
  CHECK(grads["experts.0.up"](3, 4) == 0);
  CHECK(grads["experts.1.up"](3, 4) != 0);
  prepare();
  sweep.zero(there.operations());
  grads.zero();
  check();
  CHECK(grads["experts.1.up"](3, 4) == 0);
}

TEST_CASE_TEMPLATE("the norm and the clipped gradients are the host's", C, float, double) {
  auto layout = std::make_shared<moue::parameter_layout>();
  for (moue::index_t e = 0; e < 2; ++e) {
    layout->begin_expert();
    // Of the first expert enough for every level of the sum: more than 4096 lanes' worth, and no multiple.
    layout->add(std::to_string(e), {.name = "", .rows = e == 0 ? 601 : 3, .cols = 1000}, -1, e);
  }
  layout->add("buffer", {.name = "", .cols = 4, .trained = false}, 0, -1);
  for (const auto& reached : {std::vector<moue::index_t>{0, 1}, {1}, {}}) {
    auto grads = step_gradients<C>(layout, 7, reached);
    resident<test::island, C> there(test::island{}, moue::parameters<C>(layout));
    there.send(grads);
    auto memory = there.memory(moue::gradient_sweep<C>::workspace_bytes(*layout));
    const moue::gradient_sweep sweep(there.backend, there.grads, memory);
    const double norm = moue::gradient_norm(grads);
    // Two sums of up to 604000 positive terms in double, each off by less than the number of terms times 1e-16 of itself.
    CHECK(value_at(there, sweep.norm(there.operations()).data) == doctest::Approx(norm).epsilon(1e-10));
    for (const double most : {2 * norm + 1, norm / 3 + 1}) {
      moue::clip_gradients(grads, most);
      CHECK(value_at(there, sweep.clip(there.operations(), most).data) == doctest::Approx(norm).epsilon(1e-10));
      const auto after = there.fetch_gradients();
      for (moue::index_t i = 0; i < layout->tensors(); ++i)
        for (moue::index_t j = 0; grads.live(i) && j < (*layout)[i].size(); ++j)
          // The factors are as far apart as the norms, and rounded.
          if (std::abs(after[i].data[j] - grads[i].data[j]) >
              (1e-10 + 2 * std::numeric_limits<C>::epsilon()) * std::abs(grads[i].data[j]))
            FAIL("gradient ", j, " of tensor ", i, " is ", after[i].data[j], ", not ", grads[i].data[j]);
    }
    if (reached.empty()) continue;
    const C broken = std::numeric_limits<C>::quiet_NaN();
    there.carrier.send(&broken, there.grads[1].data + 5, 1);
    const auto before = there.fetch_gradients();
    CHECK(std::isnan(value_at(there, sweep.clip(there.operations(), 1e-3).data)));
    CHECK(same_bits(there.fetch_gradients(), before));
  }
}

TEST_CASE("an optimiser in external memory refuses what is not its own") {
  moue::parameters<float> weights(make_uneven_layout());
  resident<test::island, float> there(test::island{}, weights), other(there.backend, weights);
  auto memory = there.memory(moue::adamw<float>::workspace_bytes(*there.layout));
  auto little = there.memory(1000);
  CHECK_THROWS_WITH_AS(moue::adamw(there.backend, there.weights, there.grads, little),
                       doctest::Contains("but 1000 were given"), moue::error);
  CHECK_THROWS_WITH_AS(moue::adamw(there.backend, there.weights, there.grads, memory, {.beta1 = 1}),
                       doctest::Contains("beta1 is 1"), moue::error);
  moue::adamw optimiser(there.backend, there.weights, there.grads, memory);
  CHECK_THROWS_WITH_AS(
      optimiser.step(there.weights, there.grads, 0.1),
      "moue: adamw: what it remembers lies in the memory of a backend; give step the operations of that "
      "backend",
      moue::error);
  CHECK_THROWS_WITH_AS(optimiser.adopt(there.weights), doctest::Contains("give adopt the operations"), moue::error);
  CHECK_THROWS_WITH_AS(optimiser.step(there.operations(), other.weights, there.grads, 0.1),
                       doctest::Contains("the weights lie elsewhere"), moue::error);
  CHECK_THROWS_WITH_AS(optimiser.step(there.operations(), there.weights, other.grads, 0.1),
                       doctest::Contains("the gradients lie elsewhere"), moue::error);
  CHECK_THROWS_WITH_AS(optimiser.step(there.operations(), there.weights, there.grads, -1),
                       doctest::Contains("the learning rate is -1"), moue::error);
}
