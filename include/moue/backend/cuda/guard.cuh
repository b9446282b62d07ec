// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// When a caller's thread may use a device: one rule for all that a runtime does.

#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "moue/error.hpp"

namespace moue::inline v0_1::detail::gpu {

/// Belongs to the device that is current when it is made. `Calls` asks the CUDA Toolkit:
///
///     int current_device() const;          // of the calling thread
///     bool capturing() const;              // whether the runtime's stream is being captured in a graph
///     void free(void*) const noexcept;     // waits for the device
template <class Calls>
class device_guard {
 public:
  explicit device_guard(Calls calls) : calls_(calls), device_(calls.current_device()) {}
  device_guard(const device_guard&) = delete;
  device_guard& operator=(const device_guard&) = delete;
  ~device_guard() { free_deferred(); }

  int device() const { return device_; }

  /// Before work is queued. Throws where another device is current: launches would fail with another reason, and memory
  /// would come from the wrong device without a word.
  void enter(std::string_view what) const {
    const int current = calls_.current_device();
    require(
        current == device_, "cuda",
        [&] {
          return std::string(what) + ": device " + std::to_string(current) +
                 " is current, but this backend was made on device " + std::to_string(device_);
        },
        "make the backend's device current in this thread before using it (cudaSetDevice)");
  }
  /// Before a call that waits for the device. Throws inside a capture, which stays whole.
  void wait(std::string_view what) const {
    enter(what);
    require(
        !calls_.capturing(), "cuda",
        [&] {
          return std::string(what) + " waits for the device, which a graph that is being captured cannot contain";
        },
        "run the pass once before capturing it, and take queue_balance in place of balance");
    free_deferred();
  }
  /// Frees memory: at once, or, where that would end a capture, with the first call that waits after it.
  void free(void* memory) const noexcept {
    if (memory == nullptr) return;
    try {
      if (!calls_.capturing()) return calls_.free(memory);
      const std::lock_guard lock(mutex_);
      deferred_.push_back(memory);
    } catch (...) {  // no memory for the list: the device's stays until the program ends
    }
  }

 private:
  void free_deferred() const noexcept {
    const std::lock_guard lock(mutex_);
    for (void* const memory : deferred_) calls_.free(memory);
    deferred_.clear();
  }

  Calls calls_;
  int device_;
  mutable std::mutex mutex_;
  mutable std::vector<void*> deferred_;
};

}  // namespace moue::inline v0_1::detail::gpu
