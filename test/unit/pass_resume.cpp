// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Where a pass that was put down may be picked up, and what must be there again.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "message_of.hpp"
#include "moue/backend/cpu.hpp"
#include "moue/backend/reference.hpp"
#include "pass_laws.hpp"

namespace {

using test::whole_host;

moue::workspace room(const test::any_model<double>& model, const moue::pass_options& options) {
  return moue::workspace(model.workspace_bytes(options));
}
/// `block`'s bytes, as many as fit, in a workspace for another pass.
moue::workspace moved(const moue::workspace& block, moue::workspace to) {
  std::memcpy(to.bytes().data(), block.bytes().data(), std::min(block.bytes().size(), to.bytes().size()));
  return to;
}

/// Puts the pass down on `here` after two layers, and ends on `there`.
void check_moves(const test::model_pointer<double>& here, const test::model_pointer<double>& there) {
  whole_host whole(*here);
  const moue::pass_options options{.tokens = whole.tokens};
  test::run_whole(whole, options);

  whole_host host(*here);
  moue::workspace block = room(*here, options);
  auto pass = here->start(host.weights, options, block);
  pass->begin(host.tokens, host.inputs(), host.how);
  for (moue::index_t l = 0; l < 2; ++l) host.forward(*pass, l);

  moue::workspace other = moved(block, room(*there, options));
  pass = there->resume(host.weights, options, other, pass->position(), host.inputs());
  for (moue::index_t l = 2; l < there->layers(); ++l) host.forward(*pass, l);
  pass->arm();
  for (moue::index_t l = there->layers(); l-- > 0;) host.backward(*pass, l);
  CHECK(host.same_bits_as(whole));
}

/// Put down between any two steps, also between route and run and between the halves of backward, with everything that was
/// there before gone; at `places` of the 64 ways in which a block can begin.
void check_put_down(const test::any_model<double>& model, moue::pass_options options, std::size_t places) {
  whole_host whole(model);
  test::run_whole(whole, {.external_inputs = options.external_inputs});
  options.tokens = whole.tokens;
  const std::size_t bytes = model.workspace_bytes(options);
  for (std::size_t shift = 0; shift < places; ++shift) {
    CAPTURE(shift);
    whole_host host(model);
    auto memory = std::make_unique<std::vector<std::byte>>(bytes + 64);
    auto block = std::make_unique<moue::workspace>(std::span(*memory).first(bytes));
    auto weights = std::make_unique<moue::parameters<double>>(host.weights);
    auto pass = model.start(*weights, options, *block);
    std::size_t moves = 0;
    const auto move = [&] {
      const auto position = moue::pass_position::from_bytes(pass->position().to_bytes());
      CHECK(position == pass->position());
      auto next_memory = std::make_unique<std::vector<std::byte>>(bytes + 64);
      auto next = std::make_unique<moue::workspace>(std::span(*next_memory).subspan((shift + 7 * moves++) % 64, bytes));
      const auto from = block->bytes(), to = next->bytes();
      if (shift == 0) {  // which numbers it holds does not depend on the alignment
        int addresses = 0;
        test::each_address(from, *weights, host.gradients, *memory, [&](std::uintptr_t) { ++addresses; });
        CHECK(addresses == 0);
      }
      std::memcpy(to.data(), from.data(), std::min(from.size(), to.size()));
      pass.reset();
      std::fill(memory->begin(), memory->end(), std::byte{0xff});
      memory = std::move(next_memory);
      block = std::move(next);
      weights = std::make_unique<moue::parameters<double>>(host.weights);
      pass = model.resume(*weights, options, *block, position, host.inputs());
      if (options.external_inputs)
        for (moue::index_t l = 0; l < position.reached + (position.halfway && !position.backward ? 1 : 0); ++l)
          pass->rebind_input(l, {host.view(host.at(l)), host.view(host.at(l))});
    };
    pass->begin(host.tokens, host.inputs(), host.how);
    move();
    for (moue::index_t l = 0; l < model.layers(); ++l) {
      const auto x = host.view(host.at(l));
      pass->route(l, x);
      move();
      whole_host::numbers y(host.input.size());
      pass->run(l, x, pass->assignments(l), host.view(y));
      host.leave(l, y);
      move();
    }
    pass->arm();
    move();
    for (moue::index_t l = model.layers(); l-- > 0;) {
      if (l % 2 == 0) move();
      auto dy = host.enter_backward(l);
      whole_host::numbers dgates(static_cast<std::size_t>(pass->assignments(l).entries())), router(dy.size());
      pass->run_backward(l, host.view(dy), host.view(dy), {dgates.data(), std::ssize(dgates)}, host.gradients);
      move();
      pass->route_backward(l, {dgates.data(), std::ssize(dgates)}, host.view(router), host.gradients);
      for (std::size_t i = 0; i < dy.size(); ++i) dy[i] += router[i];
      host.leave_backward(dy);
    }
    CHECK(host.same_bits_as(whole));
  }
}

/// The gradients of the routers, and of what was routed, where somebody else ran the experts of all layers; put down after
/// each step if `moves`.
auto ran_elsewhere(const test::any_model<double>& model, bool moves) {
  whole_host host(model);
  const moue::pass_options options{.tokens = host.tokens};
  moue::workspace block = room(model, options);
  auto pass = model.start(host.weights, options, block);
  const auto move = [&] {
    if (!moves) return;
    moue::workspace next = moved(block, room(model, options));
    pass = model.resume(host.weights, options, next, pass->position(), host.inputs());
    const auto left = block.bytes();
    std::fill(left.begin(), left.end(), std::byte{0xff});
    block = std::move(next);
  };
  pass->begin(host.tokens, host.inputs(), host.how);
  for (moue::index_t l = 0; l < model.layers(); ++l) {
    const auto assignments = pass->route(l, host.view(host.at(l)));
    move();
    pass->ran(l, moves ? pass->assignments(l) : assignments);
    host.leave(l, host.at(l));
    move();
  }
  pass->arm();
  for (moue::index_t l = model.layers(); l-- > 0;) {
    const auto entries = pass->assignments(l).entries();
    const auto dgates = test::noise_vector(static_cast<std::uint64_t>(l), entries);
    whole_host::numbers dx(host.input.size());
    pass->route_backward(l, {dgates.data(), entries}, host.view(dx), host.gradients);
    move();
    host.dx.insert(host.dx.end(), dx.begin(), dx.end());
  }
  return host;
}

/// Logits from the token's id and label.
struct by_side_inputs {
  template <class C>
  struct row {
    moue::side_inputs batch;
    moue::matrix_view<C> logits;
    MOUE_HD void operator()(moue::index_t t, moue::index_t column) const {
      logits(t, column) += C((batch.token_ids[t] + 3 * batch.labels[t] + 2 * column) % 7);
    }
  };
  template <class C, std::size_t N, std::size_t M>
  void forward(const auto& ops, const moue::router_frame<C>& frame, const std::array<moue::matrix_view<const C>, N>&,
               const std::array<moue::matrix_view<C>, M>&) const {
    ops.each_element(frame.logits.rows, frame.logits.cols, row<C>{frame.batch, frame.logits});
  }
  template <class C, std::size_t N, std::size_t M, std::size_t K>
  void backward(const auto&, const moue::router_frame<C>&, const moue::router_gradient<C>&,
                const std::array<moue::matrix_view<const C>, N>&, const std::array<moue::matrix_view<C>, M>&,
                const std::array<moue::gradient_target<C>, K>&) const {}
};

}  // namespace

