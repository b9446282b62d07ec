// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A router whose gates lie on a sphere: logits are divided by their norm, what is negative becomes 0, and a learned scale
// makes gates of them, the same numbers that selection compares.

#include <array>
#include <cmath>
#include <moue/policies.hpp>

namespace published {

/// s = a c max(u, 0) with u = z / (|z| + epsilon) over the open candidates; a is learned, one number a layer.
struct on_sphere {
  double constant = 1;  ///< c: brings the gates of an untrained router to a norm of 1
  double epsilon = 1e-6;

  auto parameters(moue::router_shape) const {
    return std::array{moue::parameter_spec{.name = "scale", .init = moue::initializer::constant(1)}};
  }
  template <class C>
  MOUE_HD void operator()(moue::vector_view<const C> z, const auto& p, moue::vector_view<C> s) const {
    const C scale = static_cast<C>(p[0](0, 0)) * C(constant) / (norm(z) + C(epsilon));
    for (moue::index_t j = 0; j < z.size; ++j) s[j] = z[j] > C(0) ? scale * z[j] : C(0);
  }
  template <class C>
  MOUE_HD void backward(moue::vector_view<const C> z, const auto& p, moue::vector_view<const C> s,
                        moue::vector_view<const C> ds, moue::vector_view<C> dz, const auto& dp) const {
    const C a = static_cast<C>(p[0](0, 0)), length = norm(z), scale = a * C(constant) / (length + C(epsilon));
    C along = C(0);  // what the gates have to do with the norm
    for (moue::index_t j = 0; j < z.size; ++j) {
      if (z[j] > C(0)) along += ds[j] * s[j];
      if (z[j] > C(0)) dp[0][0] += ds[j] * s[j] / a;
    }
    for (moue::index_t j = 0; j < z.size; ++j) {
      if (z[j] > C(0)) dz[j] += scale * ds[j];
      if (std::isfinite(z[j]) && length > C(0)) dz[j] -= along / (length + C(epsilon)) * z[j] / length;
    }
  }

 private:
  template <class C>
  MOUE_HD static C norm(moue::vector_view<const C> z) {
    C most = C(0), sum = C(0);
    for (const C v : z) most = std::isfinite(v) && std::abs(v) > most ? std::abs(v) : most;
    for (const C v : z)
      if (std::isfinite(v) && most > C(0)) sum += v / most * (v / most);  // squares may overflow
    return most * std::sqrt(sum);
  }
};
static_assert(moue::TransformStage<on_sphere>);

/// The transformed logits themselves.
struct as_they_are {
  template <class C>
  MOUE_HD void forward(moue::vector_view<const C> logits, moue::vector_view<const std::int32_t> selected,
                       moue::vector_view<C> gates) const {
    for (moue::index_t i = 0; i < selected.size; ++i) gates[i] = logits[selected[i]];
  }
  template <class C>
  MOUE_HD void backward(moue::vector_view<const C>, moue::vector_view<const std::int32_t> selected,
                        moue::vector_view<const C>, moue::vector_view<const C> dgates,
                        moue::vector_view<C> dlogits) const {
    for (moue::index_t i = 0; i < selected.size; ++i) dlogits[selected[i]] += dgates[i];
  }
};
static_assert(moue::GateStage<as_they_are>);

}  // namespace published
