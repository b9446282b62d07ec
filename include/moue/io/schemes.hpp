// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Schemes of low precision that checkpoints are published in, as a table, and one decoder for all of them:
///
///     value(r, c) = (code(r, c) - zero(r, c)) scale(r, c) whole
///
/// where scales and zeros are shared by the numbers of a tile, and `whole` by all of a matrix.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "moue/error.hpp"
#include "moue/io/dtype.hpp"
#include "moue/io/elements.hpp"
#include "moue/io/low_precision.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::io {

/// Where the codes of a matrix [rows, cols] stand.
enum class packing {
  bytes,       ///< one to a byte, [rows, cols]
  nibbles,     ///< two to a byte along a row, the low four bits first, [rows, cols / 2]
  words,       ///< in 32-bit words along a row, the low bits first, [rows, cols / n]
  words_down,  ///< in 32-bit words along a column, the low bits first, transposed: [cols / n, rows]
  words_mixed  ///< eight to a 32-bit word along a column in the order 0, 2, 4, 6, 1, 3, 5, 7, transposed: [cols, rows / 8]
};

/// One scheme. Its tensors are called like the matrix, with these words in place of "weight" at the end (or behind it,
/// if the matrix is called otherwise). Empty: there is none.
struct scheme {
  std::string_view name;          ///< for people
  packing how;                    ///< how codes stand
  std::string_view codes;         ///< the codes
  std::string_view scales;        ///< of the codes, per tile
  std::string_view zeros = {};    ///< codes of zero, per tile
  std::string_view groups = {};   ///< the group of each column
  std::string_view whole = {};    ///< the scale of the whole matrix
  bool whole_divides = false;     ///< values are divided by it
  std::string_view shape = {};    ///< of the matrix
  std::string_view ignored = {};  ///< of activations: nothing for weights
};

/// The schemes, in the order in which they are looked for.
inline constexpr scheme schemes[] = {
    {"fp8", packing::bytes, "weight", "weight_scale_inv", {}, {}, {}, false, {}, "activation_scale"},
    {"8 bits of compressed-tensors", packing::bytes, "weight", "weight_scale", {}, {}, {}, false, {}, "input_scale"},
    {"nvfp4 of ModelOpt",
     packing::nibbles,
     "weight",
     "weight_scale",
     {},
     {},
     "weight_scale_2",
     false,
     {},
     "input_scale"},
    {"fp4 of compressed-tensors",
     packing::nibbles,
     "weight_packed",
     "weight_scale",
     {},
     {},
     "weight_global_scale",
     true,
     {},
     "input_global_scale"},
    {"integers of compressed-tensors",
     packing::words,
     "weight_packed",
     "weight_scale",
     "weight_zero_point",
     "weight_g_idx",
     {},
     false,
     "weight_shape"},
    {"GPTQ", packing::words_down, "qweight", "scales", "qzeros", "g_idx"},
    {"AWQ", packing::words_mixed, "qweight", "scales", "qzeros"}};

/// The name of a piece of the matrix called `matrix`; empty if the scheme has no such piece for it.
inline std::string piece_name(std::string_view matrix, std::string_view piece) {
  constexpr std::string_view weight = "weight";
  if (piece.empty()) return {};
  if (matrix.ends_with(weight))
    return std::string(matrix.substr(0, matrix.size() - weight.size())) + std::string(piece);
  return piece.starts_with(weight) ? std::string(matrix) + std::string(piece.substr(weight.size())) : std::string();
}

/// A tensor of numbers, as stored. Scales of type U8 are powers of two (E8M0).
struct stored_numbers {
  dtype type = dtype::unknown;            ///< as stored
  std::span<const std::byte> bytes = {};  ///< of all numbers, one after another

  /// Whether there are none.
  bool empty() const { return bytes.empty(); }
  /// Number `i`, widened without rounding.
  double operator()(std::size_t i) const {
    if (bits_of(type) == 8) {
      const auto code = static_cast<std::uint8_t>(bytes[i]);
      return detail::value_of_code(type == dtype::u8 ? dtype::f8_e8m0 : type, code);
    }
    double value = 0;
    convert_elements(type, bytes.data() + i * static_cast<std::size_t>(bits_of(type) / 8), std::span(&value, 1));
    return value;
  }
};

/// A matrix [rows, cols] in codes. Who fills it in has compared the sizes of all spans: `decode_rows` looks at nothing
/// again.
struct coded_matrix {
  packing how = packing::bytes;            ///< how codes stand
  index_t rows = 0;                        ///< of the matrix
  index_t cols = 0;                        ///< of the matrix
  dtype type = dtype::u8;                  ///< of codes in bytes; nibbles are E2M1, words hold whole numbers
  int bits = 4;                            ///< of a code in a word: 4 or 8
  std::span<const std::byte> codes = {};   ///< at any address, as all the bytes here
  std::array<index_t, 2> tile{1, 1};       ///< numbers that share a scale: rows, columns
  stored_numbers scales = {};              ///< [tiles down, tiles across], or transposed if the codes are
  std::span<const std::byte> zeros = {};   ///< packed as the codes of a matrix [tiles across, rows], or none
  int zero = 0;                            ///< where there are none; else added to them
  std::span<const std::byte> groups = {};  ///< 32-bit numbers of the tile across of each column, in place of its place
  double whole = 1;                        ///< scale of the whole matrix
  bool whole_divides = false;              ///< whether values are divided by it
};