TEST_CASE("a pass that is put down goes on at any address with the same bits") {
  const auto serial = test::erase<double>(test::whole_mixture(moue::reference{}));
  const auto threads = test::erase<double>(test::whole_mixture(moue::cpu{2}));
  check_put_down(*serial, {}, 64);
  for (const auto* model : {serial.get(), threads.get()})
    for (const bool apart : {false, true})
      for (const bool external : {false, true})
        check_put_down(*model, {.router_input = apart, .external_inputs = external}, 2);
}

TEST_CASE("a pass whose experts somebody else runs goes on with the same bits") {
  const auto model = test::erase<double>(test::whole_mixture(moue::reference{}));
  const auto stays = ran_elsewhere(*model, false), moves = ran_elsewhere(*model, true);
  CHECK(moves.same_bits_as(stays));
  const auto router = test::to_vector(stays.gradients["layers.0.router.weight"]);
  CHECK(std::any_of(router.begin(), router.end(), [](double g) { return g != 0; }));
}

TEST_CASE("a pass goes on with another number of threads, to the same bits") {
  const auto one = test::erase<double>(test::whole_mixture(moue::cpu{1}));
  const auto five = test::erase<double>(test::whole_mixture(moue::cpu{5}));  // whose scratch has other sizes
  check_moves(one, five);
  check_moves(five, one);
}

TEST_CASE("a workspace whose buffers lie elsewhere is refused") {
  const auto model = test::erase<double>(test::whole_mixture(moue::reference{}));
  const whole_host host(*model);
  const moue::pass_options options{.tokens = host.tokens};
  moue::workspace block = room(*model, options);
  const auto pass = model->start(host.weights, options, block);
  pass->begin(host.tokens, host.inputs(), host.how);
  const auto message = [&](const moue::pass_options& other) {
    moue::workspace there = moved(block, room(*model, other));
    return message_of([&] { model->resume(host.weights, other, there, pass->position(), host.inputs()); });
  };
  CHECK(message(options) == "");
  const std::string refused =
      "moue: pass: the position is one of another pass; resume with the mixture, the options and the kind of backend "
      "that the pass was started with";
  CHECK(message({.tokens = host.tokens + 1}) == refused);
  CHECK(message({.tokens = host.tokens, .how = moue::mode::inference}) == refused);
  CHECK(message({.tokens = host.tokens, .router_input = true}) == refused);
  CHECK(message({.tokens = host.tokens, .external_inputs = true}) == refused);
  CHECK(message({.tokens = host.tokens, .first = 1}) == refused);
  CHECK(message({.tokens = host.tokens, .count = 3}) == refused);
  CHECK(message({.tokens = host.tokens, .entries = 100}) == refused);
}

