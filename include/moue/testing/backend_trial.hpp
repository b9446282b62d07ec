// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Trials of a backend: its operations beside plain loops.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "moue/backend.hpp"
#include "moue/backend/blocks.hpp"
#include "moue/backend/reference.hpp"
#include "moue/expert/activation.hpp"
#include "moue/operations/gated_linear.hpp"
#include "moue/testing/values.hpp"
#include "moue/token_rows.hpp"
#include "moue/workspace.hpp"

namespace moue::inline v0_1::testing {
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
      const auto shape = shape_text(m, k, n);
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

  /// The two optional operations, if there are any, against those composed of plain loops.
  void check_gated() {
    if constexpr (requires(matrix_view<const C> c, matrix_view<const W> w, matrix_view<C> to) {
                    this->operations().gated_linear(c, w, w, silu{}, to, to, to);
                  })
      for (const auto& [m, k, n] : product_shapes) {
        watched<C> x(m, k);
        watched<W> gate(n, k), up(n, k);
        x.randomise(1);
        gate.randomise(2, unit(k));
        up.randomise(3, unit(k));
        compare("gated_linear", shape_text(m, k, n), m, 3 * n, store::assign, [&, cols = n](const auto& ops, auto out) {
          const auto part = [&](index_t i) { return out.column_block(i * cols, cols); };
          gated_linear(ops, std::as_const(x).view(), std::as_const(gate).view(), std::as_const(up).view(), silu{},
                       part(0), part(1), part(2));
        });
      }
    if constexpr (requires(matrix_view<const C> c, matrix_view<const W> w, vector_view<const C> scale,
                           matrix_view<C> to, vector_view<C> dscale) {
                    this->operations().gated_linear_backward(c, w, silu{}, c, c, scale, to, to, to, dscale);
                  })
      for (const auto& [m, k, n] : product_shapes) {
        watched<C> dy(m, k), gate(m, n), up(m, n), scale(1, m);
        watched<W> down(k, n);
        dy.randomise(1);
        gate.randomise(2);
        up.randomise(3);
        scale.randomise(4);
        down.randomise(5, unit(k));
        const auto run = [&](const auto& ops, matrix_view<C> h, matrix_view<C> dgate, matrix_view<C> dup,
                             vector_view<C> dscale) {
          gated_linear_backward(ops, std::as_const(dy).view(), std::as_const(down).view(), silu{},
                                std::as_const(gate).view(), std::as_const(up).view(), std::as_const(scale).row(), h,
                                dgate, dup, dscale);
        };
        const auto shape = shape_text(m, k, n);
        compare("gated_linear_backward", shape, m, 3 * n, store::assign,
                [&, rows = m, cols = n](const auto& ops, auto out) {
                  watched<C> dscale(1, rows, C(0));
                  run(ops, out.column_block(0, cols), out.column_block(cols, cols), out.column_block(2 * cols, cols),
                      dscale.row());
                });
        compare("gated_linear_backward", shape, 1, m, store::add, [&, rows = m, cols = n](const auto& ops, auto out) {
          watched<C> h(rows, cols), dgate(rows, cols), dup(rows, cols);
          run(ops, h.view(), dgate.view(), dup.view(), out.row(0));
        });
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
  void check_runs(index_t tokens) {
    constexpr index_t experts = 6;
    std::vector<index_t> offsets{0};
    std::vector<std::int32_t> ids;
    for (index_t t = 0; t < tokens; ++t) {
      if (t % 7 != 3) ids.push_back(0);
      if (t % 2 == 0) ids.push_back(t % 5 == 4 ? -1 : static_cast<std::int32_t>(1 + t % 5 + (t % 5 == 3 ? 1 : 0)));
      offsets.push_back(static_cast<index_t>(ids.size()));
    }
    const auto entries = static_cast<index_t>(ids.size());
    watched<C> gate(1, entries, C(1));
    const routing<C> given{{offsets.data(), tokens + 1}, {ids.data(), entries}, std::as_const(gate).row()};
    const index_t wanted = backend_.template needs<W>(entries, experts, 0).dispatch;
    const auto size = [&] {
      arena counter;
      dispatch_plan::take(counter, tokens, entries, experts, wanted);
      return counter.bytes();
    }();
    workspace scratch(size), reference_scratch(size);
    arena memory(scratch.bytes()), reference_memory(reference_scratch.bytes());
    auto plan = dispatch_plan::take(memory, tokens, entries, experts, wanted);
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
    check_blocks(expected_plan, entries);
  }

  /// Every row in one block, of experts of one kind, with rows of scratch to itself; products with each row's own weight.
  /// Expert 0 has the kind 0, the others have 1, 1, 0, ...
  void check_blocks(const dispatch_plan& plan, index_t entries) {
    constexpr index_t width = 9, hidden = 7;
    const index_t experts = plan.experts(), rows = plan.rows();
    std::vector<std::int32_t> kinds;
    std::vector<watched<W>> weights;
    std::vector<watched<C>> gradients, expected_gradients;
    std::vector<void*> weight_table, gradient_table;
    watched<C> gated(rows, 3 * hidden, C(0)), expected_gated(rows, 3 * hidden, C(0));
    for (index_t e = 0; e < experts; ++e) {
      kinds.push_back(static_cast<std::int32_t>((e + 1) / 2 % 2));
      weights.push_back(watched<W>::dense(hidden, width));
      weights.back().randomise(static_cast<std::uint64_t>(10 + e));
      gradients.push_back(watched<C>::dense(hidden, width, C(1)));
    }
    expected_gradients = gradients;
    for (auto& w : weights) weight_table.push_back(w.view().data);
    for (auto& g : gradients) gradient_table.push_back(g.view().data);

    const auto needs = backend_.template needs<W>(entries, experts, hidden * width);
    report_.expect("needs asks for at least a row of scratch", entries == 0 || needs.rows > 0,
                   [&] { return "it asks for " + std::to_string(needs.rows) + " rows"; });
    const index_t room = needs.gathers ? 2 * moue::detail::padded(width) : 0;
    watched<C> gathered = watched<C>::dense(needs.rows, room), conversion(backend_.workers(), needs.converted);
    watched<C> x(plan.token_offsets.size - 1, width), y(rows, hidden), expected(rows, hidden), dy(rows, hidden);
    x.randomise(1);
    dy.randomise(2);
    watched<std::int32_t> visits(1, rows, 0), own_scratch(1, rows, 0);
    bool one_kind = true;
    std::mutex busy;
    backend_.template each_block<W>(
        plan, entries, {kinds.data(), experts}, 2, block_scratch<C>{gathered.view(), conversion.view()},
        [&](const auto& ops, index_t kind, const plan_block& at) {
          const vector_view<const std::int32_t> row_token{plan.row_token.data + at.first, at.rows};
          const vector_view<const std::int32_t> row_expert{plan.row_expert.data + at.first, at.rows};
          const token_rows<C> in(std::as_const(x).view(), row_token);
          const grouped_matrix<const W> w{weight_table.data(), row_expert, hidden, width, weight_table.data()};
          const grouped_matrix<C> dw{gradient_table.data(), row_expert, hidden, width, gradient_table.data()};
          ops.linear(in, w, y.view().row_block(at.first, at.rows));
          ops.weight_gradient(std::as_const(dy).view().row_block(at.first, at.rows), in, dw);
          run_gated(ops, in, w, gated.view().row_block(at.first, at.rows));
          const std::lock_guard lock(busy);
          for (index_t i = 0; i < at.rows; ++i) {
            ++visits(0, at.first + i);
            own_scratch(0, at.first + i) = at.scratch >= 0 && at.scratch + at.rows <= needs.rows;
            one_kind = one_kind && kinds[static_cast<std::size_t>(row_expert[i])] == kind;
          }
        });
    visits.each([&](std::int32_t count, index_t, index_t row) {
      report_.expect("each_block visits every row once", count == 1, [&] {
        return "row " + std::to_string(row) + " of " + std::to_string(rows) + " was in " + std::to_string(count) +
               " blocks";
      });
      report_.expect("a block has as many rows of scratch as rows", own_scratch(0, row) == 1,
                     [&] { return "that of row " + std::to_string(row) + " has none, or some past the last"; });
    });
    report_.expect("a block holds experts of one kind", one_kind,
                   [] { return std::string("one was handed out as another kind than some of its rows have"); });
    for (index_t e = 0; e < experts; ++e) {
      const index_t first = plan.expert_offsets[e], count = plan.expert_rows(e);
      const auto at = static_cast<std::size_t>(e);
      if (count == 0) continue;
      const token_rows<C> in(std::as_const(x).view(), {plan.row_token.data + first, count});
      const auto w = std::as_const(weights[at]).view();
      reference_operations{}.linear(in, w, expected.view().row_block(first, count));
      reference_operations{}.weight_gradient(std::as_const(dy).view().row_block(first, count), in,
                                             expected_gradients[at].view());
      run_gated(reference_operations{}, in, w, expected_gated.view().row_block(first, count));
    }
    expect_near("operations of a block agree with plain loops", gated, expected_gated, rows,
                " for gated_linear" + types());
    expect_near("operations of a block agree with plain loops", y, expected, rows, types());
    for (std::size_t e = 0; e < gradients.size(); ++e)
      expect_near("operations of a block agree with plain loops", gradients[e], expected_gradients[e], hidden,
                  " for the weight gradient" + types());
  }

 private:
  static constexpr index_t largest = 560 * 300;

  static std::string types() {
    return std::is_same_v<C, double> ? " in double"
           : std::is_same_v<W, C>    ? " in float"
                                     : " in float with bf16 weights";
  }
  static std::string shape_text(index_t m, index_t k, index_t n) {
    return " for [" + std::to_string(m) + ", " + std::to_string(k) + "] and [" + std::to_string(n) + ", " +
           std::to_string(k) + "]" + types();
  }
  /// Deviation of weights whose products with rows of `k` normal numbers are about 1.
  static double unit(index_t k) { return 1 / std::sqrt(static_cast<double>((std::max)(k, index_t{1}))); }
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

  /// [rows, 3 hidden] what `gated_linear` gives, with `w` as both weights.
  static void run_gated(const auto& ops, const token_rows<C>& x, const auto& w, const matrix_view<C>& out) {
    const auto part = [&](index_t i) { return out.column_block(i * (out.cols / 3), out.cols / 3); };
    gated_linear(ops, x, w, w, silu{}, part(0), part(1), part(2));
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
}  // namespace moue::inline v0_1::testing
