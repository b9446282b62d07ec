// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// The CPU backend on threads of the host, runs inside runs, and threads that cannot be made.

#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

#include "compositions.hpp"
#include "large_stack.hpp"
#include "message_of.hpp"
#include "moue/backend/cpu/thread_pool.hpp"

namespace {

using test::large;
using test::same;
constexpr auto tokens = test::large_batch;

/// A thread for every task, as numbers of threads or of tasks need not agree.
struct spawning_pool {
  moue::index_t size() const { return 3; }
  template <class F>
  void run(moue::index_t count, const F& f) {
    ++runs;
    std::vector<std::jthread> threads;
    for (moue::index_t task = 0; task < count; ++task) threads.emplace_back([f, task] { f(task); });
  }
  std::atomic<int> runs{0};
};

/// No threads at all, and the last task first.
struct backward_pool {
  int size() const { return 5; }
  void run(moue::index_t count, const auto& f) const {
    while (count > 0) f(--count);
  }
};

/// One that is compiled elsewhere, counts in another type, and believes that it has one worker.
struct function_pool {
  std::size_t size() const { return 2; }
  void run(moue::index_t count, const std::function<void(std::size_t, std::size_t)>& f) const {
    std::vector<std::jthread> threads;
    for (std::size_t task = 0; task < static_cast<std::size_t>(count); ++task)
      threads.emplace_back([f, task] { f(task, 0); });
  }
};

/// Leaves out every task.
struct closed_pool {
  moue::index_t size() const { return 2; }
  void run(moue::index_t, const auto&) const {}
};

struct empty_pool : closed_pool {
  moue::index_t size() const { return 0; }
};

static_assert(moue::HostThreads<spawning_pool> && moue::HostThreads<const backward_pool>);
static_assert(moue::HostThreads<function_pool> && !moue::HostThreads<int> && !moue::HostThreads<moue::cpu>);
static_assert(!std::is_convertible_v<spawning_pool&, moue::cpu> && !std::is_convertible_v<moue::index_t, moue::cpu>);

/// Small, but with enough rows and experts for threads to be used.
test::stack_result<double> result_on(const moue::cpu& backend) {
  const auto model = test::compose("mixed_pool", {}, backend);
  return test::run_stack(*model, test::random_weights(*model, 1), test::random_input(*model, 150, 2));
}

/// Threads of which the process can have `left` more.
struct scarce_thread : std::thread {
  template <class F>
  explicit scarce_thread(F&& f) : std::thread(admitted(std::forward<F>(f))) {
    ++made;
  }
  scarce_thread(scarce_thread&&) = default;
  template <class F>
  static F&& admitted(F&& f) {
    if (made == left) throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
    return std::forward<F>(f);
  }
  void join() {
    std::thread::join();
    --made;
  }
  static inline int made = 0, left = 0;
};

}  // namespace

TEST_CASE("results are the same bits on any threads of the host") {
  spawning_pool spawning;
  const backward_pool backward;
  for (const auto* name : {"keyed_trajectory", "mixed_pool"}) {
    CAPTURE(name);
    const auto alone = test::compose(name, large, moue::cpu{});
    const auto weights = test::random_weights(*alone, 1);
    const auto input = test::random_input(*alone, tokens, 2);
    const auto expected = test::run_stack(*alone, weights, input);
    for (const auto& backend : {moue::cpu{spawning}, moue::cpu{backward}, moue::cpu{function_pool{}}})
      CHECK(same(test::run_stack(*test::compose(name, large, backend), weights, input), expected));
  }
  CHECK(spawning.runs > 0);
}

TEST_CASE("tasks under way at once have workers of their own, whatever the host says of its threads") {
  const auto check = [](moue::detail::any_threads& threads) {
    for (int repeat = 0; repeat < 20; ++repeat) {
      std::mutex mutex;
      std::set<moue::index_t> working;
      bool distinct = true;
      std::vector<int> done(50, 0);
      threads.run(50, [&](moue::index_t task, moue::index_t worker) {
        {
          const std::lock_guard lock(mutex);
          distinct = distinct && worker >= 0 && worker < threads.size() && working.insert(worker).second;
          ++done[static_cast<std::size_t>(task)];
        }
        std::this_thread::yield();
        const std::lock_guard lock(mutex);
        working.erase(worker);
      });
      CHECK(distinct);
      CHECK(done == std::vector<int>(50, 1));
    }
  };
  spawning_pool spawning;
  moue::detail::threads_of<spawning_pool&> external(spawning);
  moue::detail::threads_of<function_pool> held(function_pool{});
  moue::detail::thread_pool own(4);
  check(external);
  check(held);
  check(own);
}

TEST_CASE("exceptions come through threads of the host, which never see them") {
  spawning_pool pool;
  auto rejecting = large;
  rejecting.on_non_finite = moue::non_finite::reject;
  const auto model = test::compose("linear_raw", rejecting, moue::cpu{pool});
  const auto weights = test::random_weights(*model, 1);
  auto broken = test::random_input(*model, tokens, 2);
  for (const moue::index_t t : {150, 290, 430, 590})
    broken.x[static_cast<std::size_t>(t * model->width())] = std::numeric_limits<double>::quiet_NaN();
  for (int repeat = 0; repeat < 3; ++repeat)
    CHECK_THROWS_WITH_AS(test::run_stack(*model, weights, broken), doctest::Contains("for token 150 at layer 0"),
                         moue::error);
}

