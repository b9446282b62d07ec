// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The laws of experts.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "moue/backend/reference.hpp"
#include "moue/expert.hpp"
#include "moue/testing/values.hpp"

namespace moue::testing {
namespace detail {

/// One expert with everything it is called with, on rows [first, first + rows) of a fixed sequence. `S` stores weights.
template <class E, class S = double>
struct expert_trial {
  using C = compute_t<S>;
  static constexpr std::size_t parameters = moue::detail::parameter_count<E>;

  const E& expert;
  index_t rows;
  watched<C> x, y, dy, dx, gate, dgate;
  std::array<watched<S>, parameters> p;
  std::array<watched<C>, parameters> dp;
  target_states<parameters> states;
  std::array<watched<C>, moue::detail::saved_count<E>> saved;
  std::array<watched<C>, moue::detail::temporary_count<E>> temporary;

  expert_trial(const E& e, index_t first, index_t count)
      : expert(e),
        rows(count),
        x(rows, e.width),
        y(rows, e.width),
        dy(rows, e.width),
        dx(rows, e.width),
        gate(1, rows),
        dgate(1, rows) {
    const auto specs = e.parameters();
    for (std::size_t i = 0; i < parameters; ++i) {
      const numbers values = parameter_values(specs[i], 100 + i);
      p[i] = watched<S>(specs[i].rows, specs[i].cols);
      p[i].each([&](S& v, index_t r, index_t c) { v = S(static_cast<C>(values(r, c))); });
      dp[i] = watched<C>(specs[i].rows, specs[i].cols, C(0));
    }
    for (std::size_t i = 0; i < saved.size(); ++i) saved[i] = watched<C>(rows, e.saved()[i]);
    for (std::size_t i = 0; i < temporary.size(); ++i) temporary[i] = watched<C>(rows, e.temporaries()[i]);
    const auto normal = [&](std::uint64_t key, index_t r, index_t c) {
      return C(moue::detail::normal_at(key, static_cast<std::uint64_t>((first + r) * 4096 + c)));
    };
    x.each([&](C& v, index_t r, index_t c) { v = normal(1, r, c); });
    dy.each([&](C& v, index_t r, index_t c) { v = normal(2, r, c); });
    gate.each([&](C& v, index_t, index_t r) { v = first + r == 2 ? C(0) : normal(3, r, 0); });  // one gate is closed
  }

