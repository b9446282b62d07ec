// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// The executor without a router: ragged lists, holes, other element types, and experts of one's own.

#include "moue/executor.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "executor_run.hpp"
#include "moue/backend/cpu.hpp"
#include "moue/backend/reference.hpp"
#include "moue/expert/copy.hpp"
#include "moue/expert/gated_mlp.hpp"
#include "stack.hpp"

namespace {

/// A square map and a residual, as a user would write it: backward takes dy as it is and knows no gates.
struct plain_expert {
  moue::index_t width = 1;

  auto parameters() const {
    return std::array{
        moue::parameter_spec{"map", width, width, moue::initializer::normal(0.3), moue::scope::expert, true, true}};
  }
  auto saved() const { return std::array<moue::index_t, 1>{width}; }
  auto temporaries() const { return std::array<moue::index_t, 1>{width}; }
  template <class C>
  void forward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto&,
               moue::matrix_view<C> y) const {
    ops.linear(x, p[0], saved[0]);
    const auto m = saved[0];
    ops.each_element(y.rows, y.cols,
                     [m, x, y](moue::index_t i, moue::index_t j) { y(i, j) = x(i, j) + m(i, j) * m(i, j); });
  }
  template <class C>
  void backward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto& temporary,
                moue::matrix_view<const C> dy, moue::matrix_view<C> dx, const auto& dp) const {
    const auto m = saved[0];
    const auto dm = temporary[0];
    ops.each_element(dx.rows, dx.cols, [m, dm, dy, dx](moue::index_t i, moue::index_t j) {
      dm(i, j) = 2 * m(i, j) * dy(i, j);
      dx(i, j) = dy(i, j);
    });
    ops.input_gradient(dm, p[0], dx, moue::store::add);
    ops.weight_gradient(dm, x, dp[0]);
  }
};

/// The same map, with a backward that takes gates.
struct gated_expert : plain_expert {
  auto temporaries() const { return std::array{width, width}; }
  template <class C, class T>
  void backward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto& temporary,
                moue::gated_gradient<C, T> out, moue::matrix_view<C> dx, const auto& dp) const {
    const auto m = saved[0];
    const auto scaled = temporary[1];
    ops.each_row(x.rows, [m, x, out, scaled](moue::index_t i) {
      out.dgate[i] = 0;
      for (moue::index_t j = 0; j < x.cols; ++j) {
        out.dgate[i] += out.dy(i, j) * (x(i, j) + m(i, j) * m(i, j));
        scaled(i, j) = out.dy(i, j) * out.gate[i];
      }
    });
    plain_expert::backward<C>(ops, p, x, saved, temporary, scaled, dx, dp);
  }
};

/// Ragged lists with holes, a token with none, an expert with none, ids out of order and named twice.
test::assignments ragged() {
  test::assignments result;
  const std::vector<std::vector<std::int32_t>> lists{{3, 0}, {},  {-1, 4, -1}, {0, 1, 3, 4},
                                                     {-1},   {1}, {4, 3},      {3, -1, 3, 0, 3}};
  for (const auto& list : lists) {
    for (const auto e : list) result.add(e, 0.3 + 0.1 * static_cast<double>(result.gate.size()));
    result.end_token();
  }
  return result;
}

constexpr moue::index_t width = 6, experts = 5;

}  // namespace

TEST_CASE("ragged lists with holes agree with a loop over tokens") {
  const moue::mlp<moue::silu> expert{width, 4};
  const auto given = ragged();
  const auto x = test::noise_vector(1, given.tokens() * width), dy = test::noise_vector(2, given.tokens() * width);
  const auto check = [&](const auto& executor) {
    moue::parameters<double> weights(test::layout_of(executor));
    moue::initialize(weights, 1);
    const auto expected = test::run_naively(weights, width, given, x, dy);
    const auto result = test::run_executor(executor, weights, given, x, dy);
    CHECK(test::distance(result.y, expected.y) < 1e-14);  // a handful of terms
    CHECK(test::distance(result.dx, expected.dx) < 1e-14);
    CHECK(test::distance(result.dgate, expected.dgate) < 1e-14);
    CHECK(test::distance(result.gradients, expected.gradients) < 1e-14);
    for (std::size_t i = 0; i < given.expert.size(); ++i)
      if (given.expert[i] < 0) CHECK(result.dgate[i] == 0);
    for (const moue::index_t t : {1, 4})
      for (moue::index_t j = 0; j < width; ++j) {
        CHECK(result.y[static_cast<std::size_t>(t * width + j)] == 0);
        CHECK(result.dx[static_cast<std::size_t>(t * width + j)] == 0);
      }
    CHECK(!result.gradients.touched(2));
  };
  check(moue::executor(expert, experts, moue::reference{}));
  check(moue::executor(expert, experts, moue::cpu{}));
  check(moue::executor(expert, experts, moue::cpu{3}));
}

