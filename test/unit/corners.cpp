// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Sizes at the edge, ties, and what must not change a result: order and labels, padding, splitting, modes, aliasing.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "compositions.hpp"
#include "moue/moue.hpp"
#include "stack.hpp"

namespace {

using result_type = test::stack_result<double>;

template <class F>
void each_composition(const test::recipe& r, const F& f) {
  for (const auto& name : test::compositions()) {
    CAPTURE(name);
    f(name, *test::compose(name, r, moue::reference{}));
  }
}

/// The rows `order` of `m`, which has `width` columns.
template <class T>
std::vector<T> take_rows(const std::vector<T>& m, const std::vector<moue::index_t>& order, moue::index_t width) {
  std::vector<T> result;
  for (const moue::index_t t : order) result.insert(result.end(), m.begin() + t * width, m.begin() + (t + 1) * width);
  return result;
}

test::stack_input<double> take_tokens(const test::stack_input<double>& input, const std::vector<moue::index_t>& order,
                                      moue::index_t width) {
  test::stack_input<double> result;
  result.tokens = static_cast<moue::index_t>(order.size());
  result.x = take_rows(input.x, order, width);
  result.loss_weight = take_rows(input.loss_weight, order, width);
  return result;
}

bool zero_bits(const std::vector<double>& v) { return test::same_bits(v, std::vector<double>(v.size(), 0.0)); }

/// Distinct ids among the layer's candidates, as many as can be had.
void check_assignments(const test::any_model<double>& model, const result_type& result, moue::index_t tokens) {
  for (std::size_t l = 0; l < result.visits.size(); ++l) {
    const auto& all = result.visits[l].experts;
    const auto selected = all.size() / static_cast<std::size_t>(tokens);
    for (std::size_t t = 0; t < static_cast<std::size_t>(tokens); ++t) {
      std::vector<std::int32_t> ids(all.begin() + static_cast<std::ptrdiff_t>(t * selected),
                                    all.begin() + static_cast<std::ptrdiff_t>((t + 1) * selected));
      std::sort(ids.begin(), ids.end());
      CHECK(std::adjacent_find(ids.begin(), ids.end()) == ids.end());
      CHECK((ids.front() >= 0 && ids.back() < model.experts()));
    }
  }
}

}  // namespace

TEST_CASE("no tokens") {
  each_composition({}, [](const auto&, const auto& model) {
    const auto weights = test::random_weights(model, 1);
    const auto result = test::run_stack(model, weights, test::random_input(model, 0, 2));
    CHECK(result.loss == 0);
    for (moue::index_t i = 0; i < model.layout()->tensors(); ++i)
      CHECK(zero_bits(test::to_vector(result.gradients[i])));
    for (moue::index_t e = 0; e < model.experts(); ++e) CHECK(!result.gradients.touched(e));
  });
}

TEST_CASE("sizes at the edge, on both backends") {
  struct shape {
    moue::staggered_rotation ring;
    moue::index_t k, tokens;
  };
  const std::vector<shape> shapes{
      {{.depth = 2, .pool = 1, .window = 1}, 1, 5},                           // one expert
      {{.depth = 2, .pool = 1, .window = 1}, 3, 5},                           // more asked for than there are
      {{.depth = 1, .pool = 4, .window = 4}, 4, 1},                           // all of them, for one token
      {{.depth = 3, .pool = 7, .window = 3, .stride = 2, .local = 1}, 9, 6},  // all of several
      {{.depth = 2, .pool = 257, .window = 257, .stride = 0}, 8, 11},         // more candidates than a byte counts
      {{.depth = 2, .pool = 300, .window = 259, .stride = 259, .local = 2}, 2, 3},  // most experts get nothing
  };
  for (const auto& size : shapes)
    for (const auto& name : test::compositions()) {
      CAPTURE(name);
      CAPTURE(size.ring.pool);
      CAPTURE(size.k);
      test::recipe r;
      r.ring = size.ring;
      r.k = size.k;
      const auto model = test::compose(name, r, moue::reference{});
      const auto fast = test::compose(name, r, moue::cpu{2});
      const auto weights = test::random_weights(*model, 3);
      const auto input = test::random_input(*model, size.tokens, 4);
      const auto expected = test::run_stack(*model, weights, input);
      const auto result = test::run_stack(*fast, weights, input);
      check_assignments(*model, expected, size.tokens);
      CHECK(result.visits.back().experts == expected.visits.back().experts);
      CHECK(test::distance(result.output, expected.output) < 1e-12);
      CHECK(test::distance(result.dx, expected.dx) < 1e-12);
      CHECK(test::distance(result.gradients, expected.gradients) < 1e-12);
    }
}

