// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Muon: momentum whose matrices are orthogonalised. AdamW for what is not a matrix.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "moue/backend/reference.hpp"
#include "moue/router/rows.hpp"
#include "moue/train.hpp"
#include "moue/train/adamw.hpp"

namespace moue::inline v0_1 {
namespace detail {

/// sums(0, i) = the sum of squares of row i.
template <class C>
struct row_square_sum {
  matrix_view<const C> x;
  matrix_view<C> sums;
  MOUE_HD void operator()(index_t i) const {
    C sum = C(0);
    for (index_t j = 0; j < x.cols; ++j) sum += x(i, j) * x(i, j);
    sums(0, i) = sum;
  }
};

/// norm(0, 0) = the root of the sum of `sums`; one row, so that the order of the sum is fixed.
template <class C>
struct root_of_sum {
  matrix_view<const C> sums;
  matrix_view<C> norm;
  MOUE_HD void operator()(index_t) const {
    using std::sqrt;
    C sum = C(0);
    for (index_t i = 0; i < sums.cols; ++i) sum += sums(0, i);
    norm(0, 0) = sqrt(sum);
  }
};

template <class C>
struct divide_by_norm {
  matrix_view<C> x;
  matrix_view<const C> norm;
  MOUE_HD void operator()(index_t i, index_t j) const { x(i, j) /= norm(0, 0) + C(1e-7); }
};

/// a2 = 3.4445 * identity - 4.7750 * a + 2.0315 * a2.
template <class C>
struct newton_schulz_polynomial {
  matrix_view<const C> a;
  matrix_view<C> a2;
  MOUE_HD void operator()(index_t i, index_t j) const {
    a2(i, j) = C(-4.7750) * a(i, j) + C(2.0315) * a2(i, j) + (i == j ? C(3.4445) : C(0));
  }
};

template <class C>
struct muon_momentum {
  matrix_view<const C> g;  // empty: zeros
  matrix_view<C> momentum;
  matrix_view<C> direction;
  C beta, rest;
  bool nesterov;
  MOUE_HD void operator()(index_t i, index_t j) const {
    const C gradient = g.data != nullptr ? g(i, j) : C(0);
    const C m = momentum(i, j) = beta * momentum(i, j) + rest * gradient;
    direction(i, j) = nesterov ? rest * gradient + beta * m : m;
  }
};

template <class C>
struct muon_update {
  matrix_view<const C> direction;
  matrix_view<C> w;
  C keep, rate;
  MOUE_HD void operator()(index_t i, index_t j) const { w(i, j) = keep * w(i, j) - rate * direction(i, j); }
};

}  // namespace detail

/// Elements of scratch that `orthogonalise` needs for a matrix [rows, cols].
inline index_t orthogonalise_elements(index_t rows, index_t cols) {
  const index_t shorter = (std::min)(rows, cols);
  return rows * cols + 2 * shorter * shorter + rows + 1;
}

/// Replaces `x` [rows, cols] by about the nearest matrix with orthonormal rows or columns: singular vectors stay, and
/// singular values s > 0.003 |x| (Frobenius norm) move into [0.68, 1.21]. Five quintic Newton-Schulz iterations of two
/// products with the shorter side and one with x, coefficients by Keller Jordan. `scratch` has
/// `orthogonalise_elements(rows, cols)` elements and does not overlap `x`.
template <class Ops, class C>
void orthogonalise(const Ops& ops, matrix_view<C> x, C* scratch) {
  if (x.empty()) return;
  const bool wide = x.rows <= x.cols;
  const index_t n = (std::min)(x.rows, x.cols);
  const matrix_view<C> sums{scratch, 1, x.rows};
  const matrix_view<C> norm{sums.data + x.rows, 1, 1};
  const matrix_view<C> a{norm.data + 1, n, n};
  const matrix_view<C> a2{a.data + n * n, n, n};
  matrix_view<C> from = x;
  matrix_view<C> to{a2.data + n * n, x.rows, x.cols};

  ops.each_row(x.rows, detail::row_square_sum<C>{x, sums});
  ops.each_row(1, detail::root_of_sum<C>{sums, norm});
  ops.each_element(x.rows, x.cols, detail::divide_by_norm<C>{x, norm});
  constexpr int iterations = 5;
  for (int iteration = 0; iteration < iterations; ++iteration) {
    const matrix_view<const C> source = from;
    if (wide) {
      ops.linear(source, source, a);  // X X^T
    } else {
      ops.weight_gradient(source, source, a, store::assign);  // X^T X
    }
    const matrix_view<const C> gram = a;
    ops.linear(gram, gram, a2);  // the gram matrix is symmetric, so this is its square
    ops.each_element(n, n, detail::newton_schulz_polynomial<C>{gram, a2});
    const matrix_view<const C> polynomial = a2;
    if (wide)
      ops.input_gradient(polynomial, source, to);
    else
      ops.input_gradient(source, polynomial, to);
    std::swap(from, to);
  }
  static_assert(iterations % 2 == 1, "the result of an even number of iterations would already be in x");
  ops.each_element(x.rows, x.cols, detail::round_element<C, C>{from, x});
}

/// How long an orthogonalised update [r, c] is made.
enum class muon_scale {
  match_adamw,  ///< 0.2 sqrt(max(r, c)): the size of AdamW's updates, so that its rate and decay fit (arXiv 2502.16982)
  spectral,     ///< sqrt(max(1, r / c)): Keller Jordan's; learning rates near 0.02, and a lower `adamw_rate`
};

/// How `muon` steps. Throws on what is out of range when the optimiser is made.
struct muon_options {
  double momentum = 0.95;                      ///< of the mean of gradients, at least 0 and less than 1
  bool nesterov = true;                        ///< whether the direction looks one step ahead
  double weight_decay = 0.1;                   ///< only for tensors that are `decayed`
  muon_scale scale = muon_scale::match_adamw;  ///< how long an update is made
  bool skip_untouched = true;  ///< as in `adamw_options`, for all tensors; if false, stale momentum moves idle experts
  adamw_options adamw = {};    ///< for the other tensors; its `skip_untouched` is not looked at
  double adamw_rate = 1;       ///< their learning rate as a multiple of the matrices'
};

/// Muon's usual choice: the weight matrices of experts. Routers, embeddings and heads stay with AdamW.
struct expert_matrices {
  /// Whether the tensor is a weight matrix of an expert.
  bool operator()(const tensor_info& info) const {
    return info.expert >= 0 && info.decayed && info.rows > 1 && info.cols > 1;
  }
};

/// m <- b m + (1 - b) g;  u = (1 - b) g + b m (Nesterov) or m;
/// w <- (1 - rate decay) w - rate scale orthogonalise(u).
///
/// One number of the compute type per matrix element (AdamW's tensors have two), plus the scratch of the largest matrix,
/// and a master copy if weights are stored narrower. Each tensor counts as one matrix: keep projections that are applied
/// side by side, such as gate and up, in tensors of their own. Each step costs 5 (2 n^2 m + n^3) multiply-adds for a
/// matrix with sides n <= m; run it with the operations of the model's backend. What it works on lies on the host: it is
/// no optimiser for a device's memory, `adamw` is. An `Optimiser`.
template <Storage S>
class muon {
 public:
  using compute_type = compute_t<S>;

