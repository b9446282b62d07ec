// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The laws of select stages.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "moue/backend/reference.hpp"
#include "moue/router.hpp"
#include "moue/testing/values.hpp"

namespace moue::inline v0_1::testing {

/// What a select stage is checked with.
struct select_shape {
  index_t candidates = 7;  ///< of a layer
  /// Whether the stage may look at positions, not at scores and ids alone (groups of columns do). Candidates then come
  /// in ascending id order, and permuting them is not tried.
  bool columns_matter = false;
};

namespace detail {

/// Scores by which a stage is tried, one row each: [cases, candidates].
inline numbers score_cases(index_t candidates) {
  constexpr double inf = std::numeric_limits<double>::infinity();
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  constexpr index_t plain = 6;
  numbers cases(plain + 12, candidates);
  cases.randomise(1);
  const auto set = [&](index_t row, auto&& value) {
    for (index_t j = 0; j < candidates; ++j) cases(row, j) = value(j, cases(row, j));
  };
  for (index_t i = 0; i < 3; ++i)
    set(i, [](index_t, double v) { return 1 / (1 + std::exp(-v)); });         // positive scores too
  set(plain, [](index_t, double) { return 0.0; });                            // all equal
  set(plain + 1, [](index_t j, double) { return j % 2 == 0 ? 1.0 : 2.0; });   // two heights
  set(plain + 2, [](index_t j, double v) { return j % 2 == 0 ? -inf : v; });  // some closed
  set(plain + 3, [](index_t, double) { return -inf; });                       // all closed
  set(plain + 4, [](index_t j, double v) { return j == 0 ? v : -inf; });      // one open
  set(plain + 5, [](index_t j, double v) { return j == 1 ? nan : v; });
  set(plain + 6, [](index_t, double) { return nan; });
  set(plain + 7, [](index_t j, double v) { return j == 2 ? inf : v; });
  set(plain + 8, [](index_t, double) { return inf; });
  set(plain + 9, [](index_t j, double v) { return j % 3 == 0 ? nan : j % 3 == 1 ? -inf : v; });
  set(plain + 10, [](index_t, double v) { return 1e300 * v; });
  set(plain + 11, [](index_t j, double) { return j == 0 ? -inf : 0.0; });  // ties beside a closed one
  return cases;
}

inline std::string scores_text(vector_view<const double> scores) {
  std::string result = " for scores";
  for (const double s : scores) result += " " + text(s);
  return result;
}

/// Runs a stage on a table of rows, whichever form it has: columns [rows, max_selected], −1 where fewer were taken.
template <class T>
class select_trial {
 public:
  select_trial(law_report& report, const T& stage, std::vector<std::int32_t> ids)
      : report_(report), stage_(stage), ids_(std::move(ids)) {}

