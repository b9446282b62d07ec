// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Selection of the k best candidates.

#include <cstdint>
#include <string>

#include "moue/error.hpp"
#include "moue/router.hpp"

namespace moue {

/// Marks a size that is given at run time.
inline constexpr index dynamic = -1;

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
/// number of candidates. O(candidates k) per token.
template <index K = dynamic>
struct top_k {
  static_assert(K >= 0, "moue: top_k needs a k of 0 or more");
  constexpr top_k() = default;
  MOUE_HD static constexpr index k() { return K; }
  constexpr index most(index candidates) const { return K < candidates ? K : candidates; }

  template <class C>
  MOUE_HD index operator()(vector_view<const C> scores, vector_view<const std::int32_t> candidates,
                           vector_view<std::int32_t> slots) const;
};

template <>
struct top_k<dynamic> {
  /// Throws if `count` is negative.
  constexpr explicit top_k(index count) : k_(count) {
    detail::require(
        count >= 0, "top_k", [&] { return "k is " + std::to_string(count); }, "choose 0 or more experts per token");
  }
  MOUE_HD constexpr index k() const { return k_; }
  constexpr index most(index candidates) const { return k_ < candidates ? k_ : candidates; }

  template <class C>
  MOUE_HD index operator()(vector_view<const C> scores, vector_view<const std::int32_t> candidates,
                           vector_view<std::int32_t> slots) const;

 private:
  index k_;
};

top_k(index)->top_k<dynamic>;

namespace detail {

/// Puts slot `j` into its place among the `count` best so far, of which at most `k` are held; returns how many there are.
template <class C>
MOUE_HD index insert_best(index k, vector_view<const C> scores, vector_view<const std::int32_t> candidates, index j,
                          vector_view<std::int32_t> slots, index count) {
  if (scores[j] == minus_infinity<C>()) return count;
  index place = count;
  while (place > 0 && before(scores[j], candidates[j], scores[slots[place - 1]], candidates[slots[place - 1]])) --place;
  if (place == k) return count;
  if (count < k) ++count;
  for (index i = count - 1; i > place; --i) slots[i] = slots[i - 1];
  slots[place] = static_cast<std::int32_t>(j);
  return count;
}

template <class C>
MOUE_HD index select_best(index k, vector_view<const C> scores, vector_view<const std::int32_t> candidates,
                          vector_view<std::int32_t> slots) {
  index count = 0;
  for (index j = 0; j < scores.size; ++j) count = insert_best(k, scores, candidates, j, slots, count);
  return count;
}

}  // namespace detail

template <index K>
template <class C>
MOUE_HD index top_k<K>::operator()(vector_view<const C> scores, vector_view<const std::int32_t> candidates,
                                   vector_view<std::int32_t> slots) const {
  return detail::select_best(K, scores, candidates, slots);
}

template <class C>
MOUE_HD index top_k<dynamic>::operator()(vector_view<const C> scores, vector_view<const std::int32_t> candidates,
                                         vector_view<std::int32_t> slots) const {
  return detail::select_best(k_, scores, candidates, slots);
}

}  // namespace moue
