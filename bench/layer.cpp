// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// One mixture layer on the CPU: experts alone, forward, and forward with backward, over the shapes of public models.
// Every figure stands beside that of a plain Eigen product of 1024² matrices measured in the same run. Before a shape is
// timed its output is compared with a loop in double precision; a shape that differs is reported as an error.

#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "moue/moue.hpp"

namespace {

using moue::index_t;

struct shape {
  const char* name;
  index_t width, hidden, experts, k;
};

// Widths, hidden sizes and k of the models; the expert counts of the last three are cut to fit 16 GiB with gradients.
constexpr shape shapes[] = {{"r-small", 256, 512, 16, 2},       {"r-mid", 768, 768, 32, 4},
                            {"olmoe", 2048, 1024, 64, 8},       {"qwen3-30b/E=64", 2048, 768, 64, 8},
                            {"mixtral/E=4", 4096, 14336, 4, 2}, {"dsv3/E=16", 7168, 2048, 16, 8}};
constexpr index_t token_counts[] = {1, 16, 256, 4096};

enum class scope { experts, forward, training };
constexpr const char* scope_names[] = {"experts", "forward", "training"};

std::vector<float> normal(index_t size, std::uint64_t key) {
  std::vector<float> values(static_cast<std::size_t>(size));
  for (index_t i = 0; i < size; ++i)
    values[static_cast<std::size_t>(i)] =
        static_cast<float>(moue::detail::normal_at(key, static_cast<std::uint64_t>(i)));
  return values;
}

/// GFLOP/s of one thread multiplying 1024² matrices with Eigen; measured once.
double plain_product() {
  static const double rate = [] {
    constexpr index_t n = 1024;
    using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const matrix a = matrix::Random(n, n), b = matrix::Random(n, n);
    matrix c = matrix::Zero(n, n);
    double best = 0;
    for (int run = 0; run < 8; ++run) {
      const auto start = std::chrono::steady_clock::now();
      c.noalias() = a * b;
      benchmark::DoNotOptimize(c.data());
      const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
      best = std::max(best, 2.0 * n * n * n / taken.count() * 1e-9);
    }
    return best;
  }();
  return rate;
}

/// Token 0's output recomputed in double from the assignments the pass reports.
template <class Pass>
bool output_is_right(const Pass& pass, const moue::parameters<float>& weights, const shape& s, const float* x,
                     const float* y) {
  const auto given = pass.assignments(0);
  std::vector<double> expected(static_cast<std::size_t>(s.width), 0.0);
  for (index_t i = given.offsets[0]; i < given.offsets[1]; ++i) {
    const index_t first = weights.layout().expert_first(given.expert[i]);
    const auto gate = weights[first], up = weights[first + 1], down = weights[first + 2];
    std::vector<double> hidden(static_cast<std::size_t>(s.hidden));
    for (index_t h = 0; h < s.hidden; ++h) {
      double g = 0, u = 0;
      for (index_t j = 0; j < s.width; ++j) g += double(gate(h, j)) * x[j], u += double(up(h, j)) * x[j];
      hidden[static_cast<std::size_t>(h)] = g / (1 + std::exp(-g)) * u;
    }
    for (index_t j = 0; j < s.width; ++j)
      for (index_t h = 0; h < s.hidden; ++h)
        expected[static_cast<std::size_t>(j)] +=
            double(given.gate[i]) * double(down(j, h)) * hidden[static_cast<std::size_t>(h)];
  }
  double error = 0, scale = 0;
  for (index_t j = 0; j < s.width; ++j) {
    error = std::max(error, std::abs(expected[static_cast<std::size_t>(j)] - y[j]));
    scale = std::max(scale, std::abs(expected[static_cast<std::size_t>(j)]));
  }
  return error <= 1e-4 * scale;  // rounding of sums of up to 14336 terms in float
}

void run(benchmark::State& state, const shape& s, index_t tokens, scope what, index_t threads) {
  const moue::mixture model{moue::swiglu{.width = s.width, .hidden = s.hidden}, moue::layer_local{1, s.experts},
                            moue::linear_router(s.k), moue::switch_loss{}, moue::cpu{threads}};
  const auto weights = model.initialize<float>(1);
  moue::gradients<float> gradients(model.layout());
  const moue::pass_options options{.tokens = tokens,
                                   .how = what == scope::training ? moue::mode::training : moue::mode::inference};
  moue::workspace scratch(model.workspace_bytes<float>(options));
  auto pass = model.start(weights, options, scratch);
  const auto x = normal(tokens * s.width, 2);  // full rank: low-rank inputs reach few experts and flatter everyone
  const auto dy = normal(tokens * s.width, 3);
  std::vector<float> y(x.size()), dx(x.size());
  const moue::matrix_view<const float> in{x.data(), tokens, s.width};
  const moue::matrix_view<float> out{y.data(), tokens, s.width};

  const auto forward = [&] {
    pass.begin(tokens);
    pass.forward(0, in, out);
  };
  forward();
  if (!output_is_right(pass, weights, s, x.data(), y.data())) {
    state.SkipWithError("the output differs from a loop in double precision");
    return;
  }
  const auto given = pass.assignments(0);
  moue::workspace alone(std::size_t(1) << 30);
  moue::arena cursor(alone.bytes());
  auto record = model.experts_executor().take_record<float>(cursor, tokens, given.entries());
  auto expert_scratch = model.experts_executor().take_scratch<float>(cursor, given.entries(), false);

  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) {
    if (what == scope::experts) {
      model.experts_executor().forward<float, float, float>(given, weights, in, out, record, expert_scratch);
    } else {
      forward();
      if (what == scope::training) {
        pass.balance();
        pass.backward(0, {dy.data(), tokens, s.width}, {dx.data(), tokens, s.width}, gradients);
        gradients.reset();
      }
    }
    benchmark::ClobberMemory();
  }
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  const double per_token = 6.0 * double(s.k * s.width * s.hidden) * (what == scope::training ? 3 : 1);
  const double rate = per_token * double(tokens) * double(state.iterations()) * 1e-9 / taken.count();
  state.counters["GFLOP/s"] = rate;
  state.counters["of_sgemm"] = rate / (plain_product() * double(threads));
  state.counters["scratch_MB"] = double(model.workspace_bytes<float>(options)) * 1e-6;
}

}  // namespace

int main(int argc, char** argv) {
  const auto cores = std::max<moue::index_t>(1, std::thread::hardware_concurrency());
  for (const auto& s : shapes)
    for (const auto tokens : token_counts)
      for (const auto what : {scope::experts, scope::forward, scope::training})
        for (const auto threads : {moue::index_t{1}, cores}) {
          const std::string name = std::string(s.name) + "/T=" + std::to_string(tokens) + "/" +
                                   scope_names[static_cast<int>(what)] + "/threads=" + std::to_string(threads);
          benchmark::RegisterBenchmark(name.c_str(),
                                       [=, &s](benchmark::State& state) { run(state, s, tokens, what, threads); })
              ->Unit(benchmark::kMillisecond)
              ->UseRealTime();
        }
  benchmark::Initialize(&argc, argv);
  benchmark::AddCustomContext("plain sgemm, one thread, GFLOP/s", std::to_string(plain_product()));
  benchmark::RunSpecifiedBenchmarks();
}
