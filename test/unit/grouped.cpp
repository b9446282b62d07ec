// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Backends that run all experts of a kind at once, in memory that the host cannot see.

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "carried.hpp"
#include "compositions.hpp"
#include "island.hpp"
#include "moue/policies.hpp"
#include "stack.hpp"

namespace {

void check_same(const std::string& name, moue::index_t tokens, const std::vector<std::uint8_t>& valid) {
  CAPTURE(name);
  CAPTURE(tokens);
  const auto here = test::compose(name, {}, moue::reference{});
  const auto there = test::compose(name, {}, test::island{});
  const auto weights = test::random_weights(*here, 11);
  auto input = test::random_input(*here, tokens, 5);
  input.valid = valid;
  for (const auto how : {moue::mode::training, moue::mode::inference}) {
    const auto expected = test::run_stack(*here, weights, input, how);
    const auto result = test::run_stack(*there, weights, input, how);
    CHECK(test::same_bits(result.output, expected.output));
    CHECK(result.loss == expected.loss);
    CHECK(test::same_bits(result.dx, expected.dx));
    CHECK(test::same_bits(result.gradients, expected.gradients));
    CHECK(test::same_bits(result.share, expected.share));
    CHECK(test::same_bits(result.probability, expected.probability));
    for (std::size_t l = 0; l < expected.visits.size(); ++l) {
      CHECK(test::same_bits(result.visits[l].logits, expected.visits[l].logits));
      CHECK(result.visits[l].experts == expected.visits[l].experts);
      CHECK(test::same_bits(result.visits[l].gates, expected.visits[l].gates));
    }
  }
}

}  // namespace

TEST_CASE("experts of a kind run together as they run one by one, to the bit") {
  for (const auto& name : test::compositions()) {
    check_same(name, 9, {1, 1, 0, 1, 1, 1, 1, 0, 1});
    check_same(name, 1, {});
    check_same(name, 0, {});
    check_same(name, 300, {});  // more than one block of the count of valid tokens
    check_same(name, 2, {0, 0});
  }
}

TEST_CASE("the memory of an island is closed") {
  const test::island there;
  const std::array<double, 1> sent{3};
  auto* const memory = static_cast<double*>(there.allocate(sizeof(double)));
  there.upload(std::span<const double>(sent), memory);
  double back = 0;
  there.download(memory, std::span(&back, 1));
  CHECK(back == 3);
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);  // without the test program's report of what is meant to happen
    ::_exit(*static_cast<volatile double*>(memory) == 3 ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(!(WIFEXITED(status) && WEXITSTATUS(status) <= 1));
  there.release(memory);
}

namespace {

auto pool_on(const auto& backend) {
  return moue::mixture{
      moue::expert_pool{[](moue::index_t e) { return e % 2; }, moue::swiglu{6, 5}, moue::mlp<moue::relu, true>{6, 4}},
      moue::staggered_rotation{.depth = 2, .pool = 5, .window = 4}, moue::linear_router(2), moue::no_balancing{},
      backend};
}

/// Both layers forward and, after `between`, back.
void train(auto& pass, const moue::matrix_view<double>& x, const moue::matrix_view<double>& dy,
           const moue::matrix_view<double>& any, auto& into, const auto& between) {
  pass.begin(x.rows);
  for (const moue::index_t layer : {0, 1}) pass.forward(layer, x, any);
  between();
  for (const moue::index_t layer : {1, 0}) pass.backward(layer, dy, any, into);
}

/// Sets of tensors in the memory of an island.
struct on_island {
  test::island island;
  test::carrier<test::island> carrier{island};
  std::shared_ptr<const moue::parameter_layout> layout;

  explicit on_island(std::shared_ptr<const moue::parameter_layout> l) : layout(std::move(l)) {}

