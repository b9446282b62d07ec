// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// y = x wᵀ for the rows that an expert gets in a small batch: `cpu` beside the same product by Eigen, with matrices that
// come from memory as those of different experts do. Run it with --benchmark_enable_random_interleaving=true, so that the
// contenders of a row share whatever else the machine is doing. Outputs are compared before anything is timed.

#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "moue/moue.hpp"

namespace {

using moue::index_t;
using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct shape {
  const char* name;
  index_t n, k, matrices;  // so many that caches hold few of them
};
constexpr shape shapes[] = {{"olmoe-up", 1024, 2048, 32}, {"olmoe-down", 2048, 1024, 32}, {"r-small-up", 512, 256, 16}};

template <class W>
std::vector<W> weights_of(const shape& s) {
  std::vector<W> w(static_cast<std::size_t>(s.matrices * s.n * s.k));
  for (std::size_t i = 0; i < w.size(); ++i)
    w[i] = W(static_cast<float>((i * 2654435761u >> 8) & 0xffff) / 65536.0f - 0.5f);
  return w;
}

/// By Eigen alone: a matrix in another type is converted first, a single row is a product with a vector.
template <class W>
void by_eigen(const matrix& x, const W* w, const shape& s, matrix& wide, matrix& y) {
  const float* weights;
  if constexpr (std::is_same_v<W, float>) {
    weights = w;
  } else {
    for (index_t i = 0; i < s.n * s.k; ++i) wide.data()[i] = static_cast<float>(w[i]);
    weights = wide.data();
  }
  const Eigen::Map<const matrix> b(weights, s.n, s.k);
  if (x.rows() == 1)
    y.row(0).transpose().noalias() = b * x.row(0).transpose();
  else
    y.noalias() = x * b.transpose();
}

template <class W>
void run(benchmark::State& state, const shape& s, index_t rows, bool ours) {
  const auto w = weights_of<W>(s);
  const matrix x = matrix::Random(rows, s.k);
  matrix wide(s.n, s.k), y(rows, s.n), other(rows, s.n);
  const auto ops = moue::cpu{}.operations(moue::matrix_view<float>{wide.data(), 1, s.n * s.k});
  const auto product = [&](index_t i, matrix& to, bool by_cpu) {
    const W* const weights = w.data() + i * s.n * s.k;
    if (by_cpu)
      ops.linear(moue::matrix_view<const float>{x.data(), rows, s.k}, moue::matrix_view<const W>{weights, s.n, s.k},
                 moue::matrix_view<float>{to.data(), rows, s.n});
    else
      by_eigen(x, weights, s, wide, to);
  };
  product(0, y, true);
  product(0, other, false);
  if ((y - other).cwiseAbs().maxCoeff() > 1e-4f * other.cwiseAbs().maxCoeff()) {  // rounding of 2048 terms in float
    state.SkipWithError("the outputs differ");
    return;
  }
  index_t i = 0;
  for (auto _ : state) {
    product(i++ % s.matrices, y, ours);
    benchmark::ClobberMemory();
  }
  const auto per_second = [&](double of_one) {
    return benchmark::Counter(of_one, benchmark::Counter::kIsIterationInvariantRate);
  };
  state.counters["flops"] = per_second(2.0 * double(rows * s.n * s.k));
  state.counters["bytes"] = per_second(double(sizeof(W)) * double(s.n * s.k));
}

template <class W>
void add(const char* type) {
  for (const auto& s : shapes)
    for (const index_t rows : {1, 2, 4, 8, 16})
      for (const bool ours : {true, false})
        benchmark::RegisterBenchmark(
            (std::string(s.name) + "/" + type + "/rows=" + std::to_string(rows) + (ours ? "/moue" : "/eigen")).c_str(),
            [&s, rows, ours](benchmark::State& state) { run<W>(state, s, rows, ours); });
}

const bool added = [] {
  add<float>("float");
  add<moue::bf16>("bf16");
  return true;
}();

}  // namespace