  /// `takes` says which tensors are Muon's; asked once each, and only if they have two dimensions.
  template <class Takes = expert_matrices>
  explicit muon(const parameters<S>& weights, muon_options options = {}, const Takes& takes = {})
      : options_(options), state_(weights, "muon"), momentum_(state_.layout()) {
    detail::check_options(options.adamw, "muon");
    detail::require(
        options.momentum >= 0 && options.momentum < 1, "muon",
        [&] { return "momentum is " + std::to_string(options.momentum); }, "give at least 0 and less than 1");
    detail::require(
        options.weight_decay >= 0 && options.adamw_rate >= 0, "muon",
        [&] {
          return "weight_decay is " + std::to_string(options.weight_decay) + ", adamw_rate is " +
                 std::to_string(options.adamw_rate);
        },
        "give neither a negative value");
    index_t scratch = 0;
    auto second = std::make_shared<parameter_layout>();
    for (const auto& info : *state_.layout()) {
      const bool matrix = info.trained && info.rows > 1 && info.cols > 1 && takes(info);
      is_matrix_.push_back(matrix);
      if (matrix) scratch = (std::max)(scratch, info.size() + orthogonalise_elements(info.rows, info.cols));
      second->add(info.name, {.name = {}, .rows = matrix ? 0 : info.rows, .cols = info.cols}, info.layer, info.expert);
    }
    second_ = parameters<compute_type>(std::move(second));
    scratch_.resize(static_cast<std::size_t>(scratch));
  }

