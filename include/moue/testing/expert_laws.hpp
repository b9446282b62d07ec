// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The laws of experts.

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moue/backend/reference.hpp"
#include "moue/expert.hpp"
#include "moue/testing/values.hpp"

namespace moue::testing {
namespace detail {

/// A block of rows [first, first + rows) of a fixed sequence, with everything an expert is called with. The first rows of
/// the sequence belong to expert 0, the others to expert 1, and tokens lie in reverse order. `S` stores weights.
template <class E, class S = double>
struct expert_trial {
  using C = compute_t<S>;
  static constexpr std::size_t parameters = moue::detail::parameter_count<E>;
  static constexpr index_t rows_of_first = 3;  // in the sequence

  const E& expert;
  index_t rows;
  watched<C> x, y, dy, dx, gate, dgate;
  std::array<watched<S>, parameters> p, second_p;  // of expert 0 and of expert 1
  std::array<watched<C>, parameters> dp, second_dp;
  std::array<std::array<std::uint8_t, 2>, parameters> marks = {};  // not 0: the tensor holds numbers
  std::array<bool, parameters> unwanted = {};
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
        dgate(1, rows),
        offsets_{0, std::min(std::max(rows_of_first - first, index_t{0}), rows), rows} {
    const auto specs = e.parameters();
    const auto fill = [&](std::array<watched<S>, parameters>& weights, std::uint64_t key) {
      for (std::size_t i = 0; i < parameters; ++i) {
        const numbers values = parameter_values(specs[i], key + i);
        weights[i] = watched<S>::dense(specs[i].rows, specs[i].cols);
        weights[i].each([&](S& v, index_t r, index_t c) { v = S(static_cast<C>(values(r, c))); });
      }
    };
    fill(p, 100);
    fill(second_p, 200);
    for (std::size_t i = 0; i < parameters; ++i) {
      dp[i] = second_dp[i] = watched<C>::dense(specs[i].rows, specs[i].cols, C(0));
      marks[i].fill(1);
    }
    for (std::size_t i = 0; i < saved.size(); ++i) saved[i] = watched<C>(rows, e.saved()[i]);
    for (std::size_t i = 0; i < temporary.size(); ++i) temporary[i] = watched<C>(rows, e.temporaries()[i]);
    const auto normal = [&](std::uint64_t key, index_t r, index_t c) {
      return C(moue::detail::normal_at(key, static_cast<std::uint64_t>((first + r) * 4096 + c)));
    };
    x.each([&](C& v, index_t r, index_t c) { v = normal(1, r, c); });
    dy.each([&](C& v, index_t r, index_t c) { v = normal(2, r, c); });
    gate.each([&](C& v, index_t, index_t r) { v = first + r == 2 ? C(0) : normal(3, r, 0); });  // one gate is closed
    for (index_t i = 0; i < rows; ++i) {
      row_token_.push_back(static_cast<std::int32_t>(rows - 1 - i));
      row_expert_.push_back(i < offsets_[1] ? 0 : 1);
    }
  }

  /// Outputs and scratch hold `stale` on entry.
  void forward(C stale = poison<C>()) {
    y.fill(stale);
    for (auto& k : saved) k.fill(stale);
    for (auto& t : temporary) t.fill(stale);
    const watched<C> tokens = by_token(x);
    expert.forward(operations(), weights(), rows_of(tokens), views(saved), views(temporary), y.view());
  }
  /// With `Gated`, the gradient of sum_i gate_i <dy_i, y_i>; otherwise that of <dy, y>.
  template <bool Gated>
  void backward(C stale = poison<C>()) {
    dx.fill(stale);
    dgate.fill(stale);
    for (auto& t : temporary) t.fill(stale);
    const watched<C> tokens = by_token(x), dtokens = by_token(dy);
    const auto call = [&](auto out) {
      expert.backward(operations(), weights(), rows_of(tokens), const_views(saved), views(temporary), out, dx.view(),
                      targets());
      finish();
    };
    if constexpr (Gated)
      call(gated_gradient<C>{rows_of(dtokens), std::as_const(gate).row(), dgate.row()});
    else
      call(std::as_const(dy).view());
  }
  /// Gradients that hold `value`, or nothing but what `value` stands for.
  void set_gradients(C value, bool held) {
    for (auto* all : {&dp, &second_dp})
      for (auto& d : *all) d.fill(value);
    for (auto& of : marks) of.fill(held ? 1 : 0);
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
    return y.intact() && dx.intact() && dgate.intact() && intact(dp) && intact(second_dp) && intact(saved) &&
           intact(temporary);
  }

 private:
  /// The operations over the block, on plain loops.
  auto operations() {
    plan_.expert_offsets = {offsets_.data(), std::ssize(offsets_)};
    return block_operations<reference_operations, C>({}, plan_, {0, rows, 0}, 0, {nullptr, rows, 0});
  }
  watched<C> by_token(const watched<C>& m) const {
    watched<C> result(m.rows(), m.cols());
    result.each([&](C& v, index_t t, index_t j) { v = m(m.rows() - 1 - t, j); });
    return result;
  }
  token_rows<C> rows_of(const watched<C>& tokens) const {
    return {tokens.view(), {row_token_.data(), std::ssize(row_token_)}};
  }
  template <class T, class W>
  std::array<grouped_matrix<T>, parameters> tensors(std::array<W, parameters>& first, std::array<W, parameters>& second,
                                                    std::array<std::array<void*, 2>, parameters>& table) {
    std::array<grouped_matrix<T>, parameters> result;
    for (std::size_t i = 0; i < parameters; ++i) {
      table[i] = {first[i].view().data, second[i].view().data};
      result[i] = {table[i].data(),
                   {row_expert_.data(), std::ssize(row_expert_)},
                   first[i].rows(),
                   first[i].cols(),
                   table[i].data()};
    }
    return result;
  }
  auto weights() { return tensors<const S>(p, second_p, weight_table_); }
  /// The targets of one call.
  auto targets() {
    const auto values = tensors<C>(dp, second_dp, gradient_table_);
    std::array<grouped_target<C>, parameters> result;
    written_.fill(false);
    for (std::size_t i = 0; i < parameters; ++i) {
      mark_table_[i] = {&marks[i][0], &marks[i][1]};
      if (!unwanted[i]) result[i] = {values[i], mark_table_[i].data(), &written_[i]};
    }
    return result;
  }
  /// After the call all gradients hold numbers: what it did not write is zero.
  void finish() {
    for (std::size_t i = 0; i < parameters; ++i) {
      const auto settle = [&](watched<C>& d, std::uint8_t& mark, bool has_rows) {
        if (mark == 0 && !(written_[i] && has_rows)) d.fill(C(0));
        mark = 1;
      };
      settle(dp[i], marks[i][0], offsets_[1] > 0);
      settle(second_dp[i], marks[i][1], rows > offsets_[1]);
    }
  }

  std::array<index_t, 3> offsets_;
  std::vector<std::int32_t> row_token_, row_expert_;
  dispatch_plan plan_;
  std::array<std::array<void*, 2>, parameters> weight_table_{}, gradient_table_{}, mark_table_{};
  std::array<bool, parameters> written_ = {};
};

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
                [] { return std::string("y differs when y, kept and temporary hold other numbers on entry"); });
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
  if constexpr (moue::detail::has_gated_backward<E>) none.template backward<true>();
  look();
  if constexpr (moue::detail::has_plain_backward<E>) none.template backward<false>();
  look();
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

}  // namespace moue::testing
