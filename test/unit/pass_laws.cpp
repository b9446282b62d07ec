// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <span>
#include <tuple>
#include <vector>

#include "moue/backend/cpu.hpp"
#include "moue/backend/reference.hpp"
#include "pass_laws.hpp"

// Any cut of the depth, a pass taken apart, put down and picked up, or gone back over twice: the bits of the whole.

namespace {

using test::placed_pass;
using test::run_whole;
using test::whole_host;

test::model_pointer<double> on(bool threads) {
  if (threads) return test::erase<double>(test::whole_mixture(moue::cpu{2}));
  return test::erase<double>(test::whole_mixture(moue::reference{}));
}

std::vector<double> router_gradient(const whole_host& host) {
  return test::to_vector(host.gradients["layers.0.router.weight"]);
}

}  // namespace

TEST_CASE("any cut of the depth has the bits of the whole") {
  test::check_cuts(*on(false));
  test::check_cuts(*on(true));
}

TEST_CASE("a block that is run again has the bits of the whole and is counted once") {
  test::check_block_again(*on(false));
  test::check_block_again(*on(true));
}

TEST_CASE("leaving early is the range that ran") {
  const auto model = on(false);
  const auto run = [&](moue::pass_options options) {
    whole_host host(*model);
    const placed_pass pass(host, options);
    pass->begin(host.tokens, host.inputs());
    for (moue::index_t l = 0; l < 2; ++l) host.forward(*pass, l);
    const double balance = pass->balance();
    pass->arm();
    host.dx = host.target;
    for (moue::index_t l = 2; l-- > 0;) host.backward(*pass, l);
    const auto exposure = pass->statistics().exposure;
    return std::tuple(balance, host.dx, router_gradient(host), std::vector<double>(exposure.begin(), exposure.end()));
  };
  CHECK(run({}) == run({.count = 2}));
  const auto exposure = std::get<3>(run({}));
  CHECK(std::accumulate(exposure.begin(), exposure.end(), 0.0) == 8);  // two layers of four candidates
}

TEST_CASE("a pass taken apart has the bits of the whole") {
  test::check_taken_apart(*on(false));
  test::check_taken_apart(*on(true));
}

TEST_CASE("backward again over what was saved has the same bits") {
  test::check_backward_again(*on(false));
  test::check_backward_again(*on(true));
}

TEST_CASE("a pass that is put down goes on at any address with the same bits") {
  const auto model = on(false);
  whole_host whole(*model);
  run_whole(whole);
  const moue::pass_options options{.tokens = whole.tokens};
  const std::size_t bytes = model->workspace_bytes(options);
  for (std::size_t shift = 0; shift < 64; ++shift) {
    CAPTURE(shift);
    whole_host host(*model);
    auto memory = std::make_unique<std::vector<std::byte>>(bytes + 64);
    auto block = std::make_unique<moue::workspace>(std::span(*memory).first(bytes));
    auto weights = std::make_unique<moue::parameters<double>>(host.weights);
    auto pass = model->start(*weights, options, *block);
    std::size_t moves = 0;
    const auto move = [&] {  // everything that was there before is gone
      const auto position = pass->position();
      auto next_memory = std::make_unique<std::vector<std::byte>>(bytes + 64);
      auto next = std::make_unique<moue::workspace>(std::span(*next_memory).subspan((shift + 7 * moves++) % 64, bytes));
      const auto from = block->bytes(), to = next->bytes();
      int addresses = 0;
      test::each_address(from, *weights, host.gradients, *memory, [&](std::uintptr_t) { ++addresses; });
      CHECK(addresses == 0);
      std::memcpy(to.data(), from.data(), std::min(from.size(), to.size()));
      pass.reset();
      std::fill(memory->begin(), memory->end(), std::byte{0xff});
      memory = std::move(next_memory);
      block = std::move(next);
      weights = std::make_unique<moue::parameters<double>>(host.weights);
      pass = model->resume(*weights, options, *block, position, host.inputs());
    };
    pass->begin(host.tokens, host.inputs());
    for (moue::index_t l = 0; l < model->layers(); ++l) {
      if (l % 2 == 1) move();
      host.forward(*pass, l);
    }
    pass->arm();
    for (moue::index_t l = model->layers(); l-- > 0;) {
      if (l % 2 == 0) move();
      host.backward(*pass, l);
    }
    CHECK(host.same_bits_as(whole));
  }
}

TEST_CASE("inputs that the caller keeps need no copy") {
  const auto model = on(false);
  whole_host whole(*model), host(*model);
  run_whole(whole);
  run_whole(host, {.external_inputs = true});
  CHECK(host.same_bits_as(whole));
  CHECK(model->workspace_bytes({.tokens = 9, .external_inputs = true}) + 4 * 9 * 6 * 8 <=
        model->workspace_bytes({.tokens = 9}));
}

TEST_CASE("reading the balancing loss arms nothing, and its parts are weighed apart") {
  const auto model = on(false);
  const auto run = [&](auto&& arm) {
    whole_host host(*model);
    const placed_pass pass(host, {});
    pass->begin(host.tokens, host.inputs());
    for (moue::index_t l = 0; l < model->layers(); ++l) host.forward(*pass, l);
    arm(*pass);
    std::fill(host.target.begin(), host.target.end(), 0);  // nothing but the loss sends gradients back
    for (moue::index_t l = model->layers(); l-- > 0;) host.backward(*pass, l);
    return router_gradient(host);
  };
  using pass_type = test::any_pass<double>;
  const auto zero = run([](pass_type&) {});
  CHECK(std::all_of(zero.begin(), zero.end(), [](double g) { return g == 0; }));
  CHECK(run([](pass_type& pass) {
          const auto value = pass.balance();
          CHECK(value.parts.size() == 3);
          CHECK(value.parts[0] + value.parts[1] + value.parts[2] == doctest::Approx(value.total).epsilon(1e-14));
          CHECK(double(pass.balance(pass.counts())) == value.total);
        }) == zero);
  const auto scaled = [&](std::vector<double> scales) { return run([&](pass_type& pass) { pass.arm(scales); }); };
  const auto armed = run([](pass_type& pass) { pass.arm(); });
  CHECK(test::distance(scaled({1, 1, 1}), armed) < 1e-15);
  const auto parts = [&](double a, double b, double c) { return scaled({a, b, c}); };
  auto sum = parts(2, 0, 0);
  for (const auto& other : {parts(0, 3, 0), parts(0, 0, -1)})
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += other[i];
  CHECK(test::distance(parts(2, 3, -1), sum) < 1e-15);
  // One scale per part and layer: the sum over layers of what each sends back.
  std::vector<double> one_layer(12, 0);
  auto layer_by_layer = zero;
  for (std::size_t l = 0; l < 4; ++l) {
    std::fill(one_layer.begin(), one_layer.end(), 0);
    for (std::size_t part = 0; part < 3; ++part) one_layer[part * 4 + l] = part == 1 ? 3 : part == 0 ? 2 : -1;
    const auto g = scaled(one_layer);
    for (std::size_t i = 0; i < g.size(); ++i) layer_by_layer[i] += g[i];
  }
  CHECK(test::distance(layer_by_layer, parts(2, 3, -1)) < 1e-14);
  CHECK_THROWS_WITH(run([](pass_type& pass) {
                      pass.arm(std::vector<double>{1, 2});
                    }),
                    "moue: pass: 2 scales were given for 3 parts of the balancing loss; give one per part, or one per "
                    "part and layer");
}
