// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "emulated.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "bounded_select.hpp"
#include "carried.hpp"
#include "edits.hpp"
#include "moue/backend/reference.hpp"
#include "pass_laws.hpp"

// The laws of a pass on the emulated device.

TEST_CASE("cuts, blocks run again, parts and backward again have the bits of the whole") {
  const auto model = test::erase<double>(test::whole_mixture(test::emulated{}));
  test::check_cuts(*model);
  test::check_block_again(*model);
  test::check_taken_apart(*model);
  test::check_backward_again(*model);
  test::check_halves(*model, false);
}

TEST_CASE("rows may lie any distance apart") {
  constexpr double rounding = 1e-13;  // packed rows may take another way to a product, which adds in another order
  const auto model = test::erase<double>(test::whole_mixture(test::emulated{}));
  const auto check = [&](const moue::pass_options& options, moue::index_t tokens) {
    test::check_strides(*model, options, tokens, false, rounding);
  };
  for (const bool external : {false, true}) {
    check({.external_inputs = external}, 5);
    check({.how = moue::mode::inference, .external_inputs = external}, 5);
  }
  for (const moue::index_t tokens : {4, 1})  // few rows, and one, whose stride means nothing
    check({.how = moue::mode::inference}, tokens);
}

TEST_CASE("edited assignments have the results of the host") {
  const auto model = test::erase<double>(test::whole_mixture(test::emulated{}));
  const auto plain = test::erase<double>(test::whole_mixture(moue::reference{}));
  test::whole_host there(*model), here(*plain);
  CHECK(test::run_edited(there, true) == doctest::Approx(test::run_edited(here, true)).epsilon(1e-13));
  const auto& layout = here.weights.layout();
  for (moue::index_t i = 0; i < layout.tensors(); ++i) {
    CAPTURE(layout[i].name);
    REQUIRE(there.gradients.live(i) == here.gradients.live(i));
    if (here.gradients.live(i))
      CHECK(test::distance(test::to_vector(std::as_const(there.gradients)[i]),
                           test::to_vector(std::as_const(here.gradients)[i])) < 1e-13);  // sums in another order
  }
  CHECK(test::distance(there.dx, here.dx) < 1e-13);
}

TEST_CASE("what goes beyond a bound on all entries is what goes on the host") {
  const auto model = [](const auto& backend) {
    return test::erase<double>(moue::mixture{
        moue::swiglu{.width = 6, .hidden = 5}, moue::always_on{moue::shared_pool{.depth = 3, .pool = 5}, 1},
        moue::router{moue::linear_score{.deviation = 1}, test::bounded{moue::top_k{3}, 0.4},
                     moue::softmax_then_select{}},
        moue::switch_loss{0.5}, backend});
  };
  const auto device = model(test::emulated{}), plain = model(moue::reference{});
  test::whole_host there(*device), here(*plain);
  CHECK(test::run_whole(there) == doctest::Approx(test::run_whole(here)).epsilon(1e-13));
  CHECK(test::distance(there.dx, here.dx) < 1e-13);
  for (std::size_t l = 0; l < here.entered.size(); ++l)
    CHECK(test::distance(there.entered[l], here.entered[l]) < 1e-13);
}

TEST_CASE("what a router read and made is said as on the host") {
  const auto device = test::erase<double>(test::whole_mixture(test::emulated{}));
  const auto plain = test::erase<double>(test::whole_mixture(moue::reference{}));
  const auto shown = [](const test::any_model<double>& model) {
    test::whole_host host(model);
    const test::placed_pass pass(host, {});
    host.forward(*pass);
    std::vector<double> all;
    for (moue::index_t l = 0; l < model.layers(); ++l) {
      const moue::index_t n = pass->logits(l).cols;
      std::vector<double> features(static_cast<std::size_t>(host.tokens * model.width())),
          scores(static_cast<std::size_t>(host.tokens * n)), probabilities(scores);
      pass->features(l, {features.data(), host.tokens, model.width()});
      pass->scores(l, {scores.data(), host.tokens, n});
      pass->probabilities(l, {probabilities.data(), host.tokens, n});
      for (auto& s : scores) s = s < -1e300 ? 0 : s;  // closed
      for (const auto* of : {&features, &scores, &probabilities}) all.insert(all.end(), of->begin(), of->end());
    }
    return all;
  };
  CHECK(test::distance(shown(*device), shown(*plain)) < 1e-13);
}

