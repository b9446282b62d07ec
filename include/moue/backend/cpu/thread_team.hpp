// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Running threads that wait for work, all of one process.

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <system_error>
#include <vector>

#include "moue/backend/cpu/any_threads.hpp"
#include "moue/backend/cpu/forks.hpp"
#include "moue/error.hpp"

namespace moue::inline v0_1::detail {

/// `size` workers in all, the caller among them; the other threads are made by the first run. Two threads may share a
/// team: their runs follow one another.
template <class ThreadT>
class thread_team {
 public:
  explicit thread_team(index_t size) : size_(size), forks_(forks()) {}
  thread_team(const thread_team&) = delete;
  thread_team& operator=(const thread_team&) = delete;
  ~thread_team() { stop(); }

  /// False in a child of the process that made it. There nothing may be called but this, the destructor neither: locks
  /// are as some thread of the parent held them, and the threads do not exist.
  bool of_this_process() const { return forks_ == forks(); }

  /// Calls `f(worker)` for every worker in [0, count) and returns when all have returned. If threads cannot be made,
  /// throws `moue::error` and leaves none behind.
  void run(index_t count, const host_task& f) {
    const std::lock_guard one_run_at_a_time(runs_);
    if (threads_.empty()) start();
    {
      const std::lock_guard lock(mutex_);
      work_ = &f;
      count_ = count;
      busy_ = count - 1;
      ++generation_;
    }
    wake_.notify_all();
    f(0);
    require_no_fork_inside(forks_);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
  }

 private:
  void start() {
    try {
      threads_.reserve(static_cast<std::size_t>(size_ - 1));
      for (index_t worker = 1; worker < size_; ++worker) threads_.emplace_back([this, worker] { work(worker); });
    } catch (const std::system_error& failure) {
      const auto which = threads_.size() + 2;  // the caller is the first
      stop();
      throw error(
          "cpu",
          "thread " + std::to_string(which) + " of " + std::to_string(size_) + " could not be made: " + failure.what(),
          "ask for fewer threads, or raise the limits of threads and memory", error_kind::system);
    } catch (...) {
      stop();
      throw;
    }
  }

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (auto& thread : threads_) thread.join();
    threads_.clear();
    stopping_ = false;
  }

  void work(index_t worker) {
    std::uint64_t seen = 0;
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return stopping_ || generation_ != seen; });
      if (stopping_) return;
      seen = generation_;
      if (worker >= count_) continue;
      lock.unlock();
      (*work_)(worker);
      if (!of_this_process()) {  // The task forked, and this is the child: its lock is not ours to wait for.
        lock.release();
        return;
      }
      lock.lock();
      if (--busy_ == 0) done_.notify_one();
    }
  }

  index_t size_;
  std::uint64_t forks_;
  std::vector<ThreadT> threads_;
  std::mutex runs_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  const host_task* work_ = nullptr;
  index_t count_ = 0;
  index_t busy_ = 0;
  std::uint64_t generation_ = 0;
  bool stopping_ = false;
};

}  // namespace moue::inline v0_1::detail
