// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The laws of gate, probability and preference stages: all that maps one row of logits to numbers.

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moue/router.hpp"
#include "moue/testing/values.hpp"

namespace moue::inline v0_1::testing {
namespace detail {

inline constexpr double closed = -std::numeric_limits<double>::infinity();

inline std::string logits_text(const numbers& logits) {
  std::string result = " for logits";
  for (const double z : logits.row()) result += " " + text(z);
  return result;
}

/// Logits beyond what exponentials can hold in double precision, one row each.
inline numbers extreme_logits(index_t candidates) {
  numbers rows(6, candidates);
  rows.each([](double& v, index_t i, index_t j) {
    const double sign = j % 2 == 0 ? 1 : -1;
    v = i == 0 ? 1e4 * sign : i == 1 ? 1e4 : i == 2 ? -1e4 : i == 3 ? -1e4 + sign : i == 4 ? 1e300 * sign : 0;
  });
  return rows;
}

inline numbers copy_of(vector_view<const double> row) {
  numbers result(1, row.size);
  for (index_t j = 0; j < row.size; ++j) result(0, j) = row[j];
  return result;
}

template <class T>
struct gate_trial {
  const T& gate;
  numbers logits;
  std::vector<std::int32_t> columns;
  numbers gates, dgates, dlogits;

  gate_trial(const T& stage, numbers z, std::vector<std::int32_t> taken)
      : gate(stage),
        logits(std::move(z)),
        columns(std::move(taken)),
        gates(1, count()),
        dgates(1, count()),
        dlogits(1, logits.cols(), 0) {
    dgates.randomise(9);
  }

  index_t count() const { return static_cast<index_t>(columns.size()); }
  vector_view<const std::int32_t> selected() const { return {columns.data(), count()}; }
  void forward(double stale = poison<double>()) {
    gates.fill(stale);
    call_row(moue::detail::call_forward{}, gate, std::as_const(logits).row(), selected(), gates.row());
  }
  void backward() {
    call_row(moue::detail::call_backward{}, gate, std::as_const(logits).row(), selected(), std::as_const(gates).row(),
             std::as_const(dgates).row(), dlogits.row());
  }
};

/// What backward adds to dlogits that hold 0.
numbers expect_backward_adds(law_report& report, auto& trial) {
  trial.backward();
  const numbers added = trial.dlogits;
  trial.dlogits.fill(2.5);
  trial.backward();
  trial.dlogits.each([](double& v, index_t, index_t) { v -= 2.5; });
  expect_close(report, "backward adds to dlogits", "what was added to d logit ", trial.dlogits, added);
  return added;
}

template <class T>
void check_gate_rows(law_report& report, const T& stage, index_t n) {
  const auto last = static_cast<std::int32_t>(n - 1);
  for (const auto& selected : {std::vector<std::int32_t>{}, {0}, {last, 0}, {0, last, 1}}) {
    gate_trial<T> trial(stage, numbers(1, n).randomise(1), selected);
    trial.forward();
    const numbers gates = trial.gates;
    expect_close(report, "forward assigns the gates", "gate ", gates, gates);
    trial.forward(1e3);
    report.expect("forward reads nothing it did not write and repeats itself", trial.gates.same(gates),
                  [&] { return "gates differ when they hold other numbers on entry" + logits_text(trial.logits); });
    const numbers added = expect_backward_adds(report, trial);
    if (selected.empty())
      report.expect("no selected candidate is legal and changes nothing", added.same(numbers(1, n, 0)),
                    [&] { return "dlogits were written"; });
    report.expect("nothing is written beside the outputs", trial.gates.intact() && trial.dlogits.intact(),
                  [] { return std::string("memory beside gates or dlogits was written"); });
    if constexpr (!surrogate_gradient<T>)
      expect_gradient(report, "backward agrees with central differences", "logit ", trial.logits, added, [&] {
        trial.forward();
        return dot(trial.gates, trial.dgates);
      });
  }
}

template <class T>
void check_gate_extremes(law_report& report, const T& stage, index_t n) {
  const numbers rows = extreme_logits(n);
  const auto all_finite = [](const numbers& m) {
    for (const double v : m.row())
      if (!std::isfinite(v)) return false;
    return true;
  };
  for (index_t i = 0; i < rows.rows(); ++i) {
    gate_trial<T> trial(stage, copy_of(rows.row(i)), {0, static_cast<std::int32_t>(n - 1)});
    trial.forward();
    trial.backward();
    report.expect("gates and gradients are finite for extreme logits",
                  all_finite(trial.gates) && all_finite(trial.dlogits), [&] { return logits_text(trial.logits); });
  }
  gate_trial<T> shut(stage, numbers(1, n).randomise(1), {0});
  shut.logits(0, 1) = closed;
  shut.forward();
  shut.backward();
  report.expect("a closed candidate gets no gradient",
                all_finite(shut.gates) && all_finite(shut.dlogits) && shut.dlogits(0, 1) == 0,
                [&] { return "it got " + text(shut.dlogits(0, 1)) + logits_text(shut.logits); });
}

template <class T>
struct probability_trial {
  const T& stage;
  numbers logits, p, dp, dlogits;