TEST_CASE("an expert whose backward knows no gates gives what one that takes them gives") {
  const auto given = ragged();
  const auto x = test::noise_vector(1, given.tokens() * width), dy = test::noise_vector(2, given.tokens() * width);
  const auto check = [&](auto backend) {
    const moue::executor plain(plain_expert{width}, experts, backend);
    const moue::executor gated(gated_expert{width}, experts, backend);
    const moue::executor both(
        moue::expert_pool{[](moue::index_t e) { return e % 2; }, plain_expert{width}, gated_expert{width}}, experts,
        backend);
    moue::parameters<double> weights(test::layout_of(plain));
    moue::initialize(weights, 1);
    const auto expected = test::run_executor(gated, weights, given, x, dy);
    const auto same = [&](const test::executor_result& result) {
      CHECK(test::same_bits(result.y, expected.y));
      CHECK(test::same_bits(result.dx, expected.dx));
      CHECK(test::same_bits(result.dgate, expected.dgate));
      CHECK(test::same_bits(result.gradients, expected.gradients));
    };
    same(test::run_executor(plain, weights, given, x, dy));
    same(test::run_executor(both, weights, given, x, dy));

    for (std::size_t i = 0; i < x.size(); ++i) {  // and both give derivatives
      const auto loss = [&](double step) {
        auto moved = x;
        moved[i] += step;
        const auto y = test::run_executor(plain, weights, given, moved, dy).y;
        double sum = 0;
        for (std::size_t j = 0; j < y.size(); ++j) sum += y[j] * dy[j];
        return sum;
      };
      CHECK((loss(1e-5) - loss(-1e-5)) / 2e-5 == doctest::Approx(expected.dx[i]).epsilon(1e-7));
    }
  };
  check(moue::reference{});
  check(moue::cpu{2});
}

TEST_CASE("inputs and outputs may be of another element type than the weights") {
  const moue::executor executor(moue::mlp<moue::silu>{width, 4}, experts, moue::reference{});
  moue::parameters<double> weights(test::layout_of(executor));
  moue::initialize(weights, 1);
  const auto given = ragged();
  const moue::index_t tokens = given.tokens(), entries = std::ssize(given.expert);
  const auto exact = test::noise_vector(1, tokens * width);
  const std::vector<float> x(exact.begin(), exact.end());
  std::vector<float> y(x.size());
  const auto carve = [&](moue::arena& memory) {
    return std::pair{executor.take_record<double>(memory, tokens, entries),
                     executor.take_scratch<double>(memory, entries, false)};
  };
  moue::arena counter;
  carve(counter);
  moue::workspace scratch(counter.bytes());
  moue::arena memory(scratch.bytes());
  auto [record, temporary] = carve(memory);
  executor.forward(given.view(), weights, moue::matrix_view(x.data(), tokens, width),
                   moue::matrix_view(y.data(), tokens, width), record, temporary);
  const std::vector<double> widened(x.begin(), x.end());
  const auto expected = test::run_naively(weights, width, given, widened, widened);
  CHECK(test::distance(y, expected.y) < 1e-7);  // rounded to float once, at the end
}

