// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What a router's row stages must obey so that a layer can be given more candidates, closed at first, without a change.

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "moue/router.hpp"
#include "moue/testing/row_laws.hpp"
#include "moue/testing/select_laws.hpp"

namespace moue::inline v0_1::testing {
namespace detail {

template <class C>
bool same_bits(C a, C b) {
  using bits = std::conditional_t<sizeof(C) == 4, std::uint32_t, std::uint64_t>;
  return std::bit_cast<bits>(a) == std::bit_cast<bits>(b);
}

/// Rows of logits: far apart, close together, equal, with closed ones among them, and, last, all closed but one.
template <class C>
watched<C> extension_cases(index_t candidates) {
  watched<C> rows(6, candidates);
  rows.randomise(21);
  rows.each([](C& v, index_t i, index_t j) {
    if (i == 1) v = C(2) + v / C(64);
    if (i == 2) v = C(1);
    if ((i == 3 && j % 2 == 1) || (i == 5 && j > 0)) v = moue::detail::minus_infinity<C>();
    if (i == 4) v *= C(30);
  });
  return rows;
}

/// `rows` with `more` closed candidates behind each.
template <class C>
watched<C> extended(const watched<C>& rows, index_t more) {
  watched<C> result(rows.rows(), rows.cols() + more, moue::detail::minus_infinity<C>());
  result.each([&](C& v, index_t i, index_t j) {
    if (j < rows.cols()) v = rows(i, j);
  });
  return result;
}

/// Row `i` of `longer` must hold the bits of `shorter`, and behind them those of `rest`.
template <class C>
void expect_extension(law_report& report, const std::string& law, const std::string& what, index_t i,
                      const watched<C>& shorter, const watched<C>& longer, C rest) {
  for (index_t j = 0; j < longer.cols(); ++j) {
    const bool home = j < shorter.cols();
    const C expected = home ? shorter(0, j) : rest;
    report.expect(law, home ? same_bits(longer(0, j), expected) : longer(0, j) == expected, [&] {
      return what + " " + std::to_string(j) + " is " + text(double(longer(0, j))) + " with " +
             std::to_string(longer.cols()) + " candidates, not " + text(double(expected)) + ", in row " +
             std::to_string(i);
    });
  }
}

/// The open candidates of a row by falling logit, at most three; in reverse in odd rows.
template <class C>
std::vector<std::int32_t> picks_of(vector_view<const C> row, bool reverse) {
  std::vector<std::int32_t> picks;
  for (index_t j = 0; j < row.size; ++j)
    if (row[j] != moue::detail::minus_infinity<C>()) picks.push_back(static_cast<std::int32_t>(j));
  std::stable_sort(picks.begin(), picks.end(), [&](std::int32_t a, std::int32_t b) { return row[a] > row[b]; });
  if (picks.size() > 3) picks.resize(3);
  if (reverse) std::reverse(picks.begin(), picks.end());
  return picks;
}

/// What a row stage takes beside its logits, of `candidates` and some more: the same numbers, in the leading block of
/// parameters that grow.
template <class C, class T>
struct extension_arguments {
  watched<C> extra, dextra;
  std::array<watched<C>, moue::detail::stage_parameter_count<T>> p, dp;

