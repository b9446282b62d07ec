// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "moue/expert.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "moue/backend/reference.hpp"
#include "moue/expert/constant.hpp"
#include "moue/expert/copy.hpp"
#include "moue/expert/gated_mlp.hpp"
#include "moue/expert/mlp.hpp"
#include "moue/expert/zero.hpp"
#include "moue/pass.hpp"
#include "moue/router/logit_bias.hpp"
#include "moue/testing/expert_laws.hpp"
#include "moue/topology/always_on.hpp"
#include "moue/topology/shared_pool.hpp"

namespace {

constexpr moue::index_t width = 4, tokens = 3;
constexpr double exact = 1e-14;  // a few roundings of numbers near 1

template <class E>
void obeys_the_laws(const E& expert) {
  const auto report = moue::testing::check_expert_laws(expert);
  CHECK_MESSAGE(static_cast<bool>(report), report.summary());
}

std::vector<double> some_rows() {
  std::vector<double> x;
  for (std::uint64_t i = 0; i < tokens * width; ++i) x.push_back(moue::detail::normal_at(1, i));
  return x;
}

/// The output of layer 0 of a mixture over one pool whose router has logits of its own choosing.
template <class ExpertT, class GateT>
std::vector<double> mix(const ExpertT& expert, moue::index_t experts, const GateT& gate,
                        const std::vector<double>& logits, const std::vector<double>& x) {
  const moue::mixture model{expert, moue::shared_pool{1, experts},
                            moue::router{moue::logit_bias{}, moue::top_k<2>{}, gate}, moue::no_balancing{},
                            moue::reference{}};
  auto weights = model.template initialize<double>(1);
  for (moue::index_t e = 0; e < experts; ++e)
    weights["layers.0.router.bias"](0, e) = logits[static_cast<std::size_t>(e)];
  const moue::pass_options options{.tokens = tokens, .how = moue::mode::inference};
  moue::workspace scratch{model.template workspace_bytes<double>(options)};
  auto pass = model.start(weights, options, scratch);
  std::vector<double> y(x.size());
  pass.begin(tokens);
  pass.forward(0, {x.data(), tokens, width}, {y.data(), tokens, width});
  return y;
}

}  // namespace

TEST_CASE_TEMPLATE("mlp experts obey the laws", T, moue::mlp<moue::relu>, moue::mlp<moue::relu_squared>,
                   moue::mlp<moue::gelu>, moue::mlp<moue::silu>, moue::mlp<moue::identity>, moue::mlp<moue::gelu, true>,
                   moue::mlp<moue::relu_squared, true>) {
  obeys_the_laws(T{.width = 6, .hidden = 5});
}

TEST_CASE_TEMPLATE("gated experts obey the laws", T, moue::swiglu, moue::gated_mlp<moue::relu>,
                   moue::gated_mlp<moue::relu_squared, true>, moue::gated_mlp<moue::gelu>,
                   moue::gated_mlp<moue::silu, true>, moue::gated_mlp<moue::identity, true>) {
  obeys_the_laws(T{.width = 6, .hidden = 5});
}

TEST_CASE_TEMPLATE("experts that compute next to nothing obey the laws", T, moue::zero_expert, moue::copy_expert,
                   moue::constant_expert) {
  obeys_the_laws(T{.width = 6});
  obeys_the_laws(T{.width = 1});
}

TEST_CASE("hidden sizes of 1 and beyond the width obey the laws") {
  obeys_the_laws(moue::swiglu{.width = 1, .hidden = 1});
  obeys_the_laws(moue::swiglu{.width = 3, .hidden = 40});
}

TEST_CASE_TEMPLATE("activations have the derivative of their value", T, moue::relu, moue::relu_squared, moue::gelu,
                   moue::gelu_tanh, moue::silu, moue::identity) {
  for (const double x : {-30.0, -3.0, -0.7, 0.4, 2.0, 30.0}) {
    constexpr double step = 1e-6;  // truncation 1e-12, cancellation 1e-16 · 30 / 1e-6
    CHECK(T::derivative(x) == doctest::Approx((T::value(x + step) - T::value(x - step)) / (2 * step)).epsilon(1e-7));
  }
  CHECK(T::value(0.0) == 0);
  CHECK(std::isfinite(T::value(-1e30)));
  CHECK(std::isfinite(T::derivative(-1e30)));
}

TEST_CASE("activations have the values of their definitions") {
  CHECK(moue::relu::value(-2.0) == 0);
  CHECK(moue::relu::value(2.0) == 2);
  CHECK(moue::relu::derivative(0.0) == 0);
  CHECK(moue::relu_squared::value(3.0) == 9);
  CHECK(moue::silu::value(1.0) == doctest::Approx(1 / (1 + std::exp(-1.0))).epsilon(exact));
  CHECK(moue::gelu_tanh::value(1.0) == doctest::Approx(0.8411919906082768).epsilon(exact));  // torch's, in double
  CHECK(moue::gelu_tanh::value(-2.5) == doctest::Approx(-0.015084266089998577).epsilon(1e-12));
  CHECK(moue::gelu_tanh::derivative(1e30f) == 1);
  CHECK(moue::gelu_tanh::derivative(-1e30f) == 0);
  CHECK(moue::gelu::value(1.0) == doctest::Approx(0.8413447460685429).epsilon(exact));  // Φ(1)
  CHECK(moue::identity::value(-2.5) == -2.5);
}

