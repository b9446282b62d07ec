// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Threads of `cpu`'s own.

#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "moue/backend/cpu/any_threads.hpp"
#include "moue/backend/cpu/thread_team.hpp"
#include "moue/error.hpp"

namespace moue::inline v0_1::detail {

/// `threads` workers in all, the caller among them. The others are made by the first run, and again by the first run in
/// a forked child, which allocates; later runs do not.
template <class ThreadT>
class basic_thread_pool final : public any_threads {
 public:
  /// Throws unless `threads` is at least 1.
  explicit basic_thread_pool(index_t threads) : any_threads(threads) {
    require(
        threads >= 1, "cpu", [&] { return std::to_string(threads) + " threads were asked for"; }, "ask for at least 1");
  }
  ~basic_thread_pool() override {
    if (team* const last = team_.load(); last != nullptr && last->of_this_process()) delete last;
  }

 private:
  using team = thread_team<ThreadT>;

  void start(index_t count, const host_task& f) override { present().run(count, f); }

  /// The team of this process. The parent's is left as it is: to destroy it would wait for threads that are not here.
  team& present() {
    team* last = team_.load();
    while (last == nullptr || !last->of_this_process()) {
      auto fresh = std::make_unique<team>(size());
      if (team_.compare_exchange_strong(last, fresh.get())) return *fresh.release();
    }
    return *last;
  }

  std::atomic<team*> team_{nullptr};
};

using thread_pool = basic_thread_pool<std::thread>;

}  // namespace moue::inline v0_1::detail
