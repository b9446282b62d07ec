// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What the stages of a router work on.

#include <cstdint>
#include <span>

#include "moue/view.hpp"
#include "moue/visit.hpp"

namespace moue::inline v0_1 {

/// Sizes a stage may need to declare its parameters and scratch.
struct router_shape {
  index_t tokens = 0;      ///< rows of a pass; 0 while parameters are declared
  index_t width = 0;       ///< of what the stage reads: the layer's input for features, the features for a score
  index_t candidates = 0;  ///< of the layer (what holds for the whole model is declared with those of layer 0)
  index_t experts = 0;     ///< physical experts of the model
};

/// Of a matrix of scratch.
struct matrix_shape {
  index_t rows = 0;  ///< of the matrix
  index_t cols = 0;  ///< of the matrix
};

/// One visit as the stages of a router see it. Views only; all matrices have one row per token.
template <class C>
struct router_frame {
  visit at;                                    ///< which layer of which batch
  index_t experts = 0;                         ///< physical experts of the model
  vector_view<const std::int32_t> candidates;  ///< [n] physical ids, in column order
  side_inputs batch;                           ///< with `valid` always filled in
  matrix_view<const C> input;                  ///< [tokens, width] the layer's router input
  matrix_view<C> features;                     ///< [tokens, features]
  matrix_view<C> logits;                       ///< [tokens, n]; scores add to it
  matrix_view<C> extra;                        ///< [tokens, extra] of the score beside its logits; it assigns them
  matrix_view<const C> gates;                  ///< [tokens, n], zero where not selected; only during `advance`
  matrix_view<const C> state;                  ///< [tokens, r] the stage's depth state on entry
  matrix_view<C> next_state;                   ///< [tokens, r] on exit; assigned by `advance`
  std::span<const matrix_view<C>> saved;       ///< what the stage declared: assigned by `forward`, read by the others
};

/// Gradients that belong to a `router_frame`. A stage reads those of what it wrote and adds to those of what it read.
template <class C>
struct router_gradient {
  matrix_view<C> input;             ///< [tokens, width] added to
  matrix_view<C> features;          ///< [tokens, features] added to by scores, read by features
  matrix_view<C> logits;            ///< [tokens, n] read; added to by `advance_backward`
  matrix_view<C> extra;             ///< [tokens, extra] read; added to by `advance_backward`
  matrix_view<C> gates;             ///< [tokens, n] added to by `advance_backward`
  matrix_view<C> state;             ///< [tokens, r] added to
  matrix_view<const C> next_state;  ///< [tokens, r] read
};

namespace detail {

/// Sizes of a visit as its features and its score see them.
template <class C>
router_shape features_shape(const router_frame<C>& frame) {
  return {frame.logits.rows, frame.input.cols, frame.candidates.size, frame.experts};
}
template <class C>
router_shape score_shape(const router_frame<C>& frame) {
  return {frame.logits.rows, frame.features.cols, frame.candidates.size, frame.experts};
}

}  // namespace detail

/// A layer's scores as a selection sees them that looks at all tokens at once. Views only.
template <class C>
struct select_frame {
  visit at;                                    ///< which layer of which batch
  side_inputs batch;                           ///< `valid` says which rows may select
  vector_view<const std::int32_t> candidates;  ///< [n] physical ids, in column order
  matrix_view<const C> scores;                 ///< [tokens, n]; minus infinity closes a candidate
};

}  // namespace moue::inline v0_1
