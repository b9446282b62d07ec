// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Policies with one fault each: the checks of laws must name the law that broke. Here: stages that work on one row.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "moue/router/gate.hpp"
#include "moue/router/probability.hpp"
#include "moue/router/top_k.hpp"
#include "moue/testing/row_laws.hpp"
#include "moue/testing/select_laws.hpp"

namespace {

void names(const moue::testing::law_report& report, const std::string& law) {
  CHECK_MESSAGE(!static_cast<bool>(report), law);
  CHECK_MESSAGE(report.broke(law), "'" << law << "' is not among the broken:\n" << report.summary());
}
void holds(const moue::testing::law_report& report) { CHECK_MESSAGE(static_cast<bool>(report), report.summary()); }

enum class select_fault {
  none,
  most_beyond,
  most_falls,
  too_many,
  twice,
  out_of_range,
  takes_closed,
  ties_by_column,
  by_column,
  moody,
  writes_beside
};

struct faulty_select {
  select_fault fault;
  int* asked;

  bool has(select_fault f) const { return fault == f; }
  moue::index_t max_selected(moue::index_t n) const {
    if (has(select_fault::most_beyond)) return 3;
    if (has(select_fault::most_falls)) return n > 4 ? 1 : std::min<moue::index_t>(n, 2);
    return std::min<moue::index_t>(n, 2);
  }
  moue::index_t operator()(moue::vector_view<const double> scores, moue::vector_view<const std::int32_t> candidates,
                           moue::vector_view<std::int32_t> selected) const {
    std::array<std::int32_t, 16> by_column{};
    for (std::size_t j = 0; j < by_column.size(); ++j) by_column[j] = static_cast<std::int32_t>(j);
    const moue::vector_view<const std::int32_t> own{by_column.data(), candidates.size};
    if (has(select_fault::takes_closed)) return selected[0] = 0, 1;
    if (has(select_fault::by_column) && scores[1] > 0) return selected[0] = 1, 1;
    const moue::top_k<2> best;
    const moue::index_t count = best(scores, has(select_fault::ties_by_column) ? own : candidates, selected);
    if (has(select_fault::too_many)) return 3;
    if (has(select_fault::twice) && count == 2) selected[1] = selected[0];
    if (has(select_fault::out_of_range) && count == 2) selected[1] = 7;
    if (has(select_fault::moody) && count == 2 && ++*asked > 5) std::swap(selected[0], selected[1]);
    if (has(select_fault::writes_beside)) selected.data[2] = 0;
    return count;
  }
};

enum class table_fault { none, hole, takes_padding, twice };

struct faulty_table {
  table_fault fault;

  moue::index_t max_selected(moue::index_t n) const { return std::min<moue::index_t>(n, 2); }
  template <class C>
  void table(const auto&, const moue::select_frame<C>& frame, moue::matrix_view<std::int32_t> selected,
             const auto&) const {
    for (moue::index_t t = 0; t < selected.rows; ++t) {
      moue::index_t count = 0;
      if (frame.batch.valid[t] || fault == table_fault::takes_padding)
        count = moue::top_k<2>{}(frame.scores.row(t), frame.candidates, selected.row(t));
      for (moue::index_t i = count; i < selected.cols; ++i) selected(t, i) = -1;
      if (count == 2 && fault == table_fault::hole) selected(t, 0) = -1;
      if (count == 2 && fault == table_fault::twice) selected(t, 1) = selected(t, 0);
    }
  }
};

}  // namespace

TEST_CASE("faults of select stages are named") {
  int asked = 0;
  const auto check = [&](select_fault fault) { return moue::testing::check_select_laws(faulty_select{fault, &asked}); };
  holds(check(select_fault::none));
  names(check(select_fault::most_beyond), "max_selected(n) is between 0 and n");
  names(check(select_fault::most_falls), "max_selected(n) does not fall as n grows");
  names(check(select_fault::too_many), "no more are taken than max_selected(candidates)");
  names(check(select_fault::twice), "columns are distinct");
  names(check(select_fault::out_of_range), "columns are in range");
  names(check(select_fault::takes_closed), "closed candidates are never taken");
  names(check(select_fault::ties_by_column), "ties go to the lowest expert id");
  names(check(select_fault::by_column), "the order of the candidates does not matter");
  names(check(select_fault::moody), "the same scores get the same answer");
  names(check(select_fault::writes_beside), "nothing is written beside the columns");
  holds(
      moue::testing::check_select_laws(faulty_select{select_fault::ties_by_column, &asked}, {.columns_matter = true}));
}

TEST_CASE("faults of table selections are named") {
  holds(moue::testing::check_select_laws(faulty_table{table_fault::none}));
  names(moue::testing::check_select_laws(faulty_table{table_fault::hole}), "a row of the table ends in -1");
  names(moue::testing::check_select_laws(faulty_table{table_fault::takes_padding}),
        "tokens that are not valid take nothing");
  names(moue::testing::check_select_laws(faulty_table{table_fault::twice}), "columns are distinct");
}

namespace {

enum class row_fault { none, reads, naive, assigned, wrong, partial, closed_moves, writes_beside, eager, added };

/// `softmax_then_select` with a fault.
struct faulty_gate {
  row_fault fault;

