// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Element types: what numbers are stored in, and what they are computed in.

#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "moue/config.hpp"

namespace moue::inline v0_1 {

/// Brain floating point: 1 sign, 8 exponent and 7 fraction bits. A storage type: arithmetic happens in `float`.
/// Same bits as `__nv_bfloat16`, `Eigen::bfloat16` and `at::BFloat16`, so buffers may be reinterpreted.
struct bf16 {
  std::uint16_t bits = 0;  ///< of the number, as in memory

  constexpr bf16() = default;
  /// Rounds to the nearest, ties to even.
  MOUE_HD constexpr bf16(float value) : bits(from_float(value)) {}
  /// Exact.
  MOUE_HD constexpr operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

 private:
  MOUE_HD static constexpr std::uint16_t from_float(float value) {
    const auto u = std::bit_cast<std::uint32_t>(value);
    if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((u >> 16) | 0x40u);  // keep NaN a NaN
    return static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);                  // nearest, ties to even
  }
};

/// IEEE 754 binary16. A storage type: arithmetic happens in `float`.
struct half {
  std::uint16_t bits = 0;  ///< of the number, as in memory

  constexpr half() = default;
  /// Rounds to the nearest, ties to even; from 65520 on to infinity.
  MOUE_HD constexpr half(float value) : bits(from_float(value)) {}
  /// Exact.
  MOUE_HD constexpr operator float() const {
    const std::uint32_t sign = (bits & 0x8000u) << 16;
    const std::uint32_t exponent = (bits >> 10) & 0x1fu;
    const std::uint32_t fraction = bits & 0x3ffu;
    if (exponent == 0) {  // zero and subnormals: fraction * 2^-24 is exact in float
      const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
      return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
    }
    if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
    return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (fraction << 13));
  }

 private:
  MOUE_HD static constexpr std::uint16_t from_float(float value) {
    const auto u = std::bit_cast<std::uint32_t>(value);
    const auto sign = static_cast<std::uint16_t>((u >> 16) & 0x8000u);
    const std::uint32_t magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u)
      return static_cast<std::uint16_t>(sign | 0x7c00u);  // 65520 and above round to infinity
    if (magnitude < 0x38800000u) {                        // below 2^-14: subnormal
      // Adding 0.5 leaves the value's 2^-24 multiple, rounded to nearest even, in the low fraction bits.
      const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
      return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u));
    }
    const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
    return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
  }
};

/// The type arithmetic happens in for numbers stored as `S`: `float` for the 16-bit types, otherwise `S` itself.
/// Specialise it to bring a storage type of your own.
template <class S>
struct compute_type {
  using type = S;
};
/// `float`.
template <>
struct compute_type<bf16> {
  using type = float;
};
/// `float`.
template <>
struct compute_type<half> {
  using type = float;
};
/// The type arithmetic happens in for numbers stored as `S`.
template <class S>
using compute_t = typename compute_type<S>::type;

/// A type tensors may be stored in: trivially copyable and convertible to and from its compute type, which is no integer.
template <class S>
concept Storage = std::is_trivially_copyable_v<S> && !std::is_integral_v<compute_t<S>> &&
                  std::convertible_to<S, compute_t<S>> && std::constructible_from<S, compute_t<S>>;

namespace detail {

template <class C>
MOUE_HD constexpr C minus_infinity() {
  return -std::numeric_limits<C>::infinity();
}

template <class C>
MOUE_HD bool is_finite(C x) {
  using std::isfinite;
  return isfinite(x);
}

}  // namespace detail
}  // namespace moue::inline v0_1