  std::vector<double*> place(const auto& host) {
    std::vector<double*> result;
    for (moue::index_t i = 0; i < layout->tensors(); ++i) {
      const moue::matrix_view<const double> from = host[i];
      result.push_back(carrier.make<double>((*layout)[i].size()));
      carrier.send(from.data, result.back(), from.rows * from.cols);
    }
    return result;
  }
  moue::gradients<double> gradients() {
    const std::vector<std::uint8_t> none(static_cast<std::size_t>(layout->tensors()));
    auto* const marks = carrier.make<std::uint8_t>(layout->tensors());
    carrier.send(none.data(), marks, layout->tensors());
    return {layout, place(moue::gradients<double>(layout)), marks};
  }
  /// Gives `weights` the values of `host` in other memory, and spoils what they leave.
  void move(moue::parameters<double>& weights, const moue::parameters<double>& host) {
    auto old = weights.alias();
    weights = moue::parameters<double>(layout, place(host));
    for (moue::index_t i = 0; i < layout->tensors(); ++i) {
      const std::vector<double> spoiled(static_cast<std::size_t>((*layout)[i].size()), std::nan(""));
      carrier.send(spoiled.data(), old[i].data, (*layout)[i].size());
    }
  }
  void check(const moue::gradients<double>& there, const moue::gradients<double>& expected) const {
    moue::gradients<double> fetched(layout);
    for (moue::index_t i = 0; i < layout->tensors(); ++i)
      if (there.wanted(i)) carrier.fetch(there[i].data, fetched[i].data, (*layout)[i].size());
    CHECK(test::same_bits(fetched, expected));
  }
};

}  // namespace

TEST_CASE("one pass follows gradients and weights that lie elsewhere than in the step before") {
  const auto here = pool_on(moue::reference{});
  on_island memory(here.layout());
  const auto there = pool_on(memory.island);
  const auto first = here.initialize<double>(1), second = here.initialize<double>(2);
  auto weights = first;
  moue::parameters<double> own(memory.layout, memory.place(first));
  moue::gradients<double> a(memory.layout), b(memory.layout);
  auto own_a = memory.gradients(), own_b = memory.gradients();

  constexpr moue::index_t tokens = 7, size = tokens * 6;
  const moue::pass_options options{.tokens = tokens};
  auto x = test::noise_vector(3, size), dy = test::noise_vector(4, size), any = x;
  const auto view = [&](double* data) { return moue::matrix_view(data, tokens, moue::index_t{6}); };
  const auto own_x = view(memory.carrier.make<double>(size)), own_dy = view(memory.carrier.make<double>(size)),
             own_any = view(memory.carrier.make<double>(size));
  memory.carrier.send(x.data(), own_x.data, size);
  memory.carrier.send(dy.data(), own_dy.data, size);
  moue::workspace scratch(here.workspace_bytes<double>(options));
  const auto bytes = there.workspace_bytes<double>(options);
  moue::workspace own_scratch(std::span(memory.carrier.make<std::byte>(static_cast<moue::index_t>(bytes)), bytes));
  auto pass = here.start(weights, options, scratch);
  auto own_pass = there.start(own, options, own_scratch);

  const auto nothing = [] {};
  const auto step = [&](auto& into, auto& own_into, const auto& between) {
    train(pass, view(x.data()), view(dy.data()), view(any.data()), into, nothing);
    train(own_pass, own_x, own_dy, own_any, own_into, between);
    memory.check(own_a, a);
    memory.check(own_b, b);
  };
  step(a, own_a, nothing);
  step(b, own_b, nothing);
  step(a, own_a, nothing);
  weights = second;
  memory.move(own, second);
  step(b, own_b, nothing);
  step(b, own_b, [&] { memory.move(own, second); });
  step(a, own_a, nothing);
}

TEST_CASE("a backend that cannot throw refuses to reject") {
  test::recipe r;
  r.on_non_finite = moue::non_finite::reject;
  const auto model = test::compose("normalised", r, test::island{});
  CHECK_THROWS_WITH_AS(test::run_stack(*model, test::random_weights(*model, 11), test::random_input(*model, 3, 5)),
                       doctest::Contains("non_finite::reject was asked of a backend that cannot throw"), moue::error);
}