  extension_arguments(const T& stage, index_t candidates, index_t longer)
      : extra(1, candidates), dextra(1, candidates) {
    extra.randomise(8);
    dextra.fill(C(0));
    const auto few = moue::detail::stage_parameters(stage, router_shape{0, 6, candidates, candidates});
    const auto many = moue::detail::stage_parameters(stage, router_shape{0, 6, longer, longer});
    for (std::size_t i = 0; i != p.size(); ++i) {
      const auto known = watched<C>(few[i].rows, few[i].cols).randomise(30 + i);
      p[i] = watched<C>(many[i].rows, many[i].cols).randomise(60 + i);
      p[i].each([&](C& v, index_t r, index_t c) {
        if (r < known.rows() && c < known.cols()) v = known(r, c);
      });
      dp[i] = watched<C>(1, many[i].cols, C(0));
    }
  }
  auto beside() const { return moue::detail::extra_for<T>(extra.row()); }
  auto dbeside() { return moue::detail::extra_for<T>(dextra.row()); }
  auto weights() const { return moue::detail::parameters_for<T>(const_views(p)); }
  auto dweights() {
    std::array<vector_view<C>, moue::detail::stage_parameter_count<T>> rows;
    for (std::size_t i = 0; i != dp.size(); ++i) rows[i] = dp[i].row();
    return moue::detail::parameters_for<T>(rows);
  }
};

template <class C, class T>
void check_gate_extension(law_report& report, const T& stage, index_t candidates, index_t more) {
  const auto rows = extension_cases<C>(candidates), longer_rows = extended(rows, more);
  for (index_t i = 0; i < rows.rows(); ++i) {
    const auto picks = picks_of(rows.row(i), i % 2 == 1);
    const auto count = static_cast<index_t>(picks.size());
    const vector_view<const std::int32_t> selected{picks.data(), count};
    const auto dgates = watched<C>(1, count).randomise(9);
    const auto run = [&](vector_view<const C> logits) {
      std::pair result{watched<C>(1, count), watched<C>(1, logits.size, C(0.75))};
      extension_arguments<C, T> more_of(stage, candidates, logits.size);
      call_row(moue::detail::call_forward{}, stage, logits, more_of.beside(), selected, more_of.weights(),
               result.first.row());
      call_row(moue::detail::call_backward{}, stage, logits, more_of.beside(), selected, more_of.weights(),
               std::as_const(result.first).row(), dgates.row(), result.second.row(), more_of.dbeside(),
               more_of.dweights());
      return result;
    };
    const auto [gates, dlogits] = run(rows.row(i));
    const auto [longer_gates, longer_dlogits] = run(longer_rows.row(i));
    expect_extension(report, "closed candidates behind change no gate", "gate", i, gates, longer_gates, C(0));
    expect_extension(report, "closed candidates behind change no gradient", "d logit", i, dlogits, longer_dlogits,
                     C(0.75));
  }
}

template <class C, class T>
void check_probability_extension(law_report& report, const T& stage, index_t candidates, index_t more) {
  const auto rows = extension_cases<C>(candidates), longer_rows = extended(rows, more);
  const auto dp = watched<C>(1, candidates + more).randomise(9);
  for (index_t i = 0; i < rows.rows(); ++i) {
    const auto run = [&](vector_view<const C> logits) {
      std::pair result{watched<C>(1, logits.size), watched<C>(1, logits.size, C(0.75))};
      extension_arguments<C, T> more_of(stage, candidates, logits.size);
      call_row(moue::detail::call_forward{}, stage, logits, more_of.beside(), result.first.row());
      call_row(moue::detail::call_backward{}, stage, logits, more_of.beside(), std::as_const(result.first).row(),
               vector_view<const C>{dp.row().data, logits.size}, result.second.row(), more_of.dbeside());
      return result;
    };
    const auto [p, dlogits] = run(rows.row(i));
    const auto [longer_p, longer_dlogits] = run(longer_rows.row(i));
    expect_extension(report, "closed candidates behind change no probability", "p", i, p, longer_p, C(0));
    expect_extension(report, "closed candidates behind change no gradient", "d logit", i, dlogits, longer_dlogits,
                     C(0.75));
  }
}

/// A tensor that grows with the candidates keeps its numbers in its leading block.
template <class C, class T>
void check_preference_extension(law_report& report, const T& stage, index_t candidates, index_t more) {
  const auto rows = extension_cases<C>(candidates), longer_rows = extended(rows, more);
  const auto parameters_for = [&](index_t n) {
    std::array<watched<C>, moue::detail::stage_parameter_count<T>> p;
    const auto specs = moue::detail::stage_parameters(stage, router_shape{0, 6, n, n});
    for (std::size_t i = 0; i < p.size(); ++i) p[i] = watched<C>(specs[i].rows, specs[i].cols).randomise(30 + i);
    return p;
  };
  const auto p = parameters_for(candidates);
  auto longer_p = parameters_for(candidates + more);
  for (std::size_t i = 0; i < p.size(); ++i)
    longer_p[i].each([&](C& v, index_t r, index_t c) {
      if (r < p[i].rows() && c < p[i].cols()) v = p[i](r, c);
    });
  const auto columns = watched<C>(1, candidates).randomise(8);
  const auto beside = moue::detail::extra_for<T>(columns.row());
  for (index_t i = 0; i < rows.rows(); ++i) {
    watched<C> scores(1, candidates), longer(1, candidates + more);
    call_row(moue::detail::call_operator{}, stage, rows.row(i), beside, const_views(p), scores.row());
    call_row(moue::detail::call_operator{}, stage, longer_rows.row(i), beside, const_views(longer_p), longer.row());
    const watched<C> home = [&] {  // what stands behind is closed by the router, whatever its score
      watched<C> result(1, candidates);
      result.each([&](C& v, index_t, index_t j) { v = longer(0, j); });
      return result;
    }();
    expect_extension(report, "closed candidates behind change no score", "score", i, scores, home, C(0));
  }
}

template <class T>
void check_select_extension(law_report& report, const T& stage, index_t candidates, index_t more) {
  const auto rows = extension_cases<double>(candidates);
  const auto run = [&](const numbers& scores) {
    std::vector<std::int32_t> ids;
    for (index_t j = 0; j < scores.cols(); ++j) ids.push_back(static_cast<std::int32_t>(j));
    return select_trial<T>(report, stage, ids)
        .run(scores, std::vector<std::uint8_t>(static_cast<std::size_t>(scores.rows()), 1));
  };
  const auto taken = run(rows), longer = run(extended(rows, more));
  for (std::size_t i = 0; i < taken.size(); ++i)
    report.expect("closed candidates behind change no selection", taken[i] == longer[i], [&] {
      return "other columns with " + std::to_string(more) + " more," + scores_text(rows.row(static_cast<index_t>(i)));
    });
}

template <class C, class T>
void check_row_extension(law_report& report, const T& stage, index_t candidates, index_t more) {
  if constexpr (GateStage<T>)
    check_gate_extension<C>(report, stage, candidates, more);
  else if constexpr (ProbabilityStage<T>)
    check_probability_extension<C>(report, stage, candidates, more);
  else
    check_preference_extension<C>(report, stage, candidates, more);
}

}  // namespace detail

/// Checks that closed candidates behind the others change not one bit of what a select, gate, preference or probability
/// stage makes of a row, nor of its gradients, in double and single precision. This is no law of the contracts (a stage
/// may depend on the number of candidates), but a mixture can be given more connections without a change only if its
/// stages obey it. A table selection is asked with a table of a few rows.
template <class T>
  requires GateStage<T> || ProbabilityStage<T> || PreferenceStage<T> || SelectStage<T> law_report
  check_extension_laws(const T& stage, index_t candidates = 6) {
    law_report report("row stage that is given more candidates");
    report.attempt("the stage", [&] {
      for (const index_t more : {index_t{1}, index_t{2}, candidates, index_t{67}}) {
        if constexpr (SelectStage<T>) {
          detail::check_select_extension(report, stage, candidates, more);
        } else {
          detail::check_row_extension<double>(report, stage, candidates, more);
          detail::check_row_extension<float>(report, stage, candidates, more);
        }
      }
    });
    return report;
  }

}  // namespace moue::inline v0_1::testing
