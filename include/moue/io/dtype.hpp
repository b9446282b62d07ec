// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The element types that files know.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "moue/scalar.hpp"

namespace moue::inline v0_1::io {

static_assert(
    std::endian::native == std::endian::little,
    "moue: checkpoints are little-endian, and bytes are not swapped; on this machine include all but moue/io");

/// Element types of safetensors, in the order in which its writers sort them.
enum class dtype {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64,
  unknown  ///< a name that is newer than this list: its bytes can be read, its numbers cannot
};

namespace detail {

/// A size in a file as one in memory, which has fewer bits on some machines.
template <class Integer>
constexpr std::size_t as_size(Integer size) {
  if constexpr (std::is_same_v<Integer, std::size_t>)
    return size;
  else
    return static_cast<std::size_t>(size);
}

struct dtype_row {
  std::string_view name;
  int bits;
};

inline constexpr std::array<dtype_row, static_cast<std::size_t>(dtype::unknown) + 1> dtype_table{{
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
    {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64},        {"unknown", 0},
}};

}  // namespace detail

/// The name in files; "unknown" for `dtype::unknown`.
constexpr std::string_view name_of(dtype type) { return detail::dtype_table[static_cast<std::size_t>(type)].name; }

/// `dtype::unknown` for any name that is not in the list.
constexpr dtype dtype_called(std::string_view name) {
  for (std::size_t i = 0; i < static_cast<std::size_t>(dtype::unknown); ++i)
    if (detail::dtype_table[i].name == name) return static_cast<dtype>(i);
  return dtype::unknown;
}

/// Bits of one element; 0 for `dtype::unknown`.
constexpr int bits_of(dtype type) { return detail::dtype_table[static_cast<std::size_t>(type)].bits; }

/// The file's type for numbers stored as `T`.
template <class T>
constexpr dtype dtype_of() {
  if constexpr (std::is_same_v<T, float>) return dtype::f32;
  if constexpr (std::is_same_v<T, double>) return dtype::f64;
  if constexpr (std::is_same_v<T, moue::bf16>) return dtype::bf16;
  if constexpr (std::is_same_v<T, moue::half>) return dtype::f16;
  if constexpr (std::is_same_v<T, bool>) return dtype::boolean;
  if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    constexpr std::array<dtype, 4> with_sign{dtype::i8, dtype::i16, dtype::i32, dtype::i64};
    constexpr std::array<dtype, 4> without{dtype::u8, dtype::u16, dtype::u32, dtype::u64};
    return (std::is_signed_v<T> ? with_sign : without)[std::countr_zero(sizeof(T))];
  }
  return dtype::unknown;
}

}  // namespace moue::inline v0_1::io
