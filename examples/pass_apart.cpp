// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// What a pass can do beside running the whole depth at once: its halves and ranges, run again, edited, and put down.
// Every part is compared with the whole. docs/passes.md explains them one by one.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <moue/moue.hpp>
#include <utility>
#include <vector>

namespace {

using moue::index_t;

constexpr index_t tokens = 16, width = 8, k = 2;

auto make_model() {
  return moue::mixture{moue::swiglu{.width = width, .hidden = 12},
                       moue::staggered_rotation{.depth = 4, .pool = 8, .window = 4, .stride = 2},
                       moue::universal_router(k, {.rank = 4}),
                       moue::sum_of_losses{moue::switch_loss{.weight = 0.01}, moue::universal_balance{.weight = 0.01}}};
}
using model_type = decltype(make_model());
using pass_type = moue::pass<model_type, double>;

using numbers = std::vector<double>;
moue::matrix_view<double> rows(numbers& v) { return {v.data(), tokens, width}; }
moue::vector_view<double> list(numbers& v) { return {v.data(), std::ssize(v)}; }
void copy(moue::matrix_view<const double> from, moue::matrix_view<double> to) {
  std::copy(from.data, from.data + from.rows * from.cols, to.data);  // both are densely packed
}
numbers all_of(const moue::gradients<double>& gradients) {
  numbers all;
  for (index_t i = 0; i < gradients.layout().tensors(); ++i)
    all.insert(all.end(), gradients[i].data, gradients[i].data + gradients.layout()[i].size());
  return all;
}

struct program;

/// What a batch needs beside the model and its weights.
struct fresh_pass {
  fresh_pass(const program& of, const moue::pass_options& options);

  moue::workspace scratch;
  pass_type pass;
  moue::gradients<double> gradients;
};

/// A model with a batch, and what comes of it in one piece: every other way is to give the same.
struct program {
  model_type model = make_model();
  moue::parameters<double> weights = model.initialize<double>(7);
  numbers input = numbers(tokens * width), output, dinput, dweights;

  program() {
    for (std::size_t i = 0; i < input.size(); ++i) input[i] = std::sin(static_cast<double>(i));
    for (index_t i = 0; i < weights.layout().tensors();
         ++i)  // so that the depth state takes part from the first step on
      if (weights.layout()[i].name.ends_with("trajectory_map"))
        for (index_t j = 0; j < 4; ++j) weights[i](j, j) = 1;
  }

  void one_piece() {
    fresh_pass own(*this, {.tokens = tokens});
    auto& [scratch, pass, gradients] = own;
    numbers x = input;
    pass.begin(tokens);
    for (index_t layer = 0; layer < model.layers(); ++layer) pass.forward(layer, rows(x), rows(x));
    output = x;
    pass.arm();
    for (index_t layer = model.layers(); layer-- > 0;) pass.backward(layer, rows(x), rows(x), gradients);
    dinput = x;
    dweights = all_of(gradients);
  }

  void report(const char* what, const numbers& x, const numbers& dx, const moue::gradients<double>& gradients) const {
    const bool same = x == output && dx == dinput && all_of(gradients) == dweights;
    std::printf("%s: %s\n", what, same ? "the same bits" : "something else");
  }

  void halves() const {
    fresh_pass own(*this, {.tokens = tokens});
    auto& [scratch, pass, gradients] = own;
    numbers x = input, y(x.size()), dx(x.size()), router_dx(x.size());
    pass.begin(tokens);
    for (index_t layer = 0; layer < model.layers(); ++layer) {
      const moue::routing<double> assignments = pass.route(layer, rows(x));
      pass.run(layer, rows(x), assignments, rows(y));
      std::swap(x, y);
    }
    const numbers result = x;
    pass.arm();
    for (index_t layer = model.layers(); layer-- > 0;) {
      numbers dgates(pass.assignments(layer).entries());
      pass.run_backward(layer, rows(x), rows(dx), list(dgates), gradients);
      pass.route_backward(layer, list(dgates), rows(router_dx), gradients);
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = dx[i] + router_dx[i];
    }
    report("in halves", result, x, gradients);
  }

  void edited() const {
    fresh_pass own(*this, {.tokens = tokens});
    auto& [scratch, pass, gradients] = own;
    numbers x = input, y(x.size());
    pass.begin(tokens);

    const index_t layer = 0, capacity = 5;
    auto assignments = pass.route(layer, rows(x));
    std::vector<std::int32_t> experts(assignments.expert.begin(), assignments.expert.end());
    std::vector<index_t> taken(model.experts());
    for (auto& expert : experts)
      if (expert >= 0 && ++taken[expert] > capacity) expert = -1;  // the expert is full: the entry runs nowhere
    assignments.expert = {experts.data(), std::ssize(experts)};
    pass.run(layer, rows(x), assignments, rows(y));

    const auto counts = pass.counts();
    std::printf("with a capacity of %td:", capacity);
    for (index_t i = 0; i < model.connections().candidate_offset(1); ++i)
      std::printf(" %td of %td", static_cast<index_t>(counts.load[i]), static_cast<index_t>(counts.demand[i]));
    std::printf("\n");
  }

