// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What 8, 6 and 4 bits of a low-precision type are worth. Every value is exact in `float`.

#include <bit>
#include <cstdint>
#include <limits>

#include "moue/io/dtype.hpp"

namespace moue::inline v0_1::io {

namespace detail {

/// Which codes are not numbers.
enum class special_codes {
  none,
  ieee,           ///< largest exponent: infinity, or NaN with a fraction
  all_ones,       ///< NaN where exponent and fraction are all ones; no infinity
  negative_zero,  ///< NaN where -0 would be; no infinity
};

/// 2^exponent, for results that are normal in `float`.
constexpr float power_of_two(int exponent) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(exponent + 127) << 23);
}

template <int ExponentBits, int FractionBits, int Bias, special_codes Special>
constexpr float decode_float(unsigned code) {
  constexpr unsigned fraction_mask = (1u << FractionBits) - 1, exponent_mask = (1u << ExponentBits) - 1;
  const unsigned fraction = code & fraction_mask, exponent = (code >> FractionBits) & exponent_mask;
  const bool negative = ((code >> (FractionBits + ExponentBits)) & 1u) != 0;
  constexpr float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();

  if (Special == special_codes::negative_zero && negative && exponent == 0 && fraction == 0) return nan;
  if (Special == special_codes::all_ones && exponent == exponent_mask && fraction == fraction_mask) return nan;
  if (Special == special_codes::ieee && exponent == exponent_mask)
    return fraction != 0 ? nan : negative ? -infinity : infinity;
  const unsigned digits = exponent == 0 ? fraction : fraction | (1u << FractionBits);
  const float size =
      static_cast<float>(digits) * power_of_two((exponent == 0 ? 1 : static_cast<int>(exponent)) - Bias - FractionBits);
  return negative ? -size : size;
}

}  // namespace detail

/// fp8 with 4 exponent and 3 fraction bits; no infinities.
constexpr float value_of_e4m3(std::uint8_t code) {
  return detail::decode_float<4, 3, 7, detail::special_codes::all_ones>(code);
}
/// fp8 with 5 exponent and 2 fraction bits, as IEEE 754 would have it.
constexpr float value_of_e5m2(std::uint8_t code) {
  return detail::decode_float<5, 2, 15, detail::special_codes::ieee>(code);
}
/// fp8 with 4 exponent and 3 fraction bits, no infinities and no negative zero.
constexpr float value_of_e4m3fnuz(std::uint8_t code) {
  return detail::decode_float<4, 3, 8, detail::special_codes::negative_zero>(code);
}
/// fp8 with 5 exponent and 2 fraction bits, no infinities and no negative zero.
constexpr float value_of_e5m2fnuz(std::uint8_t code) {
  return detail::decode_float<5, 2, 16, detail::special_codes::negative_zero>(code);
}
/// 2^(code - 127); 255 is NaN.
constexpr float value_of_e8m0(std::uint8_t code) {
  if (code == 255) return std::numeric_limits<float>::quiet_NaN();
  return code == 0 ? 0x1p-127f : detail::power_of_two(code - 127);  // 2^-127 is subnormal
}
/// The low four bits of `code`: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives.
constexpr float value_of_e2m1(std::uint8_t code) {
  return detail::decode_float<2, 1, 1, detail::special_codes::none>(code & 0xfu);
}

}  // namespace moue::inline v0_1::io