TEST_CASE("experts without an output matrix put out nothing") {
  const auto check = [](const auto& expert, const char* down) {
    const moue::mixture model{expert, moue::shared_pool{1, 2}, moue::linear_router(1), moue::no_balancing{},
                              moue::reference{}};
    auto weights = model.template initialize<double>(1);
    for (const char* e : {"experts.0.", "experts.1."}) std::fill_n(weights[std::string(e) + down].data, width * 5, 0.0);
    const moue::pass_options options{.tokens = tokens};
    moue::workspace scratch{model.template workspace_bytes<double>(options)};
    auto pass = model.start(weights, options, scratch);
    const auto x = some_rows();
    std::vector<double> y(x.size(), 7);
    pass.begin(tokens);
    pass.forward(0, {x.data(), tokens, width}, {y.data(), tokens, width});
    CHECK(y == std::vector<double>(x.size(), 0));
  };
  check(moue::swiglu{width, 5}, "down");
  check(moue::mlp<moue::gelu>{width, 5}, "down");
}

TEST_CASE("MoE++: a pool of copies with gates that sum to 1 is the identity") {
  const auto x = some_rows();
  const auto y = mix(moue::copy_expert{width}, 4, moue::softmax_of_selected{}, {0.3, -1, 2, 0.1}, x);
  for (std::size_t i = 0; i < x.size(); ++i) CHECK(y[i] == doctest::Approx(x[i]).epsilon(exact));
}

TEST_CASE("MoE++: a zero expert beside another leaves that one's share of the softmax") {
  const auto x = some_rows();
  const moue::expert_pool pool{[](moue::index_t e) { return e; }, moue::copy_expert{width}, moue::zero_expert{width}};
  const auto y = mix(pool, 2, moue::softmax_then_select{}, {0.5, 1.5}, x);
  const double p = 1 / (1 + std::exp(1.0));
  for (std::size_t i = 0; i < x.size(); ++i) CHECK(y[i] == doctest::Approx(p * x[i]).epsilon(exact));
}

TEST_CASE("routed experts that put out nothing leave the always-on one alone") {
  const moue::expert_pool pool{[](moue::index_t e) { return e < 2 ? 0 : 1; }, moue::zero_expert{width},
                               moue::copy_expert{width}};
  const moue::mixture model{pool, moue::always_on{moue::shared_pool{1, 2}, 1}, moue::linear_router(1),
                            moue::no_balancing{}, moue::reference{}};
  const auto weights = model.initialize<double>(1);
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch{model.workspace_bytes<double>(options)};
  auto pass = model.start(weights, options, scratch);
  const auto x = some_rows();
  std::vector<double> y(x.size(), 7);
  pass.begin(tokens);
  pass.forward(0, {x.data(), tokens, width}, {y.data(), tokens, width});
  CHECK(y == x);
}

TEST_CASE("MoE++: a constant expert without a preference averages its input and its vector") {
  const moue::constant_expert expert{width};
  moue::testing::detail::expert_trial<moue::constant_expert> trial(expert, 0, tokens);
  trial.p[0].fill(0);
  trial.forward();
  for (moue::index_t i = 0; i < tokens; ++i)
    for (moue::index_t j = 0; j < width; ++j)
      CHECK(trial.y(i, j) == doctest::Approx((trial.x(i, j) + trial.p[1](0, j)) / 2).epsilon(exact));
}

TEST_CASE("a pool knows the kind of each expert and refuses what does not fit") {
  const moue::expert_pool pool{[](moue::index_t e) { return e % 3; }, moue::copy_expert{4}, moue::zero_expert{4},
                               moue::swiglu{4, 8}};
  CHECK(pool.width() == 4);
  CHECK(pool.kind_of(5) == 2);
  CHECK(pool.kind<2>().hidden == 8);
  int visited = -1;
  pool.visit_kind(pool.kind_of(4), [&](const auto& kind) { visited = static_cast<int>(kind.parameters().size()); });
  CHECK(visited == 0);
  const auto make = [] {
    return moue::expert_pool{[](moue::index_t) { return 0; }, moue::copy_expert{4}, moue::zero_expert{5}};
  };
  CHECK_THROWS_WITH_AS(make(), doctest::Contains("kind 1 has width 5, kind 0 has 4"), moue::error);
  const moue::expert_pool lost{[](moue::index_t) { return 2; }, moue::copy_expert{4}, moue::zero_expert{4}};
  CHECK_THROWS_WITH_AS(lost.kind_of(7), doctest::Contains("expert 7 has kind 2"), moue::error);
}

TEST_CASE("kinds of one type may differ in their hidden size") {
  const moue::expert_pool pool{[](moue::index_t e) { return e == 0 ? 0 : 1; }, moue::swiglu{width, 3},
                               moue::swiglu{width, 9}};
  const moue::mixture model{pool, moue::shared_pool{1, 3}, moue::linear_router(2), moue::no_balancing{},
                            moue::reference{}};
  const auto& layout = *model.layout();
  CHECK(layout[layout.find("experts.0.up")].rows == 3);
  CHECK(layout[layout.find("experts.2.up")].rows == 9);
}
