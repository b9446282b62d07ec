// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// From a routing to rows in expert order: the plan that experts are run by.

#include <cstdint>
#include <string>

#include "moue/error.hpp"
#include "moue/routing.hpp"
#include "moue/workspace.hpp"

namespace moue {

/// Rows sorted by expert, and within an expert by token. Views of caller memory.
struct dispatch_plan {
  vector_view<index> expert_offsets;     ///< [experts + 1] first row of each expert; the last is the number of rows
  vector_view<std::int32_t> row_token;   ///< [rows]
  vector_view<std::int32_t> row_expert;  ///< [rows]
  vector_view<index> row_entry;          ///< [rows] the routing entry a row came from
  vector_view<index> token_offsets;      ///< [tokens + 1] into `token_rows`
  vector_view<index> token_rows;         ///< [rows] each token's rows, ascending, hence by ascending expert
  vector_view<std::int32_t> scratch;     ///< what a backend needs to fill a plan; hosts need nothing

  MOUE_HD index experts() const { return expert_offsets.size - 1; }
  /// Assignments that are not empty. This and `expert_rows` read the plan: not on the host if it lies on a device.
  MOUE_HD index rows() const { return expert_offsets[experts()]; }
  MOUE_HD index expert_rows(index e) const { return expert_offsets[e + 1] - expert_offsets[e]; }

  /// Memory for up to `tokens` tokens and `entries` assignments.
  static dispatch_plan take(arena& memory, index tokens, index entries, index experts, index scratch = 0) {
    dispatch_plan plan;
    plan.expert_offsets = memory.take<index>(experts + 1, "expert offsets");
    plan.row_token = memory.take<std::int32_t>(entries, "row tokens");
    plan.row_expert = memory.take<std::int32_t>(entries, "row experts");
    plan.row_entry = memory.take<index>(entries, "row entries");
    plan.token_offsets = memory.take<index>(tokens + 1, "token offsets");
    plan.token_rows = memory.take<index>(entries, "token rows");
    plan.scratch = memory.take<std::int32_t>(scratch, "dispatch scratch");
    return plan;
  }
};

/// Fills `plan` on the host by counting sort; linear in entries plus experts. Throws if an id is out of range or a token
/// names an expert twice; `plan` is then unspecified.
template <class C>
void make_plan(const routing<C>& r, dispatch_plan& plan) {
  const index experts = plan.experts();
  for (index e = 0; e <= experts; ++e) plan.expert_offsets[e] = 0;
  for (index t = 0; t < r.tokens(); ++t) {
    index used = 0;
    for (index i = r.offsets[t]; i < r.offsets[t + 1]; ++i) {
      const std::int32_t e = r.expert[i];
      if (e == -1) continue;
      detail::require(
          e >= 0 && e < experts, "routing",
          [&] { return "token " + std::to_string(t) + " names expert " + std::to_string(e); },
          "use ids from 0 to experts - 1, or -1 for an empty entry");
      ++plan.expert_offsets[e + 1];
      ++used;
    }
    plan.token_offsets[t] = used;
  }
  for (index e = 0; e < experts; ++e) plan.expert_offsets[e + 1] += plan.expert_offsets[e];

  // The offsets double as cursors; afterwards each holds its successor's start and is shifted back.
  for (index t = 0; t < r.tokens(); ++t)
    for (index i = r.offsets[t]; i < r.offsets[t + 1]; ++i) {
      if (r.expert[i] == -1) continue;
      const index row = plan.expert_offsets[r.expert[i]]++;
      plan.row_token[row] = static_cast<std::int32_t>(t);
      plan.row_expert[row] = r.expert[i];
      plan.row_entry[row] = i;
    }
  for (index e = experts; e > 0; --e) plan.expert_offsets[e] = plan.expert_offsets[e - 1];
  plan.expert_offsets[0] = 0;

  index sum = 0;
  for (index t = 0; t < r.tokens(); ++t) {
    const index count = plan.token_offsets[t];
    plan.token_offsets[t] = sum;
    sum += count;
  }
  plan.token_offsets[r.tokens()] = sum;
  for (index e = 0; e < experts; ++e)
    for (index row = plan.expert_offsets[e]; row < plan.expert_offsets[e + 1]; ++row) {
      const index t = plan.row_token[row];
      detail::require(
          row == plan.expert_offsets[e] || plan.row_token[row - 1] != t, "routing",
          [&] { return "token " + std::to_string(t) + " names expert " + std::to_string(e) + " twice"; },
          "merge the two entries and add their gates");
      plan.token_rows[plan.token_offsets[t]++] = row;
    }
  for (index t = r.tokens(); t > 0; --t) plan.token_offsets[t] = plan.token_offsets[t - 1];
  plan.token_offsets[0] = 0;
}

}  // namespace moue