  std::vector<std::vector<std::int32_t>> run(const numbers& scores, const std::vector<std::uint8_t>& valid) {
    const index_t n = scores.cols(), most = stage_.max_selected(n);
    watched<std::int32_t> selected(scores.rows(), most);
    const auto specs = moue::detail::stage_parameters(stage_, router_shape{0, 6, n, n});
    std::array<numbers, moue::detail::stage_parameter_count<T>> p;
    for (std::size_t i = 0; i < p.size(); ++i) p[i] = parameter_values(specs[i], 100 + i);
    const auto weights = moue::detail::parameters_for<T>(const_views(p));
    const vector_view<const std::int32_t> ids{ids_.data(), n};
    std::vector<std::vector<std::int32_t>> result(static_cast<std::size_t>(scores.rows()));
    if constexpr (moue::detail::has_select<T>) {
      for (index_t t = 0; t < scores.rows(); ++t) {
        const index_t count = valid[static_cast<std::size_t>(t)]
                                  ? row_value<index_t>(moue::detail::call_operator{}, stage_, scores.row(t), ids,
                                                       weights, selected.row(t))
                                  : 0;
        report_.expect("no more are taken than max_selected(candidates)", count >= 0 && count <= most, [&] {
          return std::to_string(count) + " of at most " + std::to_string(most) + scores_text(scores.row(t));
        });
        for (index_t i = 0; i < std::clamp<index_t>(count, 0, most); ++i)
          result[static_cast<std::size_t>(t)].push_back(selected(t, i));
      }
    } else {
      const router_shape shape{scores.rows(), n, n, n};
      std::array<numbers, moue::detail::stage_temporary_count<T>> temporary;
      const auto shapes = moue::detail::stage_temporaries(stage_, shape);
      for (std::size_t i = 0; i < temporary.size(); ++i)
        temporary[i] = numbers(shapes[i].rows, shapes[i].cols, poison<double>());
      select_frame<double> frame{law_visit, {}, ids, scores.view()};
      frame.batch.valid = {valid.data(), scores.rows()};
      if constexpr (p.size() > 0)
        stage_.table(reference_operations{}, frame, const_views(p), selected.view(), views(temporary));
      else
        stage_.table(reference_operations{}, frame, selected.view(), views(temporary));
      report_.expect("nothing is written beside the scratch", intact(temporary),
                     [] { return std::string("memory beside a temporary was written"); });
      for (index_t t = 0; t < scores.rows(); ++t) {
        index_t count = 0;
        while (count < most && selected(t, count) != -1)
          result[static_cast<std::size_t>(t)].push_back(selected(t, count++));
        for (index_t i = count; i < most; ++i)
          report_.expect("a row of the table ends in -1", selected(t, i) == -1,
                         [&] { return "row " + std::to_string(t) + " holds more after its first -1"; });
        report_.expect("tokens that are not valid take nothing", valid[static_cast<std::size_t>(t)] || count == 0,
                       [&] { return "row " + std::to_string(t) + " took " + std::to_string(count); });
      }
    }
    report_.expect("nothing is written beside the columns", selected.intact(),
                   [] { return std::string("a column beyond max_selected(candidates) was written"); });
    return result;
  }

