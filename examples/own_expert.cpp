// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// An expert with the plain form of `backward`: it gets the gradient of its output and knows nothing of gates.

#include <array>
#include <cmath>
#include <cstdio>
#include <moue/moue.hpp>
#include <moue/testing/laws.hpp>

/// y = B tanh(A x), with A [rank, width] and B [width, rank].
struct bottleneck {
  moue::index_t width = 1;
  moue::index_t rank = 1;

  auto parameters() const {
    const auto scale = [](moue::index_t n) { return moue::initializer::normal(1 / std::sqrt(double(n))); };
    return std::array{
        moue::parameter_spec{.name = "a", .rows = rank, .cols = width, .init = scale(width), .decayed = true},
        moue::parameter_spec{.name = "b", .rows = width, .cols = rank, .init = scale(rank), .decayed = true}};
  }
  auto saved() const { return std::array{rank}; }
  auto temporaries() const { return std::array{rank}; }

  template <class C>
  void forward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto&,
               moue::matrix_view<C> y) const {
    const auto h = saved[0];
    ops.linear(x, p[0], h);
    ops.each_element(h.rows, h.cols, [h](moue::index_t i, moue::index_t j) { h(i, j) = std::tanh(h(i, j)); });
    ops.linear(h, p[1], y);
  }

  template <class C>
  void backward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto& temporary,
                moue::matrix_view<const C> dy, moue::matrix_view<C> dx, const auto& dp) const {
    const auto h = saved[0];
    const auto da = temporary[0];
    ops.weight_gradient(dy, h, dp[1]);
    ops.input_gradient(dy, p[1], da);
    ops.each_element(h.rows, h.cols, [h, da](moue::index_t i, moue::index_t j) { da(i, j) *= 1 - h(i, j) * h(i, j); });
    ops.weight_gradient(da, x, dp[0]);
    ops.input_gradient(da, p[0], dx);
  }
};
static_assert(moue::Expert<bottleneck>);

int main() {
  const auto report = moue::testing::check_expert_laws(bottleneck{.width = 6, .rank = 3});
  std::printf("laws: %s\n", report ? "hold" : report.summary().c_str());

  const moue::mixture model{bottleneck{.width = 8, .rank = 2}, moue::shared_pool{.depth = 3, .pool = 4},
                            moue::normalised_router(2)};
  for (const auto& tensor : *model.layout())
    if (tensor.expert == 3) std::printf("%s [%td, %td]\n", tensor.name.c_str(), tensor.rows, tensor.cols);
  return report ? 0 : 1;
}
