// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: the gradient of a parameter is written by 'ops.weight_gradient' and 'ops.column_sum', or by functors through the matrix that 'moue::accumulate\(ops, dp\[i\]\)' gives
#include "moue/backend/reference.hpp"
#include "moue/executor.hpp"

#ifndef MOUE_TEST_MISTAKE  // other files have others
#define MOUE_TEST_MISTAKE                            \
  const moue::grouped_matrix<double> matrix = dp[0]; \
  matrix.for_row(0)(0, 0) += 1
#endif

struct mine {
  moue::index_t width = 4;
  auto parameters() const { return std::array{moue::parameter_spec{.name = "bias", .cols = width}}; }
  auto saved() const { return std::array<moue::index_t, 0>{}; }
  auto temporaries() const { return std::array<moue::index_t, 0>{}; }
  void forward(const auto&, const auto&, auto, const auto&, const auto&, auto) const {}
  void backward(const auto& ops, const auto&, auto, const auto&, const auto&, auto, auto, const auto& dp) const {
#ifdef MOUE_TEST_FIXED
    const auto d = moue::accumulate(ops, dp[0]);
    if (!d.empty()) d.for_row(0)(0, 0) += 1;
#else
    (void)ops;
    MOUE_TEST_MISTAKE;
#endif
  }
};

void run(const moue::executor<mine, moue::reference>& it, const moue::routing<double>& r,
         const moue::parameters<double>& weights, moue::matrix_view<double> x, moue::gradients<double>& into,
         moue::expert_memory<double>& memory) {
  it.backward(r, weights, x, x, x, moue::vector_view<double>{}, into, memory);
}
