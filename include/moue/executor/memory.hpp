// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What an executor works in: memory that the caller provides.

#include "moue/dispatch.hpp"
#include "moue/grouped.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {

/// What a forward run leaves for its backward run: the plan, the activations the experts asked for, and, for experts
/// whose `backward` takes gated gradients only in the plain form, their outputs. Views of caller memory.
template <class C>
struct expert_record {
  dispatch_plan plan;      ///< rows by expert
  index_t tokens = -1;     ///< of the routing that forward ran; −1 before
  index_t entries = -1;    ///< of the same routing
  index_t room = 0;        ///< for entries; the plan says for how many rows
  matrix_view<C> saved;    ///< [rows, columns] the matrices of a row side by side
  matrix_view<C> outputs;  ///< [rows, width], or empty if no expert needs them
};

/// Scratch of a run. Nothing in it matters between runs but what `tables` remembers of itself, which is why it moves and
/// is not copied. Views of caller memory.
template <class C>
struct expert_scratch {
  matrix_view<C> out;         ///< [rows, width] outputs, or input gradients
  vector_view<C> gate;        ///< [rows]
  vector_view<C> dgate;       ///< [rows]
  matrix_view<C> rows;        ///< [rows of the blocks that run at once, columns]: matrices side by side, from the left
  index_t gathered = 0;       ///< columns of `rows` that products gather in; after them, what the experts asked for
  matrix_view<C> conversion;  ///< [workers, elements of the largest weight], no columns if nothing is converted
  detail::grouped_tables tables;  ///< lists of addresses in the backend's memory
};

/// Memory for one batch through an executor that is used on its own.
template <class C>
struct expert_memory {
  expert_record<C> record;    ///< of the last forward run
  expert_scratch<C> scratch;  ///< of any run
};

}  // namespace moue::inline v0_1
