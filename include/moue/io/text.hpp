// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Text that comes from files: as UTF-8, and as something a terminal only shows.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <string>
#include <string_view>

namespace moue::inline v0_1::io {

namespace detail {

struct code_point {
  std::uint32_t value = 0;
  std::size_t size = 0;  ///< bytes; 0: the text does not begin with well-formed UTF-8
};

/// The first code point of `text` (RFC 3629: no overlong forms, no surrogates).
inline code_point first_code_point(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i])); };
  if (text.empty()) return {};
  const auto lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const std::size_t size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < size) return {};
  auto value = lead & (0x7fu >> size);
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    value = value << 6 | (byte(i) & 0x3f);
  }
  const std::uint32_t least = size == 4 ? 0x10000 : size == 3 ? 0x800 : 0x80;
  const bool surrogate = value >= 0xd800 && value <= 0xdfff;
  return value < least || value > 0x10ffff || surrogate ? code_point{} : code_point{value, size};
}

/// Whether a code point does something other than being seen: controls, line separators, marks that reorder or hide text.
constexpr bool acts_on_terminals(std::uint32_t value) {
  constexpr std::uint32_t ranges[][2] = {{0, 0x1f},        {0x7f, 0x9f},     {0x61c, 0x61c},
                                         {0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f},
                                         {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xe0000, 0xe007f}};
  return std::any_of(std::begin(ranges), std::end(ranges),
                     [&](const auto& range) { return value >= range[0] && value <= range[1]; });
}

/// Calls `good(piece, value)` for every code point of `text` and `bad(byte)` for every byte that belongs to none.
template <class Good, class Bad>
void each_code_point(std::string_view text, const Good& good, const Bad& bad) {
  while (!text.empty()) {
    const auto [value, size] = first_code_point(text);
    if (size > 0)
      good(text.substr(0, size), value);
    else
      bad(static_cast<unsigned char>(text.front()));
    text.remove_prefix((std::max<std::size_t>)(size, 1));
  }
}

}  // namespace detail

/// `text` as part of one line for people: what would act on a terminal, break the line or reorder it, and bytes that are
/// no UTF-8, stand as `\n`, `\x1b`, `\u202e`. Everything else is unchanged, so doing it twice changes nothing.
inline std::string printable(std::string_view text) {
  std::string result;
  const auto add = [&](const char* format, unsigned value) {
    char code[16];
    std::snprintf(code, sizeof code, format, value);
    result += code;
  };
  detail::each_code_point(
      text,
      [&](std::string_view piece, std::uint32_t value) {
        if (!detail::acts_on_terminals(value))
          result += piece;
        else if (value == '\n' || value == '\r' || value == '\t')
          result += value == '\n' ? "\\n" : value == '\r' ? "\\r" : "\\t";
        else
          add(value < 0x80 ? "\\x%02x" : value < 0x10000 ? "\\u%04x" : "\\U%08x", value);
      },
      [&](unsigned char byte) { add("\\x%02x", byte); });
  return result;
}

/// `text` with U+FFFD for every byte that is no UTF-8, for documents that must be.
inline std::string valid_utf8(std::string_view text) {
  std::string result;
  detail::each_code_point(
      text, [&](std::string_view piece, std::uint32_t) { result += piece; },
      [&](unsigned char) { result += "\xef\xbf\xbd"; });
  return result;
}

}  // namespace moue::inline v0_1::io
