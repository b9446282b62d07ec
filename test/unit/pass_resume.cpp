// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Where a pass that was put down may be picked up, and what must be there again.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "message_of.hpp"
#include "moue/backend/cpu.hpp"
#include "moue/backend/reference.hpp"
#include "whole.hpp"

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
  pass->begin(host.tokens, host.inputs());
  for (moue::index_t l = 0; l < 2; ++l) host.forward(*pass, l);

  moue::workspace other = moved(block, room(*there, options));
  pass = there->resume(host.weights, options, other, pass->position(), host.inputs());
  for (moue::index_t l = 2; l < there->layers(); ++l) host.forward(*pass, l);
  pass->arm();
  for (moue::index_t l = there->layers(); l-- > 0;) host.backward(*pass, l);
  CHECK(host.same_bits_as(whole));
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
  pass->begin(host.tokens, host.inputs());
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
  pass->begin(host.tokens, host.inputs());
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
  pass->begin(host.tokens, host.inputs());
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