namespace detail {

inline std::uint32_t word_at(std::span<const std::byte> bytes, index_t i) {
  std::uint32_t word = 0;
  std::memcpy(&word, bytes.data() + static_cast<std::size_t>(i) * sizeof word, sizeof word);
  return word;
}
inline int code_in(std::uint32_t word, int bits, index_t place) {
  return static_cast<int>((word >> (static_cast<std::uint32_t>(bits) * static_cast<std::uint32_t>(place))) &
                          ((1u << bits) - 1));
}
/// Where the column stands in a word of `packing::words_mixed`.
inline constexpr index_t mixed_place[8] = {0, 4, 1, 5, 2, 6, 3, 7};

/// The code of any other packing than bytes.
inline double code_of(const coded_matrix& m, index_t r, index_t c) {
  const index_t n = 32 / m.bits;
  switch (m.how) {
    case packing::bytes:
      break;  // by a table
    case packing::nibbles: {
      const auto pair = static_cast<unsigned>(m.codes[static_cast<std::size_t>((r * m.cols + c) / 2)]);
      return static_cast<double>(value_of_e2m1(static_cast<std::uint8_t>(c % 2 == 0 ? pair & 0xfu : pair >> 4)));
    }
    case packing::words:
      return code_in(word_at(m.codes, r * ((m.cols + n - 1) / n) + c / n), m.bits, c % n);
    case packing::words_down:
      return code_in(word_at(m.codes, c / n * m.rows + r), m.bits, c % n);
    case packing::words_mixed:
      return code_in(word_at(m.codes, c * (m.rows / 8) + r / 8), 4, mixed_place[r % 8]);
  }
  return 0;
}

/// The zero of row `r` in group `g` of `groups`.
inline double zero_of(const coded_matrix& m, index_t r, index_t g, index_t groups) {
  if (m.zeros.empty()) return m.zero;
  const index_t n = 32 / m.bits;
  if (m.how == packing::words) return code_in(word_at(m.zeros, r / n * groups + g), m.bits, r % n) + m.zero;
  if (m.how == packing::words_down) {
    const int stored = code_in(word_at(m.zeros, g * (m.rows / n) + r / n), m.bits, r % n);
    moue::detail::require(
        m.zero == 0 || stored < (1 << m.bits) - 1, "codes",
        [&] {
          return "a zero of row " + std::to_string(r) + " is stored as " + std::to_string(stored) +
                 ", which some readers take for 0 and others for " + std::to_string(stored + 1);
        },
        "convert the checkpoint to the format gptq_v2", error_kind::content);
    return stored + m.zero;
  }
  return code_in(word_at(m.zeros, g * (m.rows / 8) + r / 8), 4, mixed_place[r % 8]) + m.zero;
}

}  // namespace detail

/// Whole rows of the matrix, from `first_row` on. The exact product, rounded once to `T` (`double`, `float`, `bf16` or
/// `half`), to the nearest with ties to even; where a scale of the whole divides, the product is rounded to `double`
/// first. Throws if a column's group is none, or if a zero is ambiguous.
template <class T>
void decode_rows(const coded_matrix& m, index_t first_row, std::span<T> out) {
  const index_t across = (m.cols + m.tile[1] - 1) / m.tile[1];
  const bool transposed = m.how == packing::words_down || m.how == packing::words_mixed;
  std::array<double, 256> table{};
  if (m.how == packing::bytes)
    for (std::size_t code = 0; code < table.size(); ++code)
      table[code] = detail::value_of_code(m.type, static_cast<std::uint8_t>(code));
  const index_t rows = m.cols == 0 ? 0 : static_cast<index_t>(out.size()) / m.cols;
  for (index_t i = 0; i < rows; ++i) {
    const index_t r = first_row + i;
    // Columns of one group at a time; in an order of their own, one column.
    for (index_t c = 0; c < m.cols;) {
      const index_t group = m.groups.empty() ? c / m.tile[1] : static_cast<index_t>(detail::word_at(m.groups, c));
      moue::detail::require(
          group < across, "codes",
          [&] {
            return "column " + std::to_string(c) + " belongs to group " + std::to_string(group) + " of " +
                   std::to_string(across);
          },
          "the file is damaged; get it again", error_kind::content);
      const index_t last = m.groups.empty() ? (std::min)(m.cols, (group + 1) * m.tile[1]) : c + 1;
      const double zero = detail::zero_of(m, r, group, across);
      const double scale =
          m.scales(static_cast<std::size_t>(transposed ? group * m.rows + r : r / m.tile[0] * across + group));
      for (; c < last; ++c) {
        const double code = m.how == packing::bytes
                                ? table[static_cast<std::size_t>(m.codes[static_cast<std::size_t>(r * m.cols + c)])]
                                : detail::code_of(m, r, c);
        const double value = (code - zero) * scale;
        out[static_cast<std::size_t>(i * m.cols + c)] =
            detail::rounded<T>(m.whole_divides ? value / m.whole : value * m.whole);
      }
    }
  }
}

}  // namespace moue::inline v0_1::io
