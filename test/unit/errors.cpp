// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Every misuse that the core can see at run time: the text says where, what, and how to fix it.

#include "moue/error.hpp"

#include <doctest/doctest.h>

#include <array>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "compositions.hpp"
#include "executor_run.hpp"
#include "message_of.hpp"
#include "moue/moue.hpp"
#include "stack.hpp"

namespace {

void check_throws(const auto& f, const std::string& where, const std::string& what, const std::string& fix) {
  CHECK_THROWS_WITH_AS(f(), ("moue: " + where + ": " + what + "; " + fix).c_str(), moue::error);
}

/// A topology that uses the router of whatever layer it is told.
struct borrowing {
  moue::table base;
  moue::index_t owner;
  moue::index_t layers() const { return base.layers(); }
  moue::index_t experts() const { return base.experts(); }
  void candidates(moue::index_t layer, auto append) const { base.candidates(layer, append); }
  moue::index_t parameter_layer(moue::index_t layer) const { return layer == 1 ? owner : layer; }
};

constexpr moue::index_t tokens = 4, width = 6;

/// A pass that holds `tokens` tokens, with matrices that fit.
struct fixture {
  moue::pass_options options;
  test::model_pointer<double> model = test::compose("linear_bias", {}, moue::reference{});
  moue::parameters<double> weights = test::random_weights(*model, 1);
  moue::workspace scratch{model->workspace_bytes(options)};
  std::unique_ptr<test::any_pass<double>> pass = model->start(weights, options, scratch);
  moue::gradients<double> gradients{model->layout()};
  std::vector<double> memory = test::noise_vector(2, tokens* width);
  moue::matrix_view<double> m{memory.data(), tokens, width};

  explicit fixture(moue::mode how = moue::mode::training, bool router_input = false)
      : options{.tokens = tokens, .how = how, .router_input = router_input} {
    pass->begin(tokens, {});
  }
  void forward_all() {
    for (moue::index_t l = 0; l < model->layers(); ++l) pass->forward(l, {m, {}}, m);
  }
};

}  // namespace

TEST_CASE("an error is a runtime_error in three parts") {
  CHECK(std::is_base_of_v<std::runtime_error, moue::error>);
  check_throws([] { throw moue::error("here", "this is wrong", "do that"); }, "here", "this is wrong", "do that");
}

TEST_CASE("an error says what a program can do about it") {
  CHECK(moue::error("here", "this is wrong", "do that").kind() == moue::error_kind::misuse);
  const moue::mixture model{moue::copy_expert{4}, moue::shared_pool{1, 2},
                            moue::linear_router(1).with(moue::non_finite::reject)};
  auto weights = model.initialize<double>(1);
  const moue::pass_options options{.tokens = 2};
  moue::workspace scratch(model.workspace_bytes<double>(options)), small(64);
  auto pass = model.start(weights, options, scratch);
  pass.begin(2);
  std::vector<double> broken(8, std::numeric_limits<double>::quiet_NaN());
  const moue::matrix_view<double> x{broken.data(), 2, 4};
  CHECK(kind_of([&] { pass.forward(1, x, x); }) == moue::error_kind::misuse);
  CHECK(kind_of([&] { pass.forward(0, x, x); }) == moue::error_kind::numbers);
  CHECK(kind_of([&] { model.start(weights, options, small); }) == moue::error_kind::memory);

  const moue::executor experts(moue::copy_expert{4}, 2, moue::reference{});
  const moue::parameters<double> none(experts.layout());
  auto memory = experts.carve<double>(scratch, 1, 1);
  const test::assignments two_tokens{{0, 1, 2}, {0, 1}, {1, 1}};
  CHECK(kind_of([&] { experts.forward(two_tokens.view(), none, x, x, memory); }) == moue::error_kind::memory);
}