  /// Outputs and scratch hold `stale` on entry.
  void forward(C stale = poison<C>()) {
    y.fill(stale);
    for (auto& k : saved) k.fill(stale);
    for (auto& t : temporary) t.fill(stale);
    expert.forward(reference_operations{}, const_views(p), std::as_const(x).view(), views(saved), views(temporary),
                   y.view());
  }
  /// With `Gated`, the gradient of sum_i gate_i <dy_i, y_i>; otherwise that of <dy, y>.
  template <bool Gated>
  void backward(C stale = poison<C>()) {
    dx.fill(stale);
    dgate.fill(stale);
    for (auto& t : temporary) t.fill(stale);
    const auto call = [&](auto out) {
      expert.backward(reference_operations{}, const_views(p), std::as_const(x).view(), const_views(saved),
                      views(temporary), out, dx.view(), states.targets(dp));
      states.finish(dp);
    };
    if constexpr (Gated)
      call(gated_gradient<C>{std::as_const(dy).view(), std::as_const(gate).row(), dgate.row()});
    else
      call(std::as_const(dy).view());
  }
  /// Gradients that hold `value`, or nothing but what `value` stands for.
  void set_gradients(C value, bool held) {
    for (auto& d : dp) d.fill(value);
    states.marks.fill(held ? 1 : 0);
  }
  template <bool Gated>
  double loss() {
    forward();
    double sum = 0;
    for (index_t i = 0; i < rows; ++i)
      for (index_t j = 0; j < y.cols(); ++j) sum += (Gated ? gate(0, i) : 1) * dy(i, j) * y(i, j);
    return sum;
  }
  bool untouched_padding() const {
    return y.intact() && dx.intact() && dgate.intact() && intact(dp) && intact(saved) && intact(temporary);
  }
};

template <class E>
void check_expert_forward(law_report& report, const E& expert) {
  expert_trial<E> all(expert, 0, 5);
  all.forward();
  const numbers y = all.y;
  expect_close(report, "forward assigns y from x and the parameters", "y", y, y);  // NaN differs from itself
  all.forward(1e3);
  report.expect("forward reads no scratch it did not write and repeats itself", all.y.same(y),
                [] { return std::string("y differs when y, saved and temporary hold other numbers on entry"); });
  for (index_t first = 0; first < 5; first += 2) {
    const index_t rows = first < 4 ? 2 : 1;
    expert_trial<E> some(expert, first, rows);
    some.forward();
    numbers expected(rows, y.cols());
    expected.each([&](double& v, index_t i, index_t j) { v = y(first + i, j); });
    expect_close(report, "rows are independent", "among fewer rows, y", some.y, expected);
  }
  report.expect("nothing is written beside the outputs", all.untouched_padding(),
                [] { return std::string("forward wrote outside a view (views have a stride)"); });
}

/// Weights that 16 bits hold exactly must act as the same weights in full width.
template <class E>
void check_expert_storage(law_report& report, const E& expert) {
  expert_trial<E, bf16> narrow(expert, 0, 3);
  expert_trial<E, float> wide(expert, 0, 3);
  for (std::size_t i = 0; i < wide.p.size(); ++i)
    wide.p[i].each([&](float& v, index_t r, index_t c) { v = static_cast<float>(narrow.p[i](r, c)); });
  narrow.forward();
  wide.forward();
  for (index_t i = 0; i < 3; ++i)
    for (index_t j = 0; j < wide.y.cols(); ++j)
      report.expect("weights may be stored in a narrower type", narrow.y(i, j) == wide.y(i, j), [&] {
        return "y" + place(i, j) + " is " + text(double(narrow.y(i, j))) + " with bf16 weights and " +
               text(double(wide.y(i, j))) + " with the same numbers as float";
      });
}

/// Without one of the gradients, and without all of them, the others must be the same.
template <bool Gated, class E, std::size_t N>
void check_expert_unwanted(law_report& report, const E& expert, const numbers& dx, const numbers& dgate,
                           const std::array<numbers, N>& dp) {
  for (std::size_t without = 0; N > 0 && without <= N; ++without) {
    expert_trial<E> trial(expert, 0, 5);
    for (std::size_t i = 0; i < N; ++i) trial.states.unwanted[i] = without == N || i == without;
    trial.forward();
    trial.template backward<Gated>();
    bool same = trial.dx.same(dx) && (!Gated || trial.dgate.same(dgate));
    for (std::size_t i = 0; i < N; ++i) same = same && (trial.states.unwanted[i] || trial.dp[i].same(dp[i]));
    report.expect("any gradient of a parameter may be unwanted", same, [&] {
      return "something else changes without " +
             (without == N ? "all of them" : "that of " + std::string(expert.parameters()[without].name));
    });
  }
}

template <bool Gated, class E>
void check_expert_backward(law_report& report, const E& expert) {
  const std::string form = Gated ? " (gated form)" : " (plain form)";
  const auto specs = expert.parameters();
  expert_trial<E> trial(expert, 0, 5);
  trial.forward();
  trial.set_gradients(poison<double>(), false);
  trial.template backward<Gated>();
  const numbers dx = trial.dx, dgate = trial.dgate;
  const auto dp = trial.dp;
  expect_close(report, "backward assigns dx", "dx" + form, dx, dx);
  for (std::size_t i = 0; i < dp.size(); ++i)
    expect_close(report, "backward assigns gradients that hold nothing", "d " + std::string(specs[i].name) + form,
                 dp[i], dp[i]);
  trial.set_gradients(2.5, true);
  trial.template backward<Gated>(-1e3);
  report.expect("backward reads no scratch it did not write and repeats itself",
                trial.dx.same(dx) && (!Gated || trial.dgate.same(dgate)),
                [&] { return "dx or dgate differ when dx, dgate and temporary hold other numbers on entry" + form; });
  for (std::size_t i = 0; i < dp.size(); ++i) {
    trial.dp[i].each([](double& v, index_t, index_t) { v -= 2.5; });
    expect_close(report, "backward adds to dp", "what was added to d " + std::string(specs[i].name) + form, trial.dp[i],
                 dp[i]);
  }
  check_expert_unwanted<Gated>(report, expert, dx, dgate, dp);
  report.expect("nothing is written beside the outputs", trial.untouched_padding(),
                [&] { return "backward wrote outside a view (views have a stride)" + form; });

  const auto loss = [&] { return trial.template loss<Gated>(); };
  expect_gradient(report, "dx agrees with central differences", "x" + form, trial.x, dx, loss);
  for (std::size_t i = 0; i < dp.size(); ++i)
    expect_gradient(report, "dp agrees with central differences", std::string(specs[i].name) + form, trial.p[i], dp[i],
                    loss);
  if constexpr (Gated) {
    trial.forward();
    for (index_t i = 0; i < trial.rows; ++i) {
      double along = 0;
      for (index_t j = 0; j < dx.cols(); ++j) along += trial.dy(i, j) * trial.y(i, j);
      report.expect("dgate is <dy, y>", close(dgate(0, i), along), [&] {
        return "of row " + std::to_string(i) + ", with gate " + text(trial.gate(0, i)) + ": " + text(dgate(0, i)) +
               ", not " + text(along);
      });
    }
  }
  expert_trial<E> one(expert, 3, 1);
  one.forward();
  one.template backward<Gated>();
  numbers expected(1, dx.cols());
  expected.each([&](double& v, index_t, index_t j) { v = dx(3, j); });
  expect_close(report, "rows are independent", "alone, dx" + form, one.dx, expected);
}

/// The gated form with gates g must be the plain form with g dy in place of dy.
template <class E>
void check_expert_forms(law_report& report, const E& expert) {
  constexpr std::string_view law = "both forms of backward agree";
  expert_trial<E> gated(expert, 0, 5), plain(expert, 0, 5);
  plain.dy.each([&](double& v, index_t i, index_t) { v *= plain.gate(0, i); });
  gated.forward();
  plain.forward();
  gated.template backward<true>();
  plain.template backward<false>();
  expect_close(report, law, "gated dx", gated.dx, plain.dx);
  for (std::size_t i = 0; i < gated.dp.size(); ++i) expect_close(report, law, "gated dp", gated.dp[i], plain.dp[i]);
}

template <class E>
void check_expert_empty(law_report& report, const E& expert) {
  expert_trial<E> none(expert, 0, 0);
  none.set_gradients(poison<double>(), false);
  none.forward();
  bool zero = true;
  const auto look = [&] {
    for (auto& d : none.dp) d.each([&](double& v, index_t, index_t) { zero = zero && v == 0; });
  };
  if constexpr (moue::detail::has_gated_backward<E>) none.template backward<true>();
  look();
  if constexpr (moue::detail::has_plain_backward<E>) none.template backward<false>();
  look();
  report.expect("zero rows are legal and change nothing", zero && none.untouched_padding(),
                [] { return std::string("dp or memory beside an empty view was written"); });
}

}  // namespace detail

/// Checks that an expert is one: `forward` assigns and `backward` agrees with central differences, in each form;
/// gradients of parameters are assigned if they hold nothing, else added to, and any may be unwanted; rows are independent; zero rows are legal; views may have a stride and weights
/// a narrower type. Works in double precision on plain loops and on few rows; single entries of large parameters are
/// sampled.
template <Expert E>
law_report check_expert_laws(const E& expert) {
  law_report report("expert");
  report.expect("the width is positive", expert.width > 0, [&] { return "it is " + std::to_string(expert.width); });
  detail::expect_declarations(report, expert.parameters());
  if (!report) return report;
  report.attempt("forward", [&] { detail::check_expert_forward(report, expert); });
  report.attempt("forward with bf16 weights", [&] { detail::check_expert_storage(report, expert); });
  if constexpr (moue::detail::has_gated_backward<E>)
    report.attempt("gated backward", [&] { detail::check_expert_backward<true>(report, expert); });
  if constexpr (moue::detail::has_plain_backward<E>)
    report.attempt("backward", [&] { detail::check_expert_backward<false>(report, expert); });
  if constexpr (moue::detail::has_gated_backward<E> && moue::detail::has_plain_backward<E>)
    report.attempt("both backwards", [&] { detail::check_expert_forms(report, expert); });
  report.attempt("zero rows", [&] { detail::check_expert_empty(report, expert); });
  return report;
}

}  // namespace moue::testing
