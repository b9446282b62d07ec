// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// The CPU backend in a forked child, which has a copy of everything but the threads. A child that hangs is ended by its
// alarm. ThreadSanitizer allows no threads after a fork: the name of this file keeps it from there.

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <functional>
#include <iterator>
#include <memory>
#include <semaphore>
#include <stop_token>
#include <thread>

#include "address_sanitizer.hpp"
#include "child.hpp"
#include "compositions.hpp"
#include "large_stack.hpp"
#include "message_of.hpp"
#include "moue/backend/cpu/thread_pool.hpp"

namespace {

using test::same;

test::stack_result<double> result_on(const moue::cpu& backend) {
  const auto model = test::compose("always_on", {}, backend);
  return test::run_stack(*model, test::random_weights(*model, 1), test::random_input(*model, 150, 2));
}

/// A pool of the program's, whose other thread is made once: in a child everybody would wait for it.
class lasting_pool {
 public:
  lasting_pool()
      : other_([this](const std::stop_token& stopped) {
          for (begin_.acquire(); !stopped.stop_requested(); begin_.acquire()) {
            work_();
            end_.release();
          }
        }) {}
  ~lasting_pool() {
    other_.request_stop();
    begin_.release();
  }
  moue::index_t size() const { return 2; }
  void run(moue::index_t, const auto& f) {
    ++runs;
    work_ = [f] { f(1); };
    begin_.release();
    f(0);
    end_.acquire();
  }
  int runs = 0;

 private:
  std::counting_semaphore<> begin_{0}, end_{0};
  std::function<void()> work_;
  std::jthread other_;
};

template <class Act>
int in_child_that_ends(const Act& act) {
  return in_child([&] {
    ::alarm(60);
    return act();
  });
}

#if defined(__linux__)
auto threads_of_this_process() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"), std::filesystem::directory_iterator());
}
#endif

}  // namespace

TEST_CASE("a backend made before a fork runs in the child, and in its child") {
  const auto expected = result_on(moue::cpu{});
  for (const bool used : {false, true}) {
    CAPTURE(used);
    const moue::cpu backend(3);
    if (used) CHECK(same(result_on(backend), expected));
    const auto runs = [&] { return same(result_on(backend), expected) ? 0 : 3; };
    CHECK(in_child_that_ends(runs) == 0);
    CHECK(in_child_that_ends([&] { return std::max(runs(), in_child_that_ends(runs)); }) == 0);
    CHECK(same(result_on(backend), expected));
  }
}

TEST_CASE("a child that merely ends does not wait for its parent's threads") {
  for (const bool used : {false, true}) {
    CAPTURE(used);
    auto backend = std::make_unique<moue::cpu>(3);
    if (used) result_on(*backend);
    CHECK(in_child_that_ends([&] {
            backend.reset();
            return 0;
          }) == 0);
    CHECK(in_child_that_ends([&]() -> int {
            static const moue::cpu copy(*backend);
            backend.reset();
            std::exit(0);
          }) == 0);
  }
}

// AddressSanitizer's allocator does not release its locks in a child: one that another thread held stays taken.
#if !defined(MOUE_TEST_ASAN)
TEST_CASE("a fork while another thread runs") {
  const moue::cpu backend(3);
  const auto expected = result_on(moue::cpu{});
  std::atomic<bool> stop{false};
  const std::jthread other([&] {
    while (!stop) result_on(backend);
  });
  for (int repeat = 0; repeat < 5; ++repeat)
    CHECK(in_child_that_ends([&] {
            moue::cpu mine(backend);
            return same(result_on(mine), expected) ? 0 : 3;
          }) == 0);
  stop = true;
}
#endif

