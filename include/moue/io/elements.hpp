// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Numbers of a stored type as numbers of another.

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <type_traits>

#include "moue/io/dtype.hpp"
#include "moue/io/minifloat.hpp"
#include "moue/scalar.hpp"

namespace moue::inline v0_1::io {

/// Whether numbers of this type can be converted. Truth values, complex numbers, types of fewer than 8 bits (packed in
/// ways that only their tensor's scheme knows) and unknown types cannot.
constexpr bool is_number(dtype type) {
  return !(type == dtype::boolean || type == dtype::f4 || type == dtype::f6_e2m3 || type == dtype::f6_e3m2 ||
           type == dtype::c64 || type == dtype::unknown);
}

namespace detail {

/// `value` in `float`, rounded so that rounding the result again to 16 bits gives what rounding `value` would: truncated,
/// with the last bit set if anything was cut off (round to odd).
inline float to_odd(double value) {
  const auto nearest = static_cast<float>(value);
  if (static_cast<double>(nearest) == value || std::isnan(value)) return nearest;
  auto bits = std::bit_cast<std::uint32_t>(nearest);
  if (std::abs(static_cast<double>(nearest)) > std::abs(value)) --bits;
  return std::bit_cast<float>(bits | 1u);
}

/// To the nearest, ties to even.
template <class T>
T rounded(double value) {
  if constexpr (sizeof(T) == 2)
    return T(to_odd(value));
  else
    return static_cast<T>(value);
}
template <class T>
T rounded(float value) {
  return T(value);
}

template <class T>
struct float_format {
  static constexpr int digits = std::numeric_limits<T>::digits;
  static constexpr double largest = static_cast<double>((std::numeric_limits<T>::max)());
};
template <>
struct float_format<bf16> {
  static constexpr int digits = 8;
  static constexpr double largest = 0x1.fep127;
};
template <>
struct float_format<half> {
  static constexpr int digits = 11;
  static constexpr double largest = 65504;
};

/// Whether `T` holds the integer without rounding.
template <class T, class Integer>
bool fits(Integer value) {
  const auto bits = static_cast<std::make_unsigned_t<Integer>>(value);
  // Negated in 64 bits, so that the smallest value has a size.
  const std::uint64_t size = value < 0
                                 ? std::uint64_t{(std::numeric_limits<std::make_unsigned_t<Integer>>::max)()} - bits + 1
                                 : std::uint64_t{bits};
  return size == 0 || (64 - std::countl_zero(size) - std::countr_zero(size) <= float_format<T>::digits &&
                       static_cast<double>(size) <= float_format<T>::largest);
}

template <class From, class T>
std::size_t convert_integers(const std::byte* from, std::span<T> to) {
  for (std::size_t i = 0; i < to.size(); ++i) {
    From value;
    std::memcpy(&value, from + i * sizeof(From), sizeof(From));
    if (!fits<T>(value)) return i;
    to[i] = rounded<T>(static_cast<double>(value));
  }
  return to.size();
}

template <class From, class T>
std::size_t convert_floats(const std::byte* from, std::span<T> to) {
  if constexpr (std::is_same_v<From, T>) {
    if (!to.empty()) std::memcpy(to.data(), from, to.size_bytes());
  } else {
    for (std::size_t i = 0; i < to.size(); ++i) {
      From value;
      std::memcpy(&value, from + i * sizeof(From), sizeof(From));
      to[i] = rounded<T>(static_cast<compute_t<From>>(value));
    }
  }
  return to.size();
}

template <float (*Value)(std::uint8_t), class T>
std::size_t convert_codes(const std::byte* from, std::span<T> to) {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] = rounded<T>(Value(static_cast<std::uint8_t>(from[i])));
  return to.size();
}

}  // namespace detail

/// Converts `to.size()` elements of `type`, for which `is_number` holds, from packed bytes at any address. Widening is
/// exact, narrowing rounds to the nearest with ties to even (and overflows to infinity). Integers must be exact: returns
/// the position of the first that is not, or `to.size()`. `T`: `double`, `float`, `bf16` or `half`.
template <class T>
std::size_t convert_elements(dtype type, const std::byte* from, std::span<T> to) {
  switch (type) {
    case dtype::f32:
      return detail::convert_floats<float>(from, to);
    case dtype::bf16:
      return detail::convert_floats<bf16>(from, to);
    case dtype::f16:
      return detail::convert_floats<half>(from, to);
    case dtype::f64:
      return detail::convert_floats<double>(from, to);
    case dtype::f8_e4m3:
      return detail::convert_codes<value_of_e4m3>(from, to);
    case dtype::f8_e5m2:
      return detail::convert_codes<value_of_e5m2>(from, to);
    case dtype::f8_e4m3fnuz:
      return detail::convert_codes<value_of_e4m3fnuz>(from, to);
    case dtype::f8_e5m2fnuz:
      return detail::convert_codes<value_of_e5m2fnuz>(from, to);
    case dtype::f8_e8m0:
      return detail::convert_codes<value_of_e8m0>(from, to);
    case dtype::u8:
      return detail::convert_integers<std::uint8_t>(from, to);
    case dtype::i8:
      return detail::convert_integers<std::int8_t>(from, to);
    case dtype::u16:
      return detail::convert_integers<std::uint16_t>(from, to);
    case dtype::i16:
      return detail::convert_integers<std::int16_t>(from, to);
    case dtype::u32:
      return detail::convert_integers<std::uint32_t>(from, to);
    case dtype::i32:
      return detail::convert_integers<std::int32_t>(from, to);
    case dtype::u64:
      return detail::convert_integers<std::uint64_t>(from, to);
    case dtype::i64:
      return detail::convert_integers<std::int64_t>(from, to);
    default:
      return 0;
  }
}

}  // namespace moue::inline v0_1::io
