// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Selection of the k best candidates of a few groups.

#include <cstdint>
#include <string>

#include "moue/error.hpp"
#include "moue/router.hpp"
#include "moue/router/top_k.hpp"

namespace moue::inline v0_1 {

/// How `group_limited` cuts candidates into groups, and how many of these a token may use.
struct column_groups {
  index_t size = 1;     ///< neighbouring columns in a group; the last group may have fewer
  index_t allowed = 1;  ///< groups a token may use
  index_t best = 1;     ///< members whose scores add up to the group's
};

/// The k best candidates of the `allowed` groups with the highest scores, a group's score being the sum of its `best`
/// best. DeepSeek-V2 has best = 1 (arXiv 2405.04434), DeepSeek-V3 best = 2 with `biased_sigmoid` (arXiv 2412.19437).
/// Order and ties are those of `top_k`; between groups of equal score the one whose best member comes first wins.
/// Closed candidates are absent: a group is worth what its open members are, and nothing without any. So a token may
/// get fewer than k, and candidates outside the chosen groups never make up for it. O(candidates (allowed best + k)) per
/// token.
class group_limited {
 public:
  /// Throws if k is negative or the groups make no sense.
  constexpr group_limited(index_t k, column_groups groups) : k_(k), groups_(groups) {
    detail::require(
        k >= 0, "group_limited", [&] { return "k is " + std::to_string(k); }, "choose 0 or more experts per token");
    detail::require(
        groups.size > 0 && groups.allowed > 0 && groups.best > 0, "group_limited",
        [&] {
          return "groups have size " + std::to_string(groups.size) + ", " + std::to_string(groups.allowed) +
                 " may be used, and " + std::to_string(groups.best) + " members count";
        },
        "give at least 1 for each");
  }
  /// Candidates that a token takes.
  MOUE_HD constexpr index_t k() const { return k_; }
  /// How candidates are grouped, and how many groups a token uses.
  MOUE_HD constexpr column_groups groups() const { return groups_; }
  constexpr index_t max_selected(index_t candidates) const {
    const index_t reach = limits(candidates) ? groups_.allowed * groups_.size : candidates;
    return k_ < reach ? k_ : reach;
  }

  template <class C>
  MOUE_HD index_t operator()(vector_view<const C> scores, vector_view<const std::int32_t> candidates,
                             vector_view<std::int32_t> selected) const {
    if (!limits(scores.size)) return detail::select_best(k_, scores, candidates, selected, one_lane());
    const rank<C> last = last_allowed(scores, candidates);
    index_t count = 0;
    for (index_t first = 0; first < scores.size; first += groups_.size) {
      const rank<C> group = rank_of(scores, candidates, first);
      if (group.id == none || comes_before(last, group)) continue;
      for (index_t j = first; j < end_of(scores, first); ++j)
        count = detail::insert_best(k_, scores, candidates, j, selected, count);
    }
    return count;
  }

 private:
  static constexpr std::int32_t none = -1;

  /// A group's place: its score, and the expert id of its best member, or `none` if all are closed.
  template <class C>
  struct rank {
    C score = C(0);
    std::int32_t id = none;
  };

  MOUE_HD constexpr bool limits(index_t candidates) const {
    return groups_.allowed < candidates / groups_.size + (candidates % groups_.size != 0 ? 1 : 0);
  }
  template <class C>
  MOUE_HD index_t end_of(vector_view<const C> scores, index_t first) const {
    return scores.size - first < groups_.size ? scores.size : first + groups_.size;
  }
  template <class C>
  MOUE_HD static bool comes_before(const rank<C>& a, const rank<C>& b) {
    return detail::before(a.score, a.id, b.score, b.id);
  }

  /// Finds the members in falling order, each by a scan for the first one after the last: no memory is needed.
  template <class C>
  MOUE_HD rank<C> rank_of(vector_view<const C> scores, vector_view<const std::int32_t> candidates,
                          index_t first) const {
    rank<C> result;
    index_t previous = none;
    for (index_t i = 0; i < groups_.best; ++i) {
      index_t next = none;
      for (index_t j = first; j < end_of(scores, first); ++j) {
        if (scores[j] == detail::minus_infinity<C>()) continue;
        if (previous != none && !detail::before(scores[previous], candidates[previous], scores[j], candidates[j]))
          continue;
        if (next == none || detail::before(scores[j], candidates[j], scores[next], candidates[next])) next = j;
      }
      if (next == none) break;
      if (i == 0) result.id = candidates[next];
      result.score += scores[next];
      previous = next;
    }
    return result;
  }

  /// The last of the groups that a token may use, found in the same way.
  template <class C>
  MOUE_HD rank<C> last_allowed(vector_view<const C> scores, vector_view<const std::int32_t> candidates) const {
    rank<C> last;
    for (index_t i = 0; i < groups_.allowed; ++i) {
      rank<C> next;
      for (index_t first = 0; first < scores.size; first += groups_.size) {
        const rank<C> group = rank_of(scores, candidates, first);
        if (group.id == none || (last.id != none && !comes_before(last, group))) continue;
        if (next.id == none || comes_before(group, next)) next = group;
      }
      if (next.id == none) break;
      last = next;
    }
    return last;
  }

  index_t k_;
  column_groups groups_;
};

}  // namespace moue::inline v0_1
