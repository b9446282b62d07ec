// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
// expected-error: moue: the rows of a call belong to several experts, so a row functor reads a weight of row i as 'p\[n\]\.for_row\(i\)\(row, column\)'
#include "moue/backend/reference.hpp"
#include "moue/executor.hpp"

struct mine {
  moue::index_t width = 4;
  auto parameters() const { return std::array{moue::parameter_spec{.name = "scale", .cols = width}}; }
  auto saved() const { return std::array<moue::index_t, 0>{}; }
  auto temporaries() const { return std::array<moue::index_t, 0>{}; }
  void forward(const auto& ops, const auto& p, const auto& x, const auto&, const auto&, auto y) const {
    const auto scale = p[0];
    ops.each_element(y.rows, y.cols, [=](moue::index_t i, moue::index_t j) {
#ifdef MOUE_TEST_FIXED
      y(i, j) = x(i, j) * scale.for_row(i)(0, j);
#else
      y(i, j) = x(i, j) * scale(0, j);
#endif
    });
  }
  void backward(const auto&, const auto&, const auto&, const auto&, const auto&, auto, auto, const auto&) const {}
};

void run(const moue::executor<mine, moue::reference>& executor, const moue::routing<float>& routing,
         const moue::parameters<float>& weights, moue::matrix_view<float> x, moue::expert_memory<float>& memory) {
  executor.forward(routing, weights, x, x, memory);
}
