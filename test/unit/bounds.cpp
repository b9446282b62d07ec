// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Nothing that a user can write without a cast reads or writes memory that is not meant: each mistake is refused first.

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "executor_run.hpp"
#include "message_of.hpp"
#include "misfits.hpp"
#include "moue/analysis/load.hpp"
#include "moue/any/erase.hpp"
#include "moue/backend/cpu.hpp"
#include "moue/backend/reference.hpp"
#include "moue/pass.hpp"
#include "moue/policies.hpp"
#include "moue/testing/expert_laws.hpp"
#include "moue/train/adamw.hpp"

namespace {

using moue::index_t;
using test::broken, test::broken_select, test::check_products, test::ran_off, test::refused;
using numbers = std::vector<double>;
constexpr index_t tokens = 3, width = 4, layers = 3, experts = 5;
constexpr index_t most = std::numeric_limits<index_t>::max();

template <class RouterT = decltype(moue::linear_router(2)), class LossT = moue::switch_loss>
auto mixture_of(RouterT router = moue::linear_router(2), LossT loss = {}) {
  return moue::mixture{moue::swiglu{.width = width, .hidden = 3}, moue::shared_pool{layers, experts}, router, loss,
                       moue::reference{}};
}

/// A pass with all that it stands on.
template <class MixtureT>
struct run {
  MixtureT model;
  moue::pass_options options;
  moue::parameters<double> weights = model.template initialize<double>(3);
  moue::gradients<double> gradients{model.layout()};
  moue::workspace scratch{model.template workspace_bytes<double>(options)};
  moue::pass<MixtureT, double> pass = model.start(weights, options, scratch);
  numbers rows = numbers(2 * tokens * width, 0.3);

  explicit run(MixtureT m, const moue::pass_options& o = {.tokens = tokens}) : model(std::move(m)), options(o) {}
  moue::matrix_view<double> x() { return {rows.data(), tokens, width}; }
  void forward(index_t count) {
    pass.begin(tokens);
    for (index_t l = 0; l < count; ++l) pass.forward(l, x(), x());
  }
};

}  // namespace

TEST_CASE("what a layer did is shown once it ran, and while it is there") {
  run r(mixture_of(moue::universal_router(2)));
  r.forward(1);
  refused([&] { r.pass.logits(1); }, "the logits of layer 1 were asked for when 1 layers from layer 0 on");
  refused([&] { r.pass.logits(5); }, "the logits of layer 5 were asked for");
  refused([&] { r.pass.logits(-1); }, "the logits of layer -1 were asked for");
  refused([&] { r.pass.assignments(2); }, "the assignments of layer 2 were asked for");
  refused([&] { r.pass.selected(2); }, "the selected columns of layer 2 were asked for");
  CHECK_NOTHROW(moue::reuse_matrix(r.pass));  // of the layers that have run
  CHECK(r.pass.state(1).rows == tokens);
  refused([&] { r.pass.state(2); }, "the state before layer 2 was asked for when 1 layers from layer 0 on had been");
  refused([&] { r.pass.state(4); }, "the state before layer 4 was asked for; ask for a layer of the range");
  refused([&] { r.pass.dstate_in(); }, "the gradient of the first state was asked for where there is none");
  r.forward(layers);
  CHECK(r.pass.state(0).cols > 0);
  CHECK(r.pass.state(layers).cols > 0);
  for (index_t l = layers; l-- > 0;) r.pass.backward(l, r.x(), r.x(), r.gradients);
  CHECK(r.pass.dstate_in().rows == tokens);
  CHECK(r.pass.state(layers).cols > 0);

  run inference(mixture_of(moue::universal_router(2)), {.tokens = tokens, .how = moue::mode::inference});
  inference.forward(layers);
  refused([&] { inference.pass.logits(0); }, "the logits of layer 0 are no longer there");
  refused([&] { inference.pass.assignments(1); }, "the assignments of layer 1 are no longer there");
  refused([&] { inference.pass.state(0); }, "the state before layer 0 is no longer there");
  refused([&] { inference.pass.state_in(); }, "the state before layer 0 is no longer there");
  refused([&] { inference.pass.dstate_out(); }, "the gradient of the last state was asked for where there is none");
  refused([&] { inference.pass.dstate_in(); }, "the gradient of the first state was asked for where there is none");
  CHECK(inference.pass.state(layers).cols == inference.pass.state(layers - 1).cols);
  CHECK(inference.pass.state_out().rows == tokens);
}

