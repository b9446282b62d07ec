// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The laws of gate, probability, transform and preference stages: all that maps one row of logits to numbers.

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moue/router.hpp"
#include "moue/testing/row_trial.hpp"
#include "moue/testing/values.hpp"

namespace moue::inline v0_1::testing {
namespace detail {

template <class T>
struct gate_trial : row_trial<T> {
  std::vector<std::int32_t> columns;
  numbers gates, dgates;

  gate_trial(const T& s, numbers z, std::vector<std::int32_t> taken)
      : row_trial<T>(s, std::move(z)), columns(std::move(taken)), gates(1, count()), dgates(1, count()) {
    dgates.randomise(9);
  }

  index_t count() const { return static_cast<index_t>(columns.size()); }
  vector_view<const std::int32_t> selected() const { return {columns.data(), count()}; }
  void forward(double stale = poison<double>()) {
    gates.fill(stale);
    call_row(moue::detail::call_forward{}, this->stage, this->row(), this->beside(), selected(), this->weights(),
             gates.row());
  }
  void backward() {
    call_row(moue::detail::call_backward{}, this->stage, this->row(), this->beside(), selected(), this->weights(),
             std::as_const(gates).row(), std::as_const(dgates).row(), this->dlogits.row(), this->dbeside(),
             this->dweights());
  }
};

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
    expect_row_gradients(report, trial, surrogate_gradient<T>, [&] {
      trial.forward();
      return dot(trial.gates, trial.dgates);
    });
    if (selected.empty())
      report.expect("no selected candidate is legal and changes nothing", trial.dlogits.same(numbers(1, n, 0)),
                    [&] { return "dlogits were written"; });
    report.expect("nothing is written beside the outputs", trial.gates.intact(),
                  [] { return std::string("memory beside the gates was written"); });
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
struct probability_trial : row_trial<T> {
  numbers p, dp;

  probability_trial(const T& s, numbers z)
      : row_trial<T>(s, std::move(z)), p(1, this->logits.cols()), dp(1, this->logits.cols()) {
    dp.randomise(9);
  }
  void forward(double stale = poison<double>()) {
    p.fill(stale);
    call_row(moue::detail::call_forward{}, this->stage, this->row(), this->beside(), p.row());
  }
  void backward() {
    call_row(moue::detail::call_backward{}, this->stage, this->row(), this->beside(), std::as_const(p).row(),
             std::as_const(dp).row(), this->dlogits.row(), this->dbeside());
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
  expect_row_gradients(report, trial, false, [&] {
    trial.forward();
    return dot(trial.p, trial.dp);
  });
  report.expect("nothing is written beside the outputs", trial.p.intact(),
                [] { return std::string("memory beside p was written"); });
}

template <class T>
struct transform_trial : row_trial<T> {
  numbers transformed, dtransformed;

  transform_trial(const T& s, numbers z)
      : row_trial<T>(s, std::move(z)), transformed(1, this->logits.cols()), dtransformed(1, this->logits.cols()) {
    dtransformed.randomise(9);
  }
  void forward(double stale = poison<double>()) {
    transformed.fill(stale);
    call_row(moue::detail::call_operator{}, this->stage, this->row(), this->beside(), this->weights(),
             transformed.row());
  }
  void backward() {
    call_row(moue::detail::call_backward{}, this->stage, this->row(), this->beside(), this->weights(),
             std::as_const(transformed).row(), std::as_const(dtransformed).row(), this->dlogits.row(), this->dbeside(),
             this->dweights());
  }
};

template <class T>
void check_transform_row(law_report& report, const T& stage, const numbers& logits) {
  transform_trial<T> trial(stage, logits), again(stage, logits);
  trial.forward();
  again.forward(1e3);
  again.logits = trial.logits;
  const auto open = [&](index_t j) { return logits(0, j) != closed; };
  for (index_t j = 0; j < logits.cols(); ++j) {
    report.expect("every open logit is assigned, and finite", !open(j) || std::isfinite(trial.transformed(0, j)),
                  [&] { return "column " + std::to_string(j) + logits_text(logits); });
    report.expect("the call reads nothing it did not write and repeats itself",
                  !open(j) || trial.transformed(0, j) == again.transformed(0, j),
                  [&] { return "column " + std::to_string(j) + " differs" + logits_text(logits); });
  }
  for (index_t j = 0; j < logits.cols(); ++j)
    if (!open(j)) {  // as a pass has it: closed afterwards as well, and nothing reaches it
      trial.transformed(0, j) = closed;
      trial.dtransformed(0, j) = 0;
    }
  trial.backward();
  for (index_t j = 0; j < logits.cols(); ++j)
    report.expect("gradients of open logits are finite", !open(j) || std::isfinite(trial.dlogits(0, j)),
                  [&] { return text(trial.dlogits(0, j)) + logits_text(logits); });
  trial.each([&](const std::string& name, numbers& values, numbers& d) {
    if (&values == &trial.logits) return;
    for (const double v : d.row())
      report.expect("gradients of extra columns and parameters are finite", std::isfinite(v),
                    [&] { return "d " + name + text(v) + logits_text(logits); });
  });
}

}  // namespace detail

/// Checks that a gate stage is one: gates agree with central differences with respect to every logit, selected or not;
/// finite for extreme logits; closed candidates get no gradient; nothing selected is legal. `candidates` is at least 3. There are as many extra columns, of
/// which a stage may use fewer; these and parameters get gradients likewise. A stage that says `static constexpr bool surrogate_gradient = true`
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

/// Checks that a transform stage is one: finite for open logits, also extreme ones and beside closed ones, with gradients
/// of logits, extra columns and parameters that agree with central differences. A stage that says `static constexpr bool
/// surrogate_gradient = true` is not held to the differences.
template <TransformStage T>
law_report check_transform_laws(const T& stage, index_t candidates = 6) {
  law_report report("transform stage");
  detail::expect_declarations(report, detail::row_trial<T>::declared(stage, candidates));
  report.attempt("the call or backward", [&] {
    auto logits = detail::numbers(1, candidates).randomise(1);
    detail::transform_trial<T> trial(stage, logits);
    trial.forward();
    detail::expect_row_gradients(report, trial, detail::surrogate_gradient<T>, [&] {
      trial.forward();
      return detail::dot(trial.transformed, trial.dtransformed);
    });
    report.expect("nothing is written beside the outputs", trial.transformed.intact(),
                  [] { return std::string("memory beside the transformed logits was written"); });
    logits(0, 1) = detail::closed;
    detail::check_transform_row(report, stage, logits);
    for (index_t j = 2; j < candidates; ++j) logits(0, j) = detail::closed;  // one is open
    detail::check_transform_row(report, stage, logits);
    detail::check_transform_row(report, stage, logits.fill(detail::closed));
    const auto extreme = detail::extreme_logits(candidates);
    for (index_t i = 0; i < extreme.rows(); ++i)
      detail::check_transform_row(report, stage, detail::copy_of(extreme.row(i)));
  });
  detail::note_exemptions<T>(report);
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
    auto beside = detail::numbers(1, candidates).randomise(8);
    for (index_t i = 0; i < rows.rows(); ++i) {
      detail::numbers first(1, candidates), second(1, candidates, 1e3);
      for (auto* scores : {&first, &second})
        detail::call_row(moue::detail::call_operator{}, stage, rows.row(i),
                         moue::detail::extra_for<T>(std::as_const(beside).row()), detail::const_views(p),
                         scores->row());
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
