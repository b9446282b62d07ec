// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The elementary functions that row functors spend their time in.

#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>

#include "moue/config.hpp"

namespace moue::inline v0_1::detail {

/// e^x. For `float` a form without branches or calls, which compilers turn into vector code: within 1.5 units in the last
/// place of the exact value wherever that is a normal number, 0 at minus infinity, infinity above 88.73, NaN for NaN.
/// Range reduction and polynomial follow Cephes' expf. Other types use the function found by argument-dependent look-up.
template <class C>
MOUE_HD C exponential(C x) {
  using std::exp;
  return exp(x);
}
template <std::same_as<float> C>
[[gnu::always_inline]] MOUE_HD inline C exponential(C x) {  // a call would keep the loops around it from vectorising
  constexpr float lowest = -104.0f, highest = 89.0f;
  const float clamped = x < lowest ? lowest : (x > highest ? highest : x);  // comparisons that let NaN pass
  constexpr float magic = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low fraction bits
  const float shifted = clamped * 1.44269504088896341f + magic;
  const float n = shifted - magic;
  const auto exponent =
      static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(magic));
  float r = clamped - n * 0.693359375f;  // n ln 2 in two parts, the first exact
  r += n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const std::int32_t half = exponent >> 1;  // two factors, since 2^n itself may not be a normal number
  const auto power = [](std::int32_t e) { return std::bit_cast<float>(static_cast<std::uint32_t>(e + 127) << 23); };
  return p * power(half) * power(exponent - half);
}

/// 1 / (1 + e^-x). Needs no case for negative x: where e^-x overflows the result underflows to 0 as it should.
template <class C>
[[gnu::always_inline]] MOUE_HD inline C sigmoid(C x) {
  return C(1) / (C(1) + exponential(-x));
}

/// log sigmoid(x), exact also where sigmoid itself underflows.
template <class C>
MOUE_HD C log_sigmoid(C x) {
  using std::log1p;
  return x >= C(0) ? -log1p(exponential(-x)) : x - log1p(exponential(x));
}

/// log(1 + e^x).
template <class C>
MOUE_HD C softplus(C x) {
  return -log_sigmoid(-x);
}

/// x itself, but rounded before a sum uses it. A compiler that fuses products into sums does so in some iterations of a
/// vectorised loop and not in others, so that the sum of a row's products would depend on what stands behind the row.
template <class C>
[[gnu::always_inline]] MOUE_HD inline C rounded(C x) {
  return MOUE_ASSOC_BARRIER(x);
}

}  // namespace moue::inline v0_1::detail
