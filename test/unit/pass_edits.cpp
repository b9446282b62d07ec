// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "edits.hpp"
#include "message_of.hpp"
#include "moue/backend/cpu.hpp"
#include "moue/backend/reference.hpp"
#include "whole.hpp"

// Assignments that a caller edits between the router and the experts: what runs, what is counted, who gets which gradient.

namespace {

using test::edit;
using test::placed_pass;
using test::run_edited;
using test::whole_host;
using numbers = std::vector<double>;

test::model_pointer<double> whole_model() { return test::erase<double>(test::whole_mixture(moue::reference{})); }

void check_throws(const auto& f, const std::string& where, const std::string& what, const std::string& fix) {
  CHECK(message_of(f) == "moue: " + where + ": " + what + "; " + fix);
}

}  // namespace

TEST_CASE_TEMPLATE("gradients of edited assignments agree with central differences", B, moue::reference, moue::cpu) {
  const auto model = test::erase<double>(test::whole_mixture(B{}));
  whole_host host(*model);
  run_edited(host, true);
  constexpr double step = 1e-5;
  double worst = 0;
  const auto check = [&](double& value, double gradient) {
    const double center = value;
    const auto at = [&](double v) {
      value = v;
      host.entered[0] = host.input;
      return run_edited(host, false);
    };
    const double difference = (at(center + step) - at(center - step)) / (2 * step);
    value = center;
    worst = std::max(worst, std::abs(difference - gradient) / std::max(1.0, std::abs(gradient)));
  };
  for (moue::index_t i = 0; i < host.weights.layout().tensors(); ++i)
    for (moue::index_t j = 0; host.gradients.wanted(i) && j < host.weights.layout()[i].size();
         j += 1 + host.weights.layout()[i].size() / 7)
      check(host.weights[i].data[j], host.gradients[i].data[j]);
  for (std::size_t i = 0; i < host.input.size(); i += 5) check(host.input[i], host.dx[i]);
  CHECK(worst < 1e-7);
}

TEST_CASE("demand is counted by the router's columns, load by the rows that ran") {
  const auto model = whole_model();
  whole_host host(*model);
  const placed_pass plain(host, {}), pass(host, {.entries = 60});
  host.at(1) = host.input;
  plain->begin(host.tokens, host.inputs(), host.how);
  plain->forward(0, host.view(host.at(0)), host.view(host.at(1)));
  pass->begin(host.tokens, host.inputs(), host.how);
  const auto e = edit(pass->route(0, host.view(host.at(0))));
  pass->run(0, host.view(host.at(0)), e.view(), host.view(host.at(1)));
  const auto expected = plain->counts(), counts = pass->counts();
  CHECK(counts.demand == expected.demand);
  CHECK(counts.load != expected.load);
  CHECK(counts.tokens == std::vector<std::int64_t>{7, 0, 0, 0});
  CHECK(expected.demand == expected.load);
  // Rows by hand: a token's entries of one expert are one row.
  const auto candidates = model->connections().candidates(0);
  std::vector<std::int64_t> rows(candidates.size(), 0);
  for (moue::index_t t = 0; t < host.tokens; ++t)
    for (std::size_t c = 0; host.valid[static_cast<std::size_t>(t)] != 0 && c < candidates.size(); ++c) {
      const auto first = e.experts.begin() + e.offsets[static_cast<std::size_t>(t)],
                 last = e.experts.begin() + e.offsets[static_cast<std::size_t>(t) + 1];
      rows[c] += std::find(first, last, candidates[c]) != last;
    }
  CHECK(std::equal(rows.begin(), rows.end(), counts.load.begin()));
  // Of every expert, also of those that are no candidates: the always-on one, and expert 0 where an edit sent entries.
  for (moue::index_t expert = 0; expert < model->experts(); ++expert) {
    std::int64_t ran = 0;
    for (moue::index_t t = 0; t < host.tokens; ++t) {
      if (host.valid[static_cast<std::size_t>(t)] == 0) continue;
      const auto first = e.experts.begin() + e.offsets[static_cast<std::size_t>(t)],
                 last = e.experts.begin() + e.offsets[static_cast<std::size_t>(t) + 1];
      ran += std::find(first, last, expert) != last;
    }
    CHECK(counts.rows[static_cast<std::size_t>(expert)] == ran);
  }
  const auto always = model->connections().always(0);
  CHECK_FALSE(always.empty());
  for (const std::int32_t expert : always) CHECK(counts.rows[static_cast<std::size_t>(expert)] == 7);
  CHECK(std::all_of(counts.rows.begin() + model->experts(), counts.rows.end(), [](auto n) { return n == 0; }));
  for (std::size_t t = 0; t < host.valid.size(); ++t)
    for (std::size_t j = 0; host.valid[t] == 0 && j < 6; ++j) CHECK(host.at(1)[t * 6 + j] == 0);
  const auto share = pass->statistics().share, before = plain->statistics().share;
  CHECK(numbers(share.begin(), share.end()) == numbers(before.begin(), before.end()));
}