TEST_CASE("ties go to the lowest expert id, wherever its column is") {
  const test::recipe r{.ring = {.depth = 3, .pool = 5, .window = 4, .stride = 2}, .k = 3};
  for (const auto* name : {"linear_bias", "linear_raw", "normalised", "uneven_widths"}) {
    CAPTURE(name);
    const auto model = test::compose(name, r, moue::reference{});
    auto weights = test::random_weights(*model, 1);
    for (moue::index_t i = 0; i < model->layout()->tensors(); ++i)
      if ((*model->layout())[i].expert < 0) std::fill_n(weights[i].data, (*model->layout())[i].size(), 0.0);
    const auto result = test::run_stack(*model, weights, test::random_input(*model, 3, 2));
    bool out_of_order = false;
    for (moue::index_t l = 0; l < 3; ++l) {
      const auto ids = model->connections().candidates(l);
      out_of_order = out_of_order || !std::is_sorted(ids.begin(), ids.end());
      std::vector<std::int32_t> lowest(ids.begin(), ids.end());
      std::sort(lowest.begin(), lowest.end());
      lowest.resize(3);
      const auto& given = result.visits[static_cast<std::size_t>(l)].experts;
      for (std::size_t i = 0; i < given.size(); ++i) CHECK(given[i] == lowest[i % 3]);
    }
    CHECK(out_of_order);
  }
}

TEST_CASE("all tokens to one expert; an expert that gets none keeps gradients of exactly zero") {
  for (const auto& backend : {moue::cpu{}, moue::cpu{2}}) {
    const test::recipe r{.ring = {.depth = 2, .pool = 6, .window = 6, .stride = 0}, .k = 1};
    const auto model = test::compose("linear_bias", r, backend);
    auto weights = test::random_weights(*model, 1);
    for (const auto* bias : {"layers.0.router.bias", "layers.1.router.bias"}) weights[bias](0, 4) = 1000;
    const auto result = test::run_stack(*model, weights, test::random_input(*model, 50, 2));
    for (moue::index_t e = 0; e < 6; ++e) {
      CHECK(result.gradients.touched(e) == (e == 4));
      const auto prefix = "experts." + std::to_string(e);
      for (const auto* own : {".up", ".down"})
        CHECK(zero_bits(test::to_vector(result.gradients[prefix + own])) == (e != 4));
      for (const std::size_t l : {0, 1}) CHECK(result.share[6 * l + static_cast<std::size_t>(e)] == (e == 4 ? 1 : 0));
    }
  }
}

TEST_CASE("permuting tokens permutes outputs") {
  each_composition({}, [](const auto&, const auto& model) {
    const auto weights = test::random_weights(model, 1);
    const auto input = test::random_input(model, 11, 2);
    std::vector<moue::index_t> order(11);
    for (std::size_t i = 0; i < 11; ++i) order[i] = static_cast<moue::index_t>((i * 4 + 3) % 11);
    const auto expected = test::run_stack(model, weights, input);
    const auto result = test::run_stack(model, weights, take_tokens(input, order, model.width()));
    CHECK(test::same_bits(result.output, take_rows(expected.output, order, model.width())));
    // The loss and its gradient sum over tokens in another order.
    CHECK(result.balance == doctest::Approx(expected.balance).epsilon(1e-14));
    CHECK(test::distance(result.dx, take_rows(expected.dx, order, model.width())) < 1e-13);
    CHECK(test::distance(result.gradients, expected.gradients) < 1e-13);
  });
}

