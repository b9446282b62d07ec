// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Low-precision numbers with scales beside them. Each result is the exact product, rounded once to `T` (`double`,
/// `float`, `bf16` or `half`), to the nearest with ties to even.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

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
}  // namespace moue::inline v0_1::io
