// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What the stages of a router work on.

#include <cstdint>

#include "moue/pass_options.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {

/// Sizes a stage may need to declare its parameters and scratch.
struct router_shape {
  index_t tokens = 0;      ///< rows of a pass; 0 while parameters are declared
  index_t width = 0;       ///< of what the stage reads: the layer's input for features, the features for a score
  index_t candidates = 0;  ///< of the layer (model-wide parameters are declared with those of layer 0)
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
  vector_view<const std::int32_t> candidates;  ///< [n] physical ids, in column order
  side_inputs batch;                           ///< with `valid` always filled in
  matrix_view<const C> input;                  ///< [tokens, width] the layer's router input
  matrix_view<C> features;                     ///< [tokens, features]
  matrix_view<C> logits;                       ///< [tokens, n]; scores add to it
  matrix_view<const C> gates;                  ///< [tokens, n], zero where not selected; only during `advance`
  matrix_view<const C> state;                  ///< [tokens, r] the stage's depth state on entry
  matrix_view<C> next_state;                   ///< [tokens, r] on exit; assigned by `advance`
};

/// Gradients that belong to a `router_frame`. A stage reads those of what it wrote and adds to those of what it read.
template <class C>
struct router_gradient {
  matrix_view<C> input;             ///< [tokens, width] added to
  matrix_view<C> features;          ///< [tokens, features] added to by scores, read by features
  matrix_view<const C> logits;      ///< [tokens, n] read
  matrix_view<C> gates;             ///< [tokens, n] added to by `advance_backward`
  matrix_view<C> state;             ///< [tokens, r] added to
  matrix_view<const C> next_state;  ///< [tokens, r] read
};

}  // namespace moue::inline v0_1
