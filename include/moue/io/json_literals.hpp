// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The three numbers that Python writes into JSON although JSON has no way to write them: NaN, Infinity and -Infinity.

#include <cstddef>
#include <string>
#include <string_view>

namespace moue::inline v0_1::io::detail {

/// Such numbers become texts that begin with this character, which no text of a configuration does.
inline constexpr char literal_mark = '\x01';
inline constexpr std::string_view quoted_mark = "\\u0001";
inline constexpr std::string_view literals[] = {"NaN", "Infinity", "-Infinity"};

/// The literal that a text of a tree stands for; empty if it stands for itself.
inline std::string_view literal_of(std::string_view text) {
  if (!text.starts_with(literal_mark)) return {};
  for (const auto literal : literals)
    if (text.substr(1) == literal) return literal;
  return {};
}

/// JSON whose literals outside of texts are made such texts.
inline std::string with_quoted_literals(std::string_view json) {
  std::string result;
  result.reserve(json.size());
  bool in_text = false;
  for (std::size_t i = 0; i < json.size(); ++i) {
    std::string_view found;
    if (!in_text)
      for (const auto literal : literals)
        if (json.substr(i).starts_with(literal)) found = literal;
    if (!found.empty()) {
      result.append("\"").append(quoted_mark).append(found).append("\"");
      i += found.size() - 1;
      continue;
    }
    result += json[i];
    if (in_text && json[i] == '\\' && i + 1 < json.size())
      result += json[++i];
    else if (json[i] == '"')
      in_text = !in_text;
  }
  return result;
}

}  // namespace moue::inline v0_1::io::detail
