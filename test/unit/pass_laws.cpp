// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <tuple>
#include <vector>

#include "moue/backend/cpu.hpp"
#include "moue/backend/reference.hpp"
#include "pass_laws.hpp"

// Any cut of the depth, a pass taken apart, or gone back over twice: the bits of the whole.

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

TEST_CASE("gradients of the halves of a batch add up to those of the batch") {
  test::check_halves(*on(false));
  test::check_halves(*on(true));
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

TEST_CASE("rows may lie any distance apart") {
  for (const bool threads : {false, true})
    for (const bool external : {false, true}) {
      test::check_strides(*on(threads), {.external_inputs = external});
      test::check_strides(*on(threads), {.how = moue::mode::inference, .external_inputs = external});
    }
}

TEST_CASE("a layer that was skipped has no exposure") {
  const auto model = on(false);
  whole_host host(*model);
  const placed_pass front(host, {.count = 1}), back(host, {.first = 2});
  front->begin(host.tokens, host.inputs());
  host.forward(*front, 0);
  back->begin(host.tokens, host.inputs());
  test::hand_on(front->state_out(), back->state_in());
  host.at(2) = host.at(1);
  for (moue::index_t l = 2; l < 4; ++l) host.forward(*back, l);
  CHECK(front->first_layer() + front->layers() == 1);
  CHECK(back->first_layer() == 2);
  CHECK(back->layers() == 2);
  const auto counts = front->counts() + back->counts();
  CHECK(counts.tokens == std::vector<std::int64_t>{7, 0, 7, 7});
  const auto statistics = front->statistics(counts);
  std::vector<double> exposure(static_cast<std::size_t>(model->experts())), share(exposure);
  for (const moue::index_t layer : {0, 2, 3}) {
    const auto candidates = model->connections().candidates(layer);
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      exposure[static_cast<std::size_t>(candidates[i])] += 1;
      share[static_cast<std::size_t>(candidates[i])] +=
          statistics.share[model->connections().candidate_offset(layer) + static_cast<moue::index_t>(i)];
    }
  }
  CHECK(std::equal(exposure.begin(), exposure.end(), statistics.exposure.begin(), statistics.exposure.end()));
  CHECK(std::equal(share.begin(), share.end(), statistics.expert_share.begin(), statistics.expert_share.end()));
  // The same loss as if it had been formed from nothing but the three layers' statistics.
  CHECK(back->balance(counts).parts[2] ==
        doctest::Approx(moue::universal_balance{0.4, 0.7}.value(statistics)).epsilon(1e-14));
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

TEST_CASE("a scale per part and layer reaches the router of that layer alone") {
  const moue::mixture model{moue::swiglu{.width = 4, .hidden = 3}, moue::shared_pool{3, 4}, moue::linear_router(2),
                            moue::sum_of_losses{moue::switch_loss{0.3}, moue::z_loss{0.2}}, moue::reference{}};
  const auto weights = model.initialize<double>(2);
  const moue::pass_options options{.tokens = 5};
  const std::vector<double> input = test::noise_vector(1, 20);
  for (std::size_t part = 0; part < 2; ++part)
    for (std::size_t layer = 0; layer < 3; ++layer) {
      CAPTURE(part);
      CAPTURE(layer);
      moue::workspace block(model.workspace_bytes<double>(options));
      auto pass = model.start(weights, options, block);
      moue::gradients<double> grads(model.layout());
      std::vector<double> y(20), zero(20);
      auto x = input;
      pass.begin(5);
      for (moue::index_t l = 0; l < 3; ++l)
        pass.forward(l, moue::matrix_view<double>{x.data(), 5, 4}, moue::matrix_view<double>{y.data(), 5, 4});
      std::vector<double> scales(6);
      scales[part * 3 + layer] = 1;
      pass.arm(scales);
      for (moue::index_t l = 3; l-- > 0;) {
        std::fill(zero.begin(), zero.end(), 0);
        pass.backward(l, moue::matrix_view<double>{zero.data(), 5, 4}, moue::matrix_view<double>{y.data(), 5, 4},
                      grads);
      }
      for (std::size_t l = 0; l < 3; ++l) {
        const auto g = test::to_vector(std::as_const(grads)["layers." + std::to_string(l) + ".router.weight"]);
        CHECK(std::any_of(g.begin(), g.end(), [](double v) { return v != 0; }) == (l == layer));
      }
    }
}

TEST_CASE("weights that a pass is rebound to are those that it uses, in the middle of a batch too") {
  const auto model = on(false);
  whole_host expected(*model);
  const auto first = expected.weights, second = test::random_weights(*model, 5);
  const auto halves = [&](whole_host& host, test::any_pass<double>& pass, const auto& between) {
    pass.begin(host.tokens, host.inputs());
    for (moue::index_t l = 0; l < 2; ++l) host.forward(pass, l);
    between();
    for (moue::index_t l = 2; l < model->layers(); ++l) host.forward(pass, l);
  };
  // Two passes over halves of the depth, each with weights of its own.
  placed_pass lower(expected, {.count = 2}, first), upper(expected, {.first = 2}, second);
  lower->begin(expected.tokens, expected.inputs());
  for (moue::index_t l = 0; l < 2; ++l) expected.forward(*lower, l);
  upper->begin(expected.tokens, expected.inputs());
  test::hand_on(lower->state_out(), upper->state_in());
  for (moue::index_t l = 2; l < model->layers(); ++l) expected.forward(*upper, l);

  whole_host host(*model);
  const placed_pass pass(host, {}, first);
  halves(host, *pass, [&] { pass->rebind(second); });
  CHECK(host.at(4) == expected.at(4));
  whole_host other(*model);
  const placed_pass unchanged(other, {}, first);
  halves(other, *unchanged, [] {});
  CHECK(other.at(4) != expected.at(4));
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
          CHECK(value.parts.size() == 4);
          CHECK(value.parts[0] + value.parts[1] + value.parts[2] + value.parts[3] ==
                doctest::Approx(value.total).epsilon(1e-14));
          CHECK(double(pass.balance(pass.counts())) == value.total);
          const auto queued = pass.queue_balance();
          CHECK(std::vector<double>(queued.begin(), queued.end()) ==
                std::vector<double>{value.total, value.parts[0], value.parts[1], value.parts[2], value.parts[3]});
        }) == zero);
  const auto scaled = [&](std::vector<double> scales) { return run([&](pass_type& pass) { pass.arm(scales); }); };
  const auto armed = run([](pass_type& pass) { pass.arm(); });
  CHECK(test::distance(scaled({1, 1, 1, 1}), armed) < 1e-15);
  const auto parts = [&](double a, double b, double c, double d) { return scaled({a, b, c, d}); };
  auto sum = parts(2, 0, 0, 0);
  for (const auto& other : {parts(0, 3, 0, 0), parts(0, 0, -1, 0), parts(0, 0, 0, 5)})
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += other[i];
  const std::vector<double> scales{2, 3, -1, 5};
  CHECK(test::distance(scaled(scales), sum) < 1e-15);
  // One scale per part and layer: the sum over layers of what each sends back.
  std::vector<double> one_layer(16, 0);
  auto layer_by_layer = zero;
  for (std::size_t l = 0; l < 4; ++l) {
    std::fill(one_layer.begin(), one_layer.end(), 0);
    for (std::size_t part = 0; part < 4; ++part) one_layer[part * 4 + l] = scales[part];
    const auto g = scaled(one_layer);
    for (std::size_t i = 0; i < g.size(); ++i) layer_by_layer[i] += g[i];
  }
  CHECK(test::distance(layer_by_layer, scaled(scales)) < 1e-14);
  CHECK_THROWS_WITH(run([](pass_type& pass) {
                      pass.arm(std::vector<double>{1, 2});
                    }),
                    "moue: pass: 2 scales were given for 4 parts of the balancing loss; give one per part, or one per "
                    "part and layer");
}
