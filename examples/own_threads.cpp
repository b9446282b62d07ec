// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A mixture on threads that the program has anyway.

#include <barrier>
#include <cmath>
#include <cstdio>
#include <functional>
#include <moue/moue.hpp>
#include <thread>
#include <vector>

/// A pool of the program's: threads that meet at a gate before each piece of work and after it.
class team {
 public:
  explicit team(moue::index_t size) : gate_(size) {
    for (moue::index_t task = 1; task < size; ++task) threads_.emplace_back([this, task] { work(task); });
  }
  ~team() {
    work_ = nullptr;
    gate_.arrive_and_wait();
  }

  moue::index_t size() const { return std::ssize(threads_) + 1; }
  template <class F>
  void run(moue::index_t count, const F& f) {
    work_ = [&f, count](moue::index_t task) {
      if (task < count) f(task);
    };
    gate_.arrive_and_wait();
    work_(0);
    gate_.arrive_and_wait();
  }

 private:
  void work(moue::index_t task) {
    for (;;) {
      gate_.arrive_and_wait();
      if (!work_) return;
      work_(task);
      gate_.arrive_and_wait();
    }
  }

  std::barrier<> gate_;
  std::function<void(moue::index_t)> work_;
  std::vector<std::jthread> threads_;
};

int main() {
  const moue::index_t tokens = 600, width = 32;
  const moue::mixture model{moue::swiglu{.width = width, .hidden = 64}, moue::shared_pool{.depth = 2, .pool = 4},
                            moue::universal_router(2)};
  const auto weights = model.initialize<float>(1);

  const auto output = [&](const moue::cpu& backend) {
    const auto there = model.on(backend);
    const moue::pass_options options{.tokens = tokens, .how = moue::mode::inference};
    moue::workspace scratch(there.workspace_bytes<float>(options));
    auto pass = there.start(weights, options, scratch);
    std::vector<float> data(tokens * width);
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = std::cos(static_cast<float>(i));
    const moue::matrix_view<float> x{data.data(), tokens, width};
    pass.begin(tokens);
    for (moue::index_t layer = 0; layer < there.layers(); ++layer) pass.forward(layer, x, x);
    return data;
  };

  team pool(3);
  const moue::cpu shared{pool};  // refers to the pool: copies of the backend use it, too
  std::printf("workers: %td\n", shared.workers());
  std::printf("the bits of a single thread: %s\n", output(shared) == output(moue::cpu{}) ? "yes" : "no");
}
