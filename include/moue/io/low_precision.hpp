// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Low-precision numbers with scales beside them. Each result is the exact product, rounded once to `T` (`double`,
/// `float`, `bf16` or `half`), to the nearest with ties to even.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "moue/error.hpp"
#include "moue/io/dtype.hpp"
#include "moue/io/elements.hpp"
#include "moue/io/minifloat.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::io {

inline constexpr index_t mxfp4_block = 32;  ///< numbers that share one scale

/// MXFP4: 16 bytes of `blocks` and one byte of `scales` make 32 numbers. The low four bits of a byte come first; scale
/// byte s is 2^(s-127). Tensors of shape [.., n, 16] and [.., n] decode to [.., 32 n], whole or in any run of blocks.
template <class T>
void decode_mxfp4(std::span<const std::byte> blocks, std::span<const std::byte> scales, std::span<T> out) {
  moue::detail::require(
      blocks.size() == scales.size() * (mxfp4_block / 2) && out.size() == scales.size() * mxfp4_block, "mxfp4",
      [&] {
        return std::to_string(blocks.size()) + " bytes of blocks and " + std::to_string(scales.size()) +
               " of scales do not make " + std::to_string(out.size()) + " numbers";
      },
      "give 16 bytes and one scale for every 32 numbers");
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto pair = static_cast<unsigned>(blocks[i / 2]);
    const float number = value_of_e2m1(static_cast<std::uint8_t>(i % 2 == 0 ? pair & 0xfu : pair >> 4));
    const float scale = value_of_e8m0(static_cast<std::uint8_t>(scales[i / mxfp4_block]));
    out[i] = detail::rounded<T>(static_cast<double>(number) * static_cast<double>(scale));
  }
}

/// Scales beside coded numbers, from packed bytes of `type` at any address. Bytes are powers of two, as in MXFP4: byte s is
/// 2^(s-127), and 255 is NaN; whoever stores scales as `U8` means E8M0. Throws, naming `where`, if the type is one that holds
/// no scales: integers of any width.
inline void decode_scales(dtype type, const std::byte* from, std::span<float> out, std::string_view where) {
  constexpr dtype types[] = {dtype::u8,          dtype::f8_e8m0, dtype::f8_e4m3, dtype::f8_e5m2, dtype::f8_e4m3fnuz,
                             dtype::f8_e5m2fnuz, dtype::f16,     dtype::bf16,    dtype::f32,     dtype::f64};
  moue::detail::require(
      std::ranges::find(types, type) != std::end(types), where,
      [&] { return "scales of type " + std::string(name_of(type)) + " are not understood"; },
      "decode them by hand, and the numbers with decode_tiles");
  convert_elements(type == dtype::u8 ? dtype::f8_e8m0 : type, from, out);
}

namespace detail {

/// What a code of an 8-bit type is worth; other types have none.
constexpr double value_of_code(dtype type, std::uint8_t code) {
  switch (type) {
    case dtype::f8_e4m3:
      return static_cast<double>(value_of_e4m3(code));
    case dtype::f8_e5m2:
      return static_cast<double>(value_of_e5m2(code));
    case dtype::f8_e4m3fnuz:
      return static_cast<double>(value_of_e4m3fnuz(code));
    case dtype::f8_e5m2fnuz:
      return static_cast<double>(value_of_e5m2fnuz(code));
    case dtype::f8_e8m0:
      return static_cast<double>(value_of_e8m0(code));
    case dtype::i8:
      return static_cast<std::int8_t>(code);
    default:
      return code;
  }
}

}  // namespace detail

/// Codes of a matrix whose tiles each have a scale to multiply with, as DeepSeek-V3 stores weights: `weight` of an 8-bit
/// float type [rows, columns] and `weight_scale_inv` [ceil(rows / height), ceil(columns / width)], the last tiles cut off
/// by the edge. Decodes whole rows, from `first_row` on: `codes` and `out` begin there, `scales` are those of the whole
/// matrix.
template <class T>
void decode_tiles(dtype type, std::span<const std::byte> codes, index_t columns, std::span<const float> scales,
                  std::array<index_t, 2> tile, index_t first_row, std::span<T> out) {
  const auto height = tile[0], width = tile[1];
  moue::detail::require(
      is_number(type) && bits_of(type) == 8 && columns >= 0 && height > 0 && width > 0 && first_row >= 0,
      "scaled tiles", [&] { return "type " + std::string(name_of(type)) + " or a size is none that can be decoded"; },
      "give an 8-bit type and sizes above zero");
  const auto rows = columns == 0 ? 0 : static_cast<index_t>(out.size()) / columns;
  const auto tiles = columns / width + (columns % width != 0);
  const auto tile_rows = rows == 0 ? 0 : (first_row + rows - 1) / height + 1;
  moue::detail::require(
      codes.size() == out.size() && static_cast<index_t>(out.size()) == rows * columns &&
          static_cast<index_t>(scales.size()) >= tile_rows * tiles,
      "scaled tiles",
      [&] {
        return std::to_string(codes.size()) + " codes and " + std::to_string(scales.size()) +
               " scales do not make rows up to " + std::to_string(first_row + rows) + " of " + std::to_string(columns);
      },
      "give whole rows, and one scale for every tile that is begun");
  std::array<double, 256> values;
  for (std::size_t code = 0; code < values.size(); ++code)
    values[code] = detail::value_of_code(type, static_cast<std::uint8_t>(code));
  for (index_t row = 0; row < rows; ++row) {
    const auto* row_scales = scales.data() + (first_row + row) / height * tiles;
    for (index_t column = 0; column < columns; ++column) {
      const auto i = static_cast<std::size_t>(row * columns + column);
      out[i] = detail::rounded<T>(values[static_cast<std::size_t>(codes[i])] *
                                  static_cast<double>(row_scales[column / width]));
    }
  }
}

}  // namespace moue::inline v0_1::io
