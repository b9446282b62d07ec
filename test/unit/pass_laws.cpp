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
#include "whole.hpp"

// Any cut of the depth, a pass taken apart, put down and picked up, or gone back over twice: the bits of the whole.

namespace {

using test::placed_pass;
using test::run_whole;
using test::whole_host;

test::model_pointer<double> on(bool threads) {
  if (threads) return test::erase<double>(test::whole_mixture(moue::cpu{2}));
  return test::erase<double>(test::whole_mixture(moue::reference{}));
}

/// What is handed from a range to the next, or back.
void hand_on(const moue::matrix_view<const double>& from, const moue::matrix_view<double>& to) {
  REQUIRE(to.cols == from.cols);
  for (moue::index_t t = 0; t < to.rows; ++t) std::copy(from.row(t).begin(), from.row(t).end(), to.row(t).begin());
}

std::vector<double> router_gradient(const whole_host& host) {
  return test::to_vector(host.gradients["layers.0.router.weight"]);
}

}  // namespace

TEST_CASE("any cut of the depth has the bits of the whole") {
  const auto model = on(true);
  whole_host whole(*model);
  const double balance = run_whole(whole);
  CHECK(balance > 0);
  const moue::index_t layers = model->layers();
  REQUIRE(layers == 4);
  const std::vector<std::vector<moue::index_t>> all_cuts{{0, 1, 4}, {0, 2, 4}, {0, 3, 4}, {0, 1, 2, 3, 4}};
  for (const auto& cuts : all_cuts) {
    CAPTURE(cuts.size());
    whole_host host(*model);
    std::vector<placed_pass> ranges;
    for (std::size_t i = 0; i + 1 < cuts.size(); ++i)
      ranges.emplace_back(host, moue::pass_options{.first = cuts[i], .count = cuts[i + 1] - cuts[i]});
    moue::routing_counts<double> counts;
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      ranges[i]->begin(host.tokens, host.inputs());
      if (i > 0) hand_on(ranges[i - 1]->state_out(), ranges[i]->state_in());
      for (moue::index_t l = cuts[i]; l < cuts[i + 1]; ++l) host.forward(*ranges[i], l);
      counts += ranges[i]->counts();
    }
    CHECK(double(ranges[0]->balance(counts)) == balance);
    const std::vector<double> scales{1, 1, 1};
    for (std::size_t i = ranges.size(); i-- > 0;) {
      if (i + 1 < ranges.size()) hand_on(ranges[i + 1]->dstate_in(), ranges[i]->dstate_out());
      ranges[i]->arm(scales, counts);
      for (moue::index_t l = cuts[i + 1]; l-- > cuts[i];) host.backward(*ranges[i], l);
    }
    CHECK(host.same_bits_as(whole));
  }
}

TEST_CASE("a block that is run again has the bits of the whole and is counted once") {
  const auto model = on(false);
  whole_host whole(*model);
  run_whole(whole);
  whole_host host(*model);
  const moue::pass_options inside{.first = 1, .count = 2};
  placed_pass first(host, {.count = 1}), last(host, {.first = 3});
  std::vector<double> state;
  moue::routing_counts<double> counts;
  {
    placed_pass block(host, {.how = moue::mode::inference, .first = 1, .count = 2});
    first->begin(host.tokens, host.inputs());
    host.forward(*first, 0);
    block->begin(host.tokens, host.inputs());
    hand_on(first->state_out(), block->state_in());
    for (moue::index_t l = 1; l < 3; ++l) host.forward(*block, l);
    last->begin(host.tokens, host.inputs());
    hand_on(block->state_out(), last->state_in());
    host.forward(*last, 3);
    counts = first->counts() + block->counts() + last->counts();
  }
  const std::vector<double> scales{1, 1, 1};
  last->arm(scales, counts);
  host.backward(*last, 3);
  placed_pass block(host, inside);
  block->begin(host.tokens, host.inputs(), {.counts = false});
  hand_on(first->state_out(), block->state_in());
  for (moue::index_t l = 1; l < 3; ++l) host.forward(*block, l);
  CHECK(block->counts().tokens == std::vector<std::int64_t>(4, 0));
  hand_on(last->dstate_in(), block->dstate_out());
  block->arm(scales, counts);
  for (moue::index_t l = 3; l-- > 1;) host.backward(*block, l);
  hand_on(block->dstate_in(), first->dstate_out());
  first->arm(scales, counts);
  host.backward(*first, 0);
  CHECK(host.same_bits_as(whole));
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
  const auto model = on(true);
  whole_host whole(*model);
  run_whole(whole);
  for (const bool copied : {false, true})
    for (const bool replayed : {false, true}) {
      CAPTURE(copied);
      CAPTURE(replayed);
      whole_host host(*model);
      const placed_pass pass(host, {});
      pass->begin(host.tokens, host.inputs());
      for (moue::index_t l = 0; l < model->layers(); ++l) {
        const auto x = host.view(host.at(l));
        auto r = pass->route(l, x);
        if (replayed) {
          const std::vector<std::int32_t> ids(r.expert.begin(), r.expert.end());
          const moue::matrix_view<const std::int32_t> chosen{ids.data(), host.tokens, 2, r.offsets[1]};
          placed_pass again(host, {.first = l, .count = 1});
          again->begin(host.tokens, host.inputs());
          hand_on(pass->state(l), again->state_in());
          const auto given = again->replay(l, x, chosen);
          CHECK(std::equal(given.expert.begin(), given.expert.end(), r.expert.begin()));
          CHECK(std::equal(given.gate.begin(), given.gate.end(), r.gate.begin()));
        }
        std::vector<std::int32_t> experts(r.expert.begin(), r.expert.end());
        if (copied) r.expert.data = experts.data();
        whole_host::numbers y(host.input.size());
        pass->run(l, x, r, host.view(y));
        host.leave(l, y);
      }
      pass->arm();
      for (moue::index_t l = model->layers(); l-- > 0;) {
        auto dy = host.enter_backward(l);
        std::vector<double> dgates(static_cast<std::size_t>(pass->assignments(l).entries())), router(dy.size());
        pass->run_backward(l, host.view(dy), host.view(dy), {dgates.data(), std::ssize(dgates)}, host.gradients);
        pass->route_backward(l, {dgates.data(), std::ssize(dgates)}, host.view(router), host.gradients);
        for (std::size_t i = 0; i < dy.size(); ++i) dy[i] += router[i];
        host.leave_backward(dy);
      }
      CHECK(host.same_bits_as(whole));
    }
}

TEST_CASE("backward again over what was saved has the same bits") {
  const auto model = on(false);
  whole_host whole(*model);
  run_whole(whole);
  whole_host host(*model);
  const placed_pass pass(host, {});
  pass->begin(host.tokens, host.inputs());
  for (moue::index_t l = 0; l < model->layers(); ++l) host.forward(*pass, l);
  for (int time = 0; time < 3; ++time) {
    host.gradients.zero();
    if (time != 1) pass->arm();
    for (moue::index_t l = model->layers(); l-- > (time == 1 ? 2 : 0);) host.backward(*pass, l);  // left half way, too
    if (time != 1) CHECK(host.same_bits_as(whole));
    pass->rewind();
  }
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
