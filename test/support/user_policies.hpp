// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Policies as an outside user would write them for any backend: row functors that read weights by `for_row` and know
// nothing of lanes.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "moue/policies.hpp"

namespace test::user {

using moue::matrix_view;
using moue::vector_view;

/// y = tanh(a x), with a factor per channel.
template <class C, class X, class P>
struct scaled_row {
  X x;
  P factors;
  matrix_view<C> y;
  MOUE_HD void operator()(moue::index_t i) const {
    const auto a = factors.for_row(i);
    for (moue::index_t j = 0; j < y.cols; ++j) y(i, j) = std::tanh(static_cast<C>(a(0, j)) * x(i, j));
  }
};
template <class C, class X, class P, class DY>
struct scaled_backward_row {
  X x;
  P factors;
  DY out;
  matrix_view<C> dfactors;  // of each row
  matrix_view<C> dx;
  MOUE_HD void operator()(moue::index_t i) const {
    const auto a = factors.for_row(i);
    C along = C(0);
    for (moue::index_t j = 0; j < dx.cols; ++j) {
      const C factor = static_cast<C>(a(0, j)), y = std::tanh(factor * x(i, j));
      const C d = out.gate[i] * out.dy(i, j) * (1 - y * y);
      along += out.dy(i, j) * y;
      dfactors(i, j) = d * x(i, j);
      dx(i, j) = d * factor;
    }
    out.dgate[i] = along;
  }
};
struct scaled_expert {
  moue::index_t width;
  auto parameters() const { return std::array{moue::parameter_spec{.name = "factor", .cols = width}}; }
  auto saved() const { return std::array<moue::index_t, 0>{}; }
  auto temporaries() const { return std::array{width}; }
  template <class C>
  void forward(const auto& ops, const auto& p, const auto& x, const auto&, const auto&, matrix_view<C> y) const {
    ops.each_row(y.rows,
                 scaled_row<C, std::remove_cvref_t<decltype(x)>, std::remove_cvref_t<decltype(p[0])>>{x, p[0], y});
  }
  template <class C, class T>
  void backward(const auto& ops, const auto& p, const auto& x, const auto&, const auto& temporary,
                moue::gated_gradient<C, T> out, matrix_view<C> dx, const auto& dp) const {
    ops.each_row(
        x.rows,
        scaled_backward_row<C, std::remove_cvref_t<decltype(x)>, std::remove_cvref_t<decltype(p[0])>, decltype(out)>{
            x, p[0], out, temporary[0], dx});
    ops.column_sum(temporary[0], dp[0]);
  }
};

/// y = x (x + b), with the plain form of backward.
template <class C, class X, class P>
struct shifted_element {
  X x;
  P shift;
  matrix_view<C> y;
  MOUE_HD void operator()(moue::index_t i, moue::index_t j) const {
    y(i, j) = x(i, j) * (x(i, j) + static_cast<C>(shift.for_row(i)(0, j)));
  }
};
template <class C, class X, class P>
struct shifted_backward_element {
  X x;
  P shift;
  matrix_view<const C> dy;
  matrix_view<C> dshift;
  matrix_view<C> dx;
  MOUE_HD void operator()(moue::index_t i, moue::index_t j) const {
    dshift(i, j) = dy(i, j) * x(i, j);
    dx(i, j) = dy(i, j) * (2 * x(i, j) + static_cast<C>(shift.for_row(i)(0, j)));
  }
};
struct shifted_expert {
  moue::index_t width;
  auto parameters() const { return std::array{moue::parameter_spec{.name = "shift", .cols = width}}; }
  auto saved() const { return std::array<moue::index_t, 0>{}; }
  auto temporaries() const { return std::array{width}; }
  template <class C>
  void forward(const auto& ops, const auto& p, const auto& x, const auto&, const auto&, matrix_view<C> y) const {
    ops.each_element(
        y.rows, y.cols,
        shifted_element<C, std::remove_cvref_t<decltype(x)>, std::remove_cvref_t<decltype(p[0])>>{x, p[0], y});
  }
  template <class C>
  void backward(const auto& ops, const auto& p, const auto& x, const auto&, const auto& temporary,
                matrix_view<const C> dy, matrix_view<C> dx, const auto& dp) const {
    ops.each_element(x.rows, x.cols,
                     shifted_backward_element<C, std::remove_cvref_t<decltype(x)>, std::remove_cvref_t<decltype(p[0])>>{
                         x, p[0], dy, temporary[0], dx});
    ops.column_sum(temporary[0], dp[0]);
  }
};

/// z_e = sum over j of w_ej u_j².
template <class C, class P>
struct square_logit {
  matrix_view<const C> u;
  P weights;
  matrix_view<C> logits;
  MOUE_HD void operator()(moue::index_t t, moue::index_t e) const {
    for (moue::index_t j = 0; j < u.cols; ++j) logits(t, e) += static_cast<C>(weights(e, j)) * u(t, j) * u(t, j);
  }
};
template <class C>
struct square_weight_gradient {
  matrix_view<const C> u;
  matrix_view<const C> dlogits;
  matrix_view<C> dweights;
  MOUE_HD void operator()(moue::index_t e, moue::index_t j) const {
    for (moue::index_t t = 0; t < u.rows; ++t) dweights(e, j) += dlogits(t, e) * u(t, j) * u(t, j);
  }
};
template <class C, class P>
struct square_feature_gradient {
  matrix_view<const C> u;
  P weights;
  matrix_view<const C> dlogits;
  matrix_view<C> du;
  MOUE_HD void operator()(moue::index_t t, moue::index_t j) const {
    for (moue::index_t e = 0; e < dlogits.cols; ++e)
      du(t, j) += dlogits(t, e) * 2 * static_cast<C>(weights(e, j)) * u(t, j);
  }
};
struct square_score {
  auto parameters(moue::router_shape s) const {
    return std::array{moue::parameter_spec{"square", s.candidates, s.width, moue::initializer::normal(1)}};
  }
  template <class C>
  void forward(const auto& ops, const moue::router_frame<C>& frame, const auto& p, const auto&) const {
    using P = std::remove_cvref_t<decltype(p[0])>;
    ops.each_element(frame.logits.rows, frame.logits.cols, square_logit<C, P>{frame.features, p[0], frame.logits});
  }
  template <class C>
  void backward(const auto& ops, const moue::router_frame<C>& frame, const moue::router_gradient<C>& gradient,
                const auto& p, const auto&, const auto& dp) const {
    using P = std::remove_cvref_t<decltype(p[0])>;
    const auto dweights = moue::accumulate(ops, dp[0]);
    ops.each_element(dweights.rows, dweights.cols,
                     square_weight_gradient<C>{frame.features, gradient.logits, dweights});
    ops.each_element(frame.features.rows, frame.features.cols,
                     square_feature_gradient<C, P>{frame.features, p[0], gradient.logits, gradient.features});
  }
};

/// The candidates whose score is above `least`, none perhaps.
struct all_above {
  double least;
  MOUE_HD constexpr moue::index_t max_selected(moue::index_t candidates) const { return candidates; }
  template <class C>
  MOUE_HD moue::index_t operator()(vector_view<const C> scores, vector_view<const std::int32_t> candidates,
                                   vector_view<std::int32_t> selected) const {
    moue::index_t count = moue::top_k{scores.size}(scores, candidates, selected);
    while (count > 0 && !(scores[selected[count - 1]] > C(least))) --count;
    return count;
  }
};

/// One candidate for each token in turn: the best after what earlier tokens took has made it dearer.
template <class C>
struct take_in_turn {
  matrix_view<const C> scores;
  vector_view<const std::uint8_t> valid;
  matrix_view<std::int32_t> selected;
  MOUE_HD void operator()(moue::index_t) const {
    for (moue::index_t t = 0; t < selected.rows; ++t) {
      std::int32_t best = -1;
      C highest = -std::numeric_limits<C>::infinity();
      for (moue::index_t j = 0; valid[t] && j < scores.cols; ++j) {
        C price = C(0);
        for (moue::index_t before = 0; before < t; ++before) price += selected(before, 0) == j ? C(0.5) : C(0);
        if (scores(t, j) - price > highest) {
          highest = scores(t, j) - price;
          best = static_cast<std::int32_t>(j);
        }
      }
      selected(t, 0) = best;
    }
  }
};
struct in_turn {
  constexpr moue::index_t max_selected(moue::index_t candidates) const {
    return std::min<moue::index_t>(1, candidates);
  }
  template <class C>
  void table(const auto& ops, const moue::select_frame<C>& frame, matrix_view<std::int32_t> selected,
             const auto&) const {
    ops.each_row(1, take_in_turn<C>{frame.scores, frame.batch.valid, selected});
  }
};

/// w_i = 1 / (1 + exp(-z_i))².
struct squared_sigmoid {
  template <class C>
  MOUE_HD void forward(vector_view<const C> z, vector_view<const std::int32_t> selected, vector_view<C> gates) const {
    for (moue::index_t i = 0; i < selected.size; ++i) gates[i] = sigmoid(z[selected[i]]) * sigmoid(z[selected[i]]);
  }
  template <class C>
  MOUE_HD void backward(vector_view<const C> z, vector_view<const std::int32_t> selected, vector_view<const C> gates,
                        vector_view<const C> dgates, vector_view<C> dz) const {
    for (moue::index_t i = 0; i < selected.size; ++i)
      dz[selected[i]] += dgates[i] * 2 * gates[i] * (1 - sigmoid(z[selected[i]]));
  }

