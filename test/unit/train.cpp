// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "allocations.hpp"
#include "moue/moue.hpp"
#include "moue/train/adamw.hpp"
#include "moue/train/clip.hpp"
#include "moue/train/muon.hpp"
#include "training.hpp"

namespace {

using namespace training;

static_assert(moue::Optimiser<moue::adamw<float>, float> && moue::Optimiser<moue::adamw<moue::bf16>, moue::bf16>);
static_assert(moue::Optimiser<moue::muon<double>, double> && moue::Optimiser<moue::muon<moue::half>, moue::half>);

template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const moue::error& e) {
    return e.what();
  }
  return "nothing was thrown";
}

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

/// What an optimiser remembers, and its restoring.
template <class C>
struct saved_state {
  std::map<std::string, moue::parameters<C>> sets;
  std::vector<std::int64_t> steps;

  explicit saved_state(auto& optimiser) : steps(optimiser.steps().begin(), optimiser.steps().end()) {
    optimiser.visit([&](std::string_view name, const moue::parameters<C>& set) { sets.emplace(name, set); });
  }
  void put_into(auto& optimiser) const {
    optimiser.visit([&](std::string_view name, moue::parameters<C>& set) { set = sets.at(std::string(name)); });
    std::copy(steps.begin(), steps.end(), optimiser.steps().begin());
  }
};

/// Two steps with different gradients; expert 1 sits the second one out.
template <class S>
void two_steps(auto& optimiser, moue::parameters<S>& weights, std::uint64_t key) {
  moue::gradients<moue::compute_t<S>> grads(weights.shared_layout());
  fill(grads, key);
  touch_all(grads);
  optimiser.step(weights, grads, 0.01);
  grads.reset();
  fill(grads, key + 1);
  touch_routers(grads);
  touch(grads, 0);
  optimiser.step(weights, grads, 0.02);
}

template <class S>
void check_resume(auto make) {
  problem<S> p;
  auto straight = make(p.weights);
  two_steps(straight, p.weights, 10);
  const auto weights_then = p.weights;
  const saved_state<moue::compute_t<S>> state_then(straight);
  two_steps(straight, p.weights, 20);

  auto weights = weights_then;
  auto resumed = make(weights);
  state_then.put_into(resumed);
  two_steps(resumed, weights, 20);
  CHECK(same_bits(weights, p.weights));
  const saved_state<moue::compute_t<S>> end(straight), end_resumed(resumed);
  CHECK(end.steps == end_resumed.steps);
  for (const auto& [name, set] : end.sets) CHECK(same_bits(set, end_resumed.sets.at(name)));

  auto forgetful_weights = weights_then;
  auto forgetful = make(forgetful_weights);
  two_steps(forgetful, forgetful_weights, 20);
  CHECK_FALSE(same_bits(forgetful_weights, p.weights));
}

}  // namespace

TEST_CASE("adamw's first step from zero moments does not depend on the betas") {
  for (const double beta : {0.0, 0.5, 0.9}) {
    problem<double> p;
    const auto before = p.weights;
    moue::adamw optimiser(p.weights, {.beta1 = beta, .beta2 = beta * 1.05, .epsilon = 1e-3, .weight_decay = 0});
    optimiser.step(p.weights, p.grads, 0.1);
    for (moue::index_t i = 0; i < tensors; ++i)
      for (moue::index_t j = 0; i != buffer && j < before.layout()[i].size(); ++j) {
        const double g = p.grads[i].data[j];
        // A few roundings of numbers of about 1.
        CHECK(std::abs(p.weights[i].data[j] - before[i].data[j] + 0.1 * g / (std::abs(g) + 1e-3)) < 1e-14);
      }
  }
}

