// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Row functors whose rows are shared by lanes, compared with the same functors on one lane.

#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

#include "emulator.hpp"  // before the kernels
#include "moue/backend/cuda/rows.cuh"
#include "moue/executor/rows.hpp"
#include "moue/expert/constant.hpp"
#include "moue/expert/gated_mlp.hpp"
#include "moue/expert/input_gated.hpp"
#include "moue/expert/mlp.hpp"
#include "moue/expert/self_gated.hpp"
#include "moue/router/features.hpp"
#include "moue/router/normalised_score.hpp"

namespace {

namespace gpu = moue::detail::gpu;
using moue::detail::gpu::device_lanes;

struct launches {
  template <class... P, class... A>
  void launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared, const A&... arguments) const {
    test::emulator::launch(3, kernel, grid, block, shared, arguments...);
  }
};

struct every_third {
  bool has(moue::index_t row) const { return row % 3 == 1; }
};

constexpr moue::index_t rows = 7, cols = 150;

/// Matrices that a functor reads and writes.
struct numbers {
  std::vector<std::vector<double>> of;

  explicit numbers(std::size_t count, std::size_t size = rows * cols) {
    std::mt19937 random(2);
    std::normal_distribution<double> normal;
    of.assign(count, std::vector<double>(size));
    for (auto& m : of)
      for (auto& x : m) x = normal(random);
  }
  moue::matrix_view<double> m(std::size_t i) { return {of[i].data(), rows, cols}; }
  moue::matrix_view<const double> c(std::size_t i) { return m(i); }
  moue::vector_view<double> v(std::size_t i) { return {of[i].data(), rows}; }
};

/// `functor(numbers)` makes a functor over some; it leaves the same numbers whichever way its rows are run.
template <class F>
void check(std::size_t count, const F& functor, moue::index_t many = rows) {
  const auto compare = [&](const numbers& by_lanes, const numbers& alone) {
    for (std::size_t i = 0; i < count; ++i)
      for (std::size_t j = 0; j < alone.of[i].size(); ++j)  // sums of 150 terms in another order
        REQUIRE(std::abs(by_lanes.of[i][j] - alone.of[i][j]) <= 1e-13 * (1 + std::abs(alone.of[i][j])));
  };
  using functor_type = std::remove_cvref_t<decltype(functor(std::declval<numbers&>()))>;
  static_assert(gpu::takes_lanes<functor_type>);
  {
    numbers by_lanes(count), alone(count);
    gpu::each_row_by_lanes(launches(), many, functor(by_lanes), gpu::all_rows());
    const auto f = functor(alone);
    for (moue::index_t row = 0; row < many; ++row) f(row);
    compare(by_lanes, alone);
  }
  {
    numbers by_lanes(count), alone(count);
    const auto f = functor(by_lanes);
    gpu::launch_blocks(launches(), gpu::run_rows<32, functor_type, every_third>, (many + 3) / 4, gpu::row_threads, 0,
                       gpu::rows_by_lanes<functor_type, every_third>{f, {}, many});
    const auto g = functor(alone);
    for (moue::index_t row = 0; row < many; ++row)
      if (every_third().has(row)) g(row);
    compare(by_lanes, alone);
  }
}

/// The rows of a matrix as they are.
moue::token_rows<double> in_order(const moue::matrix_view<const double>& m) { return m; }

}  // namespace

