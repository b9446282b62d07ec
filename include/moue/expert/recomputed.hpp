// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// An expert that saves nothing in its forward run.

#include <array>
#include <utility>

#include "moue/arrays.hpp"
#include "moue/expert.hpp"

namespace moue::inline v0_1 {

/// Any expert E, with the same tensors, outputs and gradients to the bit, that runs E's `forward` once more in
/// `backward` instead of saving what that needs: it costs the time of a forward run, and takes E's saved matrices out
/// of every layer.
template <class ExpertT>
struct recomputed {
  static_assert(check_expert<ExpertT>());

  /// E
  ExpertT expert;
  index_t width;

  /// Takes over E's width.
  constexpr explicit recomputed(ExpertT inner) : expert(std::move(inner)), width(expert.width) {}

  auto parameters() const { return expert.parameters(); }
  auto saved() const { return std::array<index_t, 0>{}; }
  /// E's saved matrices, its scratch, and outputs that nobody reads.
  auto temporaries() const {
    return detail::join_arrays(detail::join_arrays(expert.saved(), expert.temporaries()),
                               std::array<index_t, 1>{width});
  }

  template <class C>
  void forward(const auto& ops, const auto& p, const auto& x, const auto&, const auto& temporary,
               matrix_view<C> y) const {
    expert.forward(ops, p, x, saved_of(temporary), temporaries_of(temporary), y);
  }

  template <class C>
  void backward(const auto& ops, const auto& p, const auto& x, const auto&, const auto& temporary,
                matrix_view<const C> dy, matrix_view<C> dx,
                const auto& dp) const requires detail::has_plain_backward<ExpertT> {
    back(ops, p, x, temporary, dy, dx, dp);
  }
  template <class C, class T>
  void backward(const auto& ops, const auto& p, const auto& x, const auto&, const auto& temporary,
                gated_gradient<C, T> out, matrix_view<C> dx,
                const auto& dp) const requires detail::has_gated_backward<ExpertT> {
    back(ops, p, x, temporary, out, dx, dp);
  }

 private:
  static constexpr std::size_t saved_matrices = detail::saved_count<ExpertT>;
  static constexpr std::size_t own_temporaries = detail::temporary_count<ExpertT>;

  static auto saved_of(const auto& temporary) { return detail::sub_array<0, saved_matrices>(temporary); }
  static auto temporaries_of(const auto& temporary) {
    return detail::sub_array<saved_matrices, own_temporaries>(temporary);
  }
  template <class C>
  void back(const auto& ops, const auto& p, const auto& x, const auto& temporary, const auto& dy, matrix_view<C> dx,
            const auto& dp) const {
    expert.forward(ops, p, x, saved_of(temporary), temporaries_of(temporary), temporary.back());
    std::array<matrix_view<const C>, saved_matrices> saved;
    for (std::size_t i = 0; i < saved_matrices; ++i) saved[i] = temporary[i];
    expert.backward(ops, p, x, saved, temporaries_of(temporary), dy, dx, dp);
  }
};

}  // namespace moue::inline v0_1
