// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The one exception type of the library.

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

#include "moue/config.hpp"

namespace moue::inline v0_1 {

/// What a program can do about an `error`. Texts are for people and may change; kinds are for programs.
enum class error_kind : unsigned char {
  misuse,   ///< arguments, shapes or an order of calls that do not fit: the program has to be changed
  memory,   ///< a workspace is too small for what is to run in it: give a larger one
  numbers,  ///< NaN or infinity where it is refused: leave the batch out, or take earlier weights
  file,     ///< a path that cannot be read or written as it is: missing, not permitted, locked, no room left
  content,  ///< a file that does not hold what it should: damaged, of another format, or of another model
  system    ///< threads or a device that are not to be had, or that failed
};

/// The one exception of the library: misuse that can only be seen at run time (bad shapes, null views, overflowing
/// sizes), non-finite input under a policy that refuses it, files and devices that fail. The text says where, what, and
/// how to fix it.
class error : public std::runtime_error {
 public:
  /// The text is "moue: where: what; fix".
  error(std::string_view where, std::string_view what, std::string_view fix, error_kind kind = error_kind::misuse)
      : std::runtime_error(std::string("moue: ").append(where).append(": ").append(what).append("; ").append(fix)),
        kind_(kind) {}

  /// What can be done about it.
  error_kind kind() const noexcept { return kind_; }

 private:
  error_kind kind_;
};

namespace detail {

/// Throws `moue::error` unless `holds`. The texts are callables so that a passing check builds no string.
template <class What>
constexpr void require(bool holds, std::string_view where, What&& what, std::string_view fix,
                       error_kind kind = error_kind::misuse) {
  if (!holds) throw error(where, what(), fix, kind);
}

[[noreturn]] inline void refuse_index(std::string_view where, std::string_view what, std::ptrdiff_t i,
                                      std::ptrdiff_t size) {
  throw error(where, std::string(what) + " " + std::to_string(i) + " of " + std::to_string(size) + " was asked for",
              "count from 0 to one less than there are");
}
/// Throws unless 0 <= i < size.
constexpr void require_index(std::ptrdiff_t i, std::ptrdiff_t size, std::string_view where, std::string_view what) {
  if (static_cast<std::size_t>(i) >= static_cast<std::size_t>(size)) [[unlikely]]
    refuse_index(where, what, i, size);
}

inline std::string shape_text(std::ptrdiff_t rows, std::ptrdiff_t cols) {
  std::string text = "[";  // appended to, since g++ 12 warns of what it makes of "[" + text
  text.append(std::to_string(rows)).append(", ").append(std::to_string(cols)).append("]");
  return text;
}

}  // namespace detail
}  // namespace moue::inline v0_1
