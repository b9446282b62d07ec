// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// How errors name files, tensors and what the system refused.

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

#include "moue/error.hpp"
#include "moue/io/text.hpp"

namespace moue::inline v0_1::io::detail {

/// `text` in quotes for one line of an error: what comes out of a file may be long and may hold control characters.
inline std::string shown(std::string_view text) {
  constexpr std::size_t longest = 200;
  if (text.size() <= longest) return "'" + printable(text) + "'";
  std::size_t end = longest;
  while (end > longest - 3 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;  // inside a character
  return "'" + printable(text.substr(0, end)) + "...'";
}

inline std::string_view fix_for(int code) {
  switch (code) {
    case ENOENT:
      return "check the path";
    case ENOTDIR:
      return "a part of the path is a file: check the path";
    case EISDIR:
      return "give the path of a file";
    case EACCES:
    case EPERM:
    case EROFS:
      return "choose a place that this user may use, or change its permissions";
    case ENOSPC:
    case EDQUOT:
      return "make room on the disk, or choose another";
    case EFBIG:
      return "raise the limit on the size of files, or choose another disk";
    case EMFILE:
    case ENFILE:
      return "close some files, or raise the limit on open files";
    case ENOMEM:
      return "free some memory, or raise the limit on address space";
    default:
      return "see whether the disk is well, then try again";
  }
}

/// For a system call that failed just now: reads `errno`, so nothing may come in between.
[[noreturn]] inline void throw_errno(const std::filesystem::path& path, std::string_view what) {
  const int code = errno;
  throw error(shown(path.native()), std::string(what) + ": " + std::system_category().message(code), fix_for(code),
              error_kind::file);
}

}  // namespace moue::inline v0_1::io::detail
