// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Causal attention with several heads over a batch of equally long windows.

#include <cmath>

#include "dense.hpp"

namespace language_model {

/// y = mix(u) Woutᵀ, where mix is causal softmax attention over queries, keys and values u Wqkvᵀ. Rows are windows of
/// `context` tokens one after another; Wqkv [3 width, width], Wout [width, width]. Keeps what backward needs.
template <class S>
class attention {
 public:
  attention(moue::index_t context, moue::index_t heads) : context_(context), heads_(heads) {}

  /// Assigns `y` [tokens, width].
  void forward(const matrix<S>& u, moue::matrix_view<const S> wqkv, moue::matrix_view<const S> wout, matrix<S>& y) {
    const moue::index_t width = u.cols();
    qkv_.noalias() = u * as_matrix(wqkv).transpose();
    mixed_.resize(u.rows(), width);
    share_.resize(u.rows() * heads_, context_);
    each_head(u.rows(), width, [&](moue::index_t first, moue::index_t column, moue::index_t size, auto share) {
      const auto q = qkv_.block(first, column, context_, size);
      const auto k = qkv_.block(first, width + column, context_, size);
      const auto v = qkv_.block(first, 2 * width + column, context_, size);
      share.noalias() = q * k.transpose();
      for (moue::index_t t = 0; t < context_; ++t) {
        auto seen = share.row(t).head(t + 1).array();
        seen = ((seen - seen.maxCoeff()) * scale(size)).exp();
        seen /= seen.sum();
        share.row(t).tail(context_ - t - 1).setZero();
      }
      mixed_.block(first, column, context_, size).noalias() = share * v;
    });
    y.noalias() = mixed_ * as_matrix(wout).transpose();
  }

  /// Assigns `du`, adds to `dwqkv` and `dwout`.
  void backward(const matrix<S>& u, moue::matrix_view<const S> wqkv, moue::matrix_view<const S> wout,
                const matrix<S>& dy, matrix<S>& du, moue::matrix_view<S> dwqkv, moue::matrix_view<S> dwout) {
    const moue::index_t width = u.cols();
    dmixed_.noalias() = dy * as_matrix(wout);
    as_matrix(dwout).noalias() += dy.transpose() * mixed_;
    dqkv_.resize(u.rows(), 3 * width);
    dscore_.resize(context_, context_);
    each_head(u.rows(), width, [&](moue::index_t first, moue::index_t column, moue::index_t size, auto share) {
      const auto part = [&](auto& m, moue::index_t which) {
        return m.block(first, which * width + column, context_, size);
      };
      const auto dm = part(dmixed_, 0);
      part(dqkv_, 2).noalias() = share.transpose() * dm;
      dscore_.noalias() = dm * part(qkv_, 2).transpose();
      for (moue::index_t t = 0; t < context_; ++t) {
        const S mean = share.row(t).dot(dscore_.row(t));
        dscore_.row(t).array() = share.row(t).array() * (dscore_.row(t).array() - mean) * scale(size);
      }
      part(dqkv_, 0).noalias() = dscore_ * part(qkv_, 1);
      part(dqkv_, 1).noalias() = dscore_.transpose() * part(qkv_, 0);
    });
    du.noalias() = dqkv_ * as_matrix(wqkv);
    as_matrix(dwqkv).noalias() += dqkv_.transpose() * u;
  }

 private:
  static S scale(moue::index_t head_width) { return S(1) / std::sqrt(S(head_width)); }

  /// f(first token of the window, first column of the head, columns of a head, its [context, context] shares).
  template <class F>
  void each_head(moue::index_t tokens, moue::index_t width, const F& f) {
    for (moue::index_t first = 0; first < tokens; first += context_)
      for (moue::index_t h = 0; h < heads_; ++h)
        f(first, h * width / heads_, width / heads_, share_.middleRows((first * heads_ + h * context_), context_));
  }

  moue::index_t context_;
  moue::index_t heads_;
  matrix<S> qkv_;
  matrix<S> share_;
  matrix<S> mixed_;
  matrix<S> dmixed_;
  matrix<S> dqkv_;
  matrix<S> dscore_;
};

}  // namespace language_model