TEST_CASE("relabelling experts changes nothing") {
  const moue::table base{7, {{0, 1, 2, 3}, {3, 4, 5}, {6, 0, 2}}};
  const std::vector<moue::index_t> label{4, 6, 0, 5, 1, 3, 2};
  auto renamed = base;
  for (auto& row : renamed.rows)
    for (auto& e : row) e = label[static_cast<std::size_t>(e)];
  const auto build = [](const moue::table& topology) {
    return test::erase<double>(moue::mixture{moue::swiglu{6, 5}, topology, moue::universal_router(2, {.rank = 3}),
                                             moue::universal_balance{0.4, 0.5}, moue::reference{}});
  };
  const auto model = build(base), other = build(renamed);
  const auto weights = test::random_weights(*model, 1);
  moue::parameters<double> moved(other->layout());
  const auto place = [&](const moue::tensor_info& info, moue::index_t row) {  // tensor and row under the new labels
    const bool of_expert = info.expert >= 0, keys = info.name.ends_with("_key");
    const auto e = static_cast<std::size_t>(of_expert ? info.expert : row);
    const auto to =
        of_expert ? "experts." + std::to_string(label[e]) + info.name.substr(info.name.rfind('.')) : info.name;
    return std::pair{other->layout()->find(to), keys ? label[e] : row};
  };
  for (moue::index_t i = 0; i < model->layout()->tensors(); ++i)
    for (moue::index_t row = 0; row < (*model->layout())[i].rows; ++row) {
      const auto [tensor, to] = place((*model->layout())[i], row);
      std::ranges::copy(weights[i].row(row), moved[tensor].row(to).begin());
    }
  const auto input = test::random_input(*model, 13, 2);
  const auto expected = test::run_stack(*model, weights, input);
  const auto result = test::run_stack(*other, moved, input);
  CHECK(test::distance(result.output, expected.output) < 1e-14);  // a token's experts are summed in the order of ids
  CHECK(result.balance == doctest::Approx(expected.balance).epsilon(1e-14));
  for (moue::index_t i = 0; i < model->layout()->tensors(); ++i)
    for (moue::index_t row = 0; row < (*model->layout())[i].rows; ++row) {
      const auto [tensor, to] = place((*model->layout())[i], row);
      const auto a = result.gradients[tensor].row(to), b = expected.gradients[i].row(row);
      CHECK(test::distance(std::vector(a.begin(), a.end()), std::vector(b.begin(), b.end())) < 1e-13);
    }
}

TEST_CASE("padding counts nowhere, whatever it holds") {
  const std::vector<moue::index_t> saved{1, 2, 4, 5, 6, 9}, dropped{0, 3, 7, 8};
  for (const double filler : {3.0, std::numeric_limits<double>::quiet_NaN()})
    each_composition({}, [&](const auto&, const auto& model) {
      CAPTURE(filler);
      const auto weights = test::random_weights(model, 1);
      auto input = test::random_input(model, 10, 2);
      input.valid.assign(10, 1);
      for (const auto t : dropped) {
        input.valid[static_cast<std::size_t>(t)] = 0;
        std::fill_n(input.x.begin() + t * model.width(), model.width(), filler);
        std::fill_n(input.loss_weight.begin() + t * model.width(), model.width(), 0.0);
      }
      const auto result = test::run_stack(model, weights, input);
      const auto compact = test::run_stack(model, weights, take_tokens(input, saved, model.width()));
      CHECK(test::same_bits(take_rows(result.output, saved, model.width()), compact.output));
      CHECK(test::same_bits(take_rows(result.dx, saved, model.width()), compact.dx));
      CHECK(test::same_bits(result.share, compact.share));
      CHECK(test::distance(result.probability, compact.probability) < 1e-15);  // 0 is added for padding
      CHECK(result.balance == doctest::Approx(compact.balance).epsilon(1e-15));
      CHECK(test::distance(result.gradients, compact.gradients) < 1e-14);
      for (const auto& visit : result.visits) CHECK(zero_bits(take_rows(visit.y, dropped, model.width())));
      CHECK(zero_bits(take_rows(result.dx, dropped, model.width())));
    });
}