TEST_CASE("topologies that break their laws") {
  const auto lower = [](const moue::table& t) { return [t] { moue::connectivity{t}; }; };
  const std::string where = "topology";
  check_throws(lower({3, {}}), where, "it has 0 layers", "give it at least one");
  check_throws(lower({0, {{0}}}), where, "it has 0 experts", "give it between 1 and 2147483647");
  check_throws(lower({moue::index_t{1} << 31, {{0}}}), where, "it has 2147483648 experts",
               "give it between 1 and 2147483647");
  check_throws(lower({3, {{0}, {1, 3}}}), where, "layer 1 names expert 3", "append ids from 0 to experts() - 1");
  check_throws(lower({3, {{-1}}}), where, "layer 0 names expert -1", "append ids from 0 to experts() - 1");
  check_throws(lower({3, {{0}, {2, 1, 2}}}), where, "layer 1 names expert 2 twice",
               "append each expert once per layer (a window must not be wider than its ring)");
  check_throws(lower({3, {{0}, {}}}), where, "layer 1 has no candidate", "append at least one expert for every layer");
}

TEST_CASE("mixtures whose parts do not fit") {
  const moue::mlp<moue::silu> expert{width, 5};
  const moue::table topology{4, {{0, 1}, {2, 3}, {1, 2, 3}}};
  check_throws(
      [&] {
        moue::mixture(expert, topology,
                      moue::router{moue::score_sum{moue::linear_score{}, moue::linear_score{}}, moue::top_k{1},
                                   moue::softmax_of_selected{}});
      },
      "mixture", "two parameters are called 'layers.0.router.weight'",
      "give the stages of a router distinct parameter names");
  for (const moue::index_t owner : {2, -1})
    check_throws(
        [&] {
          moue::mixture(expert, borrowing{topology, owner}, moue::linear_router(1));
        },
        "mixture", "layer 1 uses the router of layer " + std::to_string(owner),
        "tie routers only to an earlier layer with as many candidates");
  check_throws(
      [&] {
        moue::mixture(expert, borrowing{{4, {{0, 1, 3}, {2, 3}}}, 0}, moue::linear_router(1));
      },
      "mixture", "layer 1 uses the router of layer 0", "tie routers only to an earlier layer with as many candidates");
  check_throws([] { moue::executor(moue::copy_expert{0}, 2, moue::reference{}); }, "executor", "experts have width 0",
               "give them a positive width");
  check_throws([] { moue::expert_pool([](moue::index_t) { return 0; }, moue::copy_expert{4}, moue::zero_expert{5}); },
               "expert_pool", "kind 1 has width 5, kind 0 has 4",
               "give all experts of a pool the same width; only their hidden sizes may differ");
  check_throws(
      [] {
        moue::executor(moue::expert_pool([](moue::index_t e) { return e; }, moue::copy_expert{4}, moue::zero_expert{4}),
                       3, moue::reference{});
      },
      "expert_pool", "expert 2 has kind 2", "return a kind from 0 to 1");
  for (const moue::index_t threads : {0, -3})
    check_throws([&] { moue::cpu{threads}; }, "cpu", std::to_string(threads) + " threads were asked for",
                 "ask for at least 1");
}

TEST_CASE("parameters") {
  const auto model = test::compose("linear_bias", {}, moue::reference{});
  const auto layout = model->layout();
  const std::string where = "parameters";
  check_throws([&] { layout->find("expert.0.up"); }, where, "no tensor is called 'expert.0.up'",
               "names look like 'layers.0.router.weight' and 'experts.7.down'");
  check_throws([] { moue::parameter_layout{}.find("x"); }, where, "no tensor is called 'x'",
               "the model has no tensors");
  check_throws(
      [] {
        moue::parameter_layout{}.add("x", {"x", 2, -3}, -1, -1);
      },
      where, "'x' has shape [2, -3]", "give sizes that are not negative");
  std::vector<double> memory(static_cast<std::size_t>(layout->elements()));
  std::vector<double*> pointers(static_cast<std::size_t>(layout->tensors()), memory.data());
  pointers[1] = nullptr;
  check_throws([&] { moue::parameters<double>(layout, pointers); }, where,
               "the pointer given for 'layers.0.router.bias' is null", "give memory for every tensor");
  pointers.resize(3);
  check_throws([&] { moue::gradients<double>(layout, pointers); }, "gradients",
               "3 pointers were given for " + std::to_string(layout->tensors()) + " tensors",
               "give one pointer per tensor, in the order of the layout");
}