TEST_CASE("threads of the host that do not run what they are given are refused") {
  CHECK_THROWS_WITH_AS(result_on(moue::cpu{closed_pool{}}),
                       doctest::Contains("cpu: threads of the host left out tasks"), moue::error);
  CHECK_THROWS_WITH_AS(moue::cpu{empty_pool{}}, doctest::Contains("cpu: threads of the host have the size 0"),
                       moue::error);
  CHECK_THROWS_WITH_AS(moue::cpu{0}, doctest::Contains("cpu: 0 threads were asked for"), moue::error);
}

TEST_CASE("a pool is referred to, a handle is kept by all copies of the backend") {
  struct handle : backward_pool {
    std::shared_ptr<int> owned;
  };
  handle mine{{}, std::make_shared<int>(0)};
  {
    const moue::cpu refers(mine);
    CHECK(mine.owned.use_count() == 1);
    CHECK(refers.workers() == 5);
    moue::cpu keeps{handle(mine)};
    moue::cpu copy(keeps);  // from an object that is not const: a copy, not a backend on a backend
    keeps = refers;
    CHECK(mine.owned.use_count() == 2);
    CHECK(same(result_on(copy), result_on(refers)));
  }
  CHECK(mine.owned.use_count() == 1);
}

TEST_CASE("a run inside a task is done by the thread that starts it") {
  const auto check = [](const moue::cpu& backend) {
    constexpr moue::index_t calls = 256, rows = 128;
    std::vector<int> done(calls * rows, 0);
    const auto ops = backend.operations<double>({nullptr, backend.workers(), 0});
    ops.each_row(calls, [&](moue::index_t call) {
      ops.each_row(rows, [&](moue::index_t row) { ++done[static_cast<std::size_t>(call * rows + row)]; });
    });
    CHECK(done == std::vector<int>(calls * rows, 1));
  };
  spawning_pool pool;
  check(moue::cpu{3});
  check(moue::cpu{pool});
  CHECK(pool.runs == 1);
}

TEST_CASE("runs that start in each other's tasks end, on two pools and from two threads") {
  moue::detail::thread_pool a(3), b(2);
  std::atomic<int> done{0};
  const auto on = [&](auto& outer, auto& inner) {
    for (int repeat = 0; repeat < 200; ++repeat)
      outer.run(6, [&](moue::index_t, moue::index_t) {
        inner.run(4,
                  [&](moue::index_t, moue::index_t) { outer.run(3, [&](moue::index_t, moue::index_t) { ++done; }); });
      });
  };
  {
    const std::jthread one([&] { on(a, b); });
    const std::jthread other([&] { on(b, a); });
  }
  CHECK(done == 2 * 200 * 6 * 4 * 3);
}

TEST_CASE("an exception of a run inside a task belongs to that task") {
  moue::detail::thread_pool pool(3);
  const auto fail = [&](moue::index_t task, moue::index_t) {
    pool.run(5, [&](moue::index_t inner, moue::index_t) {
      if (task >= 4 && inner >= 2) throw std::runtime_error(std::to_string(10 * task + inner));
    });
  };
  for (int repeat = 0; repeat < 20; ++repeat) CHECK(message_of([&] { pool.run(9, fail); }) == "42");
  int after = 0;
  pool.run(1, [&](moue::index_t, moue::index_t) { ++after; });
  CHECK(after == 1);
}

TEST_CASE("the host may run passes inside tasks of the pool that it gives") {
  spawning_pool pool;
  const auto expected = result_on(moue::cpu{});
  std::atomic<int> equal{0};
  pool.run(3, [&](moue::index_t) { equal += same(result_on(moue::cpu{pool}), expected) ? 1 : 0; });
  CHECK(equal == 3);
  moue::detail::thread_pool own(3);  // what `cpu{3}` has, as a pool of the host
  const auto on_own = [&](moue::index_t, moue::index_t) { equal += same(result_on(moue::cpu{3}), expected) ? 1 : 0; };
  own.run(3, on_own);
  CHECK(equal == 6);
}

TEST_CASE("threads of its own are made by the first run that has work for them") {
  scarce_thread::left = 100;
  {
    moue::detail::basic_thread_pool<scarce_thread> pool(4);
    const auto nothing = [](moue::index_t, moue::index_t) {};
    CHECK(scarce_thread::made == 0);
    pool.run(0, nothing);
    pool.run(1, nothing);
    CHECK(scarce_thread::made == 0);
    pool.run(2, nothing);
    CHECK(scarce_thread::made == 3);
    pool.run(8, nothing);
    CHECK(scarce_thread::made == 3);
  }
  CHECK(scarce_thread::made == 0);
}

TEST_CASE("a thread that cannot be made is an error, and none of the others is left") {
  moue::detail::basic_thread_pool<scarce_thread> pool(5);
  std::atomic<int> done{0};
  const auto count = [&](moue::index_t, moue::index_t) { ++done; };
  for (const int left : {0, 1, 3}) {
    scarce_thread::left = left;
    for (int repeat = 0; repeat < 20; ++repeat) {
      CHECK(message_of([&] {
              pool.run(20, count);
            }).starts_with("moue: cpu: thread " + std::to_string(left + 2) + " of 5 could not be made: "));
      CHECK(scarce_thread::made == 0);
    }
  }
  CHECK(done == 0);
  scarce_thread::left = 4;
  pool.run(20, count);
  CHECK(done == 20);
  CHECK(scarce_thread::made == 4);
}
