// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What all programs have in common: how they begin, tell errors, and end.

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "moue/io/text.hpp"

namespace program {

/// A command line that cannot be followed; the text is for the user.
struct usage_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

namespace detail {

/// Why not all that was printed has arrived, or an empty text. Only now can be told: output is buffered.
inline std::string lost_output() {
  const bool failed = std::ferror(stdout) != 0;
  errno = 0;
  if (std::fflush(stdout) == 0 && !failed) return {};
  return errno != 0 ? std::strerror(errno) : "is the disk full?";
}

}  // namespace detail

/// The whole of `main`: the exit status is what `body(arguments)` returns, 2 if it throws `usage_error`, 1 if it throws
/// anything else or standard output could not be written. Errors are one line on standard error, whatever names they hold.
template <class Body>
int run(const char* name, int count, char** values, const Body& body) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file beyond a limit is an error to be told, not the end of the process
  const auto tell = [&](std::string_view problem) {
    std::fprintf(stderr, "%s: %s\n", name, moue::io::printable(problem).c_str());
  };
  int status = 1;
  try {
    const std::vector<std::string_view> arguments(values + std::min(count, 1), values + count);
    status = body(arguments);
  } catch (const std::exception& problem) {
    tell(problem.what());
    status = dynamic_cast<const usage_error*>(&problem) != nullptr ? 2 : 1;
  }
  if (const auto lost = detail::lost_output(); !lost.empty()) {
    tell("standard output cannot be written: " + lost);
    if (status == 0) status = 1;
  }
  return status;
}

}  // namespace program