TEST_CASE("positions in layouts and topologies are counted from 0") {
  const auto model = mixture_of();
  auto weights = model.initialize<double>(1);
  moue::gradients<double> gradients(model.layout());
  const auto& layout = *model.layout();
  const std::string of = " of " + std::to_string(layout.tensors()) + " was asked for";
  refused([&] { weights[layout.tensors()]; }, "tensor " + std::to_string(layout.tensors()) + of);
  refused([&] { std::as_const(weights)[-1]; }, "tensor -1" + of);
  refused([&] { weights.writable(99); }, "tensor 99" + of);
  refused([&] { gradients[99]; }, "tensor 99" + of);
  refused([&] { gradients.live(-7); }, "tensor -7" + of);
  refused([&] { gradients.set_live(99); }, "tensor 99" + of);
  refused([&] { gradients.touched(experts); }, "expert 5 of 5");
  refused([&] { layout[99]; }, "tensor 99" + of);
  refused([&] { layout.expert_first(-1); }, "expert -1 of 5");
  refused([&] { layout.router(layers, 0); }, "layer 3 of 3");
  refused([&] { layout.router(0, 1); }, "parameter of a router 1 of 1");
  refused([&] { model.connections().candidates(layers); }, "layer 3 of 3");
  refused([&] { model.connections().always(-1); }, "layer -1 of 3");
  refused([&] { model.connections().parameter_layer(layers); }, "layer 3 of 3");
  refused([&] { model.connections().candidate_offset(layers + 1); }, "layer 4 of 4");
}

namespace {

struct broken_table {
  broken how;

  index_t max_selected(index_t) const { return 2; }
  template <class C>
  void table(const auto&, const moue::select_frame<C>&, moue::matrix_view<std::int32_t> selected, const auto&) const {
    for (index_t t = 0; t < selected.rows; ++t) selected(t, 0) = 3, selected(t, 1) = -1;
    if (how == broken::beyond) selected(1, 0) = 1 << 30;
    if (how == broken::negative) selected(1, 1) = -2;
    if (how == broken::twice) selected(1, 1) = 3;
  }
};

template <class SelectT>
std::string selecting(SelectT select) {
  return message_of([&] {
    run r(mixture_of(moue::router{moue::linear_score{}, select, moue::softmax_of_selected{}}));
    for (index_t i = 0; i < r.weights.layout().tensors(); ++i)  // only the second token has a first logit of 400
      if (r.weights.layout()[i].layer == 1)
        for (index_t j = 0; j < width; ++j) r.weights[i](0, j) = j == 0 ? 400 : 0;
    numbers x(tokens * width, 0.0), y(x.size());
    x[width] = 1;
    const moue::matrix_view<double> in{x.data(), tokens, width}, out{y.data(), tokens, width};
    r.pass.begin(tokens);
    for (index_t l = 0; l < layers; ++l) r.pass.forward(l, in, out);
    for (index_t l = layers; l-- > 0;) r.pass.backward(l, in, out, r.gradients);
  });
}

}  // namespace

TEST_CASE("a selection that breaks its rules is refused by layer and token") {
  const std::string fix =
      "; let the select stage write distinct columns from 0 to candidates - 1, and return how many, or end a row of a "
      "table with -1";
  const std::string where = "moue: selection: the selection of token 1 at layer 1 ";
  CHECK(selecting(broken_select{broken::no}) == "");
  CHECK(selecting(broken_select{broken::too_many}) == where + "has 3 columns where max_selected allows 2" + fix);
  CHECK(selecting(broken_select{broken::negative_count}) == where + "has -1 columns where max_selected allows 2" + fix);
  CHECK(selecting(broken_select{broken::beyond}) == where + "is [3, 5], of 5 candidates" + fix);
  CHECK(selecting(broken_select{broken::negative}) == where + "is [-2, 1], of 5 candidates" + fix);
  CHECK(selecting(broken_select{broken::twice}) == where + "is [3, 3], of 5 candidates" + fix);
  const std::string table = "moue: selection: the selection of token 1 at layer 0 ";
  CHECK(selecting(broken_table{broken::no}) == "");
  CHECK(selecting(broken_table{broken::beyond}) == table + "is [1073741824], of 5 candidates" + fix);
  CHECK(selecting(broken_table{broken::negative}) == table + "is [3, -2], of 5 candidates" + fix);
  CHECK(selecting(broken_table{broken::twice}) == table + "is [3, 3], of 5 candidates" + fix);
}

