// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// From a routing to rows in expert order: the plan that experts are run by.

#include <cstdint>
#include <string>

#include "moue/dispatch/offsets.hpp"
#include "moue/error.hpp"
#include "moue/routing.hpp"
#include "moue/workspace.hpp"

namespace moue::inline v0_1 {

/// Rows sorted by expert, and within an expert by token. Views of caller memory.
struct dispatch_plan {
  vector_view<index_t> expert_offsets;   ///< [experts + 1] first row of each expert; the last is the number of rows
  vector_view<std::int32_t> row_token;   ///< [rows]
  vector_view<std::int32_t> row_expert;  ///< [rows]
  vector_view<index_t> row_entry;        ///< [rows] the first routing entry a row came from
  vector_view<index_t> token_offsets;    ///< [tokens + 1] into `token_rows`
  vector_view<index_t> token_rows;       ///< [rows] each token's rows, ascending, hence by ascending expert
  vector_view<std::int32_t> scratch;     ///< what a backend needs to fill a plan; hosts need nothing

  /// Physical experts, whether or not they have rows.
  MOUE_HD index_t experts() const { return expert_offsets.size - 1; }
  /// Assignments that are not empty. This and `expert_rows` read the plan: not on the host if it lies on a device.
  MOUE_HD index_t rows() const { return expert_offsets[experts()]; }
  /// Rows of expert `e`.
  MOUE_HD index_t expert_rows(index_t e) const { return expert_offsets[e + 1] - expert_offsets[e]; }

  /// Memory for up to `tokens` tokens and `rows` assignments that name an expert.
  static dispatch_plan take(arena& memory, index_t tokens, index_t rows, index_t experts, index_t scratch = 0) {
    dispatch_plan plan;
    plan.expert_offsets = memory.take<index_t>(experts + 1, "expert offsets");
    plan.row_token = memory.take<std::int32_t>(rows, "row tokens");
    plan.row_expert = memory.take<std::int32_t>(rows, "row experts");
    plan.row_entry = memory.take<index_t>(rows, "row entries");
    plan.token_offsets = memory.take<index_t>(tokens + 1, "token offsets");
    plan.token_rows = memory.take<index_t>(rows, "token rows");
    plan.scratch = memory.take<std::int32_t>(scratch, "dispatch scratch");
    return plan;
  }
};

/// Fills `plan` on the host by counting sort; linear in entries plus experts, for tokens of few entries each. Throws if
/// offsets do not ascend from 0 to the number of entries, or an id is out of range; `plan` is then unspecified.
template <class C>
void make_plan(const routing<C>& r, dispatch_plan& plan) {
  if (r.tokens() >= plan.token_offsets.size)
    detail::refuse_batch(r.tokens(), r.entries(), plan.token_offsets.size - 1, plan.row_token.size);
  detail::check_offsets(r.offsets, r.entries());
  const index_t experts = plan.experts();
  for (index_t e = 0; e <= experts; ++e) plan.expert_offsets[e] = 0;
  for (index_t t = 0; t < r.tokens(); ++t) {
    index_t used = 0;
    for (index_t i = r.offsets[t]; i < r.offsets[t + 1]; ++i) {
      const std::int32_t e = r.expert[i];
      detail::require(
          e >= -1 && e < experts, "routing",
          [&] { return "token " + std::to_string(t) + " names expert " + std::to_string(e); },
          "use ids from 0 to experts - 1, or -1 for an entry that runs nowhere");
      if (!r.leads_row(t, i)) continue;
      ++plan.expert_offsets[e + 1];
      ++used;
    }
    plan.token_offsets[t] = used;
  }
  for (index_t e = 0; e < experts; ++e) plan.expert_offsets[e + 1] += plan.expert_offsets[e];
  if (plan.rows() > plan.row_token.size)
    detail::refuse_batch(r.tokens(), plan.rows(), plan.token_offsets.size - 1, plan.row_token.size);

  // The offsets double as cursors; afterwards each holds its successor's start and is shifted back.
  for (index_t t = 0; t < r.tokens(); ++t)
    for (index_t i = r.offsets[t]; i < r.offsets[t + 1]; ++i) {
      if (!r.leads_row(t, i)) continue;
      const index_t row = plan.expert_offsets[r.expert[i]]++;
      plan.row_token[row] = static_cast<std::int32_t>(t);
      plan.row_expert[row] = r.expert[i];
      plan.row_entry[row] = i;
    }
  for (index_t e = experts; e > 0; --e) plan.expert_offsets[e] = plan.expert_offsets[e - 1];
  plan.expert_offsets[0] = 0;

  index_t sum = 0;
  for (index_t t = 0; t < r.tokens(); ++t) {
    const index_t count = plan.token_offsets[t];
    plan.token_offsets[t] = sum;
    sum += count;
  }
  plan.token_offsets[r.tokens()] = sum;
  for (index_t row = 0; row < sum; ++row) plan.token_rows[plan.token_offsets[plan.row_token[row]]++] = row;
  for (index_t t = r.tokens(); t > 0; --t) plan.token_offsets[t] = plan.token_offsets[t - 1];
  plan.token_offsets[0] = 0;
}

}  // namespace moue::inline v0_1
