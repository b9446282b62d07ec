// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// A small fork-join pool: numbered tasks, taken in any order.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "moue/view.hpp"

namespace moue::detail {

/// `threads` workers in all, the caller among them. `run` allocates nothing. Two threads may share a pool; their runs
/// follow one another. A task must not start a run on its own pool.
class thread_pool {
 public:
  explicit thread_pool(index_t threads) {
    for (index_t worker = 1; worker < threads; ++worker) threads_.emplace_back([this, worker] { work(worker); });
  }
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;
  ~thread_pool() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  index_t size() const { return static_cast<index_t>(threads_.size()) + 1; }

  /// Calls `f(task, worker)` for every task in [0, count) and returns when all are done. Rethrows the exception of the
  /// lowest task that threw.
  template <class F>
  void run(index_t count, const F& f) {
    if (count <= 0) return;
    if (threads_.empty() || count == 1) {
      for (index_t task = 0; task < count; ++task) f(task, index_t{0});
      return;
    }
    const std::lock_guard one_run_at_a_time(runs_);
    {
      const std::lock_guard lock(mutex_);
      call_ = [](const void* context, index_t task, index_t worker) {
        (*static_cast<const F*>(context))(task, worker);
      };
      context_ = &f;
      count_ = count;
      next_ = 0;
      busy_ = size() - 1;
      failed_task_ = count;
      failure_ = nullptr;
      ++generation_;
    }
    wake_.notify_all();
    take_tasks(0);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  void work(index_t worker) {
    std::uint64_t seen = 0;
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return stopping_ || generation_ != seen; });
        if (stopping_) return;
        seen = generation_;
      }
      take_tasks(worker);
      const std::lock_guard lock(mutex_);
      if (--busy_ == 0) done_.notify_one();
    }
  }

  void take_tasks(index_t worker) {
    for (index_t task = next_.fetch_add(1, std::memory_order_relaxed); task < count_;
         task = next_.fetch_add(1, std::memory_order_relaxed)) {
      try {
        call_(context_, task, worker);
      } catch (...) {
        const std::lock_guard lock(mutex_);
        if (task < failed_task_) {
          failed_task_ = task;
          failure_ = std::current_exception();
        }
      }
    }
  }

  std::vector<std::thread> threads_;
  std::mutex runs_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  std::atomic<index_t> next_{0};
  void (*call_)(const void*, index_t, index_t) = nullptr;
  const void* context_ = nullptr;
  index_t count_ = 0;
  index_t busy_ = 0;
  index_t failed_task_ = 0;
  std::exception_ptr failure_;
  std::uint64_t generation_ = 0;
  bool stopping_ = false;
};

}  // namespace moue::detail
