// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The laws of experts.

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "moue/expert.hpp"
#include "moue/testing/expert_trial.hpp"
#include "moue/testing/values.hpp"

namespace moue::inline v0_1::testing {
namespace detail {

template <std::size_t N>
std::vector<index_t> listed(const std::array<index_t, N>& widths) {
  return {widths.begin(), widths.end()};
}

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
  for (std::size_t i = 0; i < wide.p.size(); ++i)  // all rows belong to expert 0
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
                           const std::array<numbers, N>& dp, const std::array<numbers, N>& second_dp) {
  for (std::size_t without = 0; N > 0 && without <= N; ++without) {
    expert_trial<E> trial(expert, 0, 5);
    for (std::size_t i = 0; i < N; ++i) trial.unwanted[i] = without == N || i == without;
    trial.forward();
    trial.template backward<Gated>();
    bool same = trial.dx.same(dx) && (!Gated || trial.dgate.same(dgate));
    for (std::size_t i = 0; i < N; ++i)
      same = same && (trial.unwanted[i] || (trial.dp[i].same(dp[i]) && trial.second_dp[i].same(second_dp[i])));
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
  const auto dp = trial.dp, second_dp = trial.second_dp;
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
    const auto added = [&](numbers& now, const numbers& before) {
      now.each([](double& v, index_t, index_t) { v -= 2.5; });
      expect_close(report, "backward adds to dp", "what was added to d " + std::string(specs[i].name) + form, now,
                   before);
    };
    added(trial.dp[i], dp[i]);
    added(trial.second_dp[i], second_dp[i]);
  }
  check_expert_unwanted<Gated>(report, expert, dx, dgate, dp, second_dp);
  report.expect("nothing is written beside the outputs", trial.untouched_padding(),
                [&] { return "backward wrote outside a view (views have a stride)" + form; });

  const auto loss = [&] { return trial.template loss<Gated>(); };
  expect_gradient(report, "dx agrees with central differences", "x" + form, trial.x, dx, loss);
  for (std::size_t i = 0; i < dp.size(); ++i) {
    const auto name = std::string(specs[i].name) + form;
    expect_gradient(report, "dp agrees with central differences", name, trial.p[i], dp[i], loss);
    expect_gradient(report, "dp agrees with central differences", name + " of another expert of the block",
                    trial.second_p[i], second_dp[i], loss);
  }
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
  for (std::size_t i = 0; i < gated.dp.size(); ++i) {
    expect_close(report, law, "gated dp", gated.dp[i], plain.dp[i]);
    expect_close(report, law, "gated dp", gated.second_dp[i], plain.second_dp[i]);
  }
}

template <class E>
void check_expert_empty(law_report& report, const E& expert) {
  expert_trial<E> none(expert, 0, 0);
  none.set_gradients(poison<double>(), false);
  none.forward();
  bool zero = true;
  const auto look = [&] {
    for (auto* all : {&none.dp, &none.second_dp})
      for (auto& d : *all) d.each([&](double& v, index_t, index_t) { zero = zero && v == 0; });
  };
  if constexpr (moue::detail::has_gated_backward<E>) {
    none.template backward<true>();
    look();
  }
  if constexpr (moue::detail::has_plain_backward<E>) {
    none.template backward<false>();
    look();
  }
  report.expect("zero rows are legal and change nothing", zero && none.untouched_padding(),
                [] { return std::string("dp or memory beside an empty view was written"); });
}

}  // namespace detail

/// Checks that an expert is one: `forward` assigns and `backward` agrees with central differences, in each form;
/// gradients of parameters are assigned if they hold nothing, else added to, and any may be unwanted; rows are
/// independent, and so are the experts of a block; tokens are found by index; zero rows are legal; views may have a stride
/// and weights a narrower type. Works in double precision on plain loops and on few rows; single entries of large parameters are
/// sampled.
template <Expert E>
law_report check_expert_laws(const E& expert) {
  law_report report("expert");
  report.expect("the width is positive", expert.width > 0, [&] { return "it is " + std::to_string(expert.width); });
  detail::expect_declarations(report, expert.parameters());
  for (const auto& widths : {detail::listed(expert.saved()), detail::listed(expert.temporaries())})
    for (const index_t width : widths)
      report.expect("widths of row matrices are not negative", width >= 0,
                    [&] { return "one of saved() or temporaries() is " + std::to_string(width); });
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

}  // namespace moue::inline v0_1::testing