  probability_trial(const T& s, numbers z)
      : stage(s), logits(std::move(z)), p(1, logits.cols()), dp(1, logits.cols()), dlogits(1, logits.cols(), 0) {
    dp.randomise(9);
  }
  void forward(double stale = poison<double>()) {
    p.fill(stale);
    call_row(moue::detail::call_forward{}, stage, std::as_const(logits).row(), p.row());
  }
  void backward() {
    call_row(moue::detail::call_backward{}, stage, std::as_const(logits).row(), std::as_const(p).row(),
             std::as_const(dp).row(), dlogits.row());
  }
};

template <class T>
void check_probability_row(law_report& report, const T& stage, const numbers& logits) {
  probability_trial<T> trial(stage, logits);
  trial.forward();
  trial.backward();
  double sum = 0;
  bool open = false;
  const auto said = [&](index_t j) {
    return "p(" + std::to_string(j) + ") is " + text(trial.p(0, j)) + ", d logit " + text(trial.dlogits(0, j)) +
           logits_text(logits);
  };
  for (index_t j = 0; j < logits.cols(); ++j) {
    const double p = trial.p(0, j);
    report.expect("probabilities lie between 0 and 1", p >= 0 && p <= 1 + rounding, [&] { return said(j); });
    report.expect("gradients are finite", std::isfinite(trial.dlogits(0, j)), [&] { return said(j); });
    if (logits(0, j) == closed)
      report.expect("a closed candidate has probability and gradient 0", p == 0 && trial.dlogits(0, j) == 0,
                    [&] { return said(j); });
    open = open || logits(0, j) != closed;
    sum += p;
  }
  report.expect("probabilities sum to 1 over open candidates", close(sum, open ? 1 : 0),
                [&] { return "they sum to " + text(sum) + logits_text(logits); });
}

template <class T>
void check_probability_gradient(law_report& report, const T& stage, index_t n) {
  probability_trial<T> trial(stage, numbers(1, n).randomise(1));
  trial.forward();
  const numbers p = trial.p;
  trial.forward(1e3);
  report.expect("forward reads nothing it did not write and repeats itself", trial.p.same(p),
                [&] { return "p differs when it holds other numbers on entry" + logits_text(trial.logits); });
  const numbers added = expect_backward_adds(report, trial);
  report.expect("nothing is written beside the outputs", trial.p.intact() && trial.dlogits.intact(),
                [] { return std::string("memory beside p or dlogits was written"); });
  expect_gradient(report, "backward agrees with central differences", "logit ", trial.logits, added, [&] {
    trial.forward();
    return dot(trial.p, trial.dp);
  });
}

}  // namespace detail

/// Checks that a gate stage is one: gates agree with central differences with respect to every logit, selected or not;
/// finite for extreme logits; closed candidates get no gradient; nothing selected is legal. `candidates` is at least 3. A stage that says `static constexpr bool surrogate_gradient = true`
/// is not held to the differences.
template <GateStage T>
law_report check_gate_laws(const T& stage, index_t candidates = 6) {
  law_report report("gate stage");
  report.attempt("forward or backward", [&] { detail::check_gate_rows(report, stage, candidates); });
  report.attempt("extreme logits", [&] { detail::check_gate_extremes(report, stage, candidates); });
  detail::note_exemptions<T>(report);
  return report;
}

/// Checks that a probability stage is one: a distribution over the open candidates, 0 on the closed ones, also for
/// extreme logits, with gradients that agree with central differences.
template <ProbabilityStage T>
law_report check_probability_laws(const T& stage, index_t candidates = 6) {
  law_report report("probability stage");
  report.attempt("forward or backward", [&] {
    detail::check_probability_gradient(report, stage, candidates);
    auto logits = detail::numbers(1, candidates).randomise(1);
    detail::check_probability_row(report, stage, logits);
    logits(0, 1) = detail::closed;
    detail::check_probability_row(report, stage, logits);
    detail::check_probability_row(report, stage, logits.fill(detail::closed));
    const auto extreme = detail::extreme_logits(candidates);
    for (index_t i = 0; i < extreme.rows(); ++i)
      detail::check_probability_row(report, stage, detail::copy_of(extreme.row(i)));
  });
  return report;
}

/// Checks that a preference stage is one: every score is assigned, from the row's logits and its parameters alone, and
/// finite logits with finite parameters give finite scores.
template <PreferenceStage T>
law_report check_preference_laws(const T& stage, index_t candidates = 6) {
  law_report report("preference stage");
  const router_shape shape{0, 6, candidates, candidates};
  const auto specs = moue::detail::stage_parameters(stage, shape);
  detail::expect_declarations(report, specs);
  report.attempt("the call", [&] {
    std::array<detail::numbers, moue::detail::stage_parameter_count<T>> p;
    for (std::size_t i = 0; i < p.size(); ++i) p[i] = detail::parameter_values(specs[i], 100 + i);
    const auto rows = detail::extreme_logits(candidates);
    for (index_t i = 0; i < rows.rows(); ++i) {
      detail::numbers first(1, candidates), second(1, candidates, 1e3);
      for (auto* scores : {&first, &second})
        detail::call_row(moue::detail::call_operator{}, stage, rows.row(i), detail::const_views(p), scores->row());
      report.expect("scores depend on logits and parameters alone", first.same(second),
                    [] { return std::string("they differ when they hold other numbers on entry"); });
      report.expect("nothing is written beside the scores", first.intact(),
                    [] { return std::string("memory beside the scores was written"); });
      for (const double score : first.row())
        report.expect("every score is assigned and finite", std::isfinite(score),
                      [&] { return detail::text(score) + detail::logits_text(detail::copy_of(rows.row(i))); });
    }
  });
  return report;
}

}  // namespace moue::inline v0_1::testing
