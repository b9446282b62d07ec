// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// An expert on one block of rows, with everything that it is called with.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "moue/backend/blocks.hpp"
#include "moue/backend/reference.hpp"
#include "moue/expert.hpp"
#include "moue/testing/values.hpp"

namespace moue::inline v0_1::testing::detail {

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
        offsets_{0, (std::min)((std::max)(rows_of_first - first, index_t{0}), rows), rows} {
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

}  // namespace moue::inline v0_1::testing::detail