TEST_CASE("offsets that do not ascend from 0 to the number of entries are refused before anything is read by them") {
  const auto refused = [](const std::vector<moue::index_t>& offsets, moue::index_t entries, const std::string& what) {
    const moue::executor executor(moue::copy_expert{width}, experts, moue::cpu{});
    const moue::parameters<double> weights(executor.layout());
    const moue::index_t tokens = std::ssize(offsets) - 1;
    const std::vector<std::int32_t> ids(static_cast<std::size_t>(entries), 0);
    const std::vector<double> gates(ids.size(), 1), x(static_cast<std::size_t>(tokens * width));
    std::vector<double> y(x.size());
    moue::workspace block(executor.workspace_bytes<double>(tokens, entries));
    auto memory = executor.carve<double>(block, tokens, entries);
    CHECK_THROWS_WITH_AS(
        executor.forward(
            moue::routing<double>{{offsets.data(), tokens + 1}, {ids.data(), entries}, {gates.data(), entries}},
            weights, moue::matrix_view(x.data(), tokens, width), moue::matrix_view(y.data(), tokens, width), memory),
        doctest::Contains(what.c_str()), moue::error);
  };
  refused({0, 6, 2, 3, 4}, 4, "its offsets fall from 6 to 2 at token 1");
  refused({0, 1000000, 2, 3, 4}, 4, "its offsets fall from 1000000 to 2 at token 1");
  refused({-3, 1, 2, 3, 4}, 4, "its offsets begin with -3");
  refused({2, 2, 2, 3, 4}, 4, "its offsets begin with 2");
  refused({0, 3, 1, 3, 4}, 4, "its offsets fall from 3 to 1 at token 1");
  refused({0, 1, 2, 3, 5}, 4, "its offsets end at 5, but it has 4 experts");
  refused({0, 1, 2, 3, 3}, 4, "its offsets end at 3, but it has 4 experts");
}

TEST_CASE("a single row has no stride, and what is only read may repeat a row") {
  const moue::executor executor(moue::mlp<moue::silu>{width, 4}, experts, moue::cpu{});
  moue::parameters<double> weights(executor.layout());
  moue::initialize(weights, 1);
  const auto row = test::noise_vector(1, width), gradient = test::noise_vector(2, width);
  const auto repeated = [&](const std::vector<double>& one, moue::index_t tokens) {
    std::vector<double> all;
    for (moue::index_t t = 0; t < tokens; ++t) all.insert(all.end(), one.begin(), one.end());
    return all;
  };
  const auto run = [&](const test::assignments& given, moue::index_t stride) {
    const moue::index_t tokens = given.tokens(), entries = std::ssize(given.expert);
    moue::workspace block(executor.workspace_bytes<double>(tokens, entries));
    auto memory = executor.carve<double>(block, tokens, entries);
    const moue::index_t apart = tokens == 1 ? stride : width;
    test::executor_result result{std::vector<double>(static_cast<std::size_t>(tokens * width)),
                                 std::vector<double>(static_cast<std::size_t>(tokens * width)),
                                 std::vector<double>(given.gate.size()),
                                 moue::gradients<double>(weights.shared_layout())};
    executor.forward(given.view(), weights, moue::matrix_view(row.data(), tokens, width, stride),
                     moue::matrix_view(result.y.data(), tokens, width, apart), memory);
    executor.backward(given.view(), weights, moue::matrix_view(row.data(), tokens, width, stride),
                      moue::matrix_view(gradient.data(), tokens, width, stride),
                      moue::matrix_view(result.dx.data(), tokens, width, apart),
                      moue::vector_view<double>{result.dgate.data(), entries}, result.gradients, memory);
    return result;
  };
  const auto check = [&](const test::assignments& given, moue::index_t stride) {
    const auto result = run(given, stride);
    const auto expected =
        test::run_executor(executor, weights, given, repeated(row, given.tokens()), repeated(gradient, given.tokens()));
    CHECK(test::same_bits(result.y, expected.y));
    CHECK(test::same_bits(result.dx, expected.dx));
    CHECK(test::same_bits(result.dgate, expected.dgate));
    CHECK(test::same_bits(result.gradients, expected.gradients));
  };
  check(ragged(), 0);
  test::assignments one;
  one.add(3, 0.7);
  one.end_token();
  for (const moue::index_t stride : {0, 1, -5, 1000}) check(one, stride);
  std::vector<double> y(static_cast<std::size_t>(ragged().tokens() * width));
  const auto given = ragged();
  moue::workspace block(executor.workspace_bytes<double>(given.tokens(), std::ssize(given.expert)));
  auto memory = executor.carve<double>(block, given.tokens(), std::ssize(given.expert));
  CHECK_THROWS_WITH_AS(
      executor.forward(given.view(), weights, moue::matrix_view(row.data(), given.tokens(), width, moue::index_t{0}),
                       moue::matrix_view(y.data(), given.tokens(), width, moue::index_t{0}), memory),
      doctest::Contains("y has rows of 6 elements that start 0 apart"), moue::error);
}