TEST_CASE("bounds of a selection that make no sense") {
  CHECK(contains(selecting(broken_select{broken::negative_most}), "max_selected allows -1 of 5 candidates"));
  const moue::mixture model{
      moue::copy_expert{width}, moue::table{experts, {{0, 1}, {0, 1, 2, 3, 4}}},
      moue::router{moue::linear_score{}, broken_select{broken::falling}, moue::softmax_of_selected{}},
      moue::no_balancing{}, moue::reference{}};
  refused([&] { model.workspace_bytes<double>({.tokens = tokens}); },
          "max_selected allows 2 of 2 candidates and 1 of 5; let it return 0 or more");
}

namespace {

struct declaring {
  moue::parameter_spec spec{"weight", 1, 1};
  index_t rows = 1, state = 0;

  auto parameters(moue::router_shape) const { return std::array{spec}; }
  auto temporaries(moue::router_shape s) const { return std::array{moue::matrix_shape{s.tokens * rows, rows}}; }
  index_t state_width() const { return state; }
  void forward(const auto&, const auto&, const auto&, const auto&) const {}
  void backward(const auto&, const auto&, const auto&, const auto&, const auto&, const auto&) const {}
  void advance(const auto&, const auto&, const auto&, const auto&) const {}
  void advance_backward(const auto&, const auto&, const auto&, const auto&, const auto&, const auto&) const {}
};

struct narrow_features {
  index_t to;
  index_t width(index_t) const { return to; }
  void forward(const auto&, const auto&, const auto&, const auto&) const {}
  void backward(const auto&, const auto&, const auto&, const auto&, const auto&, const auto&) const {}
};

std::string declared(const declaring& score) {
  return message_of([&] {
    mixture_of(moue::router{score, moue::top_k{1}, moue::softmax_of_selected{}}).workspace_bytes<double>({.tokens = 2});
  });
}

}  // namespace

TEST_CASE("declarations that make no sense") {
  CHECK(declared({}) == "");
  CHECK(contains(declared({.spec = {"", 1, 1}}), "a parameter of 'layers.0.router.' has an empty name"));
  CHECK(contains(declared({.spec = {"w", -1, 1}}), "'layers.0.router.w' has shape [-1, 1]"));
  CHECK(contains(declared({.rows = -3}), "the size of 'router temporaries' overflows"));
  CHECK(contains(declared({.state = -1}), "a state of width -1"));
  for (const index_t to : {index_t{0}, index_t{-4}, most})
    refused([&] { mixture_of(moue::linear_router(1).with(narrow_features{to})); },
            "declare " + std::to_string(to) + " features");
  refused([] { moue::executor(moue::swiglu{.width = 1}, 2, moue::reference{}); },
          "parameter 'gate' of an expert has shape [0, 1]");
  refused([] { moue::executor(moue::swiglu{.width = most, .hidden = 1}, 2, moue::reference{}); }, "experts have width");
  const double infinite = std::numeric_limits<double>::infinity();
  for (const double weight : {-0.01, infinite, -infinite, std::nan("")}) {
    refused([&] { mixture_of(moue::linear_router(2), moue::switch_loss{weight}); }, "a balancing loss has the weight");
    refused(
        [&] {
          mixture_of(moue::linear_router(2), moue::sum_of_losses{moue::switch_loss{}, moue::z_loss{weight}});
        },
        "a balancing loss has the weight");
    refused([&] { mixture_of(moue::linear_router(2), moue::universal_balance{.weight = weight}); },
            "give it a finite weight of 0 or more");
  }
  CHECK(mixture_of(moue::linear_router(2), moue::switch_loss{0}).layers() == layers);
}