TEST_CASE("a run that the process is forked in cannot end in the child, and says so") {
  moue::detail::thread_pool pool(3);
  const auto parent = ::getpid();
  std::atomic<pid_t> child{0};
  const auto run = [&] {
    pool.run(3, [&](moue::index_t, moue::index_t worker) {
      if (worker != 0 || child != 0 || ::getpid() != parent) return;
      child = ::fork();
      if (child == 0) ::alarm(60);
    });
  };
  std::string message;
  while (child == 0 && ::getpid() == parent) message = message_of(run);
  if (::getpid() != parent) {
    int after = 0;
    pool.run(1, [&](moue::index_t, moue::index_t) { ++after; });
    std::atomic<int> done{0};
    pool.run(9, [&](moue::index_t, moue::index_t) { ++done; });
    ::_exit(contains(message, "cpu: the process was forked inside a task") && after == 1 && done == 9 ? 0 : 3);
  }
  CHECK(message.empty());
  CHECK(end_of_child(child) == 0);
}

TEST_CASE("threads of the host are left alone in a child, which does its runs itself") {
  const auto expected = result_on(moue::cpu{});
  lasting_pool pool;
  const moue::cpu backend(pool);
  CHECK(same(result_on(backend), expected));
  CHECK(pool.runs > 0);
  CHECK(in_child_that_ends([&] {
          if (!same(result_on(backend), expected)) return 3;
          lasting_pool fresh;
          return same(result_on(moue::cpu{fresh}), expected) && fresh.runs > 0 ? 0 : 4;
        }) == 0);
  CHECK(same(result_on(backend), expected));
}

TEST_CASE("a child that was forked inside a task on threads of the host ends, and says why") {
  lasting_pool pool;
  moue::detail::threads_of<lasting_pool&> threads(pool);
  const auto parent = ::getpid();
  std::atomic<pid_t> child{0};
  const auto fork_once = [&] {
    pid_t none = 0;
    if (!child.compare_exchange_strong(none, -1)) return;
    const pid_t mine = ::fork();
    if (mine == 0) {
      ::alarm(60);
      std::set_terminate([] {
        const auto message = message_of([] { std::rethrow_exception(std::current_exception()); });
        ::_exit(contains(message, "cpu: the process was forked inside a task") ? 7 : 8);
      });
    }
    child = mine;
  };
  std::atomic<int> done{0};
  threads.run(9, [&](moue::index_t, moue::index_t) {
    if (::getpid() == parent) fork_once();
    ++done;
  });
  CHECK(done == 9);
  CHECK(end_of_child(child) == 7);
}

TEST_CASE("a child of one of the backend's threads ends after the task that it was forked in") {
  moue::detail::thread_pool pool(3);
  const auto parent = ::getpid();
  std::atomic<pid_t> child{0};
  while (child == 0)
    pool.run(3, [&](moue::index_t, moue::index_t worker) {
      std::this_thread::yield();
      pid_t none = 0;
      if (worker == 0 || ::getpid() != parent || !child.compare_exchange_strong(none, -1)) return;
      const pid_t mine = ::fork();
      if (mine == 0) {
        ::alarm(60);
        std::atexit([] { ::_exit(7); });  // before anyone looks for leaks: the main thread's objects have no owner here
      }
      child = mine;
    });
  CHECK(end_of_child(child) == 7);
}

#if defined(__linux__)
TEST_CASE("a limit of the system on threads is an error that can be caught, and leaves none behind") {
  const auto expected = result_on(moue::cpu{});
  for (const rlim_t threads : {rlim_t{1}, rlim_t{3}}) {
    CAPTURE(threads);
    const int end = in_child_that_ends([&] {
      // The limit counts what a user runs, and root's is not enforced: a user of no name runs this process alone.
      const bool alone = ::setresuid(60123, 60123, 60123) == 0;
      const rlimit all{threads, threads};
      if (::setrlimit(RLIMIT_NPROC, &all) != 0) return 2;
      const moue::cpu backend(6);
      for (int repeat = 0; repeat < 3; ++repeat) {
        const auto message = message_of([&] { result_on(backend); });
        const auto which = alone ? std::to_string(threads + 1) + " of 6" : std::string("of 6");
        if (!contains(message, "could not be made") || !contains(message, which)) return 3;
        if (threads_of_this_process() != 1) return 4;
      }
      return same(result_on(moue::cpu{}), expected) ? 0 : 5;
    });
    CHECK(end == 0);
  }
}
#endif
