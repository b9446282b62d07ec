// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// How the values of options are read: strictly, and with errors for people.

#include <charconv>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "../program/program.hpp"
#include "contender.hpp"

namespace language_model {

using program::usage_error;

namespace detail {

inline constexpr std::int64_t most_steps = 1'000'000;

template <class Number>
Number number_in(std::string_view flag, std::string_view value, Number least, Number most) {
  Number result{};
  const auto [end, problem] = std::from_chars(value.data(), value.data() + value.size(), result);
  if (problem != std::errc() || end != value.data() + value.size() || !(result >= least && result <= most)) {
    const auto text = [](Number n) {
      std::string s = std::to_string(n);
      if (s.find('.') != std::string::npos) s.erase(s.find_last_not_of('0') + 1);
      return s.ends_with('.') ? s.substr(0, s.size() - 1) : s;
    };
    throw usage_error("option '" + std::string(flag) + "' needs a number from " + text(least) + " to " + text(most) +
                      ", not '" + std::string(value) + "'");
  }
  return result;
}

template <class Kind>
Kind kind_in(std::string_view flag, std::string_view value) {
  if (const auto kind = kind_called<Kind>(value)) return *kind;
  std::string known;
  for (const auto name : names_of<Kind>::all) known += (known.empty() ? "" : ", ") + std::string(name);
  throw usage_error("option '" + std::string(flag) + "' knows " + known + ", not '" + std::string(value) + "'");
}

inline std::filesystem::path path_in(std::string_view flag, std::string_view value) {
  if (value.empty()) throw usage_error("option '" + std::string(flag) + "' needs a path");
  return value;
}

/// Values separated by commas, each read by `one(flag, value)`.
template <class One>
auto list_in(std::string_view flag, std::string_view values, const One& one) {
  std::vector<decltype(one(flag, values))> result;
  for (std::size_t at = 0; at <= values.size();) {
    const auto end = std::min(values.find(',', at), values.size());
    result.push_back(one(flag, values.substr(at, end - at)));
    at = end + 1;
  }
  return result;
}

/// Whether `word` is one of `words`, which blanks separate.
inline bool has_word(std::string_view words, std::string_view word) {
  return (" " + std::string(words) + " ").find(" " + std::string(word) + " ") != std::string::npos;
}

}  // namespace detail
}  // namespace language_model
