// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The norm of gradients, and clipping by it.

#include <cmath>
#include <string>
#include <type_traits>

#include "moue/error.hpp"
#include "moue/gradients.hpp"

namespace moue::inline v0_1 {

/// The Euclidean norm of all live tensors together, accumulated at least in double precision and in the order of the
/// layout. NaN or infinite if a gradient is.
template <class C>
auto gradient_norm(const gradients<C>& grads) {
  using sum_type = std::common_type_t<C, double>;
  sum_type sum = 0;
  for (index_t i = 0; i < grads.layout().tensors(); ++i) {
    if (!grads.live(i)) continue;
    const C* g = grads[i].data;
    for (index_t j = 0; j < grads.layout()[i].size(); ++j)
      sum += static_cast<sum_type>(g[j]) * static_cast<sum_type>(g[j]);
  }
  return std::sqrt(sum);
}

/// Multiplies all live tensors by `factor`.
template <class C>
void scale_gradients(gradients<C>& grads, double factor) {
  for (index_t i = 0; i < grads.layout().tensors(); ++i) {
    if (!grads.live(i)) continue;
    C* g = grads[i].data;
    for (index_t j = 0; j < grads.layout()[i].size(); ++j) g[j] *= static_cast<C>(factor);
  }
}

/// Scales the gradients down so that their norm is at most `max_norm`, and returns the norm they had. A norm that is not
/// finite is returned with the gradients unchanged: leave that step out. To clip several sets as one, take the root of
/// the sum of squares of their `gradient_norm` and call `scale_gradients` on each.
template <class C>
auto clip_gradients(gradients<C>& grads, double max_norm) {
  detail::require(
      max_norm > 0, "clip_gradients", [&] { return "max_norm is " + std::to_string(max_norm); },
      "give a positive norm");
  const auto norm = gradient_norm(grads);
  if (std::isfinite(norm) && norm > max_norm) scale_gradients(grads, static_cast<double>(max_norm / norm));
  return norm;
}

}  // namespace moue::inline v0_1
