// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What a row stage is called with beside its logits: extra columns and parameters, and where their gradients go.

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "moue/router.hpp"
#include "moue/testing/values.hpp"

namespace moue::inline v0_1::testing::detail {

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

/// One row of a stage with all it may ask for: as many extra columns as logits, and its parameters.
template <class T>
struct row_trial {
  static constexpr std::size_t parameters = moue::detail::stage_parameter_count<T>;

  const T& stage;
  numbers logits, dlogits, extra, dextra;
  std::array<numbers, parameters> p, dp;

  row_trial(const T& stage_, numbers z)
      : stage(stage_),
        logits(std::move(z)),
        dlogits(1, logits.cols(), 0),
        extra(1, logits.cols()),
        dextra(1, logits.cols(), 0) {
    extra.randomise(8);
    const auto specs = declared(stage, logits.cols());
    for (std::size_t i = 0; i < parameters; ++i) {
      p[i] = parameter_values(specs[i], 100 + i);
      dp[i] = numbers(1, specs[i].cols, 0);
    }
  }
  static auto declared(const T& stage, index_t candidates) {
    return moue::detail::stage_parameters(stage, router_shape{0, 6, candidates, candidates});
  }

  vector_view<const double> row() const { return logits.row(); }
  auto beside() const { return moue::detail::extra_for<T>(extra.row()); }
  auto dbeside() { return moue::detail::extra_for<T>(dextra.row()); }
  auto weights() const { return moue::detail::parameters_for<T>(const_views(p)); }
  auto dweights() {
    std::array<vector_view<double>, parameters> rows;
    for (std::size_t i = 0; i < parameters; ++i) rows[i] = dp[i].row();
    return moue::detail::parameters_for<T>(rows);
  }

  /// Calls f(name, values, gradient) for all that the stage is told to hand gradients to.
  template <class F>
  void each(F&& f) {
    f(std::string("logit "), logits, dlogits);
    if constexpr (moue::detail::reads_extra<T>) f(std::string("extra column "), extra, dextra);
    for (std::size_t i = 0; i < parameters; ++i) f("parameter " + std::to_string(i) + ", ", p[i], dp[i]);
  }
  bool untouched_padding() const { return dlogits.intact() && dextra.intact() && intact(dp); }
};

/// `backward` must add the same to gradients of any value; and agree with the differences of `loss` unless it is exempt.
template <class Trial, class Loss>
void expect_row_gradients(law_report& report, Trial& trial, bool exempt, const Loss& loss) {
  trial.each([](const auto&, numbers&, numbers& d) { d.fill(0); });
  trial.backward();
  std::vector<numbers> added;
  trial.each([&](const auto&, numbers&, numbers& d) {
    added.push_back(d);
    d.fill(2.5);
  });
  trial.backward();
  std::size_t at = 0;
  trial.each([&](const std::string& name, numbers&, numbers& d) {
    d.each([](double& v, index_t, index_t) { v -= 2.5; });
    expect_close(report, "backward adds to gradients", "what was added to d " + name, d, added[at++]);
    d = added[at - 1];
  });
  report.expect("nothing is written beside the outputs", trial.untouched_padding(),
                [] { return std::string("memory beside a gradient was written"); });
  at = 0;
  if (exempt) return;
  trial.each([&](const std::string& name, numbers& values, numbers&) {
    expect_gradient(report, "backward agrees with central differences", name, values, added[at++], loss);
  });
}

}  // namespace moue::inline v0_1::testing::detail
