// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Threads of the host: what `cpu` needs of a thread pool that it does not own.

#include <concepts>

#include "moue/view.hpp"

namespace moue::inline v0_1 {
namespace detail {

struct host_task_archetype {
  void operator()(index_t /*task*/, index_t /*worker*/ = 0) const noexcept {}
};

}  // namespace detail

/// A thread pool with
///
///     index_t size() const;                // how many tasks may run at once, at least 1
///     void run(index_t count, const F& f);   // calls f(task) once for every task in [0, count), then returns
///
/// `cpu` asks for at most `size()` tasks. They may run in any order, on any threads, the caller's among them, at once or
/// one after another; what was written before `run` is visible to them, and what they wrote is visible after it. `f`
/// throws nothing, may be copied (it is two pointers) and must not be called after `run` has returned. A pool may call
/// `f(task, worker)` instead: `worker` is ignored, because every task brings a number of its own, by which scratch is
/// chosen. Nothing else is asked for. If `run` throws, so does what called it; no task may then be running any more.
///
/// `run` is called by the thread that uses a pass. Where that may be a thread inside a task of the same pool, `run` has
/// to cope with it, as TBB, OpenMP and torch's `parallel_for` do; for a pool that cannot, use `cpu{}` there: the bits are
/// the same. In a forked child `run` is not called, as threads do not survive a fork: what starts a run does it.
template <class P>
concept HostThreads = requires(P& threads, index_t count, const detail::host_task_archetype& f) {
  { threads.size() } -> std::convertible_to<index_t>;
  threads.run(count, f);
};

/// Says in one sentence what threads of the host need.
template <class P>
consteval bool check_host_threads() {
  static_assert(
      HostThreads<P>,
      "moue: 'cpu' runs on a number of threads of its own, or on threads of the host: a value with the members "
      "'size' and 'run'");
  return true;
}

}  // namespace moue::inline v0_1
