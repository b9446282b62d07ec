// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What the user sees while waiting, and signals that ask for an end.

#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <mutex>
#include <string>
#include <utility>

#include "../program/status_line.hpp"

namespace language_model {

/// The number of the signal that asked for an end, or 0. Set once `catch_interrupt` was called by Ctrl-C, by `kill` and by
/// the end of the terminal; the same signal a second time ends the program at once.
inline std::atomic<int> interrupted = 0;
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may touch nothing else");

inline void catch_interrupt() {
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    const auto before = std::signal(number, [](int caught) {
      interrupted = caught;
      std::signal(caught, SIG_DFL);
    });
    if (before == SIG_IGN) std::signal(number, SIG_IGN);  // as under nohup
  }
}

/// The exit status of a program that was asked to end, as shells have it.
inline int interrupted_status() { return 128 + interrupted; }

inline std::string minutes(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::lround(seconds));
  const auto rest = std::to_string(whole % 60);
  return std::to_string(whole / 60) + (rest.size() < 2 ? ":0" : ":") + rest;
}

/// A line that is rewritten on a terminal, and printed now and then elsewhere. Any number of threads may report.
class progress {
 public:
  /// `what` names the counted steps, as in "step" or "step of 12 runs".
  progress(std::string what, std::int64_t first, std::int64_t total, std::int64_t tokens_per_step)
      : what_(std::move(what)), first_(first), done_(first), total_(total), tokens_per_step_(tokens_per_step) {}

  void report(double bits_per_byte) {
    const std::lock_guard lock(mutex_);
    // An average over about as many steps as make the line readable.
    smooth_ = done_ == first_ ? bits_per_byte : 0.95 * smooth_ + 0.05 * bits_per_byte;
    ++done_;
    const auto now = clock::now();
    const double interval = line_.on_terminal() ? 0.2 : 10;
    if (done_ < total_ && std::chrono::duration<double>(now - shown_).count() < interval) return;
    shown_ = now;
    const double elapsed = std::chrono::duration<double>(now - start_).count();
    const double rate = static_cast<double>(done_ - first_) / elapsed;
    char text[200];
    std::snprintf(text, sizeof text, "%s %lld/%lld  loss %.3f bits/byte  %.0f tokens/s  ETA %s", what_.c_str(),
                  static_cast<long long>(done_), static_cast<long long>(total_), smooth_,
                  rate * static_cast<double>(tokens_per_step_),
                  minutes(static_cast<double>(total_ - done_) / rate).c_str());
    if (line_.on_terminal())
      line_.show(text);
    else
      std::printf("%s\n", text);
    if (done_ == total_) line_.keep();
    std::fflush(stdout);
  }
  /// Ends a line that is still being rewritten.
  void stop() { line_.keep(); }
  ~progress() { stop(); }
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;

 private:
  using clock = std::chrono::steady_clock;

  std::string what_;
  std::int64_t first_, done_, total_, tokens_per_step_;
  double smooth_ = 0;
  program::status_line line_{stdout};
  clock::time_point start_ = clock::now(), shown_ = start_;
  std::mutex mutex_;
};

}  // namespace language_model
