// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Row functors of a pass: from logits to assignments, and back.

#include <cstdint>
#include <string>
#include <type_traits>

#include "moue/error.hpp"
#include "moue/lanes.hpp"
#include "moue/router.hpp"
#include "moue/router/compose.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::detail {

/// to = from, converted.
template <class From, class To>
struct convert_element {
  matrix_view<const From> from;
  matrix_view<To> to;
  MOUE_HD void operator()(index_t i, index_t j) const { to(i, j) = static_cast<To>(from(i, j)); }
};

/// to = from where the row is valid, else 0: what padding holds, NaN perhaps, must not meet a gradient of 0.
template <class S, class To = S>
struct save_element {
  vector_view<const std::uint8_t> valid;
  matrix_view<const S> from;
  matrix_view<To> to;
  MOUE_HD void operator()(index_t t, index_t j) const {
    to(t, j) = valid[t] ? static_cast<To>(from(t, j)) : To(compute_t<To>(0));
  }
};

/// How many numbers of a row are not finite, counted by all lanes.
template <class C, class T, class Lanes>
MOUE_HD index_t count_broken(const matrix_view<T>& m, index_t t, const Lanes& lanes) {
  index_t count = 0;
  for (index_t j = lanes.first(); j < m.cols; j += lanes.step()) count += is_finite(static_cast<C>(m(t, j))) ? 0 : 1;
  return lanes.sum(count);
}

/// usable[t] = whether the row is valid and its router's input and depth state are finite; a broken state begins again.
template <class S, class C>
struct find_usable_row {
  vector_view<const std::uint8_t> valid;
  matrix_view<const S> x;
  matrix_view<C> state;
  vector_view<std::uint8_t> usable;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t t, const Lanes& lanes = {}) const {
    const bool broken_x = count_broken<C>(x, t, lanes) > 0, broken_state = count_broken<C>(state, t, lanes) > 0;
    if (broken_state)
      for (index_t j = lanes.first(); j < state.cols; j += lanes.step()) state(t, j) = C(0);
    if (lanes.leads()) usable[t] = valid[t] && !broken_x && !broken_state ? 1 : 0;
  }
};

/// Features, or columns beside the logits, that are not finite become zeros, and their row is not usable.
template <class C>
struct close_broken_rows {
  matrix_view<C> features;
  vector_view<std::uint8_t> usable;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t t, const Lanes& lanes = {}) const {
    if (count_broken<C>(features, t, lanes) == 0) return;
    for (index_t j = lanes.first(); j < features.cols; j += lanes.step()) features(t, j) = C(0);
    if (lanes.leads()) usable[t] = 0;
  }
};

/// usable[t] = whether the row is valid and any of its candidates open: of rows that were routed.
template <class C>
struct find_open_row {
  vector_view<const std::uint8_t> valid;
  matrix_view<const C> logits;
  vector_view<std::uint8_t> usable;
  MOUE_HD void operator()(index_t t) const {
    index_t j = 0;
    while (j < logits.cols && logits(t, j) == minus_infinity<C>()) ++j;
    usable[t] = valid[t] != 0 && j < logits.cols ? 1 : 0;
  }
};

/// How many tokens selected each candidate of a layer, and how many rows ran on it.
struct count_of_layer {
  vector_view<const std::int32_t> candidates;
  vector_view<const index_t> expert_offsets;
  matrix_view<const std::int32_t> selected;
  vector_view<std::int64_t> demand;
  vector_view<std::int64_t> load;
  template <class Lanes = one_lane>
  MOUE_HD void operator()(index_t column, const Lanes& lanes = {}) const {
    index_t count = 0;
    for (index_t t = lanes.first(); t < selected.rows; t += lanes.step())
      for (index_t i = 0; i < selected.cols && selected(t, i) >= 0; ++i) count += selected(t, i) == column;
    count = lanes.sum(count);
    if (!lanes.leads()) return;
    const index_t expert = candidates[column];
    demand[column] = count;
    load[column] = expert_offsets[expert + 1] - expert_offsets[expert];
  }
};

/// to = from, with 0 for what is no finite number.
template <class S>
struct finite_element {
  matrix_view<const S> from;
  matrix_view<S> to;
  MOUE_HD void operator()(index_t i, index_t j) const {
    to(i, j) = is_finite(static_cast<compute_t<S>>(from(i, j))) ? from(i, j) : S(compute_t<S>(0));
  }
};

/// valid[t] = 1 or 0 as the caller's mask says; without a mask all rows are valid.
struct copy_mask {
  vector_view<const std::uint8_t> mask;
  vector_view<std::uint8_t> valid;
  MOUE_HD void operator()(index_t t) const { valid[t] = mask.size == 0 || mask[t] != 0 ? 1 : 0; }
};

/// parts[i] = valid tokens among the rows of block `i`.
struct count_valid_block {
  vector_view<const std::uint8_t> valid;
  index_t block;
  vector_view<index_t> parts;
  MOUE_HD void operator()(index_t i) const {
    index_t sum = 0;
    for (index_t t = i * block; t < valid.size && t < (i + 1) * block; ++t) sum += valid[t];
    parts[i] = sum;
  }
};

