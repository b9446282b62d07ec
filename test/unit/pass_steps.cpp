// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A pass put down within a layer, what is external given again, positions that are refused, and layers whose experts
// somebody else ran.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "message_of.hpp"
#include "moue/backend/reference.hpp"
#include "moue/policies.hpp"

namespace {

constexpr moue::index_t tokens = 5, width = 4;

const moue::mixture model{moue::swiglu{.width = width, .hidden = 6},
                          moue::staggered_rotation{.depth = 3, .pool = 5, .window = 3, .stride = 1},
                          moue::universal_router(2), moue::no_balancing{}, moue::reference{}};

struct fixture {
  moue::parameters<double> weights = model.initialize<double>(3);
  moue::gradients<double> gradients{model.layout()};
  std::vector<double> x = std::vector<double>(tokens * width), y = x, dx = x;

  fixture() {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = 0.1 * static_cast<double>(i % 7) - 0.2;
  }
  static moue::matrix_view<double> rows(std::vector<double>& v) { return {v.data(), tokens, width}; }
};

moue::workspace room(const moue::pass_options& options) {
  return moue::workspace(model.workspace_bytes<double>(options));
}
moue::workspace copy_of(const moue::workspace& block) {
  moue::workspace other(block.bytes().size());
  std::copy(block.bytes().begin(), block.bytes().end(), other.bytes().begin());
  return other;
}

}  // namespace

TEST_CASE_FIXTURE(fixture, "a pass put down between route and run is picked up there") {
  for (const auto how : {moue::mode::inference, moue::mode::training})
    for (const bool external : {false, true}) {
      const moue::pass_options options{.tokens = tokens, .how = how, .external_inputs = external};
      moue::workspace here = room(options);
      auto pass = model.start(weights, options, here);
      pass.begin(tokens);
      pass.route(0, rows(x));

      moue::workspace there = copy_of(here);
      auto again = model.resume(weights, options, there, pass.position());
      pass.run(0, rows(x), pass.assignments(0), rows(y));
      if (external && how == moue::mode::training) {
        CHECK(contains(message_of([&] { again.run(0, rows(x), again.assignments(0), rows(dx)); }),
                       "the external input of layer 0 is not there; give it to rebind_input after resume"));
        again.rebind_input(0, {rows(x), {}});
      }
      again.run(0, rows(x), again.assignments(0), rows(dx));
      CHECK(y == dx);
      CHECK(again.position().next == 1);
      again.route(1, rows(y));  // from here on it knows its input again
      CHECK(contains(message_of([&] { again.run(1, rows(x), again.assignments(1), rows(dx)); }), "another input"));
    }
}

TEST_CASE_FIXTURE(fixture, "external inputs that were not given again are missed") {
  const moue::pass_options options{.tokens = tokens, .external_inputs = true};
  moue::workspace here = room(options);
  auto pass = model.start(weights, options, here);
  pass.begin(tokens);
  pass.forward(0, rows(x), rows(y));
  moue::workspace there = copy_of(here);
  auto again = model.resume(weights, options, there, pass.position());
  std::vector<double> dgates(static_cast<std::size_t>(again.assignments(0).entries()));
  const moue::vector_view<double> given{dgates.data(), std::ssize(dgates)};
  const std::string_view missed = "the external input of layer 0 is not there";
  CHECK(contains(message_of([&] { again.backward(0, rows(y), rows(dx), gradients); }), missed));
  CHECK(contains(message_of([&] { again.run_backward(0, rows(y), rows(dx), given, gradients); }), missed));
  again.rebind_input(0, {rows(x), {}});
  auto expected = dx;
  pass.backward(0, rows(y), rows(expected), gradients);
  again.backward(0, rows(y), rows(dx), gradients);
  CHECK(dx == expected);
}

TEST_CASE_FIXTURE(fixture, "positions of other passes are refused") {
  const moue::pass_options options{.tokens = tokens};
  moue::workspace here = room(options);
  auto pass = model.start(weights, options, here);
  pass.begin(tokens);
  pass.forward(0, rows(x), rows(y));
  const auto refused = [&](auto change) {
    moue::pass_position position = pass.position();
    change(position);
    moue::workspace there = copy_of(here);
    return contains(message_of([&] { model.resume(weights, options, there, position); }), "pass: ");
  };
  CHECK_FALSE(refused([](auto&) {}));
  CHECK(refused([](auto& p) { p.tokens = tokens + 1; }));
  CHECK(refused([](auto& p) { p.next = 2; }));
  CHECK(refused([](auto& p) { p.next = -1; }));
  CHECK(refused([](auto& p) { p.reached = 4; }));
  CHECK(refused([](auto& p) { p.entries.pop_back(); }));
  CHECK(refused([](auto& p) { p.entries.push_back(0); }));
  CHECK(refused([](auto& p) { p.entries[0] = tokens * 2 + 1; }));
  CHECK(refused([](auto& p) { p.entries[0] = -1; }));
  CHECK(refused([](auto& p) { p.elsewhere.clear(); }));
}