  bool has(row_fault f) const { return fault == f; }
  template <class C>
  void forward(moue::vector_view<const C> logits, moue::vector_view<const std::int32_t> selected,
               moue::vector_view<C> gates) const {
    C most = has(row_fault::naive) ? C(0) : *std::max_element(logits.begin(), logits.end());
    C sum = C(0);
    for (const C v : logits) sum += std::exp(v - most);
    for (moue::index_t i = 0; i < selected.size; ++i) {
      const C value = std::exp(logits[selected[i]] - most) / sum;
      gates[i] = has(row_fault::added) ? gates[i] + value : has(row_fault::reads) && gates[i] > 0 ? C(1) : value;
    }
    if (has(row_fault::writes_beside)) gates.data[gates.size] = 0;
  }
  template <class C>
  void backward(moue::vector_view<const C> logits, moue::vector_view<const std::int32_t> selected,
                moue::vector_view<const C> gates, moue::vector_view<const C> dgates,
                moue::vector_view<C> dlogits) const {
    if (has(row_fault::assigned))
      for (auto& d : dlogits) d = 0;
    if (has(row_fault::eager)) dlogits[0] += 1;
    if (has(row_fault::partial))
      moue::softmax_of_selected{}.backward(logits, selected, gates, dgates, dlogits);
    else
      moue::softmax_then_select{}.backward(logits, selected, gates, dgates, dlogits);
    if (has(row_fault::wrong) && selected.size > 0) dlogits[selected[0]] += C(0.001);
    if (has(row_fault::closed_moves))
      for (moue::index_t j = 0; j < logits.size; ++j)
        if (std::isinf(logits[j])) dlogits[j] += 1;
  }
};

/// `softmax_probability` with a fault.
struct faulty_probability {
  row_fault fault;

  bool has(row_fault f) const { return fault == f; }
  template <class C>
  void forward(moue::vector_view<const C> logits, moue::vector_view<C> p) const {
    const bool stale = p[0] > 0;
    moue::softmax_probability{}.forward(logits, p);
    if (has(row_fault::reads) && stale) p[0] = 0;
    if (has(row_fault::naive)) {
      C sum = C(0);
      for (const C v : logits) sum += std::exp(v);
      for (moue::index_t j = 0; j < p.size; ++j) p[j] = std::exp(logits[j]) / sum;
    }
    if (has(row_fault::partial)) p[0] /= 2;
    if (has(row_fault::eager)) p[0] += 1, p[1] -= 1;
    if (has(row_fault::writes_beside)) p.data[p.size] = 0;
  }
  template <class C>
  void backward(moue::vector_view<const C> logits, moue::vector_view<const C> p, moue::vector_view<const C> dp,
                moue::vector_view<C> dlogits) const {
    if (has(row_fault::assigned))
      for (auto& d : dlogits) d = 0;
    moue::softmax_probability{}.backward(logits, p, dp, dlogits);
    if (has(row_fault::wrong)) dlogits[2] += C(0.001);
    for (moue::index_t j = 0; j < logits.size; ++j)
      if (has(row_fault::closed_moves) && std::isinf(logits[j])) dlogits[j] += 1;
  }
};

/// `by_logits` with a fault.
struct faulty_preference {
  row_fault fault;

  template <class C>
  void operator()(moue::vector_view<const C> logits, const auto&, moue::vector_view<C> scores) const {
    for (moue::index_t j = 0; j < logits.size; ++j) {
      const C stale = scores[j];
      scores[j] = fault == row_fault::naive ? C(std::exp(logits[j])) : logits[j];
      if (fault == row_fault::partial && j == 0) scores[j] = stale;
      if (fault == row_fault::added && stale > 0) scores[j] += 1;
    }
    if (fault == row_fault::writes_beside) scores.data[scores.size] = 0;
  }
};

}  // namespace

TEST_CASE("faults of gate stages are named") {
  const auto check = [](row_fault fault) { return moue::testing::check_gate_laws(faulty_gate{fault}); };
  holds(check(row_fault::none));
  names(check(row_fault::added), "forward assigns the gates");
  names(check(row_fault::reads), "forward reads nothing it did not write and repeats itself");
  names(check(row_fault::naive), "gates and gradients are finite for extreme logits");
  names(check(row_fault::assigned), "backward adds to gradients");
  names(check(row_fault::wrong), "backward agrees with central differences");
  names(check(row_fault::partial), "backward agrees with central differences");
  names(check(row_fault::closed_moves), "a closed candidate gets no gradient");
  names(check(row_fault::writes_beside), "nothing is written beside the outputs");
  names(check(row_fault::eager), "no selected candidate is legal and changes nothing");
}

TEST_CASE("faults of probability stages are named") {
  const auto check = [](row_fault fault) { return moue::testing::check_probability_laws(faulty_probability{fault}); };
  holds(check(row_fault::none));
  names(check(row_fault::reads), "forward reads nothing it did not write and repeats itself");
  names(check(row_fault::naive), "probabilities sum to 1 over open candidates");
  names(check(row_fault::naive), "gradients are finite");
  names(check(row_fault::partial), "probabilities sum to 1 over open candidates");
  names(check(row_fault::eager), "probabilities lie between 0 and 1");
  names(check(row_fault::assigned), "backward adds to gradients");
  names(check(row_fault::wrong), "backward agrees with central differences");
  names(check(row_fault::closed_moves), "a closed candidate has probability and gradient 0");
  names(check(row_fault::writes_beside), "nothing is written beside the outputs");
}

TEST_CASE("faults of preference stages are named") {
  const auto check = [](row_fault fault) { return moue::testing::check_preference_laws(faulty_preference{fault}); };
  holds(check(row_fault::none));
  names(check(row_fault::naive), "every score is assigned and finite");
  names(check(row_fault::partial), "every score is assigned and finite");
  names(check(row_fault::added), "scores depend on logits and parameters alone");
  names(check(row_fault::writes_beside), "nothing is written beside the scores");
}