TEST_CASE("adamw decays decoupled from the gradient, and only what is decayed") {
  problem<double> p;
  p.grads.zero();
  touch_all(p.grads);
  const auto before = p.weights;
  moue::adamw optimiser(p.weights, {.epsilon = 0, .weight_decay = 0.5});
  optimiser.step(p.weights, p.grads, 0.1);
  for (moue::index_t i = 0; i < tensors; ++i)
    for (moue::index_t j = 0; j < before.layout()[i].size(); ++j) {
      const bool decays = i == router || i == up_0 || i == up_1;
      CHECK(p.weights[i].data[j] == (decays ? 1 - 0.1 * 0.5 : 1.0) * before[i].data[j]);
    }
}

TEST_CASE("adamw's bias-corrected moments of a constant gradient are the gradient and its square") {
  problem<double> p;
  moue::adamw optimiser(p.weights, {.beta1 = 0.8, .beta2 = 0.99});
  for (int t = 1; t <= 30; ++t) {
    optimiser.step(p.weights, p.grads, 0.1);
    const double g = p.grads[up_0](2, 3);
    // One rounding a step.
    CHECK(optimiser.first_moment()[up_0](2, 3) / (1 - std::pow(0.8, t)) == doctest::Approx(g).epsilon(1e-13));
    CHECK(optimiser.second_moment()[up_0](2, 3) / (1 - std::pow(0.99, t)) == doctest::Approx(g * g).epsilon(1e-13));
    CHECK(optimiser.steps()[up_0] == t);
  }
}

TEST_CASE("adamw without epsilon does not see the scale of the gradients") {
  problem<float> p;
  auto scaled = p;
  moue::adamw a(p.weights, {.epsilon = 0}), b(scaled.weights, {.epsilon = 0});
  for (int t = 0; t < 3; ++t) {
    fill(p.grads, 30 + static_cast<std::uint64_t>(t));
    fill(scaled.grads, 30 + static_cast<std::uint64_t>(t));
    moue::scale_gradients(scaled.grads, 0x1p-8);  // a power of two rounds nothing, so the result is the same to the bit
    a.step(p.weights, p.grads, 0.1);
    b.step(scaled.weights, scaled.grads, 0.1);
  }
  CHECK(same_bits(p.weights, scaled.weights));
}

TEST_CASE_TEMPLATE("adamw agrees with the textbook in long double", S, float, double, long double) {
  problem<S> p;
  const auto before = p.weights;
  const moue::adamw_options o{.beta1 = 0.9, .beta2 = 0.98, .epsilon = 1e-6, .weight_decay = 0.3};
  moue::adamw optimiser(p.weights, o);
  std::vector<moue::gradients<S>> all;
  std::vector<double> rates;
  for (int t = 0; t < 12; ++t) {
    all.emplace_back(p.weights.shared_layout());
    fill(all.back(), 40 + static_cast<std::uint64_t>(t));
    touch_all(all.back());
    rates.push_back(0.1 / (1 + t));
    optimiser.step(p.weights, all.back(), rates.back());
  }
  // A few roundings a step, of weights below 4 and updates below 1; hyper-parameters are doubles.
  const double tolerance = 12 * 8 * std::max<double>(std::numeric_limits<S>::epsilon(), 2e-16);
  for (moue::index_t i = 0; i < tensors; ++i) {
    if (i == buffer) continue;
    const auto& info = before.layout()[i];
    for (moue::index_t j = 0; j < info.size(); ++j) {
      long double w = before[i].data[j], m = 0, v = 0, power1 = 1, power2 = 1;
      for (std::size_t t = 0; t < all.size(); ++t) {
        const long double g = all[t][i].data[j];
        m = o.beta1 * m + (1 - o.beta1) * g;
        v = o.beta2 * v + (1 - o.beta2) * g * g;
        power1 *= o.beta1;
        power2 *= o.beta2;
        if (info.decayed) w -= rates[t] * o.weight_decay * w;
        w -= rates[t] * (m / (1 - power1)) / (std::sqrt(v / (1 - power2)) + o.epsilon);
      }
      CHECK(std::abs(static_cast<double>(p.weights[i].data[j] - w)) < tolerance);
    }
  }
}