 private:
  template <class C>
  MOUE_HD static C sigmoid(C z) {
    return 1 / (1 + std::exp(-z));
  }
};

/// p_j = exp(z_j / 2), in proportion.
struct flat_softmax {
  template <class C>
  MOUE_HD void forward(vector_view<const C> z, vector_view<C> p) const {
    C most = -std::numeric_limits<C>::infinity(), sum = C(0);
    for (const C v : z) most = v > most ? v : most;
    for (moue::index_t j = 0; j < z.size; ++j)
      p[j] = z[j] > -std::numeric_limits<C>::infinity() ? std::exp((z[j] - most) / 2) : C(0);
    for (const C v : p) sum += v;
    for (auto& v : p) v = sum > C(0) ? v / sum : C(0);
  }
  template <class C>
  MOUE_HD void backward(vector_view<const C>, vector_view<const C> p, vector_view<const C> dp,
                        vector_view<C> dz) const {
    C mean = C(0);
    for (moue::index_t j = 0; j < p.size; ++j) mean += p[j] * dp[j];
    for (moue::index_t j = 0; j < p.size; ++j) dz[j] += p[j] * (dp[j] - mean) / 2;
  }
};

/// The mean of tanh² of the logits.
struct bounded_loss {
  double weight;
  template <class C>
  MOUE_HD C token_value(vector_view<const C> z, vector_view<const C>) const {
    C sum = C(0);
    for (const C v : z) sum += std::tanh(v) * std::tanh(v);
    return C(weight) * sum;
  }
  template <class C>
  MOUE_HD void token_gradient(vector_view<const C> z, vector_view<const C>, C scale, vector_view<C> dz) const {
    for (moue::index_t j = 0; j < z.size; ++j) {
      const C v = std::tanh(z[j]);
      dz[j] += scale * C(2 * weight) * v * (1 - v * v);
    }
  }
};
/// Shares times squared mean probabilities.
struct share_loss {
  double weight;
  template <class C>
  MOUE_HD C value(const moue::depth_statistics<C>& s) const {
    C sum = C(0);
    for (moue::index_t i = 0; i < s.probability.size; ++i) sum += s.share[i] * s.probability[i] * s.probability[i];
    return C(weight) * sum;
  }
  template <class C>
  MOUE_HD void gradient(const moue::depth_statistics<C>& s, vector_view<C> d) const {
    for (moue::index_t i = 0; i < d.size; ++i) d[i] += C(2 * weight) * s.share[i] * s.probability[i];
  }
};

}  // namespace test::user