TEST_CASE("experts that somebody else ran are the experts that the pass would have run") {
  const auto mixture = test::whole_mixture<false>(moue::cpu{});  // a loss would miss their outputs
  const auto model = test::erase<double>(mixture);
  whole_host whole(*model), host(*model);
  test::run_whole(whole);
  const auto& executor = mixture.experts_executor();
  const placed_pass pass(host, {});
  pass->begin(host.tokens, host.inputs(), host.how);
  const moue::index_t entries = host.tokens * 4;
  std::vector<moue::workspace> blocks;
  std::vector<moue::expert_memory<double>> memories;
  // Padding must be finite where a caller runs experts himself; its rows are never gathered.
  for (moue::index_t l = 0; l < model->layers(); ++l) {
    blocks.emplace_back(executor.workspace_bytes<double>(host.tokens, entries));
    memories.push_back(executor.carve<double>(blocks.back(), host.tokens, entries));
    const auto x = host.view(host.at(l));
    const auto r = pass->route(l, x);
    numbers y(host.input.size());
    executor.forward(r, host.weights, x, host.view(y), memories.back());
    pass->ran(l, r);
    host.leave(l, y);
  }
  pass->arm();
  for (moue::index_t l = model->layers(); l-- > 0;) {
    auto dy = host.enter_backward(l);
    numbers dgates(static_cast<std::size_t>(entries)), dx(dy.size()), router(dy.size());
    const moue::vector_view<double> dgate{dgates.data(), entries};
    executor.backward(pass->assignments(l), host.weights, host.view(host.at(l)), host.view(dy), host.view(dx), dgate,
                      host.gradients, memories[static_cast<std::size_t>(l)]);
    check_throws([&] { pass->run_backward(l, host.view(dy), host.view(dy), dgate, host.gradients); }, "pass",
                 "the experts of layer " + std::to_string(l) + " were run by somebody else",
                 "give the gradients of their gates to route_backward");
    pass->route_backward(l, dgate, host.view(router), host.gradients);
    for (std::size_t i = 0; i < dx.size(); ++i) dx[i] += router[i];
    host.leave_backward(dx);
  }
  CHECK(host.same_bits_as(whole));
}

TEST_CASE("arrays that overlap the pass's own are refused, and nothing has changed") {
  const auto model = whole_model();
  whole_host host(*model);
  const placed_pass pass(host, {}), plain(host, {});
  const auto x = host.view(host.at(0));
  numbers y(host.input.size()), expected(host.input.size());
  plain->begin(host.tokens, host.inputs(), host.how);
  plain->forward(0, x, host.view(expected));
  pass->begin(host.tokens, host.inputs(), host.how);
  const auto own = pass->route(0, x);
  const auto refused = [&](auto change) {
    auto r = own;
    change(r);
    return contains(message_of([&] { pass->run(0, x, r, host.view(y)); }),
                    "one of its arrays lies where another of the pass's own does; give the pass's array whole");
  };
  const auto shifted = [](auto& v) { v = {v.data + 1, v.size}; };
  CHECK(refused([&](auto& r) { shifted(r.gate); }));
  CHECK(refused([&](auto& r) { shifted(r.column); }));
  CHECK(refused([&](auto& r) { r.column = r.expert; }));
  CHECK(refused([&](auto& r) { r.expert = r.column; }));
  pass->run(0, x, own, host.view(y));
  CHECK(y == expected);
  CHECK(pass->counts() == plain->counts());
}