TEST_CASE("assignments") {
  const moue::executor executor(moue::copy_expert{width}, 3, moue::reference{});
  const moue::parameters<double> weights(test::layout_of(executor));
  const auto run = [&](const std::vector<std::int32_t>& ids) {
    return [&executor, &weights, ids] {
      test::assignments given;
      given.end_token();
      for (const auto e : ids) given.add(e, 1);
      given.end_token();
      const std::vector<double> x(2 * width);
      test::run_executor(executor, weights, given, x, x);
    };
  };
  check_throws(run({0, 3}), "routing", "token 1 names expert 3",
               "use ids from 0 to experts - 1, or -1 for an entry that runs nowhere");
  check_throws(run({-2}), "routing", "token 1 names expert -2",
               "use ids from 0 to experts - 1, or -1 for an entry that runs nowhere");
}

TEST_CASE("workspaces") {
  const std::string overflow = "the size of 'logits' overflows", fewer = "use fewer tokens per pass";
  constexpr auto most = std::numeric_limits<moue::index_t>::max();
  check_throws([] { moue::arena{}.take<double>(most / 4, "logits"); }, "workspace", overflow, fewer);
  check_throws([] { moue::arena{}.take<double>(-1, "logits"); }, "workspace", overflow, fewer);
  check_throws([] { moue::arena{}.take<char>(most / 2, 3, "logits"); }, "workspace", overflow, fewer);
  alignas(64) std::array<std::byte, 256> memory;
  moue::arena arena{memory};
  arena.take<double>(5, "x");
  check_throws([&] { arena.take<double>(25, "logits"); }, "workspace", "'logits' ends at byte 264 of 256",
               "size it with mixture::workspace_bytes for the same tokens and mode");

  const auto model = test::compose("linear_bias", {}, moue::reference{});
  const auto size = [&](moue::index_t n) { return [&model, n] { model->workspace_bytes({.tokens = n}); }; };
  check_throws(size(-1), "pass", "it was asked to hold -1 tokens", "ask for 0 or more");
  check_throws(size(moue::index_t{1} << 31), "pass", "it was asked to hold 2147483648 tokens",
               "split the batch: one pass holds at most 2147483647");
}

TEST_CASE("passes that are made or begun wrongly") {
  fixture f;
  const auto other = test::compose("linear_bias", {.width = 7}, moue::reference{});
  const auto others = test::random_weights(*other, 1);
  check_throws([&] { f.model->start(others, f.options, f.scratch); }, "pass", "the weights belong to another layout",
               "create them from this mixture's layout()");
  for (const moue::index_t n : {5, -1})
    check_throws([&] { f.pass->begin(n, {}); }, "pass", std::to_string(n) + " tokens were given, but it holds 4",
                 "start the pass for the largest batch");
  const std::vector<std::uint8_t> mask(3, 1);
  const std::vector<std::int64_t> ids(5, 1);
  const std::string fix = "give one entry per token, or none at all";
  check_throws(
      [&] {
        f.pass->begin(4, {.valid = {mask.data(), 3}, .token_ids = {}, .labels = {}});
      },
      "pass", "the mask has 3 entries for 4 tokens", fix);
  check_throws(
      [&] {
        f.pass->begin(4, {.valid = {}, .token_ids = {ids.data(), 5}, .labels = {}});
      },
      "pass", "the list of token ids has 5 entries for 4 tokens", fix);
  check_throws(
      [&] {
        f.pass->begin(4, {.valid = {}, .token_ids = {}, .labels = {ids.data(), 2}});
      },
      "pass", "the list of labels has 2 entries for 4 tokens", fix);
}

