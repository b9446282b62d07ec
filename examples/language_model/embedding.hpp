// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The two ends of the model: bytes to vectors, and vectors to a loss over the next byte.

#include <array>
#include <cmath>
#include <cstdint>
#include <span>

#include "dense.hpp"

namespace language_model {

inline constexpr moue::index_t vocabulary = 256;
/// Bytes that the input of one position looks at: its own and those before.
inline constexpr moue::index_t history = 4;

/// The bytes of a batch: windows of `history - 1 + context + 1` bytes one after another. Position `t` of a window reads
/// the bytes [t, t + history) and has to predict the byte after them.
struct batch {
  std::span<const std::uint8_t> bytes;
  moue::index_t context = 0;

  static constexpr moue::index_t window(moue::index_t context) { return history + context; }
  moue::index_t tokens() const { return static_cast<moue::index_t>(bytes.size()) / window(context) * context; }
  /// The byte `ago` places before position `token`.
  moue::index_t input(moue::index_t token, moue::index_t ago) const { return at(token, history - 1 - ago); }
  moue::index_t target(moue::index_t token) const { return at(token, history); }

 private:
  moue::index_t at(moue::index_t token, moue::index_t place) const {
    return bytes[static_cast<std::size_t>(token / context * window(context) + token % context + place)];
  }
};

/// x(t) = position(t mod context) + sum over the last bytes of table_ago(byte). Tables [256, width].
template <class S, class Tables>
void embed(const batch& text, const Tables& tables, moue::matrix_view<const S> positions, matrix<S>& x) {
  for (moue::index_t t = 0; t < x.rows(); ++t) {
    x.row(t) = as_matrix(positions).row(t % text.context);
    for (moue::index_t ago = 0; ago < history; ++ago) x.row(t) += as_matrix(tables(ago)).row(text.input(t, ago));
  }
}

template <class S, class Tables>
void embed_backward(const batch& text, const matrix<S>& dx, const Tables& dtables, moue::matrix_view<S> dpositions) {
  for (moue::index_t t = 0; t < dx.rows(); ++t) {
    as_matrix(dpositions).row(t % text.context) += dx.row(t);
    for (moue::index_t ago = 0; ago < history; ++ago) as_matrix(dtables(ago)).row(text.input(t, ago)) += dx.row(t);
  }
}

/// Mean cross entropy, in nats, of the targets under softmax(logits); leaves d loss / d logits in `logits`.
template <class S>
double cross_entropy(const batch& text, matrix<S>& logits) {
  double sum = 0;
  const S each = S(1) / S(logits.rows());
  for (moue::index_t t = 0; t < logits.rows(); ++t) {
    auto row = logits.row(t).array();
    const moue::index_t target = text.target(t);
    const S most = row.maxCoeff();
    const S score = row(target) - most;
    row = (row - most).exp();
    const S total = row.sum();
    sum += std::log(static_cast<double>(total)) - static_cast<double>(score);
    row *= each / total;
    row(target) -= each;
  }
  return sum / static_cast<double>(logits.rows());
}

}  // namespace language_model
