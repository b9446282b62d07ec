// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <vector>

namespace torch_lm {

/// Times of steps. Their median says what a step takes, whatever else the machine did now and then.
class stopwatch {
 public:
  /// What `step()` returns.
  template <class F>
  auto time(const F& step) {
    const auto start = std::chrono::steady_clock::now();
    auto result = step();
    seconds_.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    return result;
  }
  /// Seconds; needs one step at least.
  double median() const {
    auto sorted = seconds_;
    const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
    std::nth_element(sorted.begin(), middle, sorted.end());
    return *middle;
  }

 private:
  std::vector<double> seconds_;
};

}  // namespace torch_lm