  void replayed() const {
    fresh_pass own(*this, {.tokens = tokens});
    auto& [scratch, pass, gradients] = own;
    std::vector<std::vector<std::int32_t>> recorded;
    numbers x = input;
    pass.begin(tokens);
    for (index_t layer = 0; layer < model.layers(); ++layer) {
      const auto assignments = pass.route(layer, rows(x));
      recorded.emplace_back(assignments.expert.begin(), assignments.expert.end());
      pass.run(layer, rows(x), assignments, rows(x));
    }

    const auto other = model.initialize<double>(8);  // takes the same experts, with gates of its own
    pass.rebind(other);
    bool same = true;
    x = input;
    pass.begin(tokens);
    for (index_t layer = 0; layer < model.layers(); ++layer) {
      const moue::matrix_view<const std::int32_t> ids{recorded[layer].data(), tokens, k};
      const auto assignments = pass.replay(layer, rows(x), ids);
      pass.run(layer, rows(x), assignments, rows(x));
      same = same && std::equal(assignments.expert.begin(), assignments.expert.end(), recorded[layer].begin());
    }
    std::printf("replayed with other weights: %s experts\n", same ? "the same" : "other");
  }

  void two_stages() const {
    fresh_pass front_half(*this, {.tokens = tokens, .first = 0, .count = 2}),
        back_half(*this, {.tokens = tokens, .first = 2});
    pass_type &front = front_half.pass, &back = back_half.pass;
    moue::gradients<double> gradients(model.layout());
    numbers x = input;

    front.begin(tokens);
    for (index_t layer = 0; layer < 2; ++layer) front.forward(layer, rows(x), rows(x));
    back.begin(tokens);
    copy(front.state_out(), back.state_in());
    for (index_t layer = 2; layer < model.layers(); ++layer) back.forward(layer, rows(x), rows(x));
    const numbers result = x;

    const auto counts = front.counts() + back.counts();
    front.arm(1, counts);
    back.arm(1, counts);
    for (index_t layer = model.layers(); layer-- > 2;) back.backward(layer, rows(x), rows(x), gradients);
    copy(back.dstate_in(), front.dstate_out());
    for (index_t layer = 2; layer-- > 0;) front.backward(layer, rows(x), rows(x), gradients);
    report("in two stages", result, x, gradients);
  }

  void checkpointed() const {
    const index_t block = 2;
    const moue::pass_options options{.tokens = tokens, .count = block};
    moue::workspace scratch(model.workspace_bytes<double>(options));  // all blocks are of one size here
    moue::gradients<double> gradients(model.layout());
    moue::routing_counts<double> counts;
    std::vector<numbers> inputs, states;
    numbers x = input, state(tokens * model.state_width()), dstate = state;
    const auto narrow = [&](numbers& v) { return moue::matrix_view<double>{v.data(), tokens, model.state_width()}; };
    const auto run = [&](index_t first, numbers& s, numbers& through, const moue::batch_options& how) {
      auto pass = model.start(weights, {.tokens = tokens, .first = first, .count = block}, scratch);
      pass.begin(tokens, {}, how);
      copy(narrow(s), pass.state_in());
      for (index_t i = 0; i < block; ++i) pass.forward(first + i, rows(through), rows(through));
      return pass;
    };

    for (index_t first = 0; first < model.layers(); first += block) {
      inputs.push_back(x);
      states.push_back(state);
      const auto pass = run(first, state, x, {});
      copy(pass.state_out(), narrow(state));
      counts += pass.counts();
    }
    const numbers result = x;
    for (index_t first = model.layers() - block; first >= 0; first -= block) {
      auto pass = run(first, states.back(), inputs.back(), {.counts = false});  // these layers have been counted
      copy(narrow(dstate), pass.dstate_out());
      pass.arm(1, counts);
      for (index_t i = block; i-- > 0;) pass.backward(first + i, rows(x), rows(x), gradients);
      copy(pass.dstate_in(), narrow(dstate));
      inputs.pop_back();
      states.pop_back();
    }
    report("checkpointed", result, x, gradients);
  }

  void early_exit() const {
    fresh_pass own(*this, {.tokens = tokens});
    auto& [scratch, pass, gradients] = own;
    numbers x = input;
    pass.begin(tokens);
    index_t layer = 0;
    while (layer < 3) pass.forward(layer++, rows(x), rows(x));
    pass.arm();
    while (layer-- > 0) pass.backward(layer, rows(x), rows(x), gradients);
    const auto last = gradients["layers.3.router.weight"];
    const bool untouched = std::all_of(last.data, last.data + last.rows * last.cols, [](double g) { return g == 0; });
    std::printf("left after 3 layers: the last router has %s gradient\n", untouched ? "no" : "a");
  }

