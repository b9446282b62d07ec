// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Logits from one query that all layers share.

#include <array>
#include <cmath>

#include "moue/router.hpp"
#include "moue/router/rows.hpp"
#include "moue/router/trajectory.hpp"

namespace moue::inline v0_1 {
namespace detail {

/// path(t, :) = factor (query(t, :) + offset).
template <class C, class W>
struct finish_query {
  matrix_view<C> query;
  W offset;
  W temperature;
  C scale;
  matrix_view<C> scaled;
  MOUE_HD void operator()(index_t t, index_t j) const {
    query(t, j) += static_cast<C>(offset(0, j));
    scaled(t, j) = scale * static_cast<C>(temperature(0, 0)) * query(t, j);
  }
};

/// part(t) = <dscaled, scale query>, the token's part of the temperature's gradient; then dscaled becomes dquery.
template <class C, class W>
struct finish_query_backward {
  matrix_view<const C> query;
  W temperature;
  C scale;
  matrix_view<C> dscaled;
  matrix_view<C> part;
  MOUE_HD void operator()(index_t t) const {
    C sum = C(0);
    for (index_t j = 0; j < query.cols; ++j) {
      sum += dscaled(t, j) * scale * query(t, j);
      dscaled(t, j) *= scale * static_cast<C>(temperature(0, 0));
    }
    part(t, 0) = sum;
  }
};

template <class C, class W>
finish_query(matrix_view<C>, W, W, C, matrix_view<C>) -> finish_query<C, W>;

}  // namespace detail

/// z_e = tau_l q · K_e / sqrt(rank) with q = W_q u + R s_l + b_l: one query map and one set of keys for the whole depth,
/// and per layer only a temperature and an offset. The state is the trajectory of `trajectory`, with the same keys.
/// Parameters: `query` [rank, width], `query_map` R [rank, rank], `query_key` K [experts, rank] per model;
/// `temperature` [1, 1] and `query_offset` b_l [1, rank] per layer. R and b start at zero.
struct query_score {
  index_t rank = 32;   ///< of queries and keys, and so the width of the state
  double decay = 0.5;  ///< of the state from layer to layer

  constexpr index_t state_width() const { return rank; }
  auto parameters(router_shape s) const {
    return std::array{parameter_spec{"query", rank, s.width, initializer::normal(1 / std::sqrt(double(s.width))),
                                     scope::model, true, true},
                      parameter_spec{"query_map", rank, rank, initializer::constant(0), scope::model, true, true},
                      parameter_spec{"query_key", s.experts, rank, initializer::normal(1), scope::model, true, true},
                      parameter_spec{"temperature", 1, 1, initializer::constant(1), scope::layer},
                      parameter_spec{"query_offset", 1, rank, initializer::constant(0), scope::layer}};
  }
  auto temporaries(router_shape s) const {
    return std::array{matrix_shape{s.candidates, rank}, matrix_shape{s.candidates, rank}, matrix_shape{s.tokens, rank},
                      matrix_shape{s.tokens, rank}, matrix_shape{s.tokens, 1}};
  }

  template <class C>
  void forward(const auto& ops, const router_frame<C>& frame, const auto& p, const auto& temporary) const {
    prepare<C>(ops, frame, p, temporary);
    ops.linear(temporary[3], temporary[0], frame.logits, store::add);
  }

  template <class C>
  void backward(const auto& ops, const router_frame<C>& frame, const router_gradient<C>& gradient, const auto& p,
                const auto& temporary, const auto& dp) const {
    const auto& keys = temporary[0];
    const auto& dkeys = temporary[1];
    const auto& query = temporary[2];
    const auto& scaled = temporary[3];
    const auto& part = temporary[4];
    prepare<C>(ops, frame, p, temporary);
    detail::scatter_weight_gradient(ops, gradient.logits, scaled, dkeys, frame.candidates, dp[2]);
    const auto& dquery = scaled;
    ops.input_gradient(gradient.logits, keys, dquery);
    using view = std::remove_cvref_t<decltype(p[3])>;
    ops.each_row(query.rows, detail::finish_query_backward<C, view>{query, p[3], scale<C>(), dquery, part});
    ops.column_sum(part, dp[3]);
    ops.column_sum(dquery, dp[4]);
    ops.weight_gradient(dquery, frame.features, dp[0]);
    ops.input_gradient(dquery, p[0], gradient.features, store::add);
    ops.weight_gradient(dquery, frame.state, dp[1]);
    ops.input_gradient(dquery, p[1], gradient.state, store::add);
  }

  template <class C>
  void advance(const auto& ops, const router_frame<C>& frame, const auto& p, const auto& temporary) const {
    detail::advance_by_keys(ops, frame, decay, p[2], temporary[0]);
  }
  template <class C>
  void advance_backward(const auto& ops, const router_frame<C>& frame, const router_gradient<C>& gradient,
                        const auto& p, const auto& temporary, const auto& dp) const {
    detail::advance_by_keys_backward(ops, frame, gradient, decay, p[2], temporary[0], temporary[1], dp[2]);
  }

 private:
  template <class C>
  C scale() const {
    using std::sqrt;
    return C(1) / sqrt(C(rank));
  }

  template <class C>
  void prepare(const auto& ops, const router_frame<C>& frame, const auto& p, const auto& temporary) const {
    ops.each_row(temporary[0].rows, detail::gather_rows{p[2], frame.candidates, temporary[0]});
    ops.linear(frame.features, p[0], temporary[2]);
    ops.linear(frame.state, p[1], temporary[2], store::add);
    ops.each_element(temporary[2].rows, temporary[2].cols,
                     detail::finish_query{temporary[2], p[4], p[3], scale<C>(), temporary[3]});
  }
};

}  // namespace moue::inline v0_1
