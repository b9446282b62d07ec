// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// The executor on the CUDA backend without a router, run by a host here and by a device in test/cuda: any load, ragged
// lists, ids that are none, experts that know no gates.

#include <doctest/doctest.h>

#include <array>
#include <type_traits>
#include <vector>

#include "carried_executor.hpp"
#include "device.hpp"
#include "loads.hpp"
#include "moue/backend/reference.hpp"
#include "stack.hpp"

namespace {

constexpr double tolerance = 1e-12;  // sums of up to some hundred terms in another order

/// Results on the device agree with `expected`.
void check(const auto& expert, moue::index_t experts, const moue::parameters<double>& weights,
           const test::assignments& given, const test::executor_result& expected, const std::vector<double>& x,
           const std::vector<double>& dy, moue::index_t refused = 0) {
  const moue::executor executor(expert, experts, test::device());
  const auto result = test::run_carried(executor, weights, given, x, dy);
  CHECK(test::distance(result.y, expected.y) < tolerance);
  CHECK(test::distance(result.dx, expected.dx) < tolerance);
  CHECK(test::distance(result.dgate, expected.dgate) < tolerance);
  CHECK(test::distance(result.gradients, expected.gradients) < tolerance);
  for (moue::index_t e = 0; e < experts; ++e) CHECK(result.gradients.touched(e) == expected.gradients.touched(e));
  for (std::size_t i = 0; i < given.expert.size(); ++i)
    if (given.expert[i] < 0 || given.expert[i] >= experts) CHECK(result.dgate[i] == 0);
  CHECK(result.refused == refused);
}

/// The same for an expert that a loop over tokens knows.
void check(const moue::mlp<moue::silu>& expert, moue::index_t experts, const test::assignments& given,
           const test::assignments& meant, moue::index_t refused = 0) {
  moue::parameters<double> weights(test::layout_of(moue::executor(expert, experts, moue::reference{})));
  moue::initialize(weights, 1);
  const auto x = test::noise_vector(2, given.tokens() * expert.width);
  const auto dy = test::noise_vector(3, given.tokens() * expert.width);
  check(expert, experts, weights, given, test::run_naively(weights, expert.width, meant, x, dy), x, dy, refused);
}

test::assignments of_lists(const std::vector<std::vector<std::int32_t>>& lists) {
  test::assignments result;
  for (const auto& list : lists) {
    for (const auto e : list) result.add(e, 0.3 + 0.1 * static_cast<double>(result.gate.size()));
    result.end_token();
  }
  return result;
}

const std::vector<std::vector<std::int32_t>> ragged{{3, 0}, {}, {-1, 4, -1}, {0, 1, 3, 4}, {-1}, {1}, {4, 3}, {}};

template <class C, class X>
struct add_square {
  X x;
  moue::matrix_view<const C> m;
  moue::matrix_view<C> y;
  MOUE_HD void operator()(moue::index_t i, moue::index_t j) const { y(i, j) = x(i, j) + m(i, j) * m(i, j); }
};
template <class C>
struct add_square_backward {
  moue::matrix_view<const C> m, dy;
  moue::matrix_view<C> dm, dx;
  MOUE_HD void operator()(moue::index_t i, moue::index_t j) const {
    dm(i, j) = 2 * m(i, j) * dy(i, j);
    dx(i, j) = dy(i, j);
  }
};

/// y = x + (W x)², whose backward takes dy as it is and knows no gates.
struct plain_expert {
  moue::index_t width = 1;

  auto parameters() const {
    return std::array{moue::parameter_spec{"map", width, width, moue::initializer::normal(0.3), moue::scope::expert}};
  }
  auto saved() const { return std::array<moue::index_t, 1>{width}; }
  auto temporaries() const { return std::array<moue::index_t, 1>{width}; }
  template <class C>
  void forward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto&,
               moue::matrix_view<C> y) const {
    ops.linear(x, p[0], saved[0]);
    ops.each_element(y.rows, y.cols, add_square<C, std::remove_cvref_t<decltype(x)>>{x, saved[0], y});
  }
  template <class C>
  void backward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto& temporary,
                moue::matrix_view<const C> dy, moue::matrix_view<C> dx, const auto& dp) const {
    const auto& dm = temporary[0];
    ops.each_element(dx.rows, dx.cols, add_square_backward<C>{saved[0], dy, dm, dx});
    ops.input_gradient(dm, p[0], dx, moue::store::add);
    ops.weight_gradient(dm, x, dp[0]);
  }
};
static_assert(!moue::detail::has_gated_backward<plain_expert>);

}  // namespace

TEST_CASE("all loads agree with a loop over tokens") {
  for (const auto& kind : test::loads::all)
    for (const moue::index_t tokens : {1, 3, 70}) {
      CAPTURE(kind.name);
      CAPTURE(tokens);
      const auto given = test::loads::assign(kind, tokens);
      check({20, 12}, test::loads::experts, given, given);
    }
}

TEST_CASE("ragged lists with holes agree with a loop over tokens") {
  check({6, 4}, 5, of_lists(ragged), of_lists(ragged));
  check({40, 33}, 5, of_lists(ragged), of_lists(ragged));
  check({6, 4}, 5, of_lists({{}, {-1}}), of_lists({{}, {-1}}));
  check({6, 4}, 5, of_lists({}), of_lists({}));
}

TEST_CASE("ids out of range are as none, and are counted") {
  auto lists = ragged;
  lists[1] = {5, -2};
  lists[3] = {0, 1 << 30, 3, 4};
  auto meant = lists;
  meant[1] = {-1, -1};
  meant[3][1] = -1;
  check({6, 4}, 5, of_lists(lists), of_lists(meant), 3);
}

TEST_CASE("entries of a token that name one expert share a row") {
  const auto given = of_lists({{3, 3}, {0, 3, 0}, {2}, {1, 1, 1, -1}});
  check({6, 4}, 5, given, given);
}

TEST_CASE("more experts than a byte counts") {
  test::assignments given;
  for (moue::index_t t = 0; t < 23; ++t) {
    given.add(static_cast<std::int32_t>(t * 13 % 300), 0.5);
    given.add(299, -0.7);
    given.end_token();
  }
  check({5, 3}, 300, given, given);
}

TEST_CASE("experts whose backward knows no gates, alone and beside others") {
  const auto compare = [](const auto& expert, const test::assignments& given) {
    const moue::executor executor(expert, 5, moue::reference{});
    moue::parameters<double> weights(test::layout_of(executor));
    moue::initialize(weights, 1);
    const moue::index_t size = given.tokens() * executor.width();
    const auto x = test::noise_vector(2, size), dy = test::noise_vector(3, size);
    check(expert, 5, weights, given, test::run_executor(executor, weights, given, x, dy), x, dy);
  };
  for (const moue::index_t width : {6, 40}) {
    const moue::expert_pool both{[](moue::index_t e) { return e % 2; }, plain_expert{width},
                                 moue::mlp<moue::silu>{width, 4}};
    for (const auto& given : {of_lists(ragged), of_lists({{}, {-1}})}) {
      compare(plain_expert{width}, given);
      compare(both, given);
    }
  }
}