  void backward_again() const {
    fresh_pass own(*this, {.tokens = tokens});
    auto& [scratch, pass, gradients] = own;
    numbers x = input;
    pass.begin(tokens);
    for (index_t layer = 0; layer < model.layers(); ++layer) pass.forward(layer, rows(x), rows(x));
    const numbers result = x;

    moue::gradients<double> of_output(model.layout()), of_balance(model.layout()), of_both(model.layout());
    numbers dx = result;
    for (index_t layer = model.layers(); layer-- > 0;) pass.backward(layer, rows(dx), rows(dx), of_output);
    pass.rewind();
    pass.arm();
    dx.assign(dx.size(), 0);
    for (index_t layer = model.layers(); layer-- > 0;) pass.backward(layer, rows(dx), rows(dx), of_balance);
    pass.rewind();
    pass.arm();
    dx = result;
    for (index_t layer = model.layers(); layer-- > 0;) pass.backward(layer, rows(dx), rows(dx), of_both);

    const numbers a = all_of(of_output), b = all_of(of_balance), both = all_of(of_both);
    double most = 0;
    for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] + b[i] - both[i]));
    report("backward for the third time", result, dx, of_both);
    std::printf("two losses add up: %s\n", most < 1e-12 ? "yes" : "no");

    moue::gradients<double> routers(model.layout(), [](const moue::tensor_info& info) { return info.expert < 0; });
    pass.rewind();
    pass.arm();
    numbers same_dx = result;
    for (index_t layer = model.layers(); layer-- > 0;) pass.backward(layer, rows(same_dx), rows(same_dx), routers);
    bool same = same_dx == dx;
    index_t without_memory = 0;
    for (index_t i = 0; i < routers.layout().tensors(); ++i) {
      if (routers[i].empty())
        ++without_memory;
      else
        same = same && std::equal(routers[i].data, routers[i].data + routers.layout()[i].size(), of_both[i].data);
    }
    std::printf("of the routers alone: %s, %td tensors without memory\n", same ? "the same bits" : "something else",
                without_memory);
  }

  void put_down() const {
    numbers x = input;
    std::vector<std::byte> bytes;
    moue::pass_position position;
    {
      fresh_pass own(*this, {.tokens = tokens});
      own.pass.begin(tokens);
      for (index_t layer = 0; layer < 2; ++layer) own.pass.forward(layer, rows(x), rows(x));
      bytes.assign(own.scratch.bytes().begin(), own.scratch.bytes().end());
      position = own.pass.position();
    }
    const moue::pass_options options{.tokens = tokens};
    moue::workspace scratch(model.workspace_bytes<double>(options));
    const auto room = scratch.bytes();  // smaller or larger with another number of threads: scratch lies last
    std::copy_n(bytes.begin(), std::min(bytes.size(), room.size()), room.begin());
    auto pass = model.resume(weights, options, scratch, position);
    moue::gradients<double> gradients(model.layout());
    for (index_t layer = 2; layer < model.layers(); ++layer) pass.forward(layer, rows(x), rows(x));
    const numbers result = x;
    pass.arm();
    for (index_t layer = model.layers(); layer-- > 0;) pass.backward(layer, rows(x), rows(x), gradients);
    report("put down and picked up", result, x, gradients);
  }

  void losses_and_counts() const {
    fresh_pass own(*this, {.tokens = tokens});
    auto& [scratch, pass, gradients] = own;
    numbers x = input;
    pass.begin(tokens);
    for (index_t layer = 0; layer < model.layers(); ++layer) pass.forward(layer, rows(x), rows(x));

    const auto loss = pass.balance();
    std::printf("balance %.4f: per layer %.4f, over the depth %.4f\n", loss.total, loss.parts[0], loss.parts[1]);
    pass.arm(std::array<double, 2>{1, 0.5});  // the second part counts half

    moue::routing_counts<double> counts = pass.counts();
    counts += pass.counts();  // such as those of another rank
    std::printf("of twice the batch: %.4f, of %td tokens\n", pass.balance(counts).total,
                static_cast<index_t>(counts.tokens[0]));
  }

  void external_inputs() const {
    fresh_pass own(*this, {.tokens = tokens, .external_inputs = true});
    auto& [scratch, pass, gradients] = own;
    std::vector<numbers> x(model.layers() + 1, input);
    pass.begin(tokens);
    for (index_t layer = 0; layer < model.layers(); ++layer) pass.forward(layer, rows(x[layer]), rows(x[layer + 1]));
    pass.arm();
    numbers dx = x.back();
    for (index_t layer = model.layers(); layer-- > 0;) pass.backward(layer, rows(dx), rows(dx), gradients);
    report("with external inputs", x.back(), dx, gradients);
    std::printf("workspace: %s\n",
                scratch.bytes().size() < model.workspace_bytes<double>({.tokens = tokens}) ? "smaller" : "not smaller");
  }
};

fresh_pass::fresh_pass(const program& of, const moue::pass_options& options)
    : scratch(of.model.workspace_bytes<double>(options)),
      pass(of.model.start(of.weights, options, scratch)),
      gradients(of.model.layout()) {}

}  // namespace

int main() {
  program all;
  all.one_piece();
  all.halves();
  all.edited();
  all.replayed();
  all.two_stages();
  all.checkpointed();
  all.early_exit();
  all.backward_again();
  all.put_down();
  all.losses_and_counts();
  all.external_inputs();
}