TEST_CASE("an expert that no token reached is left alone, unless asked otherwise") {
  for (const bool skip : {true, false}) {
    problem<double> p;
    moue::adamw optimiser(p.weights, {.skip_untouched = skip});
    optimiser.step(p.weights, p.grads, 0.1);
    p.grads.reset();
    fill(p.grads, 3);
    for (const auto i : {up_1, scale_1})  // holds nothing, so nobody may read it
      std::fill_n(p.grads[i].data, p.grads.layout()[i].size(), std::nan(""));
    touch_routers(p.grads);
    touch(p.grads, 0);
    const auto weights = p.weights;
    const auto moment = optimiser.first_moment();
    optimiser.step(p.weights, p.grads, 0.1);
    for (const auto i : {router, bias, up_0, scale_0}) {
      CHECK_FALSE(same_bits(p.weights, weights, i));
      CHECK(optimiser.steps()[static_cast<std::size_t>(i)] == 2);
    }
    for (const auto i : {up_1, scale_1}) {
      CHECK(same_bits(p.weights, weights, i) == skip);
      CHECK(same_bits(optimiser.first_moment(), moment, i) == skip);
      CHECK(optimiser.steps()[static_cast<std::size_t>(i)] == (skip ? 1 : 2));
    }
  }
}

TEST_CASE("a late expert's first step is corrected as a first step") {
  problem<double> p;
  p.weights[up_1](0, 0) = 0;
  p.grads.reset();
  touch(p.grads, 0);
  moue::adamw optimiser(p.weights, {.epsilon = 0});
  for (int t = 0; t < 5; ++t) optimiser.step(p.weights, p.grads, 0.1);
  fill(p.grads, 4);
  touch_all(p.grads);
  optimiser.step(p.weights, p.grads, 0.1);
  CHECK(std::abs(p.weights[up_1](0, 0)) == doctest::Approx(0.1).epsilon(1e-14));  // roundings of one step
}

TEST_CASE("buffers are never changed") {
  problem<float> p;
  const auto before = p.weights;
  moue::adamw adam(p.weights);
  adam.step(p.weights, p.grads, 0.1);
  moue::muon muon(p.weights);
  muon.step(p.weights, p.grads, 0.1);
  CHECK(same_bits(p.weights, before, buffer));
  CHECK(adam.steps()[buffer] == 0);
  CHECK_FALSE(same_bits(p.weights, before, router));
}

TEST_CASE_TEMPLATE("an optimiser resumes bit for bit from what it shows", S, float, double, moue::bf16, moue::half) {
  check_resume<S>([](const auto& weights) { return moue::adamw(weights); });
  check_resume<S>([](const auto& weights) { return moue::muon(weights); });
}

TEST_CASE("narrow weights follow a master copy, so small updates are not lost") {
  problem<moue::bf16> p;
  for (moue::index_t j = 0; j < 4; ++j) {
    p.weights[bias].data[j] = 1.0f;
    p.grads[bias].data[j] = 1.0f;
  }
  moue::adamw optimiser(p.weights, {.epsilon = 0});
  // Below 1, bf16 has steps of 1/256: an update of 1/1024 alone would be rounded away every time.
  for (int t = 0; t < 8; ++t) optimiser.step(p.weights, p.grads, 1.0 / 1024);
  CHECK(float(p.weights[bias].data[0]) == 1 - 2.0f / 256);

  p.weights[bias].data[0] = 5.0f;
  optimiser.step(p.weights, p.grads, 0);
  CHECK(float(p.weights[bias].data[0]) == 1 - 2.0f / 256);  // the master wins ...
  p.weights[bias].data[0] = 5.0f;
  optimiser.adopt(p.weights);
  optimiser.step(p.weights, p.grads, 0);
  CHECK(float(p.weights[bias].data[0]) == 5.0f);  // ... until it is told
}