TEST_CASE("a pass that is put down goes on in other memory of the device") {
  const test::emulated_open gpu;
  const auto model = test::whole_mixture(gpu);
  using pass_type = moue::pass<std::remove_const_t<decltype(model)>, double>;
  using block_type = moue::device_workspace<test::emulated_open::runtime_type>;
  constexpr moue::index_t tokens = 7, width = 6;
  auto host = model.initialize<double>(1);
  const auto map = test::noise_vector(3, 9);
  for (moue::index_t i = 0; i < host.layout().tensors(); ++i)  // the depth state is to matter
    if (host.layout()[i].name.ends_with("trajectory_map")) std::copy(map.begin(), map.end(), host[i].data);
  const auto weights = gpu.make_parameters<double>(host);
  const auto mask = gpu.make_array<std::uint8_t>(tokens);
  const auto ids = gpu.make_array<std::int64_t>(tokens);
  mask.upload(std::vector<std::uint8_t>{1, 1, 0, 1, 1, 1, 0});
  ids.upload(std::vector<std::int64_t>{3, 1, 4, 1, 5, 9, 2});
  const moue::side_inputs inputs{.valid = mask.view(), .token_ids = ids.view(), .labels = {}};

  int lists = 0;  // addresses in scratch that were spoiled
  const auto run = [&](bool moves, bool external) {
    const moue::pass_options options{.tokens = tokens, .external_inputs = external};
    const std::size_t bytes = model.workspace_bytes<double>(options);
    auto block = std::make_unique<block_type>(gpu.make_workspace(bytes));
    auto pass = std::make_unique<pass_type>(model.start(weights, options, *block));
    auto gradients = gpu.make_gradients<double>(model.layout());
    const auto x = gpu.make_array<double>((model.layers() + 1) * tokens * width),
               dx = gpu.make_array<double>(tokens * width), router_dx = gpu.make_array<double>(tokens * width),
               dgates = gpu.make_array<double>(tokens * 4);
    x.upload(test::noise_vector(2, x.size()));
    const auto rows = [&](moue::index_t l) {
      return moue::matrix_view<double>{x.data() + l * tokens * width, tokens, width};
    };
    const auto move = [&] {
      if (!moves) return;
      const auto position = moue::pass_position::from_bytes(pass->position().to_bytes());
      auto next = std::make_unique<block_type>(gpu.make_workspace(bytes));
      std::vector<std::byte> image(block->bytes().size());
      gpu.download(static_cast<const std::byte*>(block->bytes().data()), std::span(image));
      test::each_address(image, weights, gradients, {},
                         [&](std::uintptr_t& word) { word = 0x5b5b5b5b5b5b5b5b, ++lists; });
      test::each_address(image, weights, gradients, block->bytes(),
                         [](std::uintptr_t) { FAIL("an address of its own"); });
      gpu.upload(std::span<const std::byte>(image), next->bytes().data());
      pass.reset();
      gpu.runtime().zero(block->bytes().data(), block->bytes().size());
      block = std::move(next);
      pass = std::make_unique<pass_type>(model.resume(weights, options, *block, position, inputs));
      const moue::index_t routed = position.reached + (position.halfway && !position.backward ? 1 : 0);
      for (moue::index_t l = 0; external && l < routed; ++l) pass->rebind_input(l, {rows(l), {}});
    };
    pass->begin(tokens, inputs, {.step = 7, .seed = 11});
    for (moue::index_t l = 0; l < model.layers(); ++l) {
      pass->route(l, rows(l));
      move();
      pass->run(l, rows(l), pass->assignments(l), rows(l + 1));
      move();
    }
    pass->arm();
    dx.upload(test::noise_vector(4, tokens * width));
    for (moue::index_t l = model.layers(); l-- > 0;) {
      const moue::vector_view<double> of_gates{dgates.data(), pass->assignments(l).entries()};
      move();
      pass->run_backward(l, dx.view(tokens, width), dx.view(tokens, width), of_gates, gradients);
      move();
      pass->route_backward(l, of_gates, router_dx.view(tokens, width), gradients);
    }
    moue::gradients<double> result(model.layout());
    gradients.copy_to(result);
    return std::tuple(x.download(), dx.download(), router_dx.download(), std::move(result));
  };
  const auto expected = run(false, false);
  for (const bool external : {false, true}) {
    const auto moved = run(true, external);
    CHECK(test::same_bits(std::get<0>(expected), std::get<0>(moved)));
    CHECK(test::same_bits(std::get<1>(expected), std::get<1>(moved)));
    CHECK(test::same_bits(std::get<2>(expected), std::get<2>(moved)));
    CHECK(test::same_bits(std::get<3>(expected), std::get<3>(moved)));
  }
  CHECK(lists > 0);  // they are sent anew
}