TEST_CASE("a range of the same size elsewhere is refused") {
  const auto model = test::erase<double>(test::whole_mixture(moue::reference{}));  // layers 2 and 3 are 0 and 1 again
  whole_host host(*model);
  const moue::pass_options first{.tokens = host.tokens, .count = 2};
  const moue::pass_options second{.tokens = host.tokens, .first = 2, .count = 2};
  moue::workspace block = room(*model, first);
  const auto pass = model->start(host.weights, first, block);
  pass->begin(host.tokens, host.inputs(), host.how);
  for (moue::index_t l = 0; l < 2; ++l) host.forward(*pass, l);
  moue::workspace there = moved(block, room(*model, second));
  CHECK(contains(message_of([&] { model->resume(host.weights, second, there, pass->position(), host.inputs()); }),
                 "one of another pass"));
}

TEST_CASE("places where no pass can stand are refused") {
  const auto model = test::erase<double>(test::whole_mixture(moue::reference{}));
  whole_host host(*model);
  const moue::pass_options options{.tokens = host.tokens};
  moue::workspace block = room(*model, options);
  const auto pass = model->start(host.weights, options, block);
  const auto resumes = [&](auto change) {
    moue::pass_position position = pass->position();
    change(position);
    moue::workspace there = moved(block, room(*model, options));
    return message_of([&] { model->resume(host.weights, options, there, position, host.inputs()); }) == "";
  };
  CHECK_FALSE(resumes([](auto& p) { p.reached = p.next = 1; }));  // no batch was begun
  CHECK_FALSE(resumes([](auto& p) { p.halfway = true; }));
  pass->begin(host.tokens, host.inputs(), host.how);
  for (moue::index_t l = 0; l < model->layers(); ++l) host.forward(*pass, l);
  CHECK(resumes([](auto&) {}));
  CHECK_FALSE(resumes([](auto& p) { p.next = 1; }));  // backward has not begun
  CHECK_FALSE(resumes([](auto& p) { p.halfway = true; }));
  CHECK(resumes([](auto& p) { p.next = 1, p.backward = true; }));
  CHECK_FALSE(resumes([](auto& p) { p.next = 0, p.backward = p.halfway = true; }));
}

TEST_CASE("a pass that never began says so where it is picked up") {
  const auto model = test::erase<double>(test::whole_mixture(moue::reference{}));
  whole_host host(*model);
  const moue::pass_options options{.tokens = host.tokens};
  moue::workspace block = room(*model, options);
  const auto pass = model->start(host.weights, options, block);
  moue::workspace there = moved(block, room(*model, options));
  const auto again = model->resume(host.weights, options, there, pass->position());
  CHECK(contains(message_of([&] { host.forward(*again, 0); }), "x was given before a batch was begun"));
}

TEST_CASE("ids and labels of tokens are given again, and read") {
  const moue::mixture model{moue::swiglu{.width = 4, .hidden = 3}, moue::shared_pool{2, 5},
                            moue::router{moue::score_sum{moue::linear_score{}, by_side_inputs{}}, moue::top_k{2},
                                         moue::softmax_of_selected{}},
                            moue::no_balancing{}, moue::reference{}};
  const auto weights = model.initialize<double>(1);
  const std::vector<std::int64_t> ids{4, 1, 3}, labels{2, 0, 6}, others{0, 5, 1};
  const moue::side_inputs given{.token_ids = {ids.data(), 3}, .labels = {labels.data(), 3}};
  const moue::pass_options options{.tokens = 3};
  moue::workspace block(model.workspace_bytes<double>(options));
  std::vector<double> x(12, 0.1), y(12);
  const moue::matrix_view<double> rows{x.data(), 3, 4}, out{y.data(), 3, 4};
  auto pass = model.start(weights, options, block);
  pass.begin(3, given);
  pass.forward(0, rows, out);
  const auto position = pass.position();
  moue::workspace same = moved(block, moue::workspace(block.bytes().size()));
  moue::workspace different = moved(block, moue::workspace(block.bytes().size()));
  pass.forward(1, rows, out);
  const auto expected = test::to_vector(pass.logits(1));

  auto again = model.resume(weights, options, same, position, given);
  again.forward(1, rows, out);
  CHECK(test::to_vector(again.logits(1)) == expected);
  const moue::side_inputs wrong{.token_ids = {ids.data(), 3}, .labels = {others.data(), 3}};
  auto mistaken = model.resume(weights, options, different, position, wrong);
  mistaken.forward(1, rows, out);
  CHECK(test::to_vector(mistaken.logits(1)) != expected);
}
