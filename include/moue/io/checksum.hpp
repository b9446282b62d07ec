// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// CRC-32C, the checksum of iSCSI (RFC 3720), ext4 and many others: it sees every change of a single bit, or of bits
/// within 32 of each other, and misses one in 2^32 of all others. No protection against intent.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace moue::inline v0_1::io {

namespace detail {

/// Row k: what a byte does to the remainder once k more bytes have come. The polynomial is Castagnoli's, 0x1EDC6F41,
/// here with its bits reversed.
inline constexpr auto crc32c_table = [] {
  std::array<std::array<std::uint32_t, 256>, 8> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    auto rest = byte;
    for (int bit = 0; bit < 8; ++bit) rest = rest >> 1 ^ (rest & 1 ? 0x82f63b78u : 0u);
    table[0][byte] = rest;
  }
  for (std::size_t k = 1; k < table.size(); ++k)
    for (std::size_t byte = 0; byte < 256; ++byte)
      table[k][byte] = table[k - 1][byte] >> 8 ^ table[0][table[k - 1][byte] & 0xff];
  return table;
}();

}  // namespace detail

/// The checksum of bytes that come in pieces.
class crc32c {
 public:
  /// Goes on with `bytes`.
  void add(std::span<const std::byte> bytes) {
    static_assert(std::endian::native == std::endian::little);
    const auto& table = detail::crc32c_table;
    const auto* at = bytes.data();
    auto left = bytes.size();
    for (; left >= 8; at += 8, left -= 8) {
      std::uint64_t eight = 0;
      std::memcpy(&eight, at, 8);
      eight ^= state_;
      state_ = 0;
      for (std::size_t i = 0; i < 8; ++i) state_ ^= table[7 - i][eight >> (8 * i) & 0xff];
    }
    for (; left > 0; ++at, --left) state_ = state_ >> 8 ^ table[0][(state_ ^ static_cast<std::uint32_t>(*at)) & 0xff];
  }
  /// The sum of all that was added so far.
  std::uint32_t value() const { return ~state_; }

 private:
  std::uint32_t state_ = ~std::uint32_t{0};
};

}  // namespace moue::inline v0_1::io
