// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Experts whose gating is a function of two numbers, and experts within others: behind a gate or between projections.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "executor_run.hpp"
#include "moue/backend/reference.hpp"
#include "moue/expert/copy.hpp"
#include "moue/expert/gated_mlp.hpp"
#include "moue/expert/input_gated.hpp"
#include "moue/expert/mlp.hpp"
#include "moue/expert/projected.hpp"
#include "moue/expert/recomputed.hpp"
#include "moue/expert/self_gated.hpp"
#include "moue/expert/zero.hpp"
#include "moue/operations/gated_linear.hpp"
#include "moue/testing/expert_laws.hpp"

namespace {

using moue::testing::detail::expert_trial;

constexpr double exact = 1e-14;  // a few roundings of numbers near 1

template <class E>
void obeys_the_laws(const E& expert) {
  const auto report = moue::testing::check_expert_laws(expert);
  CHECK_MESSAGE(static_cast<bool>(report), report.summary());
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/// SwiGLU's gating, written as a function of two numbers.
struct paired_silu {
  template <class C>
  static C value(C gate, C up) {
    return moue::silu::value(gate) * up;
  }
  template <class C>
  static C gate_derivative(C gate, C up) {
    return moue::silu::derivative(gate) * up;
  }
  template <class C>
  static C up_derivative(C gate, C) {
    return moue::silu::value(gate);
  }
};

/// Weights so large that pre-activations of the laws' rows lie on both sides of ±7.
template <bool Biased>
struct loud : moue::gated_mlp<moue::clamped_swiglu, Biased> {
  auto parameters() const {
    auto specs = moue::gated_mlp<moue::clamped_swiglu, Biased>::parameters();
    specs[0].init.value *= 8;
    specs[1].init.value *= 8;
    return specs;
  }
};

/// y = W x, with the plain form of backward alone.
struct plain_linear {
  moue::index_t width = 1;
  auto parameters() const {
    return std::array{moue::parameter_spec{"map", width, width, moue::initializer::normal(1), moue::scope::expert}};
  }
  auto saved() const { return std::array<moue::index_t, 0>{}; }
  auto temporaries() const { return std::array<moue::index_t, 0>{}; }
  template <class C>
  void forward(const auto& ops, const auto& p, const auto& x, const auto&, const auto&, moue::matrix_view<C> y) const {
    ops.linear(x, p[0], y);
  }
  template <class C>
  void backward(const auto& ops, const auto& p, const auto& x, const auto&, const auto&, moue::matrix_view<const C> dy,
                moue::matrix_view<C> dx, const auto& dp) const {
    ops.weight_gradient(dy, x, dp[0]);
    ops.input_gradient(dy, p[0], dx);
  }
};

/// Plain loops, and both products of a gated expert at once: every row of x is read once, and h while gate and up are in
/// registers. `forwards` and `backwards` count rows.
struct fused_operations : moue::reference_operations {
  moue::index_t* forwards = nullptr;
  moue::index_t* backwards = nullptr;

  template <class X, class W, class Act, class C>
  void gated_linear(const X& x, const W& w_gate, const W& w_up, const Act&, const moue::matrix_view<C>& gate,
                    const moue::matrix_view<C>& up, const moue::matrix_view<C>& h) const {
    *forwards += x.rows;
    for (moue::index_t i = 0; i < x.rows; ++i)
      for (moue::index_t j = 0; j < h.cols; ++j) {
        C g = 0, u = 0;
        for (moue::index_t l = 0; l < x.cols; ++l) {
          g += x(i, l) * C(w_gate(j, l));
          u += x(i, l) * C(w_up(j, l));
        }
        gate(i, j) = g;
        up(i, j) = u;
        h(i, j) = Act::value(g) * u;
      }
  }
  template <class DY, class W, class Act, class C>
  void gated_linear_backward(const DY& dy, const W& w_down, const Act&, const moue::matrix_view<const C>& gate,
                             const moue::matrix_view<const C>& up, const moue::vector_view<const C>& scale,
                             const moue::matrix_view<C>& h, const moue::matrix_view<C>& dgate,
                             const moue::matrix_view<C>& dup, const moue::vector_view<C>& dscale) const {
    *backwards += dy.rows;
    for (moue::index_t i = 0; i < dy.rows; ++i)
      for (moue::index_t j = 0; j < h.cols; ++j) {
        C a = 0;
        for (moue::index_t l = 0; l < dy.cols; ++l) a += dy(i, l) * C(w_down(l, j));
        const C activated = Act::value(gate(i, j));
        h(i, j) = scale[i] * activated * up(i, j);
        dgate(i, j) = scale[i] * a * up(i, j) * Act::derivative(gate(i, j));
        dup(i, j) = scale[i] * a * activated;
        dscale[i] += a * activated * up(i, j);
      }
  }
};
using fused_backend = moue::serial_backend<fused_operations>;

}  // namespace

static_assert(moue::PairActivation<moue::clamped_swiglu> && !moue::Activation<moue::clamped_swiglu>);
static_assert(moue::Activation<moue::silu> && !moue::PairActivation<moue::silu>);
static_assert(moue::Expert<moue::gated_mlp<moue::clamped_swiglu, true>>);

TEST_CASE_TEMPLATE("experts gated by a pair obey the laws", T, moue::gated_mlp<moue::clamped_swiglu>,
                   moue::gated_mlp<moue::clamped_swiglu, true>, loud<false>, loud<true>,
                   moue::gated_mlp<paired_silu, true>, moue::gated_mlp<moue::clamped_silu>) {
  obeys_the_laws(T{6, 5});
}

TEST_CASE("the loud expert's laws do meet both limits") {
  const loud<false> expert{6, 5};
  expert_trial<loud<false>> trial(expert, 0, 5);
  trial.forward();
  int gates_above = 0, ups_above = 0, ups_below = 0, inside = 0;
  for (moue::index_t i = 0; i < 5; ++i)
    for (moue::index_t j = 0; j < 5; ++j) {
      gates_above += trial.saved[0](i, j) > 7;
      ups_above += trial.saved[1](i, j) > 7;
      ups_below += trial.saved[1](i, j) < -7;
      inside += trial.saved[0](i, j) < 7 && std::abs(trial.saved[1](i, j)) < 7;
    }
  CHECK(gates_above > 0);
  CHECK(ups_above > 0);
  CHECK(ups_below > 0);
  CHECK(inside > 0);
}

TEST_CASE("clamped_swiglu has the values of its definition") {
  using moue::clamped_swiglu;
  CHECK(clamped_swiglu::value(0.0, 3.0) == 0);
  CHECK(clamped_swiglu::value(2.0, -1.0) == 0);
  CHECK(clamped_swiglu::value(2.0, 0.5) == doctest::Approx(2 * sigmoid(1.702 * 2) * 1.5).epsilon(exact));
  CHECK(clamped_swiglu::value(-9.0, 0.5) ==
        doctest::Approx(-9 * sigmoid(1.702 * -9) * 1.5).epsilon(exact));  // no floor
  CHECK(clamped_swiglu::value(70.0, 0.5) == clamped_swiglu::value(7.0, 0.5));
  CHECK(clamped_swiglu::value(2.0, 70.0) == clamped_swiglu::value(2.0, 7.0));
  CHECK(clamped_swiglu::value(2.0, -70.0) == clamped_swiglu::value(2.0, -7.0));
  constexpr double broken = std::numeric_limits<double>::quiet_NaN();
  CHECK(std::isnan(clamped_swiglu::value(broken, 1.0)));
  CHECK(std::isnan(clamped_swiglu::value(1.0, broken)));
}

TEST_CASE("clamped_swiglu has the derivatives of its value, 0 outside and those of the inside on the edge") {
  using moue::clamped_swiglu;
  constexpr double step = 1e-6;  // truncation 1e-12, cancellation 1e-16 · 60 / 1e-6
  for (const double gate : {-30.0, -3.0, -0.4, 0.7, 6.9, 7.1, 30.0})
    for (const double up : {-30.0, -7.1, -6.9, -1.0, 0.6, 6.9, 7.1, 30.0}) {
      CAPTURE(gate);
      CAPTURE(up);
      const double by_gate =
          (clamped_swiglu::value(gate + step, up) - clamped_swiglu::value(gate - step, up)) / (2 * step);
      const double by_up =
          (clamped_swiglu::value(gate, up + step) - clamped_swiglu::value(gate, up - step)) / (2 * step);
      CHECK(clamped_swiglu::gate_derivative(gate, up) == doctest::Approx(by_gate).epsilon(1e-7));
      CHECK(clamped_swiglu::up_derivative(gate, up) == doctest::Approx(by_up).epsilon(1e-7));
    }
  CHECK(clamped_swiglu::gate_derivative(7.5, 1.0) == 0);
  CHECK(clamped_swiglu::up_derivative(1.0, 7.5) == 0);
  CHECK(clamped_swiglu::up_derivative(1.0, -7.5) == 0);
  CHECK(clamped_swiglu::gate_derivative(7.0, 1.0) > 0);
  CHECK(clamped_swiglu::up_derivative(1.0, 7.0) > 0);
  CHECK(clamped_swiglu::up_derivative(1.0, -7.0) > 0);
  CHECK(std::isfinite(clamped_swiglu::value(-1e30, 1e30)));
  CHECK(std::isfinite(clamped_swiglu::gate_derivative(-1e30, 1e30)));
}

TEST_CASE("clamped_silu is silu(gate) up between its limits, and flat outside") {
  using moue::clamped_silu;
  constexpr double step = 1e-6;  // truncation 1e-12, cancellation 1e-16 · 100 / 1e-6
  for (const double gate : {-30.0, -0.4, 0.7, 9.9, 10.1, 30.0})
    for (const double up : {-30.0, -10.1, -9.9, 0.6, 9.9, 10.1, 30.0}) {
      CAPTURE(gate);
      CAPTURE(up);
      const double g = std::min(gate, 10.0), u = std::clamp(up, -10.0, 10.0);
      CHECK(clamped_silu::value(gate, up) == doctest::Approx(g * sigmoid(g) * u).epsilon(exact));
      const double by_gate = (clamped_silu::value(gate + step, up) - clamped_silu::value(gate - step, up)) / (2 * step);
      const double by_up = (clamped_silu::value(gate, up + step) - clamped_silu::value(gate, up - step)) / (2 * step);
      CHECK(clamped_silu::gate_derivative(gate, up) == doctest::Approx(by_gate).epsilon(1e-7));
      CHECK(clamped_silu::up_derivative(gate, up) == doctest::Approx(by_up).epsilon(1e-7));
    }
  CHECK(clamped_silu::gate_derivative(10.0, 1.0) > 0);
  CHECK(clamped_silu::up_derivative(1.0, -10.0) > 0);
  CHECK(std::isnan(clamped_silu::value(std::numeric_limits<double>::quiet_NaN(), 1.0)));
}

TEST_CASE("experts whose input is gated obey the laws") {
  obeys_the_laws(moue::input_gated{moue::swiglu{6, 5}});
  obeys_the_laws(moue::input_gated{moue::gated_mlp<moue::clamped_swiglu, true>{6, 5}});
}

TEST_CASE("an expert whose input is gated is the inner one of rows times the sigmoid of a product") {
  const moue::swiglu inner{6, 5};
  const moue::input_gated expert{inner};
  expert_trial<moue::swiglu> plain(inner, 0, 3);
  expert_trial<moue::input_gated<moue::swiglu>> gated(expert, 0, 3);
  for (moue::index_t i = 0; i < 3; ++i) {
    double logit = 0;
    for (moue::index_t j = 0; j < 6; ++j) logit += gated.x(i, j) * gated.p[3](0, j);
    for (moue::index_t j = 0; j < 6; ++j) plain.x(i, j) = sigmoid(logit) * gated.x(i, j);
  }
  for (std::size_t k = 0; k < 3; ++k)
    plain.p[k].each([&](double& weight, moue::index_t i, moue::index_t j) { weight = gated.p[k](i, j); });
  plain.forward();
  gated.forward();
  for (moue::index_t i = 0; i < 3; ++i)
    for (moue::index_t j = 0; j < 6; ++j) CHECK(gated.y(i, j) == doctest::Approx(plain.y(i, j)).epsilon(1e-12));
}

TEST_CASE("experts between projections obey the laws") {
  obeys_the_laws(moue::projected{moue::mlp<moue::relu_squared>{3, 5}, 6});
  obeys_the_laws(moue::projected{moue::gated_mlp<moue::clamped_swiglu, true>{7, 2}, 4});
  static_assert(moue::Expert<moue::self_gated<moue::projected<moue::swiglu>>>);
}

TEST_CASE("an expert between projections is the inner one of rows that are products, and then a product") {
  const moue::swiglu inner{3, 5};
  const moue::projected expert{inner, 6};
  CHECK(expert.width == 6);
  expert_trial<moue::swiglu> plain(inner, 0, 3);
  expert_trial<moue::projected<moue::swiglu>> whole(expert, 0, 3);
  const auto specs = expert.parameters();
  CHECK((specs[3].name == "project_in" && specs[3].rows == 3 && specs[3].cols == 6));
  CHECK((specs[4].name == "project_out" && specs[4].rows == 6 && specs[4].cols == 3));
  const auto row_product = [](const auto& weights, moue::index_t r, const auto& rows, moue::index_t i,
                              moue::index_t n) {
    double sum = 0;
    for (moue::index_t j = 0; j < n; ++j) sum += weights(r, j) * rows(i, j);
    return sum;
  };
  for (moue::index_t i = 0; i < 3; ++i)
    for (moue::index_t r = 0; r < 3; ++r) plain.x(i, r) = row_product(whole.p[3], r, whole.x, i, 6);
  for (std::size_t k = 0; k < 3; ++k)
    plain.p[k].each([&](double& weight, moue::index_t i, moue::index_t j) { weight = whole.p[k](i, j); });
  plain.forward();
  whole.forward();
  for (moue::index_t i = 0; i < 3; ++i)
    for (moue::index_t r = 0; r < 6; ++r)
      CHECK(whole.y(i, r) == doctest::Approx(row_product(whole.p[4], r, plain.y, i, 3)).epsilon(1e-12));
}

TEST_CASE("a gating function of the pair does what the product with an activation does") {
  const moue::swiglu product{6, 5};
  const moue::gated_mlp<paired_silu> paired{6, 5};
  expert_trial<moue::swiglu> a(product, 0, 4);
  expert_trial<moue::gated_mlp<paired_silu>> b(paired, 0, 4);
  a.forward();
  b.forward();
  a.backward<true>();
  b.backward<true>();
  CHECK(a.y.same(b.y));
  CHECK(a.dx.same(b.dx));
  CHECK(a.dgate.same(b.dgate));
  for (std::size_t i = 0; i < 3; ++i) CHECK(a.dp[i].same(b.dp[i]));
}

TEST_CASE("self-gated experts obey the laws, whichever backward the inner one has") {
  obeys_the_laws(moue::self_gated{moue::gated_mlp<moue::clamped_swiglu, true>{6, 5}});
  obeys_the_laws(moue::self_gated{plain_linear{6}});
}

TEST_CASE("self-gated experts obey the laws around next to nothing, and around each other") {
  obeys_the_laws(moue::self_gated{moue::copy_expert{6}});
  obeys_the_laws(moue::self_gated{moue::zero_expert{1}});
  static_assert(moue::Expert<moue::self_gated<moue::self_gated<moue::swiglu>>>);
}

TEST_CASE("a self-gated expert is the inner one times the sigmoid of a product") {
  const moue::swiglu inner{6, 5};
  const moue::self_gated expert{inner};
  CHECK(expert.width == 6);
  expert_trial<moue::swiglu> bare(inner, 0, 3);
  expert_trial<moue::self_gated<moue::swiglu>> gated(expert, 0, 3);
  const auto specs = expert.parameters();
  CHECK(specs.size() == 4);
  CHECK(specs[3].name == "self_gate");
  CHECK(specs[3].rows == 1);
  CHECK(specs[3].cols == 6);
  bare.forward();
  gated.forward();
  for (moue::index_t i = 0; i < 3; ++i) {
    double logit = 0;
    for (moue::index_t j = 0; j < 6; ++j) logit += gated.p[3](0, j) * gated.x(i, j);
    for (moue::index_t j = 0; j < 6; ++j)
      CHECK(gated.y(i, j) == doctest::Approx(sigmoid(logit) * bare.y(i, j)).epsilon(exact));
  }
  gated.p[3].fill(0);
  gated.forward();
  for (moue::index_t i = 0; i < 3; ++i)
    for (moue::index_t j = 0; j < 6; ++j) CHECK(gated.y(i, j) == bare.y(i, j) / 2);
}

TEST_CASE("a self-gated expert keeps outputs only where the inner one cannot do without") {
  CHECK(moue::self_gated{moue::swiglu{6, 5}}.saved() == std::array<moue::index_t, 3>{5, 5, 1});
  CHECK(moue::self_gated{plain_linear{6}}.saved() == std::array<moue::index_t, 2>{1, 6});
}

TEST_CASE("a backend's own gated_linear is what gated experts run, forward and backward") {
  // Five tokens, seven rows: expert 1 has four of them, expert 2 none.
  test::assignments given;
  using two = std::pair<int, int>;
  for (const auto& [first, second] : {two{0, 1}, two{1, -1}, two{1, 3}, two{0, -1}, two{1, -1}}) {
    given.add(first, 0.5);
    if (second >= 0) given.add(second, -1.5);
    given.end_token();
  }
  const auto check = [&](const auto& expert, moue::index_t forwards, moue::index_t backwards) {
    const moue::index_t width = expert.width;
    moue::index_t forward_rows = 0, backward_rows = 0;
    const moue::executor plain(expert, 4, moue::reference{});
    const moue::executor fused(expert, 4, fused_backend{{}, {{}, &forward_rows, &backward_rows}});
    moue::parameters<double> weights(plain.layout());
    moue::initialize(weights, 3);
    std::vector<double> x(5 * static_cast<std::size_t>(width)), dy(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] = std::sin(static_cast<double>(i));
      dy[i] = std::cos(static_cast<double>(3 * i));
    }
    const auto expected = test::run_executor(plain, weights, given, x, dy);
    const auto result = test::run_executor(fused, weights, given, x, dy);
    CHECK(forward_rows == forwards);
    CHECK(backward_rows == backwards);
    const auto near = [](const auto& a, const auto& b) {
      return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                        [](double v, double w) { return std::abs(v - w) <= exact * (1 + std::abs(v)); });
    };
    CHECK(near(result.y, expected.y));
    CHECK(near(result.dx, expected.dx));
    CHECK(near(result.dgate, expected.dgate));
    for (moue::index_t i = 0; i < weights.layout().tensors(); ++i) {
      CHECK(result.gradients.live(i) == expected.gradients.live(i));
      if (!expected.gradients.live(i)) continue;
      for (moue::index_t row = 0; row < weights.layout()[i].rows; ++row)
        CHECK(near(result.gradients[i].row(row), expected.gradients[i].row(row)));
    }
  };
  check(moue::swiglu{6, 5}, 7, 7);
  check(moue::self_gated{moue::swiglu{6, 5}}, 7, 7);
  check(moue::recomputed{moue::swiglu{6, 5}}, 14, 7);
  check(moue::gated_mlp<moue::gelu, true>{6, 5}, 0, 7);  // biases come between the products and the gating function
}
