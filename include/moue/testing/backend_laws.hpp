// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The laws of backends: the same results as plain loops.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "moue/backend.hpp"
#include "moue/backend/reference.hpp"
#include "moue/testing/values.hpp"
#include "moue/workspace.hpp"

namespace moue::testing {
namespace detail {

/// Sums of up to 560 products of size 1 have partial sums up to about 80; rounding those in float, 6e-8 each, in one
/// order or another differs by up to 80 · 6e-8 · sqrt(560) = 1e-4. bf16 arithmetic would be off by 1e-2.
template <class C>
inline constexpr double product_tolerance = std::is_same_v<C, float> ? 2e-4 : rounding;

/// Products [m, k] · [k, n]: empty ones, single rows, sizes that fit no block, and some large enough to be spread.
inline constexpr std::array<std::array<index_t, 3>, 13> product_shapes{{{0, 3, 4},
                                                                        {3, 0, 4},
                                                                        {3, 4, 0},
                                                                        {1, 1, 1},
                                                                        {1, 7, 5},
                                                                        {2, 300, 3},
                                                                        {4, 3, 9},
                                                                        {5, 9, 6},
                                                                        {17, 1, 3},
                                                                        {63, 8, 8},
                                                                        {65, 33, 31},
                                                                        {519, 29, 35},
                                                                        {8, 120, 560}}};

template <class C, class W, class B>
class backend_trial {
 public:
  backend_trial(law_report& report, const B& backend)
      : report_(report), backend_(backend), conversion_(backend.workers(), std::is_same_v<C, W> ? 0 : largest) {}

  void check_products() {
    for (const auto& [m, k, n] : product_shapes) {
      const auto shape = " for [" + std::to_string(m) + ", " + std::to_string(k) + "] and [" + std::to_string(n) +
                         ", " + std::to_string(k) + "]" + types();
      watched<C> x(m, k), dy(m, n);
      watched<W> w(n, k);
      x.randomise(1);
      dy.randomise(2);
      w.randomise(3);
      const auto cx = std::as_const(x).view();
      const auto cdy = std::as_const(dy).view();
      const auto cw = std::as_const(w).view();
      for (const store mode : {store::assign, store::add}) {
        compare("linear", shape, m, n, mode, [&](const auto& ops, auto out) { ops.linear(cx, cw, out, mode); });
        compare("input_gradient", shape, m, k, mode,
                [&](const auto& ops, auto out) { ops.input_gradient(cdy, cw, out, mode); });
      }
      compare("weight_gradient", shape, n, k, store::add,
              [&](const auto& ops, auto out) { ops.weight_gradient(cdy, cx, out); });
      compare("column_sum", shape, 1, n, store::add, [&](const auto& ops, auto out) { ops.column_sum(cdy, out); });
      for (const store mode : {store::assign, store::add}) {
        compare("weight_gradient", shape, n, k, mode,
                [&](const auto& ops, auto out) { ops.weight_gradient(cdy, cx, out, mode); });
        compare("column_sum", shape, 1, n, mode, [&](const auto& ops, auto out) { ops.column_sum(cdy, out, mode); });
        // Through a target twice, the first time assigning unless it holds numbers.
        const std::uint8_t mark = mode == store::add ? 1 : 0;
        const auto twice = [&](auto out, const auto& write) {
          bool written = false;
          const gradient_target<C> target(out, &mark, &written);
          write(target);
          write(target);
          report_.expect("products with a target say that they wrote it", written || target.empty(),
                         [&] { return "not" + shape; });
        };
        compare("weight_gradient", shape, n, k, mode, [&](const auto& ops, auto out) {
          twice(out, [&](const auto& target) { ops.weight_gradient(cdy, cx, target); });
        });
        compare("column_sum", shape, 1, n, mode, [&](const auto& ops, auto out) {
          twice(out, [&](const auto& target) { ops.column_sum(cdy, target); });
        });
      }
    }
  }

  void check_visits() {
    for (const index_t rows : {0, 1, 63, 64, 65, 200, 1000}) {
      watched<std::int32_t> row_visits(rows, 1, 0), visits(rows, 45, 0);
      const auto by_row = row_visits.view();
      const auto by_element = visits.view();
      operations().each_row(rows, [=](index_t i) { ++by_row(i, 0); });
      operations().each_element(rows, 45, [=](index_t i, index_t j) { ++by_element(i, j); });
      expect_once("each_row visits every row once", row_visits);
      expect_once("each_element visits every element once", visits);
    }
  }