  /// Whether tensor `i` is Muon's; the others are AdamW's.
  bool is_matrix(index_t i) const { return is_matrix_[static_cast<std::size_t>(i)]; }

  void step(parameters<S>& weights, const gradients<compute_type>& grads, double learning_rate) {
    step(reference_operations{}, weights, grads, learning_rate);
  }
  /// Does not compile: gradients are in the compute type of the weights.
  template <class Other>
  void step(parameters<S>&, const gradients<Other>&, double) {
    detail::refuse_gradients<Other>();
  }
  template <class Ops>
  void step(const Ops& ops, parameters<S>& weights, const gradients<compute_type>& grads, double learning_rate) {
    state_.check(weights, grads, learning_rate);
    state_.each(ops, weights, grads, options_.skip_untouched,
                [&](index_t i, std::int64_t t, matrix_view<compute_type> w, matrix_view<const compute_type> g) {
                  const auto& info = (*state_.layout())[i];
                  if (is_matrix(i))
                    update_matrix(ops, info, w, g, momentum_[i], learning_rate);
                  else
                    ops.each_element(
                        info.rows, info.cols,
                        detail::adamw_element<compute_type>(options_.adamw, learning_rate * options_.adamw_rate, t,
                                                            info.decayed, w, g, momentum_[i], second_[i]));
                });
  }

  void adopt(const parameters<S>& weights) { state_.adopt(weights); }
  /// "momentum" (AdamW's first moment for its tensors), "second_moment" (no rows for matrices), and "master" if there
  /// is one.
  template <class F>
  void visit(F&& f) {
    f("momentum", momentum_);
    f("second_moment", second_);
    if constexpr (detail::training_state<S>::has_master) f("master", state_.master());
  }
  std::span<std::int64_t> steps() & { return state_.steps(); }

 private:
  template <class Ops>
  void update_matrix(const Ops& ops, const tensor_info& info, matrix_view<compute_type> w,
                     matrix_view<const compute_type> g, matrix_view<compute_type> momentum, double rate) {
    using C = compute_type;
    const double r = static_cast<double>(info.rows);
    const double c = static_cast<double>(info.cols);
    const double scale =
        options_.scale == muon_scale::spectral ? std::sqrt((std::max)(1.0, r / c)) : 0.2 * std::sqrt((std::max)(r, c));
    const double decay = info.decayed ? options_.weight_decay : 0.0;
    const matrix_view<C> u{scratch_.data(), info.rows, info.cols};
    ops.each_element(info.rows, info.cols,
                     detail::muon_momentum<C>{g, momentum, u, static_cast<C>(options_.momentum),
                                              static_cast<C>(1 - options_.momentum), options_.nesterov});
    orthogonalise(ops, u, scratch_.data() + info.size());
    ops.each_element(info.rows, info.cols,
                     detail::muon_update<C>{u, w, static_cast<C>(1 - rate * decay), static_cast<C>(rate * scale)});
  }

  muon_options options_;
  detail::training_state<S> state_;
  std::vector<bool> is_matrix_;
  parameters<compute_type> momentum_;
  parameters<compute_type> second_;
  std::vector<compute_type> scratch_;
};

}  // namespace moue::inline v0_1