TEST_CASE("matrices that share a part of their elements") {
  run r(mixture_of());
  r.pass.begin(tokens);
  double* const data = r.rows.data();
  const moue::matrix_view<double> first{data, tokens, width};
  const auto forward = [&](auto x, auto y) { return [&r, x, y] { r.pass.forward(r.pass.position().next, x, y); }; };
  const std::string text = "pass: y shares some of its elements with x; give the same matrix, or memory of its own";
  refused(forward(first, moue::matrix_view<double>{data + 1, tokens, width}), text);
  refused(forward(first, moue::matrix_view<double>{data + width, tokens, width}), text);
  refused(forward(moue::matrix_view<double>{data + width, tokens, width}, first), text);
  refused(forward(first, moue::matrix_view<double>{data, tokens, width, width + 1}), text);
  refused(forward(moue::matrix_view<double>{data, tokens, width, 0}, first), text);
  // Side by side in one buffer, on top of each other, and apart.
  CHECK(message_of(forward(moue::matrix_view<double>{data, tokens, width, 2 * width},
                           moue::matrix_view<double>{data + width, tokens, width, 2 * width})) == "");
  CHECK(message_of(forward(first, first)) == "");
  CHECK(message_of(forward(first, moue::matrix_view<double>{data + tokens * width, tokens, width})) == "");
  refused(
      [&] {
        r.pass.backward(2, first, moue::matrix_view<double>{data + 2, tokens, width}, r.gradients);
      },
      "dx shares some of its elements with dy");

  run apart(mixture_of(), {.tokens = tokens, .router_input = true});
  apart.pass.begin(tokens);
  const moue::matrix_view<double> x = apart.x(), other{apart.rows.data() + tokens * width, tokens, width};
  for (index_t l = 0; l < layers; ++l) apart.pass.forward(l, {x, other}, x);
  refused(
      [&] {
        apart.pass.backward(2, x, {x, x}, apart.gradients);
      },
      "the router's dx shares some of its elements with the experts' dx");
  CHECK(message_of([&] { apart.pass.backward(2, x, {x, other}, apart.gradients); }) == "");

  run kept(mixture_of(), {.tokens = tokens, .external_inputs = true});
  kept.pass.begin(tokens);
  refused([&] { kept.pass.forward(0, kept.x(), kept.x()); }, "y was to be written where x lies, which backward reads");
}

TEST_CASE("a batch comes before its layers") {
  run r(mixture_of());
  const std::string text = "pass: x was given before a batch was begun; call begin with the number of tokens first";
  refused([&] { r.pass.forward(0, r.x(), r.x()); }, text);
  refused([&] { r.pass.route(0, r.x()); }, text);
  r.pass.begin(2);
  refused([&] { r.pass.forward(0, r.x(), r.x()); }, "x has shape [3, 4], not [2, 4]");
}

TEST_CASE("lists without data") {
  run r(mixture_of());
  refused([&] { r.pass.begin(tokens, {.valid = {nullptr, tokens}}); }, "the mask is null");
  refused([&] { r.pass.begin(tokens, {.token_ids = {nullptr, tokens}}); }, "the list of token ids is null");
  refused([&] { r.pass.begin(tokens, {.labels = {nullptr, tokens}}); }, "the list of labels is null");
  r.forward(layers);
  const auto entries = r.pass.assignments(2).entries();
  refused([&] { r.pass.run_backward(2, r.x(), r.x(), {nullptr, entries}, r.gradients); }, "and they are null");
}

TEST_CASE("a workspace that is too small says how large it should be") {
  const auto model = mixture_of();
  const auto weights = model.initialize<double>(1);
  const moue::pass_options options{.tokens = tokens};
  const std::string needed = std::to_string(model.workspace_bytes<double>(options)) + " bytes are needed, but ";
  for (const std::size_t given : {std::size_t{0}, std::size_t{1000}}) {
    moue::workspace scratch(given);
    refused([&] { model.start(weights, options, scratch); }, needed + std::to_string(given) + " were given");
    refused([&] { model.experts_executor().carve<double>(scratch, tokens, 2 * tokens); },
            std::to_string(model.experts_executor().workspace_bytes<double>(tokens, 2 * tokens)) + " bytes are needed");
  }
}

