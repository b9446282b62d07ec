// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Mistakes that only numbers show: products whose shapes do not fit, and selections that break their rules.

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "executor_run.hpp"
#include "message_of.hpp"
#include "moue/executor.hpp"

namespace test {

using moue::index_t;

inline void refused(const auto& f, const std::string& text) {
  const std::string message = message_of(f);
  CHECK_MESSAGE(contains(message, text), "'" << message << "' does not say '" << text << "'");
}

enum class broken { no, too_many, negative_count, beyond, negative, twice, falling, negative_most };

/// A selection that breaks one rule where the first score is at least `from`.
struct broken_select {
  broken how;
  double from = 100;

  index_t max_selected(index_t n) const {
    if (how == broken::falling) return n > 4 ? 1 : 2;
    return how == broken::negative_most ? -1 : 2;
  }
  template <class C>
  MOUE_HD index_t operator()(moue::vector_view<const C> scores, moue::vector_view<const std::int32_t>,
                             moue::vector_view<std::int32_t> selected) const {
    selected[0] = 3;
    selected[1] = 1;
    if (!(scores[0] >= C(from))) return 2;
    if (how == broken::beyond) selected[1] = static_cast<std::int32_t>(scores.size);
    if (how == broken::negative) selected[0] = -2;
    if (how == broken::twice) selected[1] = 3;
    return how == broken::too_many ? 3 : how == broken::negative_count ? -1 : 2;
  }
};

/// Declares `a` with one row more than it uses, as an expert of low rank might.
struct one_row_off {
  index_t width = 4, rank = 3;

  auto parameters() const {
    return std::array{moue::parameter_spec{"a", rank + 1, width, moue::initializer::normal(1), moue::scope::expert},
                      moue::parameter_spec{"b", width, rank, moue::initializer::normal(1), moue::scope::expert}};
  }
  auto saved() const { return std::array{rank}; }
  auto temporaries() const { return std::array{rank}; }
  template <class C>
  void forward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto&,
               moue::matrix_view<C> y) const {
    ops.linear(x, p[0], saved[0]);
    ops.linear(saved[0], p[1], y);
  }
  template <class C>
  void backward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto& temporary,
                moue::matrix_view<const C> dy, moue::matrix_view<C> dx, const auto& dp) const {
    ops.weight_gradient(dy, saved[0], dp[1]);
    ops.input_gradient(dy, p[1], temporary[0]);
    ops.weight_gradient(temporary[0], x, dp[0]);
    ops.input_gradient(temporary[0], p[0], dx);
  }
};

template <class BackendT>
std::string ran_off(const BackendT& backend) {
  return message_of([&] {
    const moue::executor executor(one_row_off{}, 2, backend);
    moue::parameters<double> weights(executor.layout());
    moue::workspace block(executor.template workspace_bytes<double>(5, 5));
    auto memory = executor.template carve<double>(block, 5, 5);
    assignments given;
    for (int t = 0; t < 5; ++t) given.add(t % 2, 1), given.end_token();
    std::vector<double> x(20, 0.5), y(20);
    executor.forward(given.view(), weights, moue::matrix_view<double>{x.data(), 5, 4},
                     moue::matrix_view<double>{y.data(), 5, 4}, memory);
  });
}

/// Every product of whole matrices with one size off, each in turn, in `memory` [400] of the backend.
inline void check_products(const auto& backend, double* memory) {
  const auto ops = backend.operations(moue::matrix_view<double>{});
  const auto m = [&](index_t rows, index_t cols) { return moue::matrix_view<double>{memory, rows, cols}; };
  const auto c = [&](index_t rows, index_t cols) { return moue::matrix_view<const double>{memory, rows, cols}; };
  const auto fits = [](const auto& f) { CHECK(message_of(f) == ""); };
  fits([&] { ops.linear(c(5, 6), c(3, 6), m(5, 3)); });
  refused([&] { ops.linear(c(5, 6), c(4, 6), m(5, 3)); },
          "operations: linear [5, 6] x [4, 6] -> [5, 3] does not fit; give x");
  refused([&] { ops.linear(c(5, 6), c(3, 7), m(5, 3)); }, "linear [5, 6] x [3, 7] -> [5, 3] does not fit");
  refused([&] { ops.linear(c(4, 6), c(3, 6), m(5, 3), moue::store::add); },
          "linear [4, 6] x [3, 6] -> [5, 3] does not fit");
  fits([&] { ops.input_gradient(c(5, 3), c(3, 6), m(5, 6)); });
  refused([&] { ops.input_gradient(c(5, 3), c(3, 6), m(5, 7)); },
          "input_gradient [5, 3] x [3, 6] -> [5, 7] does not fit");
  refused([&] { ops.input_gradient(c(5, 3), c(4, 6), m(5, 6)); },
          "input_gradient [5, 3] x [4, 6] -> [5, 6] does not fit");
  refused([&] { ops.input_gradient(c(6, 3), c(3, 6), m(5, 6)); },
          "input_gradient [6, 3] x [3, 6] -> [5, 6] does not fit");
  std::uint8_t mark = 1;
  bool written = false;
  const auto target = [&](index_t rows, index_t cols) {
    return moue::gradient_target<double>{m(rows, cols), &mark, &written};
  };
  fits([&] { ops.weight_gradient(c(5, 3), c(5, 6), m(3, 6)); });
  fits([&] { ops.weight_gradient(c(5, 3), c(5, 6), target(3, 6)); });
  refused([&] { ops.weight_gradient(c(5, 3), c(5, 6), m(4, 6)); },
          "weight_gradient [5, 3] x [5, 6] -> [4, 6] does not fit");
  refused([&] { ops.weight_gradient(c(5, 3), c(5, 6), target(3, 7)); },
          "weight_gradient [5, 3] x [5, 6] -> [3, 7] does not fit");
  refused([&] { ops.weight_gradient(c(4, 3), c(5, 6), m(3, 6)); },
          "weight_gradient [4, 3] x [5, 6] -> [3, 6] does not fit");
  fits([&] { ops.column_sum(c(5, 3), m(1, 3)); });
  fits([&] { ops.column_sum(c(5, 3), target(1, 3)); });
  refused([&] { ops.column_sum(c(5, 3), m(1, 4)); }, "column_sum [5, 3] -> [1, 4] does not fit; give x [m, n]");
  refused([&] { ops.column_sum(c(5, 3), target(3, 1)); }, "column_sum [5, 3] -> [3, 1] does not fit");
}

}  // namespace test
