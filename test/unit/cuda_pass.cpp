// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "emulated.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "carried.hpp"
#include "pass_laws.hpp"

// The laws of a pass on the emulated device.

TEST_CASE("cuts, blocks run again, parts and backward again have the bits of the whole") {
  const auto model = test::erase<double>(test::whole_mixture(test::emulated{}));
  test::check_cuts(*model);
  test::check_block_again(*model);
  test::check_taken_apart(*model);
  test::check_backward_again(*model);
}

TEST_CASE("a pass that is put down goes on in other memory of the device") {
  const test::emulated_open gpu;
  const auto model = test::whole_mixture(gpu);
  constexpr moue::index_t tokens = 7, width = 6;
  auto host = model.initialize<double>(1);
  const auto weights = gpu.make_parameters<double>(host);
  const auto input = test::noise_vector(2, tokens * width);
  const moue::pass_options options{.tokens = tokens};
  const std::size_t bytes = model.workspace_bytes<double>(options);
  int lists = 0;  // addresses in scratch that were spoiled
  const auto run = [&](bool moves) {
    auto block = std::make_unique<moue::device_workspace<test::emulated_open::runtime_type>>(gpu.make_workspace(bytes));
    auto pass = std::make_unique<moue::pass<std::remove_const_t<decltype(model)>, double>>(
        model.start(weights, options, *block));
    auto gradients = gpu.make_gradients<double>(model.layout());
    const auto x = gpu.make_array<double>(tokens * width);
    x.upload(input);
    const auto rows = x.view(tokens, width);
    const auto move = [&] {
      if (!moves) return;
      const auto position = pass->position();
      auto next =
          std::make_unique<moue::device_workspace<test::emulated_open::runtime_type>>(gpu.make_workspace(bytes));
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
      pass = std::make_unique<moue::pass<std::remove_const_t<decltype(model)>, double>>(
          model.resume(weights, options, *block, position));
    };
    pass->begin(tokens);
    for (moue::index_t l = 0; l < model.layers(); ++l) {
      pass->forward(l, rows, rows);
      move();
    }
    pass->arm();
    for (moue::index_t l = model.layers(); l-- > 0;) {
      move();
      pass->backward(l, rows, rows, gradients);
    }
    moue::gradients<double> result(model.layout());
    gradients.copy_to(result);
    return std::pair(x.download(), std::move(result));
  };
  const auto [dx, gradients] = run(false);
  const auto [moved_dx, moved_gradients] = run(true);
  CHECK(lists > 0);  // they are sent anew
  CHECK(test::same_bits(dx, moved_dx));
  CHECK(test::same_bits(gradients, moved_gradients));
}