TEST_CASE_FIXTURE(fixture, "a position is bytes, and other bytes are none") {
  const moue::pass_options options{.tokens = tokens};
  moue::workspace here = room(options);
  auto pass = model.start(weights, options, here);
  pass.begin(tokens, {}, {.counts = false, .step = 3, .seed = 1ull << 63, .first_token = 5});
  pass.forward(0, rows(x), rows(y));
  pass.ran(1, pass.route(1, rows(y)));
  pass.route(2, rows(y));
  const auto& position = pass.position();
  const auto bytes = position.to_bytes();
  CHECK(moue::pass_position::from_bytes(bytes) == position);
  CHECK(position.elsewhere == std::vector<std::uint8_t>{0, 1, 0});
  const auto refused = [&](auto change) {
    auto other = bytes;
    change(other);
    return contains(message_of([&] { moue::pass_position::from_bytes(other); }),
                    "pass_position: " + std::to_string(other.size()) +
                        " bytes were given that are no position; give "
                        "all that to_bytes gave, and nothing else");
  };
  CHECK(refused([](auto& b) { b.clear(); }));
  CHECK(refused([](auto& b) { b.pop_back(); }));
  CHECK(refused([](auto& b) { b.resize(b.size() - 8); }));
  CHECK(refused([](auto& b) { b.resize(b.size() + 8); }));
  CHECK(refused([](auto& b) { b.resize(8); }));
  CHECK(refused([](auto& b) { b[3 * 8] = std::byte{2}; }));         // a flag
  CHECK(refused([](auto& b) { b[12 * 8 + 7] = std::byte{255}; }));  // a length below 0
  CHECK(refused([](auto& b) { b[13 * 8] = std::byte{4}; }));
}

TEST_CASE_FIXTURE(fixture, "somebody else runs the experts of several layers") {
  const moue::pass_options options{.tokens = tokens};
  const auto& run = model.experts_executor();
  moue::gradients<double> expected_gradients(model.layout());
  auto expected = x;
  {
    moue::workspace block = room(options);
    auto pass = model.start(weights, options, block);
    pass.begin(tokens);
    for (moue::index_t layer = 0; layer < 3; ++layer) pass.forward(layer, rows(expected), rows(expected));
    for (moue::index_t layer = 3; layer-- > 0;)
      pass.backward(layer, rows(expected), rows(expected), expected_gradients);
  }

  moue::workspace block = room(options);
  auto pass = model.start(weights, options, block);
  pass.begin(tokens);
  const auto bytes = run.workspace_bytes<double>(tokens, tokens * 2);
  std::vector<moue::workspace> blocks;
  std::vector<moue::expert_memory<double>> memories;
  std::vector<std::vector<double>> inputs;
  for (moue::index_t layer = 0; layer < 2; ++layer) {
    inputs.push_back(x);
    const auto r = pass.route(layer, rows(inputs.back()));
    memories.push_back(run.carve<double>(blocks.emplace_back(bytes), tokens, r.entries()));
    run.forward(r, weights, rows(inputs.back()), rows(x), memories.back());
    pass.ran(layer, r);
  }
  pass.forward(2, rows(x), rows(x));

  std::vector<double> dgates(static_cast<std::size_t>(tokens * 2)), of_experts = x;
  const moue::vector_view<double> given{dgates.data(), std::ssize(dgates)};
  CHECK(contains(message_of([&] { pass.route_backward(2, given, rows(dx), gradients); }),
                 "route_backward of layer 2 came when backward of layer 2 was due"));
  pass.backward(2, rows(x), rows(x), gradients);
  CHECK(contains(message_of([&] { pass.backward(0, rows(x), rows(x), gradients); }), "route_backward of layer 1"));
  CHECK(contains(message_of([&] { pass.backward(1, rows(x), rows(x), gradients); }), "run by somebody else"));
  for (moue::index_t layer = 2; layer-- > 0;) {
    const auto at = static_cast<std::size_t>(layer);
    run.backward(pass.assignments(layer), weights, rows(inputs[at]), rows(x), rows(of_experts), given, gradients,
                 memories[at]);
    pass.route_backward(layer, given, rows(dx), gradients);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = of_experts[i] + dx[i];
  }
  CHECK(x == expected);
  for (moue::index_t i = 0; i < gradients.layout().tensors(); ++i) {
    CHECK(gradients.live(i) == expected_gradients.live(i));
    CHECK(std::equal(gradients[i].data, gradients[i].data + gradients.layout()[i].size(), expected_gradients[i].data));
  }
}