  /// Tokens with one, two or no experts; expert 0 has most of the rows, expert 4 none.
  void check_groups() {
    constexpr index_t tokens = 120, experts = 6, width = 9, hidden = 7;
    std::vector<index_t> offsets{0};
    std::vector<std::int32_t> ids;
    for (index_t t = 0; t < tokens; ++t) {
      if (t % 7 != 3) ids.push_back(0);
      if (t % 2 == 0) ids.push_back(t % 5 == 4 ? -1 : static_cast<std::int32_t>(1 + t % 5 + (t % 5 == 3 ? 1 : 0)));
      offsets.push_back(static_cast<index_t>(ids.size()));
    }
    const auto entries = static_cast<index_t>(ids.size());
    watched<C> gate(1, entries, C(1)), x(entries, width), y(entries, hidden), expected(entries, hidden);
    watched<W> w(hidden, width);
    x.randomise(1);
    w.randomise(2);
    const routing<C> given{{offsets.data(), tokens + 1}, {ids.data(), entries}, std::as_const(gate).row()};
    const auto size = [&] {
      arena counter;
      dispatch_plan::take(counter, tokens, entries, experts);
      return counter.bytes();
    }();
    workspace scratch(size), reference_scratch(size);
    arena memory(scratch.bytes()), reference_memory(reference_scratch.bytes());
    auto plan = dispatch_plan::take(memory, tokens, entries, experts);
    auto expected_plan = dispatch_plan::take(reference_memory, tokens, entries, experts);
    backend_.dispatch(given, plan);
    make_plan(given, expected_plan);
    const auto same = [&](auto member, index_t count) {
      return std::equal(member(plan).data, member(plan).data + count, member(expected_plan).data);
    };
    report_.expect(
        "dispatch fills the plan of make_plan",
        plan.rows() == expected_plan.rows() && same([](auto& p) { return p.expert_offsets; }, experts + 1) &&
            same([](auto& p) { return p.row_token; }, expected_plan.rows()) &&
            same([](auto& p) { return p.row_expert; }, expected_plan.rows()) &&
            same([](auto& p) { return p.row_entry; }, expected_plan.rows()) &&
            same([](auto& p) { return p.token_offsets; }, tokens + 1) &&
            same([](auto& p) { return p.token_rows; }, expected_plan.rows()),
        [&] { return "its plan of " + std::to_string(plan.rows()) + " rows differs from that of plain loops"; });
    std::array<std::int32_t, experts> visits{};
    std::array<bool, experts> whole{};
    backend_.each_group(expected_plan, conversion_.view(),
                        [&](const auto& ops, index_t e, index_t first, index_t rows) {
                          ++visits[static_cast<std::size_t>(e)];
                          whole[static_cast<std::size_t>(e)] =
                              first == expected_plan.expert_offsets[e] && rows == expected_plan.expert_rows(e);
                          ops.linear(std::as_const(x).view().row_block(first, rows), std::as_const(w).view(),
                                     y.view().row_block(first, rows));
                        });
    for (index_t e = 0; e < experts; ++e) {
      const auto at = static_cast<std::size_t>(e);
      const bool any = expected_plan.expert_rows(e) > 0;
      report_.expect("each_group visits every expert that has rows once", visits[at] == (any ? 1 : 0), [&] {
        return "expert " + std::to_string(e) + " with " + std::to_string(expected_plan.expert_rows(e)) +
               " rows was visited " + std::to_string(visits[at]) + " times";
      });
      report_.expect("each_group hands over all rows of an expert", !any || whole[at],
                     [&] { return "expert " + std::to_string(e) + " got other rows than the plan says"; });
    }
    reference_operations{}.linear(std::as_const(x).view(), std::as_const(w).view(), expected.view());
    expect_near("operations of a group agree with plain loops", y, expected, expected_plan.rows(), types());
  }

 private:
  static constexpr index_t largest = 560 * 300;

  static std::string types() {
    return std::is_same_v<C, double> ? " in double"
           : std::is_same_v<W, C>    ? " in float"
                                     : " in float with bf16 weights";
  }
  auto operations() { return backend_.operations(conversion_.view()); }

  void expect_near(std::string_view law, const watched<C>& a, const watched<C>& b, index_t rows,
                   const std::string& where) {
    for (index_t i = 0; i < rows; ++i)
      for (index_t j = 0; j < a.cols(); ++j)
        if (!close(double(a(i, j)), double(b(i, j)), product_tolerance<C>))
          return report_.expect(law, false, [&] {
            return "element " + place(i, j) + " is " + text(double(a(i, j))) + ", not " + text(double(b(i, j))) + where;
          });
    report_.expect(law, true, [] { return std::string(); });
  }

  /// Runs an operation here twice and as plain loops once. What is assigned to holds poison before.
  template <class F>
  void compare(const std::string& name, const std::string& shape, index_t rows, index_t cols, store mode,
               const F& run) {
    watched<C> out(rows, cols);
    if (mode == store::add) out.randomise(7);
    watched<C> again = out, expected = out;
    run(operations(), out.view());
    run(operations(), again.view());
    run(reference_operations{}, expected.view());
    const std::string where = (mode == store::add ? ", adding," : "") + shape;
    report_.expect(name + " repeats itself bit for bit", out.same(again), [&] { return "not" + where; });
    report_.expect("nothing is written beside the outputs", out.intact(),
                   [&] { return name + " did" + where + " (views have a stride)"; });
    expect_near(name + " agrees with plain loops", out, expected, rows, where);
  }

  void expect_once(std::string_view law, watched<std::int32_t>& visits) {
    visits.each([&](std::int32_t count, index_t i, index_t j) {
      report_.expect(law, count == 1, [&] {
        return place(i, j) + " of " + std::to_string(visits.rows()) + " rows was visited " + std::to_string(count) +
               " times";
      });
    });
  }

  law_report& report_;
  const B& backend_;
  watched<C> conversion_;
};

}  // namespace detail

/// Checks that a backend that works on host memory is one: operations agree with plain loops in double, in float and
/// with bf16 weights, for empty, single, strided and large inputs, bit for bit the same each time; plans and groups are
/// those that plain loops make.
template <class B>
  requires(Backend<B, double>&& Backend<B, float>)
law_report check_backend_laws(const B& backend) {
  law_report report("backend");
  report.expect("there is a worker", backend.workers() >= 1,
                [&] { return "workers() is " + std::to_string(backend.workers()); });
  if (!report) return report;
  const auto check = [&](auto trial) {
    report.attempt("products", [&] { trial.check_products(); });
    report.attempt("each_row or each_element", [&] { trial.check_visits(); });
    report.attempt("dispatch or each_group", [&] { trial.check_groups(); });
  };
  check(detail::backend_trial<double, double, B>(report, backend));
  check(detail::backend_trial<float, float, B>(report, backend));
  check(detail::backend_trial<float, bf16, B>(report, backend));
  return report;
}

}  // namespace moue::testing