TEST_CASE("what was moved from is refused") {
  run r(mixture_of());
  r.forward(layers);
  auto taken = std::move(r.pass);
  const std::string text = "pass: it was moved from";
  refused([&] { r.pass.begin(tokens); }, text);  // NOLINT: what is left of it
  refused([&] { r.pass.forward(0, r.x(), r.x()); }, text);
  refused([&] { r.pass.backward(2, r.x(), r.x(), r.gradients); }, text);
  refused([&] { r.pass.balance(); }, text);
  refused([&] { r.pass.counts(); }, text);
  refused([&] { r.pass.logits(0); }, text);
  refused([&] { r.pass.model(); }, text);
  taken.backward(2, r.x(), r.x(), r.gradients);

  auto model = mixture_of();
  const auto weights = model.initialize<double>(1);
  const auto moved = std::move(model);
  moue::workspace scratch(moved.workspace_bytes<double>({.tokens = tokens}));
  refused([&] { model.start(weights, {.tokens = tokens}, scratch); }, "its mixture was moved from");  // NOLINT

  refused([&] { model.connections().candidates(0); }, "layer 0 of 0");  // NOLINT
  moue::adamw optimiser(weights);
  const auto other = std::move(optimiser);
  auto steps = weights;
  const std::string words = "the optimiser's moments are empty: they were made without a layout, or moved from";
  refused([&] { optimiser.step(steps, moue::gradients<double>(moved.layout()), 0.1); }, words);  // NOLINT
  refused([&] { optimiser.adopt(weights); }, words);

  const moue::workspace elsewhere = std::move(scratch);
  CHECK(scratch.bytes().empty());  // NOLINT
  refused([&] { moved.start(weights, {.tokens = tokens}, scratch); }, "but 0 were given");
}

TEST_CASE("a pass keeps the model that was erased") {
  const auto weights = mixture_of().initialize<double>(3);
  moue::workspace scratch(mixture_of().workspace_bytes<double>({.tokens = tokens}));
  auto pass = moue::erase<double>(mixture_of())->start(weights, {.tokens = tokens}, scratch);
  run r(mixture_of());
  numbers x(tokens * width, 0.3);
  pass->begin(tokens);
  pass->forward(0, {x.data(), tokens, width}, {x.data(), tokens, width});
  r.forward(1);
  CHECK(std::equal(x.begin(), x.end(), r.rows.begin()));
}

TEST_CASE("an executor goes back over what it ran, and over nothing else") {
  const moue::executor executor(moue::mlp<moue::silu>{width, 2}, 3, moue::reference{});
  const moue::parameters<double> weights(executor.layout());
  moue::gradients<double> into(executor.layout());
  moue::workspace block(executor.workspace_bytes<double>(4, 8));
  std::fill(block.bytes().begin(), block.bytes().end(), std::byte{0xff});
  auto memory = executor.carve<double>(block, 4, 8);
  numbers x(4 * width, 0.5), y(4 * width), dgate(8);
  const auto rows = [&](numbers& v, index_t count) { return moue::matrix_view<double>{v.data(), count, width}; };
  const auto backward = [&](const test::assignments& given) {
    return [&, given] {
      executor.backward(given.view(), weights, rows(x, given.tokens()), rows(x, given.tokens()),
                        rows(y, given.tokens()), moue::vector_view<double>{dgate.data(), std::ssize(given.expert)},
                        into, memory);
    };
  };
  test::assignments two, one;
  two.add(0, 1), two.end_token(), two.add(1, 1), two.add(2, 1), two.end_token();
  one.add(1, 1), one.end_token();
  refused(backward(two), "backward was given 2 tokens with 3 entries, but forward has not run");
  executor.forward(one.view(), weights, rows(x, 1), rows(y, 1), memory);
  refused(backward(two), "backward was given 2 tokens with 3 entries, but forward ran 1 with 1");
  executor.forward(two.view(), weights, rows(x, 2), rows(y, 2), memory);
  CHECK(message_of(backward(two)) == "");
  auto wild = two;
  wild.offsets[1] = 1000;
  refused(backward(wild), "its offsets fall from 1000 to 3");
  refused(
      [&] {
        executor.forward(two.view(), weights, rows(x, 2), moue::matrix_view<double>{x.data() + 1, 2, width}, memory);
      },
      "executor: y shares some of its elements with x");
  refused(
      [&] {
        executor.backward(two.view(), weights, rows(x, 2), rows(x, 2), rows(y, 2),
                          moue::vector_view<double>{nullptr, 3}, into, memory);
      },
      "and is null");
}

