// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What the user sees while waiting, and Ctrl-C.

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <mutex>
#include <string>

namespace language_model {

/// Set by Ctrl-C once `catch_interrupt` was called; a second Ctrl-C ends the program at once.
inline std::atomic<bool> interrupted = false;
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may touch nothing else");

inline void catch_interrupt() {
  std::signal(SIGINT, [](int) {
    interrupted = true;
    std::signal(SIGINT, SIG_DFL);
  });
}

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
    const double interval = terminal_ ? 0.2 : 10;
    if (done_ < total_ && std::chrono::duration<double>(now - shown_).count() < interval) return;
    shown_ = now;
    const double elapsed = std::chrono::duration<double>(now - start_).count();
    const double rate = static_cast<double>(done_ - first_) / elapsed;
    std::printf("%s%s %lld/%lld  loss %.3f bits/byte  %.0f tokens/s  ETA %s%s", terminal_ ? "\r\033[K" : "",
                what_.c_str(), static_cast<long long>(done_), static_cast<long long>(total_), smooth_,
                rate * static_cast<double>(tokens_per_step_),
                minutes(static_cast<double>(total_ - done_) / rate).c_str(), terminal_ && done_ < total_ ? "" : "\n");
    std::fflush(stdout);
  }
  /// Ends a line that is still being rewritten.
  void stop() {
    if (terminal_ && done_ > first_ && done_ < total_ && !stopped_) std::printf("\n");
    stopped_ = true;
  }
  ~progress() { stop(); }
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;

 private:
  using clock = std::chrono::steady_clock;

  std::string what_;
  std::int64_t first_, done_, total_, tokens_per_step_;
  double smooth_ = 0;
  bool stopped_ = false;
  bool terminal_ = ::isatty(STDOUT_FILENO) == 1;
  clock::time_point start_ = clock::now(), shown_ = start_;
  std::mutex mutex_;
};

}  // namespace language_model