TEST_CASE("splitting a batch sums gradients, balancing aside") {
  test::recipe r;
  r.switch_weight = r.universal_weight = 0;
  each_composition(r, [](const std::string& name, const auto& model) {
    if (name == "always_on" || name == "tied_revisits") return;  // these have another loss over the batch
    const auto weights = test::random_weights(model, 1);
    const auto input = test::random_input(model, 9, 2);
    const std::vector<moue::index_t> first{0, 1, 2, 3}, second{4, 5, 6, 7, 8};
    const auto whole = test::run_stack(model, weights, input);
    const auto a = test::run_stack(model, weights, take_tokens(input, first, model.width()));
    const auto b = test::run_stack(model, weights, take_tokens(input, second, model.width()));
    auto output = a.output;
    output.insert(output.end(), b.output.begin(), b.output.end());
    CHECK(test::same_bits(output, whole.output));
    moue::gradients<double> sum(model.layout());
    for (moue::index_t i = 0; i < model.layout()->tensors(); ++i)
      for (moue::index_t j = 0; sum.wanted(i) && j < (*model.layout())[i].size(); ++j)
        sum[i].data[j] = a.gradients[i].data[j] + b.gradients[i].data[j];
    CHECK(test::distance(whole.gradients, sum) < 1e-13);
  });
}

TEST_CASE("inference repeats the training forward bit by bit") {
  each_composition({}, [](const std::string& name, const auto& plain) {
    for (const auto& model : {test::compose(name, {}, moue::reference{}), test::compose(name, {}, moue::cpu{2})}) {
      const auto weights = test::random_weights(plain, 1);
      const auto input = test::random_input(plain, 10, 2);
      const auto training = test::run_stack(*model, weights, input);
      const auto inference = test::run_stack(*model, weights, input, moue::mode::inference);
      CHECK(test::same_bits(training.output, inference.output));
      CHECK(test::same_bits(training.share, inference.share));
      CHECK(training.balance == inference.balance);
      for (std::size_t l = 0; l < training.visits.size(); ++l)
        CHECK(test::same_bits(training.visits[l].gates, inference.visits[l].gates));
    }
  });
}

TEST_CASE("y may be x and dx may be dy") {
  each_composition({}, [](const auto&, const auto& model) {
    const auto weights = test::random_weights(model, 1);
    const moue::index_t tokens = 7;
    for (const auto how : {moue::mode::training, moue::mode::inference}) {
      const moue::pass_options options{.tokens = tokens, .how = how};
      moue::workspace scratch(model.workspace_bytes(options));
      const auto pass = model.start(weights, options, scratch);
      const auto run = [&](bool alias) {
        moue::gradients<double> gradients(model.layout());
        auto a = test::noise_vector(3, tokens * model.width());
        auto b = a;
        const auto view = [&](auto& v) { return moue::matrix_view(v.data(), tokens, model.width()); };
        pass->begin(tokens, {});
        for (moue::index_t l = 0; l < model.layers(); ++l) {
          pass->forward(l, {view(a), {}}, view(alias ? a : b));
          if (!alias) a = b;
        }
        if (how == moue::mode::inference) return a;
        for (moue::index_t l = model.layers(); l-- > 0;) {
          pass->backward(l, view(a), {view(alias ? a : b), {}}, gradients);
          if (!alias) a = b;
        }
        for (moue::index_t i = 0; i < model.layout()->tensors(); ++i) {
          const auto values = test::to_vector(std::as_const(gradients)[i]);
          a.insert(a.end(), values.begin(), values.end());
        }
        return a;
      };
      CHECK(test::same_bits(run(true), run(false)));
    }
  });
}

