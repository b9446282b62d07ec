// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A mixture on the threads of TBB and of OpenMP: alone, inside tasks of the same library, and in a forked child.

#include <omp.h>
#include <sys/wait.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <moue/moue.hpp>
#include <vector>

/// An arena of TBB's, which the rest of a program may use as well.
struct tbb_threads {
  tbb::task_arena* arena;

  moue::index_t size() const { return arena->max_concurrency(); }
  template <class F>
  void run(moue::index_t count, const F& f) const {
    arena->execute([&] { tbb::parallel_for(moue::index_t{0}, count, f, tbb::simple_partitioner()); });
  }
};

/// A team of OpenMP's.
struct openmp_threads {
  moue::index_t threads;

  moue::index_t size() const { return threads; }
  template <class F>
  void run(moue::index_t count, const F& f) const {
    const int team = static_cast<int>(count);
#pragma omp parallel for schedule(dynamic, 1) num_threads(team)
    for (moue::index_t task = 0; task < count; ++task) f(task);
  }
};

constexpr moue::index_t tokens = 300, width = 32;
const moue::mixture network{moue::swiglu{.width = width, .hidden = 64}, moue::shared_pool{.depth = 2, .pool = 4},
                            moue::universal_router(2)};

/// The output of all layers and, behind it, the gradient of the input and of the first expert.
std::vector<float> train(const moue::parameters<float>& weights, const moue::cpu& backend) {
  const auto there = network.on(backend);
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(there.workspace_bytes<float>(options));
  moue::gradients<float> gradients(there.layout());
  auto pass = there.start(weights, options, scratch);
  std::vector<float> data(2 * tokens * width);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = std::cos(static_cast<float>(i));
  const moue::matrix_view<float> x{data.data(), tokens, width}, dx{data.data() + tokens * width, tokens, width};
  pass.begin(tokens);
  for (moue::index_t layer = 0; layer < there.layers(); ++layer) pass.forward(layer, x, x);
  for (moue::index_t layer = there.layers(); layer-- > 0;) pass.backward(layer, dx, dx, gradients);
  gradients.finish();
  const auto first = gradients["experts.0.gate"];
  data.insert(data.end(), first.data, first.data + first.rows * first.cols);
  return data;
}

const char* yes(bool holds) { return holds ? "yes" : "no"; }

int main() {
  const auto weights = network.initialize<float>(1);
  const auto expected = train(weights, moue::cpu{4});
  std::printf("%-8s %-12s %-22s %s\n", "threads", "same bits", "inside its own tasks", "in a forked child");

  const auto report = [&](const char* name, const auto& threads) {
    const moue::cpu backend{threads};
    const bool same = train(weights, backend) == expected;
    std::vector<int> nested(6, 0);  // six passes at once, each on the threads that the six run on
    threads.run(std::ssize(nested), [&](moue::index_t i) {
      nested[static_cast<std::size_t>(i)] = train(weights, backend) == expected ? 1 : 0;
    });
    std::fflush(stdout);
    const auto child = ::fork();
    if (child == 0) {
      ::alarm(60);
      ::_exit(train(weights, backend) == expected ? 0 : 1);
    }
    int status = 1;
    ::waitpid(child, &status, 0);
    std::printf("%-8s %-12s %-22s %s\n", name, yes(same), yes(nested == std::vector<int>(6, 1)), yes(status == 0));
  };
  const tbb::global_control workers(tbb::global_control::max_allowed_parallelism, 4);  // on any machine
  tbb::task_arena arena(4);
  report("TBB", tbb_threads{&arena});
  report("OpenMP", openmp_threads{4});
}
