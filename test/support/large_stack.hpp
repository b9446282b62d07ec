// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "recipe.hpp"
#include "stack.hpp"

namespace test {

// Large enough for threads to be used: several blocks of 256 rows for an expert and for its weights' gradients, several
// of 64 rows for a row functor, and products of more than 2^19 terms.
inline constexpr moue::index_t large_batch = 600;
inline const recipe large{
    .width = 48, .hidden = 260, .ring = {.depth = 2, .pool = 5, .window = 3, .stride = 2, .local = 1}, .rank = 8};

inline bool same(const stack_result<double>& a, const stack_result<double>& b) {
  for (std::size_t l = 0; l < a.visits.size(); ++l)
    if (!same_bits(a.visits[l].logits, b.visits[l].logits) || a.visits[l].experts != b.visits[l].experts) return false;
  return same_bits(a.output, b.output) && same_bits(a.dx, b.dx) && same_bits(a.gradients, b.gradients) &&
         a.balance == b.balance;
}

}  // namespace test