 private:
  law_report& report_;
  const T& stage_;
  std::vector<std::int32_t> ids_;
};

inline std::vector<std::int32_t> shuffled(index_t n) {
  std::vector<std::int32_t> order(static_cast<std::size_t>(n));
  for (index_t j = 0; j < n; ++j) order[static_cast<std::size_t>(j)] = static_cast<std::int32_t>(j);
  std::sort(order.begin(), order.end(), [](std::int32_t a, std::int32_t b) {
    return moue::detail::mix(static_cast<std::uint64_t>(a)) < moue::detail::mix(static_cast<std::uint64_t>(b));
  });
  return order;
}

template <class T>
void check_select_bound(law_report& report, const T& stage, index_t candidates) {
  index_t before = 0;
  for (index_t n = 1; n <= 2 * candidates; ++n) {
    const index_t most = stage.max_selected(n);
    const auto said = [&] { return "most(" + std::to_string(n) + ") is " + std::to_string(most); };
    report.expect("max_selected(n) is between 0 and n", most >= 0 && most <= n, said);
    report.expect("max_selected(n) does not fall as n grows", most >= before, said);
    before = most;
    if constexpr (moue::detail::has_most_entries<T>)
      for (index_t t = 1; t <= 4; ++t)
        report.expect("most_entries(tokens, n) is not negative and does not fall as either grows",
                      stage.most_entries(t, n) >= (std::max)(index_t{0}, stage.most_entries(t - 1, n)) &&
                          stage.most_entries(t, n) >= stage.most_entries(t, n - 1),
                      [&] {
                        return "most_entries(" + std::to_string(t) + ", " + std::to_string(n) + ") is " +
                               std::to_string(stage.most_entries(t, n));
                      });
  }
}

/// `ids[j]` is the expert of column j.
template <class T>
void check_select_rows(law_report& report, const T& stage, const std::vector<std::int32_t>& ids) {
  const auto n = static_cast<index_t>(ids.size());
  const numbers scores = score_cases(n);
  std::vector<std::uint8_t> valid(static_cast<std::size_t>(scores.rows()), 1);
  valid[1] = 0;
  select_trial<T> trial(report, stage, ids);
  const auto taken = trial.run(scores, valid);
  report.expect("the same scores get the same answer", trial.run(scores, valid) == taken,
                [] { return std::string("a second call took others"); });
  for (index_t t = 0; t < scores.rows(); ++t) {
    const auto& selected = taken[static_cast<std::size_t>(t)];
    std::vector<bool> seen(ids.size(), false);
    for (const auto column : selected) {
      const bool in_range = column >= 0 && column < n;
      const auto said = [&] { return "column " + std::to_string(column) + scores_text(scores.row(t)); };
      report.expect("columns are in range", in_range, said);
      if (!in_range) continue;
      report.expect("columns are distinct", !seen[static_cast<std::size_t>(column)], said);
      report.expect("closed candidates are never taken", scores(t, column) != -std::numeric_limits<double>::infinity(),
                    said);
      seen[static_cast<std::size_t>(column)] = true;
    }
    // Where all open scores are equal, whoever was taken must have a lower id than whoever was not.
    double height = 0;
    bool level = true, first = true;
    for (const double s : scores.row(t)) {
      if (s == -std::numeric_limits<double>::infinity()) continue;
      level = level && (first || s == height);
      height = s;
      first = false;
    }
    if constexpr (moue::detail::has_select<T> && !takes_any<T>)  // over a whole table, room may have run out
      for (index_t in = 0; in < n && level; ++in)
        for (index_t out = 0; out < n; ++out)
          report.expect("ties go to the lowest expert id",
                        !seen[static_cast<std::size_t>(in)] || seen[static_cast<std::size_t>(out)] ||
                            scores(t, out) == -std::numeric_limits<double>::infinity() ||
                            ids[static_cast<std::size_t>(in)] < ids[static_cast<std::size_t>(out)],
                        [&] {
                          return "expert " + std::to_string(ids[static_cast<std::size_t>(in)]) + " was taken before " +
                                 std::to_string(ids[static_cast<std::size_t>(out)]) + scores_text(scores.row(t));
                        });
  }
}

/// Listing the candidates in another order must lead to the same experts.
template <class T>
void check_select_order(law_report& report, const T& stage, index_t n) {
  const auto order = shuffled(n);
  std::vector<std::int32_t> ids(order.size());
  for (std::size_t j = 0; j < ids.size(); ++j) ids[j] = static_cast<std::int32_t>(j);
  const numbers scores = score_cases(n);
  numbers moved(scores.rows(), n);
  moved.each([&](double& v, index_t t, index_t j) { v = scores(t, order[static_cast<std::size_t>(j)]); });
  const std::vector<std::uint8_t> valid(static_cast<std::size_t>(scores.rows()), 1);
  const auto straight = select_trial<T>(report, stage, ids).run(scores, valid);
  auto permuted = select_trial<T>(report, stage, order).run(moved, valid);
  for (index_t t = 0; t < scores.rows(); ++t) {
    auto& row = permuted[static_cast<std::size_t>(t)];
    for (auto& column : row)
      if (column >= 0 && column < n) column = order[static_cast<std::size_t>(column)];
    report.expect("the order of the candidates does not matter", row == straight[static_cast<std::size_t>(t)],
                  [&] { return "other experts, or in another order," + scores_text(scores.row(t)); });
  }
}

}  // namespace detail

/// Checks that a select stage is one, in the row or the table form: columns distinct, in range and no more than
/// `max_selected`; closed candidates never taken; ties to the lowest expert id; the same answer each time and for any
/// order of the candidates; all of it also for NaN and infinite scores. A stage that says `static constexpr bool
/// takes_best = false` or `names_matter = true` is not held to who wins a tie, or to the order.
template <SelectStage T>
law_report check_select_laws(const T& stage, const select_shape& shape = {}) {
  law_report report("select stage");
  report.attempt("most", [&] { detail::check_select_bound(report, stage, shape.candidates); });
  if (!report) return report;  // the size of the columns depends on it
  report.attempt("select", [&] {
    auto ids = detail::shuffled(shape.candidates);
    if (shape.columns_matter) std::sort(ids.begin(), ids.end());
    detail::check_select_rows(report, stage, ids);
    if (!shape.columns_matter && !detail::names_matter<T>) detail::check_select_order(report, stage, shape.candidates);
  });
  detail::note_exemptions<T>(report);
  return report;
}

}  // namespace moue::inline v0_1::testing