TEST_CASE("an expert with more rows than a block agrees with a loop over tokens, whatever the threads") {
  const moue::index_t tokens = 2 * moue::detail::block_rows + 100;
  test::assignments given;
  for (moue::index_t t = 0; t < tokens; ++t) {
    given.add(1, 0.5 + 0.01 * static_cast<double>(t % 7));
    if (t % 50 == 0) given.add(t % 3 == 0 ? 4 : 0, 0.25);
    given.end_token();
  }
  const auto x = test::noise_vector(1, tokens * width), dy = test::noise_vector(2, tokens * width);
  const auto run = [&](auto backend) {
    const moue::executor executor(moue::mlp<moue::silu>{width, 4}, experts, std::move(backend));
    moue::parameters<double> weights(executor.layout());
    moue::initialize(weights, 1);
    auto result = test::run_executor(executor, weights, given, x, dy);
    const auto expected = test::run_naively(weights, width, given, x, dy);
    CHECK(test::distance(result.y, expected.y) < 1e-14);
    CHECK(test::distance(result.dx, expected.dx) < 1e-14);
    CHECK(test::distance(result.dgate, expected.dgate) < 1e-14);
    CHECK(test::distance(result.gradients, expected.gradients) < 1e-11);  // thousands of terms
    return result;
  };
  run(moue::reference{});
  const auto one = run(moue::cpu{}), two = run(moue::cpu{2}), three = run(moue::cpu{3});
  for (const auto* other : {&two, &three}) {
    CHECK(test::same_bits(one.y, other->y));
    CHECK(test::same_bits(one.dx, other->dx));
    CHECK(test::same_bits(one.dgate, other->dgate));
    CHECK(test::same_bits(one.gradients, other->gradients));
  }
}

namespace {

/// An expert that declares what it is told and is never run.
struct declared_expert {
  moue::index_t width = 4;
  std::array<moue::parameter_spec, 2> all = {moue::parameter_spec{.name = "a"}, moue::parameter_spec{.name = "b"}};
  moue::index_t held = 1, scratch = 1;

  auto parameters() const { return all; }
  auto saved() const { return std::array{held}; }
  auto temporaries() const { return std::array{scratch}; }
  void forward(const auto&, const auto&, const auto&, const auto&, const auto&, auto) const {}
  void backward(const auto&, const auto&, const auto&, const auto&, const auto&, auto, auto, const auto&) const {}
};

}  // namespace

TEST_CASE("what an expert declares must make sense") {
  const auto refused = [](const auto& expert, const char* what) {
    CHECK_THROWS_WITH_AS(moue::executor(expert, 2, moue::reference{}), doctest::Contains(what), moue::error);
  };
  CHECK_NOTHROW(moue::executor(declared_expert{}, 2, moue::reference{}));
  CHECK_NOTHROW(moue::executor(declared_expert{.held = 0, .scratch = 0}, 2, moue::reference{}));
  refused(declared_expert{.held = -1}, "matrix 0 of an expert's saved() has width -1");
  refused(declared_expert{.scratch = -7}, "matrix 0 of an expert's temporaries() has width -7");
  const moue::parameter_spec a{.name = "a"}, none{};
  refused(declared_expert{.all = {a, a}}, "two parameters of an expert are called 'a'");
  refused(declared_expert{.all = {a, none}}, "parameter 1 of an expert has an empty name");
  refused(declared_expert{.all = {a, {.name = "b", .rows = 0}}}, "parameter 'b' of an expert has shape [0, 1]");
  refused(moue::swiglu{}, "experts have width 0");
  refused(moue::swiglu{.width = 4}, "parameter 'gate' of an expert has shape [0, 4]");
  CHECK_THROWS_WITH_AS(moue::executor(declared_expert{}, -1, moue::reference{}),
                       doctest::Contains("-1 experts were asked for"), moue::error);
}