TEST_CASE("the rows of experts") {
  check(7, [](numbers& n) {
    return moue::detail::gated_backward_row<moue::silu, double>{n.c(0), n.c(1), n.v(5), n.m(2), n.m(3), n.m(4), n.v(6)};
  });
  check(5, [](numbers& n) {
    return moue::detail::mlp_backward_row<moue::gelu, double>{n.c(0), n.m(1), n.m(2), n.v(3), n.v(4)};
  });
  check(3, [](numbers& n) { return moue::detail::gate_of_bias{in_order(n.c(0)), n.c(1), n.v(2)}; });
  check(3, [](numbers& n) { return moue::detail::row_dot{in_order(n.c(0)), in_order(n.c(1)), n.v(2)}; });
  check(2, [](numbers& n) { return moue::detail::apply_self_gate<double>{n.m(0), n.m(1)}; });
  check(3, [](numbers& n) { return moue::detail::gate_input<double, double>{n.m(0), in_order(n.c(1)), n.m(2)}; });
  check(4, [](numbers& n) {
    return moue::detail::gate_input_backward<double, double>{n.c(0), in_order(n.c(1)), n.m(2), n.m(3)};
  });
  check(4, [](numbers& n) { return moue::detail::blend_row{n.m(0), in_order(n.c(1)), n.c(2), n.m(3)}; });
  check(9, [](numbers& n) {
    const moue::gated_gradient<double> out{n.c(3), n.v(4), n.v(5)};
    return moue::detail::blend_backward_row{n.c(0), in_order(n.c(1)), n.c(2), out, n.m(6), n.m(7), n.m(8)};
  });
  check(5, [](numbers& n) {
    return moue::detail::gate_from_output<double, double>{n.c(0), n.c(1), n.v(2), n.v(3), n.m(4)};
  });
}

TEST_CASE("the rows of routers") {
  std::vector<std::int32_t> candidates{6, 2, 0, 4, 1, 5, 3};
  const moue::vector_view<const std::int32_t> ids{candidates.data(), rows};
  check(2, [](numbers& n) { return moue::detail::rms_row<double>{n.c(0), n.m(1), 1e-6}; });
  check(3, [](numbers& n) { return moue::detail::rms_backward_row<double>{n.c(0), n.c(1), n.m(2), 1e-6}; });
  check(2, [&](numbers& n) { return moue::detail::gather_rows{n.c(0), ids, n.m(1)}; });
  check(2, [&](numbers& n) { return moue::detail::scatter_add_rows<double>{n.c(0), ids, n.m(1)}; });
  using view = moue::matrix_view<const double>;
  const auto row = [&](numbers& n) { return moue::detail::column_row<true, double, view>{n.c(0), n.c(1), ids}; };
  check(4, [&](numbers& n) { return moue::detail::normalise_column<true, double, view>{row(n), n.c(2), n.m(3)}; });
  check(7, [&](numbers& n) {
    return moue::detail::normalise_column_backward<true, double, view>{row(n), n.c(2), n.c(3), n.m(4), n.m(5), n.m(6)};
  });
}

TEST_CASE("rows to and from experts") {
  // Three tokens with three, none and four of the seven rows.
  std::vector<std::int32_t> row_token{0, 0, 0, 2, 2, 2, 2};
  std::vector<moue::index_t> row_entry{3, 1, 0, 6, 2, 4, 5}, token_offsets{0, 3, 3, 7}, token_rows{0, 2, 5, 1, 3, 4, 6};
  moue::dispatch_plan plan;
  plan.row_token = {row_token.data(), rows};
  plan.row_entry = {row_entry.data(), rows};
  plan.token_offsets = {token_offsets.data(), 4};
  plan.token_rows = {token_rows.data(), rows};
  check(2, [&](numbers& n) { return moue::detail::gather_row<double, double>{{n.c(0), plan.row_token}, n.m(1)}; });
  check(
      3,
      [&](numbers& n) {
        return moue::detail::combine<double, double>{plan, n.v(0), n.c(1), n.m(2)};
      },
      3);
  check(
      2,
      [&](numbers& n) {
        return moue::detail::sum_rows<double, double>{plan, n.c(0), n.m(1)};
      },
      3);
}

TEST_CASE("many rows get a warp each") {
  constexpr moue::index_t many = 5000;
  std::vector<double> from(many * 2), to(many * 2);
  for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<double>(i);
  std::vector<std::int32_t> tokens(many);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(i);
  gpu::each_row_by_lanes(
      launches(), many,
      moue::detail::gather_row<double, double>{
          {moue::matrix_view<const double>(from.data(), many, 2), {tokens.data(), many}}, {to.data(), many, 2}},
      gpu::all_rows());
  CHECK(to == from);
}