/// total[0] = the sum of the parts.
struct add_parts {
  vector_view<const index_t> parts;
  vector_view<index_t> total;
  MOUE_HD void operator()(index_t) const {
    index_t sum = 0;
    for (const index_t part : parts) sum += part;
    total[0] = sum;
  }
};

/// to = a + b, converted.
template <class C, class To>
struct add_element {
  matrix_view<const C> a;
  matrix_view<const C> b;
  matrix_view<To> to;
  MOUE_HD void operator()(index_t i, index_t j) const { to(i, j) = static_cast<To>(a(i, j) + b(i, j)); }
};

template <class C>
MOUE_HD bool broken(C logit) {
  return !is_finite(logit) && logit != minus_infinity<C>();
}

/// Host only: throws at the first candidate of a valid row that is not closed and whose logit or preference is not finite.
template <class C>
struct reject_broken_row {
  matrix_view<const C> logits;
  matrix_view<const C> scores;
  vector_view<const std::uint8_t> valid;
  index_t layer;
  void operator()(index_t t) const {
    if (!valid[t]) return;
    for (index_t j = 0; j < logits.cols; ++j)
      require(
          !broken(logits(t, j)) && !broken(scores(t, j)), "router",
          [&] {
            return std::string(broken(logits(t, j)) ? "the logit" : "the preference") + " of candidate " +
                   std::to_string(j) + " for token " + std::to_string(t) + " at layer " + std::to_string(layer) +
                   " is not finite";
          },
          "look for NaN or infinity in the layer's input or router weights, or choose another moue::non_finite mode",
          error_kind::numbers);
  }
};

/// The same for the columns beside the logits.
template <class C>
struct reject_broken_extra {
  matrix_view<const C> extra;
  vector_view<const std::uint8_t> valid;
  index_t layer;
  void operator()(index_t t) const {
    for (index_t j = 0; j < extra.cols && valid[t] != 0; ++j)
      require(
          is_finite(extra(t, j)), "router",
          [&] {
            return "the extra column " + std::to_string(j) + " of token " + std::to_string(t) + " at layer " +
                   std::to_string(layer) + " is not finite";
          },
          "look for NaN or infinity in the layer's input or router weights, or choose another moue::non_finite mode",
          error_kind::numbers);
  }
};

/// Nobody says which columns are selected but the router.
struct router_selects {};

/// columns(t, i) = the column of expert id(t, i), or -1 where that is no candidate or the token no valid one; what is
/// selected stands first, each column once.
struct columns_of_ids {
  matrix_view<const std::int32_t> ids;
  vector_view<const std::int32_t> candidates;
  vector_view<const std::uint8_t> valid;
  matrix_view<std::int32_t> selected;
  MOUE_HD void operator()(index_t t) const {
    index_t count = 0;
    for (index_t i = 0; i < ids.cols && valid[t]; ++i)
      for (index_t column = 0; column < candidates.size; ++column)
        if (candidates[column] == ids(t, i) && is_new(t, count, column))
          selected(t, count++) = static_cast<std::int32_t>(column);
    for (; count < selected.cols; ++count) selected(t, count) = -1;
  }

 private:
  MOUE_HD bool is_new(index_t t, index_t count, index_t column) const {
    for (index_t k = 0; k < count; ++k)
      if (selected(t, k) == column) return false;
    return true;
  }
};

/// Expert ids that a caller gives.
struct ids_select {
  matrix_view<const std::int32_t> ids;
  void operator()(const auto& ops, const vector_view<const std::int32_t>& candidates,
                  const vector_view<const std::uint8_t>& valid, const matrix_view<std::int32_t>& selected) const {
    ops.each_row(selected.rows, columns_of_ids{ids, candidates, valid, selected});
  }
};

/// to[i] = from[i].
template <class T>
struct copy_entry {
  vector_view<const T> from;
  vector_view<T> to;
  MOUE_HD void operator()(index_t i) const { to[i] = from[i]; }
};

/// The entries of a row that is not usable run nowhere.
struct drop_unusable {
  vector_view<const std::uint8_t> usable;
  vector_view<const index_t> offsets;
  vector_view<std::int32_t> experts;
  MOUE_HD void operator()(index_t t) const {
    if (usable[t] != 0) return;
    for (index_t i = offsets[t]; i < offsets[t + 1] && i < experts.size; ++i) experts[i] = -1;  // a device checks none
  }
};

/// No entry comes from a router.
struct no_column {
  vector_view<std::int32_t> columns;
  MOUE_HD void operator()(index_t i) const { columns[i] = -1; }
};

/// dense(t, column) = the column's gate, or 0 where it was not selected.
template <class C>
struct spread_gates {
  matrix_view<const std::int32_t> selected;
  matrix_view<const C> gates;
  matrix_view<C> dense;
  MOUE_HD void operator()(index_t t) const {
    for (index_t j = 0; j < dense.cols; ++j) dense(t, j) = C(0);
    for (index_t i = 0; i < selected.cols && selected(t, i) >= 0; ++i) dense(t, selected(t, i)) = gates(t, i);
  }
};

}  // namespace moue::inline v0_1::detail
