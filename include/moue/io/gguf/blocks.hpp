// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The element types of GGUF files that are read, and what their blocks are worth.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "moue/io/elements.hpp"
#include "moue/io/minifloat.hpp"
#include "moue/scalar.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::io {

/// Numbers stand in blocks: `numbers` of them in `bytes`.
struct gguf_type {
  std::uint32_t id = 0;        ///< as in files
  std::string_view name = {};  ///< as in the format's documents
  index_t numbers = 0;         ///< in a block
  index_t bytes = 0;           ///< of a block
  bool decoded = false;        ///< else the size is known, but not what the numbers are worth
};

/// The types of the format that have a fixed size; ids as in files.
inline constexpr gguf_type gguf_types[] = {
    {0, "F32", 1, 4, true},        {1, "F16", 1, 2, true},        {2, "Q4_0", 32, 18, true},
    {3, "Q4_1", 32, 20, true},     {6, "Q5_0", 32, 22, false},    {7, "Q5_1", 32, 24, false},
    {8, "Q8_0", 32, 34, true},     {9, "Q8_1", 32, 36, false},    {10, "Q2_K", 256, 84, false},
    {11, "Q3_K", 256, 110, false}, {12, "Q4_K", 256, 144, true},  {13, "Q5_K", 256, 176, false},
    {14, "Q6_K", 256, 210, true},  {15, "Q8_K", 256, 292, false}, {24, "I8", 1, 1, false},
    {25, "I16", 1, 2, false},      {26, "I32", 1, 4, false},      {27, "I64", 1, 8, false},
    {28, "F64", 1, 8, false},      {30, "BF16", 1, 2, true},      {39, "MXFP4", 32, 17, true}};

/// Null for an id that is not in the table.
constexpr const gguf_type* gguf_type_of(std::uint32_t id) {
  for (const auto& type : gguf_types)
    if (type.id == id) return &type;
  return nullptr;
}

namespace detail {

inline unsigned byte_at(const std::byte* block, index_t i) { return static_cast<unsigned>(block[i]); }
inline double half_at(const std::byte* block, index_t i) {
  half value;
  std::memcpy(&value, block + i, sizeof value);
  return static_cast<double>(static_cast<float>(value));
}
/// Four bits of 16 bytes, of which the low ones are the first half of a block.
inline unsigned nibble_at(const std::byte* codes, index_t i) {
  return i < 16 ? byte_at(codes, i) & 15u : byte_at(codes, i - 16) >> 4;
}

/// Q4_K keeps eight scales and eight minima of six bits in twelve bytes.
inline double scale_of_q4_k(const std::byte* scales, index_t sub, bool minimum) {
  const index_t own = sub % 4 + (minimum ? 4 : 0);
  if (sub < 4) return byte_at(scales, own) & 63u;
  const unsigned last = byte_at(scales, 8 + sub % 4);
  return (minimum ? last >> 4 : last & 15u) | (byte_at(scales, own) >> 2 & 48u);
}

inline dtype dtype_of_plain(const gguf_type& type) {
  return type.id == 0 ? dtype::f32 : type.id == 1 ? dtype::f16 : dtype::bf16;
}

/// Number `i` of a block. Exact in `double`.
inline double number_of_block(const gguf_type& type, const std::byte* block, index_t i) {
  switch (type.id) {
    case 0:
    case 1:
    case 30: {
      double value = 0;
      convert_elements(dtype_of_plain(type), block, std::span(&value, 1));
      return value;
    }
    case 2:  // Q4_0: a scale, codes
      return half_at(block, 0) * (static_cast<int>(nibble_at(block + 2, i)) - 8);
    case 3:  // Q4_1: a scale, a minimum, codes
      return half_at(block, 0) * nibble_at(block + 4, i) + half_at(block, 2);
    case 8:  // Q8_0: a scale, codes with a sign
      return half_at(block, 0) * static_cast<std::int8_t>(block[2 + i]);
    case 12: {  // Q4_K: a scale of scales, one of minima, both for 32 numbers each, codes by 64
      const unsigned pair = byte_at(block, 16 + i / 64 * 32 + i % 32);
      return half_at(block, 0) * scale_of_q4_k(block + 4, i / 32, false) * (i % 64 < 32 ? pair & 15u : pair >> 4) -
             half_at(block, 2) * scale_of_q4_k(block + 4, i / 32, true);
    }
    case 14: {  // Q6_K: low four bits by 128, high two bits by 128, scales of 16 numbers each, a scale of scales
      const index_t part = i / 128, rest = i % 128;
      const unsigned low = byte_at(block, part * 64 + rest % 64) >> (rest / 64 * 4) & 15u;
      const unsigned high = byte_at(block, 128 + part * 32 + rest % 32) >> (rest / 32 * 2) & 3u;
      return half_at(block, 208) * static_cast<std::int8_t>(block[192 + i / 16]) *
             (static_cast<int>(low | high << 4) - 32);
    }
    default:  // MXFP4: an exponent, codes
      return std::ldexp(static_cast<double>(value_of_e2m1(static_cast<std::uint8_t>(nibble_at(block + 1, i)))),
                        static_cast<int>(byte_at(block, 0)) - 127);
  }
}

/// Whole blocks, each number rounded once.
template <class T>
void decode_blocks(const gguf_type& type, const std::byte* from, std::span<T> out) {
  if (type.numbers == 1) {
    convert_elements(dtype_of_plain(type), from, out);
    return;
  }
  for (index_t i = 0; i < static_cast<index_t>(out.size()); ++i)
    out[static_cast<std::size_t>(i)] =
        rounded<T>(number_of_block(type, from + i / type.numbers * type.bytes, i % type.numbers));
}

}  // namespace detail
}  // namespace moue::inline v0_1::io