TEST_CASE("gradients that are wanted alone have the bits of the whole") {
  const test::emulated_open gpu;
  const auto model = test::whole_mixture(gpu);
  constexpr moue::index_t tokens = 5, width = 6;
  const auto weights = gpu.make_parameters<double>(test::random_weights(*test::erase<double>(model), 1));
  const auto run = [&](const auto& wanted) {
    const moue::pass_options options{.tokens = tokens};
    auto block = gpu.make_workspace(model.workspace_bytes<double>(options));
    auto pass = model.start(weights, options, block);
    auto gradients = gpu.make_gradients<double>(model.layout(), wanted);
    const auto x = gpu.make_array<double>(tokens * width), y = gpu.make_array<double>(tokens * width);
    pass.begin(tokens);
    for (moue::index_t l = 0; l < model.layers(); ++l) {
      x.upload(test::noise_vector(20 + static_cast<std::uint64_t>(l), x.size()));
      pass.forward(l, x.view(tokens, width), y.view(tokens, width));
    }
    pass.arm();
    y.upload(test::noise_vector(4, y.size()));
    for (moue::index_t l = model.layers(); l-- > 0;)
      pass.backward(l, y.view(tokens, width), y.view(tokens, width), gradients);
    moue::gradients<double> result(model.layout(), wanted);
    gradients.copy_to(result);
    return std::pair(y.download(), std::move(result));
  };
  using predicate = std::function<bool(const moue::tensor_info&)>;
  const auto [dx, all] = run(predicate([](const auto&) { return true; }));
  const auto named = [](const char* end) {
    return predicate([end](const moue::tensor_info& info) { return info.name.ends_with(end); });
  };
  const predicate some[]{
      [](const auto& info) { return info.expert < 0; },
      [](const auto& info) { return info.expert == 1; },
      named(".gate"),
      named(".up"),
      [](const auto&) { return false; },
  };
  moue::index_t compared = 0;
  for (const auto& wanted : some) {
    CAPTURE(&wanted - some);
    const auto [its_dx, its] = run(wanted);
    CHECK(test::same_bits(dx, its_dx));
    for (moue::index_t i = 0; i < model.layout()->tensors(); ++i) {
      const auto& info = (*model.layout())[i];
      CAPTURE(info.name);
      REQUIRE(its.wanted(i) == (all.wanted(i) && wanted(info)));
      if (!its.wanted(i)) continue;
      REQUIRE(its.live(i) == all.live(i));
      if (!all.live(i)) continue;
      CHECK(test::same_bits(test::to_vector(its[i]), test::to_vector(all[i])));
      compared += info.name.ends_with(".gate") || info.name.ends_with(".up") ? 1 : 0;
    }
  }
  CHECK(compared > 2);  // either of two products that share a launch was left out
}