TEST_CASE("layers out of order") {
  fixture f;
  const auto forward = [&](moue::index_t l) { return [&f, l] { f.pass->forward(l, {f.m, {}}, f.m); }; };
  const auto backward = [&](moue::index_t l) { return [&f, l] { f.pass->backward(l, f.m, {f.m, {}}, f.gradients); }; };
  const auto arm = [&f] { f.pass->arm(); };
  const std::string visit = "visit layers in order, and call begin before the next batch";
  const std::string unwind = "visit the layers that ran in reverse order; after run_backward comes route_backward";
  const std::string between = "arm it in training, between the last forward and the first backward";
  check_throws(backward(0), "pass", "backward of layer 0 came when none was due", unwind);
  check_throws(forward(1), "pass", "forward of layer 1 came when layer 0 was due", visit);
  forward(0)();
  check_throws(forward(0), "pass", "forward of layer 0 came when layer 1 was due", visit);
  check_throws(backward(1), "pass", "backward of layer 1 came when backward of layer 0 was due", unwind);
  forward(1)(), forward(2)();
  check_throws(forward(3), "pass", "forward of layer 3 came when none was due", visit);
  check_throws(backward(1), "pass", "backward of layer 1 came when backward of layer 2 was due", unwind);
  arm();
  backward(2)();
  check_throws(arm, "pass", "the balancing loss was armed where no backward can begin", between);
  check_throws(forward(2), "pass", "forward of layer 2 came when none was due", visit);
  backward(1)(), backward(0)();
  check_throws(backward(0), "pass", "backward of layer 0 came when none was due", unwind);

  fixture inference(moue::mode::inference);
  inference.forward_all();
  check_throws(
      [&] {
        inference.pass->backward(2, inference.m, {inference.m, {}}, inference.gradients);
      },
      "pass", "backward was called in inference", "start the pass with mode::training");
}

TEST_CASE("matrices that do not fit") {
  fixture f;
  const std::string shape = "give [tokens, width], with the tokens of begin";
  const moue::matrix_view<double> tall{f.m.data, 5, 6}, wide{f.m.data, 4, 7}, null{nullptr, 4, 6},
      folded{f.m.data, 4, 6, 5}, none;
  const auto forward = [&](auto x, auto router, auto y) { return [=, &f] { f.pass->forward(0, {x, router}, y); }; };
  check_throws(forward(tall, none, f.m), "pass", "x has shape [5, 6], not [4, 6]", shape);
  check_throws(forward(f.m, none, wide), "pass", "y has shape [4, 7], not [4, 6]", shape);
  check_throws(forward(null, none, f.m), "pass", "x is null", "point it at your data");
  check_throws(forward(f.m, none, folded), "pass", "y has rows 5 elements apart",
               "set its stride to at least its columns");
  check_throws(forward(f.m, f.m, f.m), "pass", "the router got an input of its own", "set pass_options::router_input");

  f.forward_all();
  const auto backward = [&](auto dy, auto dx, auto router) {
    return [=, &f] { f.pass->backward(2, dy, {dx, router}, f.gradients); };
  };
  check_throws(backward(null, f.m, none), "pass", "dy is null", "point it at your data");
  check_throws(backward(f.m, tall, none), "pass", "dx has shape [5, 6], not [4, 6]", shape);
  check_throws(backward(f.m, f.m, f.m), "pass", "the router got a gradient of its own",
               "set pass_options::router_input");
  moue::gradients<double> others(test::compose("linear_bias", {.width = 7}, moue::reference{})->layout());
  check_throws(
      [&] {
        f.pass->backward(2, f.m, {f.m, {}}, others);
      },
      "pass", "the gradients belong to another layout", "create them from this mixture's layout()");

  fixture apart(moue::mode::training, true);
  check_throws(
      [&] {
        apart.pass->forward(0, {apart.m, {}}, apart.m);
      },
      "pass", "the router's x has shape [0, 0], not [4, 6]", shape);
  for (moue::index_t l = 0; l < 3; ++l) apart.pass->forward(l, {apart.m, apart.m}, apart.m);
  check_throws(
      [&] {
        apart.pass->backward(2, apart.m, {apart.m, {}}, apart.gradients);
      },
      "pass", "the router's dx has shape [0, 0], not [4, 6]", shape);
}