TEST_CASE("sizes that overflow") {
  const auto bytes = [](const auto& model, const moue::pass_options& options) {
    return [=] { model.template workspace_bytes<double>(options); };
  };
  struct huge_select {
    index_t n;
    index_t max_selected(index_t) const { return n; }
    index_t operator()(moue::vector_view<const double>, moue::vector_view<const std::int32_t>,
                       moue::vector_view<std::int32_t>) const {
      return 0;
    }
  };
  for (const index_t n : {most, most / 2, index_t{1} << 40})
    refused(bytes(mixture_of(moue::router{moue::linear_score{}, huge_select{n}, moue::softmax_of_selected{}}),
                  {.tokens = 4}),
            "max_selected allows " + std::to_string(n));
  refused(bytes(mixture_of(), {.tokens = 4, .entries = most}),
          "it was asked to hold " + std::to_string(most) + " entries");
  CHECK(contains(declared({.rows = most / 4}), "the size of 'router temporaries' overflows"));
  const moue::executor executor(moue::copy_expert{width}, 3, moue::reference{});
  refused([&] { executor.workspace_bytes<double>(most, 1); }, "memory for " + std::to_string(most) + " tokens");
  refused([&] { executor.workspace_bytes<double>(1, most); }, "with " + std::to_string(most) + " entries");
  refused([&] { executor.workspace_bytes<double>(-1, 1); }, "memory for -1 tokens");
  refused([] { moue::arena{}.take<double>(-2, -3, "x"); }, "the size of 'x' overflows");
  refused([] { moue::arena{}.take<double>(most, -3, "x"); }, "the size of 'x' overflows");
  refused([] { moue::workspace scratch(static_cast<std::size_t>(-1)); }, "it was asked for 18446744073709551615 bytes");

  const std::string overflow = "overflow";
  refused([] { moue::connectivity{moue::layer_local{most / 2, 3}}; }, overflow);
  refused([] { moue::connectivity{moue::adjacent_reuse{.depth = most / 2, .per_layer = 5}}; }, overflow);
  refused([] { moue::connectivity{moue::reuse_blocks{.depth = 3, .per_layer = most / 2}}; }, overflow);
  refused([] { moue::connectivity{moue::revisit{moue::shared_pool{4, 2}, most / 2}}; }, overflow);
  refused([] { moue::connectivity{moue::always_on{moue::shared_pool{4, 2}, most / 2}}; }, overflow);
  refused([] { moue::connectivity{moue::always_on{moue::shared_pool{4, 2}, 1, most}}; }, overflow);
  refused([] { moue::connectivity{moue::staggered_rotation{.depth = 2, .pool = most, .local = 1}}; }, overflow);
  refused([] { moue::connectivity{moue::staggered_rotation{.depth = 3, .pool = 2, .window = 1, .stride = most}}; },
          overflow);
  refused([] { moue::connectivity{moue::shared_pool{most, 1}}; }, "give it no more than 2147483647");
  CHECK(moue::connectivity{moue::adjacent_reuse{.depth = 3, .per_layer = 1, .reach = most}}.max_candidates() == 3);
  CHECK(moue::connectivity{moue::reuse_blocks{.depth = 3, .per_layer = 1, .block = most}}.max_candidates() == 3);
}

TEST_CASE("products check their shapes") {
  numbers memory(400, 0.5);
  SUBCASE("reference") { check_products(moue::reference{}, memory.data()); }
  SUBCASE("cpu") { check_products(moue::cpu{}, memory.data()); }
  const std::string text =
      "moue: operations: linear [5, 4] x [4, 4] -> [5, 3] does not fit; give x [m, k], w [n, k] and y";
  CHECK(contains(ran_off(moue::reference{}), text));
  CHECK(contains(ran_off(moue::cpu{}), "linear [3, 4] x [4, 4] -> [3, 3] does not fit"));  // a block per expert
}

TEST_CASE("laws say which product does not fit") {
  const auto report = moue::testing::check_expert_laws(test::one_row_off{});
  CHECK(report.broke("nothing is thrown"));
  CHECK_MESSAGE(contains(report.summary(), "linear [5, 4] x [4, 4] -> [5, 3] does not fit"), report.summary());
  CHECK_MESSAGE(contains(report.summary(), "1 of 4 laws broken"), report.summary());
}

TEST_CASE("rows that run backwards overlap what lies before their first") {
  std::vector<double> memory(12);
  const moue::matrix_view<const double> backwards{memory.data() + 6, 3, 3, -3};  // elements 0 to 8
  const auto meets = [&](index_t first) {
    return moue::detail::overlap(backwards, moue::matrix_view<double>{memory.data() + first, 1, 3});
  };
  CHECK(meets(0));
  CHECK(meets(7));
  CHECK(!meets(9));
}
