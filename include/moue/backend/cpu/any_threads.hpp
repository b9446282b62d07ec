// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Threads of any kind behind one type, and one run on them: numbered tasks, taken in any order.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <string>
#include <utility>

#include "moue/backend/cpu/forks.hpp"
#include "moue/error.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::detail {

/// Whether this thread is inside a task. A run that starts there must not wait for threads, which may all be waiting for
/// it: it is done by the thread that starts it.
inline constinit thread_local bool inside_task = false;

/// The tasks of one run, which every worker takes from until none is left, and the exception of the lowest that threw.
/// Lives on the stack of the thread that waits for them.
class shared_tasks {
 public:
  template <class F>
  shared_tasks(index_t count, const F& f)
      : call_(
            [](const void* context, index_t task, index_t worker) { (*static_cast<const F*>(context))(task, worker); }),
        context_(&f),
        count_(count),
        failed_task_(count) {}

  void take(index_t worker) noexcept {
    const bool nested = std::exchange(inside_task, true);
    for (index_t task = next(); task < count_; task = next()) {
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
    inside_task = nested;
  }

  /// Called once no worker takes tasks any more.
  void finish() {
    require(
        next() >= count_, "cpu", [] { return "threads of the host left out tasks of a run"; },
        "let 'run(count, f)' call f(task) for every task in [0, count) before it returns");
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  index_t next() { return next_.fetch_add(1, std::memory_order_relaxed); }

  void (*call_)(const void*, index_t, index_t);
  const void* context_;
  index_t count_;
  std::atomic<index_t> next_{0};
  std::mutex mutex_;
  index_t failed_task_;
  std::exception_ptr failure_;
};

/// What threads of the host are given to run: each call is one worker, which takes tasks until none is left. So each has
/// a number that no other has, whatever the host knows of its threads, and uneven tasks balance under any schedule.
class host_task {
 public:
  explicit host_task(shared_tasks& tasks) : tasks_(&tasks) {}
  void operator()(index_t worker, index_t /*thread*/ = 0) const noexcept { tasks_->take(worker); }

 private:
  shared_tasks* tasks_;
};

class any_threads {
 public:
  any_threads(const any_threads&) = delete;
  any_threads& operator=(const any_threads&) = delete;
  virtual ~any_threads() = default;

  index_t size() const { return size_; }

  /// Calls `f(task, worker)` for every task in [0, count) and returns when all are done. No two tasks of one run that are
  /// under way at once have the same `worker` in [0, size()). Rethrows the exception of the lowest task that threw.
  /// Allocates nothing of its own.
  template <class F>
  void run(index_t count, const F& f) {
    if (count <= 1 || size_ == 1 || inside_task) {
      for (index_t task = 0; task < count; ++task) f(task, index_t{0});
      return;
    }
    shared_tasks tasks(count, f);
    start((std::min)(count, size_), host_task(tasks));
    tasks.finish();
  }

 protected:
  explicit any_threads(index_t size) : size_(size) {}

 private:
  /// Calls `f(worker)` for every worker in [0, count), `count` <= size(), and returns when all have returned.
  virtual void start(index_t count, const host_task& f) = 0;

  index_t size_;
};

/// Refuses to go on where a process forked inside a task.
inline void require_no_fork_inside(std::uint64_t before) {
  require(
      forks() == before, "cpu", [] { return "the process was forked inside a task, whose run is the parent's"; },
      "fork where no pass is running, or leave the child by _exit");
}

/// Threads of the host: `P` is a reference to them, or they are held here. In a forked child they may not exist: runs there
/// are done by the thread that starts them. A child that was forked inside a task ends with it, by std::terminate: the host's
/// threads, which it would wait for, are not there, and an exception would have to pass through code of the host.
template <class P>
class threads_of final : public any_threads {
 public:
  explicit threads_of(P&& threads)
      : any_threads(static_cast<index_t>(threads.size())), forks_(forks()), threads_(std::forward<P>(threads)) {
    require(
        size() >= 1, "cpu", [this] { return "threads of the host have the size " + std::to_string(size()); },
        "let 'size' say how many tasks may run at once, the caller's thread included");
  }

 private:
  class task {
   public:
    task(const threads_of& threads, const host_task& work) : threads_(&threads), work_(&work) {}
    void operator()(index_t worker, index_t /*thread*/ = 0) const noexcept {
      (*work_)(worker);
      require_no_fork_inside(threads_->forks_);
    }

   private:
    const threads_of* threads_;
    const host_task* work_;
  };

  void start(index_t count, const host_task& f) override {
    if (forks() == forks_)
      threads_.run(count, task(*this, f));
    else
      f(0);  // takes all tasks
  }

  std::uint64_t forks_;
  P threads_;
};

}  // namespace moue::inline v0_1::detail
