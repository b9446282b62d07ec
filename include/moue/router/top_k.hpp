// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Selection of the k best candidates.

#include <cstdint>
#include <string>

#include "moue/error.hpp"
#include "moue/lanes.hpp"
#include "moue/router.hpp"

namespace moue::inline v0_1 {

/// Marks a size that is given at run time.
inline constexpr index_t dynamic = -1;

namespace detail {

/// Whether (a, id_a) comes before (b, id_b): the higher score, then the lower expert id. NaN comes before all numbers, so
/// that a broken logit shows in the output instead of being passed over.
template <class C>
MOUE_HD bool before(C a, std::int32_t id_a, C b, std::int32_t id_b) {
  const bool nan_a = a != a, nan_b = b != b;
  if (nan_a != nan_b) return nan_a;
  if (!nan_a && a != b) return a > b;
  return id_a < id_b;
}

}  // namespace detail

/// The k candidates with the highest scores, in decreasing order; ties go to the lowest expert id; closed candidates are
/// never taken, so a token may get fewer. `top_k<2>{}` fixes k at compile time, `top_k{2}` at run time. k may exceed the
/// number of candidates. O(candidates k) per token, shared by its lanes.
template <index_t K = dynamic>
struct top_k {
  static_assert(K >= 0, "moue: top_k needs a k of 0 or more");
  constexpr top_k() = default;
  /// Candidates that a token takes, at most.
  MOUE_HD static constexpr index_t k() { return K; }
  constexpr index_t max_selected(index_t candidates) const { return K < candidates ? K : candidates; }

  template <class C, class Lanes = one_lane>
  MOUE_HD index_t operator()(vector_view<const C> scores, vector_view<const std::int32_t> candidates,
                             vector_view<std::int32_t> selected, const Lanes& lanes = {}) const;
};

/// The same with k known at run time.
template <>
struct top_k<dynamic> {
  /// Throws if `count` is negative.
  constexpr explicit top_k(index_t count) : k_(count) {
    detail::require(
        count >= 0, "top_k", [&] { return "k is " + std::to_string(count); }, "choose 0 or more experts per token");
  }
  /// Candidates that a token takes, at most.
  MOUE_HD constexpr index_t k() const { return k_; }
  constexpr index_t max_selected(index_t candidates) const { return k_ < candidates ? k_ : candidates; }

  template <class C, class Lanes = one_lane>
  MOUE_HD index_t operator()(vector_view<const C> scores, vector_view<const std::int32_t> candidates,
                             vector_view<std::int32_t> selected, const Lanes& lanes = {}) const;

 private:
  index_t k_;
};

namespace detail {

template <index_t K>
inline constexpr bool selects_distinct<top_k<K>> = true;

}  // namespace detail

top_k(index_t)->top_k<dynamic>;

namespace detail {

/// Puts column `j` into its place among the `count` best so far, of which at most `k` are held; returns how many there are.
template <class C>
MOUE_HD index_t insert_best(index_t k, vector_view<const C> scores, vector_view<const std::int32_t> candidates,
                            index_t j, vector_view<std::int32_t> selected, index_t count) {
  if (scores[j] == minus_infinity<C>()) return count;
  index_t place = count;
  while (place > 0 && before(scores[j], candidates[j], scores[selected[place - 1]], candidates[selected[place - 1]]))
    --place;
  if (place == k) return count;
  if (count < k) ++count;
  for (index_t i = count - 1; i > place; --i) selected[i] = selected[i - 1];
  selected[place] = static_cast<std::int32_t>(j);
  return count;
}

template <class C>
MOUE_HD index_t select_best(index_t k, vector_view<const C> scores, vector_view<const std::int32_t> candidates,
                            vector_view<std::int32_t> selected, const one_lane&) {
  index_t count = 0;
  for (index_t j = 0; j < scores.size; ++j) count = insert_best(k, scores, candidates, j, selected, count);
  return count;
}

template <class C>
struct scored {
  C score;
  std::int32_t id;  // −1: none
  std::int32_t column;
};
template <class C>
struct scored_before {
  MOUE_HD bool operator()(const scored<C>& a, const scored<C>& b) const {
    if (a.id < 0 || b.id < 0) return a.id >= 0 && b.id < 0;
    return before(a.score, a.id, b.score, b.id);
  }
};

/// The same by several lanes: each round finds the best of those that come after the last one found.
template <class C, class Lanes>
MOUE_HD index_t select_best(index_t k, vector_view<const C> scores, vector_view<const std::int32_t> candidates,
                            vector_view<std::int32_t> selected, const Lanes& lanes) {
  const scored_before<C> is_before;
  scored<C> last{C(0), -1, -1};
  for (index_t count = 0; count < k; ++count) {
    scored<C> best{C(0), -1, -1};
    for (index_t j = lanes.first(); j < scores.size; j += lanes.step()) {
      const scored<C> one{scores[j], candidates[j], static_cast<std::int32_t>(j)};
      if (one.score == minus_infinity<C>() || (last.id >= 0 && !is_before(last, one))) continue;
      if (is_before(one, best)) best = one;
    }
    best = lanes.first_of(best, is_before);
    if (best.id < 0) return count;
    if (lanes.leads()) selected[count] = best.column;
    last = best;
  }
  return k;
}

}  // namespace detail

template <index_t K>
template <class C, class Lanes>
MOUE_HD index_t top_k<K>::operator()(vector_view<const C> scores, vector_view<const std::int32_t> candidates,
                                     vector_view<std::int32_t> selected, const Lanes& lanes) const {
  return detail::select_best(K, scores, candidates, selected, lanes);
}

template <class C, class Lanes>
MOUE_HD index_t top_k<dynamic>::operator()(vector_view<const C> scores, vector_view<const std::int32_t> candidates,
                                           vector_view<std::int32_t> selected, const Lanes& lanes) const {
  return detail::select_best(k_, scores, candidates, selected, lanes);
}

}  // namespace moue::inline v0_1