TEST_CASE("run writes no output over the router's input, which backward reads") {
  const auto model = whole_model();
  whole_host host(*model);
  const placed_pass pass(host, {.router_input = true, .external_inputs = true});
  numbers of_router = host.input, y(host.input.size());
  pass->begin(host.tokens, host.inputs(), host.how);
  const auto r = pass->route(0, host.view(of_router));
  CHECK(contains(message_of([&] { pass->run(0, host.view(host.at(0)), r, host.view(of_router)); }),
                 "y was to be written where x lies, which backward reads"));
  pass->run(0, host.view(host.at(0)), r, host.view(y));
}

TEST_CASE("steps that are not due, and what is no longer there") {
  const auto model = whole_model();
  whole_host host(*model);
  const auto x = host.view(host.input);
  numbers out(host.input.size());
  const auto y = host.view(out);
  const placed_pass pass(host, {});
  const auto mine = pass->position();
  CHECK(mine.tokens == 0);
  pass->begin(host.tokens, host.inputs(), host.how);
  check_throws([&] { pass->logits(0); }, "pass",
               "the logits of layer 0 were asked for when 0 layers from layer 0 on had been routed",
               "ask after the layer's forward");
  const auto r = pass->route(0, x);
  check_throws([&] { pass->route(0, x); }, "pass", "route of layer 0 came when run of layer 0 was due",
               "visit layers in order, and call begin before the next batch");
  check_throws([&] { pass->forward(0, x, y); }, "pass", "forward of layer 0 came when run of layer 0 was due",
               "visit layers in order, and call begin before the next batch");
  check_throws([&] { pass->rewind(); }, "pass", "rewind was called where no backward can begin",
               "start the pass with mode::training, and run every layer that was routed");
  check_throws([&] { pass->run(0, y, r, y); }, "pass", "the experts were given another input than the router",
               "set pass_options::router_input");
  auto longer = r;
  longer.expert.size = longer.gate.size = longer.column.size = r.entries() + 1;
  check_throws([&] { pass->run(0, x, longer, y); }, "routing", "it has 37 entries, but the pass holds 36",
               "start the pass with pass_options::entries");
  pass->run(0, x, r, y);
  check_throws([&] { pass->run(0, x, r, y); }, "pass", "run of layer 0 came when layer 1 was due",
               "route a layer, then run it");
  CHECK(pass->logits(0).rows == host.tokens);
  for (const moue::index_t layer : {1, 4, -1})
    check_throws([&] { pass->selected(layer); }, "pass",
                 "the selected columns of layer " + std::to_string(layer) +
                     " were asked for when 1 layers from layer 0 on had been routed",
                 "ask after the layer's forward");

  const placed_pass inference(host, {.how = moue::mode::inference});
  inference->begin(host.tokens, host.inputs(), host.how);
  for (moue::index_t l = 0; l < 2; ++l) inference->forward(l, x, y);
  CHECK(inference->assignments(1).tokens() == host.tokens);
  check_throws([&] { inference->assignments(0); }, "pass", "the assignments of layer 0 are no longer there",
               "in inference a pass shows the last layer alone: start it with mode::training, or ask before the next "
               "forward");
  check_throws([&] { placed_pass(host, {.first = 2, .count = 3}); }, "pass", "3 layers from 2 on, of 4, were asked for",
               "ask for a range of the mixture's layers");
}