TEST_CASE("valid tokens are counted across blocks of rows") {
  constexpr moue::index_t tokens = 700;
  for (const bool by_cpu : {false, true}) {
    const auto model =
        by_cpu ? test::compose("linear_raw", {}, moue::cpu{2}) : test::compose("linear_raw", {}, moue::reference{});
    const auto weights = test::random_weights(*model, 1);
    auto input = test::random_input(*model, tokens, 2);
    for (moue::index_t t = 0; t < tokens; ++t) input.valid.push_back(t % 3 != 1);
    const moue::pass_options options{.tokens = tokens};
    moue::workspace scratch(model->workspace_bytes(options));
    const auto pass = model->start(weights, options, scratch);
    pass->begin(tokens, {.valid = {input.valid.data(), tokens}});
    CHECK(pass->valid_tokens() == 467);
    const auto result = test::run_stack(*model, weights, input);
    const auto& connections = model->connections();
    for (moue::index_t l = 0; l < model->layers(); ++l) {
      double share = 0, probability = 0;
      for (moue::index_t i = connections.candidate_offset(l); i < connections.candidate_offset(l + 1); ++i) {
        share += result.share[static_cast<std::size_t>(i)];
        probability += result.probability[static_cast<std::size_t>(i)];
      }
      CHECK(share == doctest::Approx(1).epsilon(1e-12));  // sums of 467 roundings of numbers below 1
      CHECK(probability == doctest::Approx(1).epsilon(1e-12));
    }
  }
}

TEST_CASE("always-on experts have no share, and what they run is no demand") {
  const auto model = test::compose("always_on", {}, moue::reference{});
  const auto weights = test::random_weights(*model, 1);
  const auto input = test::random_input(*model, 9, 2);
  const auto result = test::run_stack(*model, weights, input);
  const auto& connections = model->connections();
  for (moue::index_t l = 0; l < model->layers(); ++l)
    for (moue::index_t j = 0; j < std::ssize(connections.candidates(l)); ++j) {
      const auto& selected = result.visits[static_cast<std::size_t>(l)].selected;
      const auto wanted = static_cast<double>(std::ranges::count(selected, j));
      const auto all =
          static_cast<double>(selected.size() - static_cast<std::size_t>(std::ranges::count(selected, -1)));
      CHECK(result.share[static_cast<std::size_t>(connections.candidate_offset(l) + j)] ==
            doctest::Approx(wanted / all).epsilon(1e-15));
    }
}

TEST_CASE("a batch without the balancing loss does not get that of the batch before") {
  each_composition({}, [&](const auto& name, const auto& model) {
    if (name == "uneven_widths") return;  // has none
    const auto weights = test::random_weights(model, 1);
    const auto input = test::random_input(model, 7, 2);
    const moue::pass_options options{.tokens = 7};
    moue::workspace scratch(model.workspace_bytes(options));
    const auto pass = model.start(weights, options, scratch);
    const auto gradients_of = [&](bool armed) {
      moue::gradients<double> into(model.layout());
      std::vector<double> x = input.x, dx = input.loss_weight;
      const auto view = [&](auto& v) { return moue::matrix_view(v.data(), moue::index_t{7}, model.width()); };
      pass->begin(7);
      for (moue::index_t l = 0; l < model.layers(); ++l) pass->forward(l, view(x), view(x));
      if (armed) pass->arm();
      for (moue::index_t l = model.layers(); l-- > 0;) pass->backward(l, view(dx), view(dx), into);
      return into;
    };
    const auto before = gradients_of(false), armed = gradients_of(true), after = gradients_of(false);
    CHECK(!test::same_bits(before, armed));
    CHECK(test::same_bits(before, after));
  });
}