TEST_CASE("adamw gives the same bits with another backend's operations") {
  problem<float> p, q;
  moue::adamw a(p.weights), b(q.weights);
  const moue::cpu backend(2);
  a.step(p.weights, p.grads, 0.1);
  b.step(backend.operations(moue::matrix_view<float>{}), q.weights, q.grads, 0.1);
  CHECK(same_bits(p.weights, q.weights));
}

TEST_CASE_TEMPLATE("a step allocates nothing", S, float, moue::bf16) {
  problem<S> p;
  moue::adamw adam(p.weights);
  moue::muon muon(p.weights);
  const int before = test::allocations;
  adam.step(p.weights, p.grads, 0.1);
  muon.step(p.weights, p.grads, 0.1);
  moue::clip_gradients(p.grads, 1);
  CHECK(test::allocations == before);
}

TEST_CASE("only experts that a batch reached are trained") {
  const moue::mixture model{moue::swiglu{.width = 6, .hidden = 8}, moue::shared_pool{.depth = 1, .pool = 12},
                            moue::linear_router(1)};
  auto weights = model.initialize<double>(3);
  moue::gradients<double> grads(model.layout());
  const moue::pass_options options{.tokens = 3};
  moue::workspace scratch(model.workspace_bytes<double>(options));
  auto pass = model.start(weights, options, scratch);
  std::vector<double> x(18), y(18), dy(18), dx(18);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = dy[i] = moue::detail::normal_at(8, i);
  pass.begin(3);
  pass.forward(0, {x.data(), 3, 6}, {y.data(), 3, 6});
  pass.backward(0, {dy.data(), 3, 6}, {dx.data(), 3, 6}, grads);
  const auto before = weights;
  moue::adamw optimiser(weights);
  optimiser.step(weights, grads, 0.1);
  moue::index_t reached = 0;
  for (moue::index_t e = 0; e < model.experts(); ++e) {
    reached += grads.touched(e);
    CHECK(same_bits(weights, before, model.layout()->expert_first(e)) == !grads.touched(e));
  }
  CHECK(reached >= 1);
  CHECK(reached <= 3);  // three tokens, one expert each
}

TEST_CASE("an optimiser refuses what does not fit it, and says why") {
  problem<float> p;
  auto other = std::make_shared<moue::parameter_layout>();
  other->add("lonely", {.name = "", .rows = 2, .cols = 3}, 0, -1);
  moue::parameters<float> strange(other);
  moue::gradients<float> strange_grads(other);
  moue::adamw optimiser(p.weights);
  const auto weights_text = message_of([&] { optimiser.step(strange, p.grads, 0.1); });
  CHECK(contains(weights_text, "the weights have 'lonely' [2, 3] where the optimiser has 'router.weight' [4, 6]"));
  CHECK(contains(weights_text, "build the optimiser from the weights"));
  CHECK(contains(message_of([&] { optimiser.step(p.weights, strange_grads, 0.1); }), "the gradients have 'lonely'"));
  CHECK(contains(message_of([&] { optimiser.step(p.weights, p.grads, -1); }), "the learning rate is -1"));
  CHECK(contains(message_of([&] { optimiser.step(p.weights, p.grads, NAN); }), "the learning rate is"));
  CHECK(contains(message_of([&] { moue::adamw(p.weights, {.beta2 = 1}); }), "beta2 is 1"));
  CHECK(contains(message_of([&] { moue::adamw(p.weights, {.weight_decay = -1}); }), "weight_decay is -1"));
  CHECK(contains(message_of([&] { moue::muon(p.weights, {.momentum = 1}); }), "momentum is 1"));
  CHECK(contains(message_of([] { moue::adamw(moue::parameters<float>{}); }), "the weights are empty"));
  CHECK(optimiser.steps()[router] == 0);
}
