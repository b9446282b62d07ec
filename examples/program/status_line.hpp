// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// A line that tells a person how far something has come.

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <string_view>

namespace program {

/// A line of a terminal that is rewritten in place. It is cut to the terminal's width: a line that wraps would scroll with
/// every rewriting. ASCII only. Where there is no terminal, nothing is shown.
class status_line {
 public:
  explicit status_line(std::FILE* out) : out_(out), terminal_(::isatty(::fileno(out)) == 1) {}
  ~status_line() { clear(); }
  status_line(const status_line&) = delete;
  status_line& operator=(const status_line&) = delete;

  bool on_terminal() const { return terminal_; }
  void show(std::string_view text) {
    if (!terminal_) return;
    const auto fitting = text.substr(0, columns() - 1);  // the last column would already wrap on some terminals
    std::fprintf(out_, "\r%.*s\033[K", static_cast<int>(fitting.size()), fitting.data());
    std::fflush(out_);
    shown_ = true;
  }
  void clear() {
    if (shown_) std::fprintf(out_, "\r\033[K");
    shown_ = false;
  }
  /// Leaves what is shown where it is and goes on below.
  void keep() {
    if (shown_) std::fprintf(out_, "\n");
    shown_ = false;
  }

 private:
  std::size_t columns() const {  // anew each time: windows are resized
    winsize size{};
    return ::ioctl(::fileno(out_), TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
  }

  std::FILE* out_;
  bool terminal_;
  bool shown_ = false;
};

}  // namespace program
