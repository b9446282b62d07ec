// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "moue/balance.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "moue/analysis/load.hpp"
#include "moue/backend/reference.hpp"
#include "moue/balance/sum_of_losses.hpp"
#include "moue/balance/switch_loss.hpp"
#include "moue/balance/universal_balance.hpp"
#include "moue/balance/z_loss.hpp"
#include "moue/expert/copy.hpp"
#include "moue/expert/zero.hpp"
#include "moue/pass.hpp"
#include "moue/router/logit_bias.hpp"
#include "moue/testing/balance_laws.hpp"
#include "moue/topology/layer_local.hpp"
#include "moue/topology/shared_pool.hpp"
#include "moue/topology/staggered_rotation.hpp"
#include "moue/topology/table.hpp"

namespace {

using numbers = std::vector<double>;

constexpr double exact = 1e-12;  // sums of some dozen numbers near 1

void obeys(const moue::testing::law_report& report) { CHECK_MESSAGE(static_cast<bool>(report), report.summary()); }

moue::vector_view<const double> view(const numbers& v) { return {v.data(), std::ssize(v)}; }
moue::vector_view<double> view(numbers& v) { return {v.data(), std::ssize(v)}; }

/// The statistics of a topology, with shares and probabilities to be filled in by column.
struct depth {
  moue::connectivity lowered;
  numbers share, probability, exposure, f, g;
  std::vector<std::uint8_t> open;

  template <class T>
  explicit depth(const T& topology)
      : lowered(topology),
        share(static_cast<std::size_t>(lowered.candidate_offset(lowered.layers())), 0),
        probability(share.size(), 0),
        exposure(lowered.exposure().begin(), lowered.exposure().end()),
        open(share.size(), 1) {}

  /// Each layer's numbers become positive random ones that sum to 1.
  void randomise(numbers& table, std::uint64_t key) {
    for (moue::index_t layer = 0; layer < lowered.layers(); ++layer) {
      const auto first = static_cast<std::size_t>(lowered.candidate_offset(layer));
      const auto last = static_cast<std::size_t>(lowered.candidate_offset(layer + 1));
      double sum = 0;
      for (auto i = first; i < last; ++i) sum += table[i] = moue::detail::uniform_at(key, i);
      for (auto i = first; i < last; ++i) table[i] /= sum;
    }
  }
  moue::depth_statistics<double> statistics() {
    const auto ids = lowered.all_candidates();
    f.assign(exposure.size(), 0);
    g.assign(exposure.size(), 0);
    for (std::size_t i = 0; i < share.size(); ++i) {
      f[static_cast<std::size_t>(ids[i])] += share[i];
      g[static_cast<std::size_t>(ids[i])] += probability[i];
    }
    return {lowered.layers(),
            lowered.experts(),
            8,
            {lowered.candidate_offsets().data(), std::ssize(lowered.candidate_offsets())},
            {ids.data(), std::ssize(ids)},
            view(std::as_const(exposure)),
            view(std::as_const(share)),
            view(std::as_const(probability)),
            view(std::as_const(f)),
            view(std::as_const(g)),
            {open.data(), std::ssize(open)}};
  }
};

const moue::staggered_rotation uneven_ring{.depth = 4, .pool = 6, .window = 4, .stride = 2, .local = 1};

/// Gradients of a loss with respect to logits z [tokens, experts] of one layer, through a pass: with the identity as
/// input the router's weights are the logits, and one renormalised gate adds no gradient of its own.
template <class L>
numbers logit_gradient(const L& loss, const numbers& z, moue::index_t tokens, double scale = 1) {
  const moue::index_t experts = std::ssize(z) / tokens;
  const moue::mixture model{moue::copy_expert{tokens}, moue::shared_pool{1, experts}, moue::linear_router(1), loss,
                            moue::reference{}};
  auto weights = model.template initialize<double>(1);
  numbers x(static_cast<std::size_t>(tokens * tokens), 0), y(x.size()), result(z.size());
  for (moue::index_t t = 0; t < tokens; ++t) {
    x[static_cast<std::size_t>(t * tokens + t)] = 1;
    for (moue::index_t e = 0; e < experts; ++e)
      weights["layers.0.router.weight"](e, t) = z[static_cast<std::size_t>(t * experts + e)];
  }
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch{model.template workspace_bytes<double>(options)};
  auto pass = model.start(weights, options, scratch);
  moue::gradients<double> into{model.layout()};
  pass.begin(tokens);
  pass.forward(0, {x.data(), tokens, tokens}, {y.data(), tokens, tokens});
  pass.arm(scale);
  pass.backward(0, {y.data(), tokens, tokens}, {x.data(), tokens, tokens}, into);
  for (moue::index_t t = 0; t < tokens; ++t)
    for (moue::index_t e = 0; e < experts; ++e)
      result[static_cast<std::size_t>(t * experts + e)] = into["layers.0.router.weight"](e, t);
  return result;
}

numbers softmax(const double* z, moue::index_t n) {
  numbers p(static_cast<std::size_t>(n));
  moue::softmax_probability{}.forward(moue::vector_view<const double>{z, n}, view(p));
  return p;
}

const numbers z{0.3, -1.2, 2.1, 0.9, -0.4, 0.8, 1.7, 0.2, -0.6, -2.0, 0.1, 3.0};  // 3 tokens, 4 experts: 2, 2, 3

}  // namespace

TEST_CASE("balancing losses obey the laws") {
  obeys(moue::testing::check_balance_laws(moue::no_balancing{}));
  obeys(moue::testing::check_balance_laws(moue::switch_loss{.weight = 0.5}));
  obeys(moue::testing::check_balance_laws(moue::z_loss{.weight = 0.5}));
  for (const double gamma : {0.0, 0.5, 1.0, 2.0})
    obeys(moue::testing::check_balance_laws(moue::universal_balance{.weight = 0.5, .gamma = gamma}));
  obeys(moue::testing::check_balance_laws(
      moue::sum_of_losses{moue::switch_loss{.weight = 0.5}, moue::z_loss{.weight = 0.2}, moue::universal_balance{}}));
  obeys(moue::testing::check_balance_laws(moue::sum_of_losses{moue::switch_loss{}, moue::no_balancing{}}));
  obeys(moue::testing::check_balance_laws(moue::switch_loss{.weight = 0.5}, moue::sigmoid_probability{}));
}

TEST_CASE("L1: the Switch loss is 1 if loads or probabilities are even, and E when collapsed") {
  const moue::switch_loss loss{.weight = 1};
  depth trial(moue::layer_local{3, 4});
  trial.randomise(trial.probability, 1);
  for (auto& f : trial.share) f = 0.25;
  CHECK(loss.value(trial.statistics()) == doctest::Approx(1).epsilon(exact));
  std::swap(trial.share, trial.probability);
  CHECK(loss.value(trial.statistics()) == doctest::Approx(1).epsilon(exact));
  for (std::size_t i = 0; i < trial.share.size(); ++i) trial.share[i] = trial.probability[i] = i % 4 == 2 ? 1 : 0;
  CHECK(loss.value(trial.statistics()) == doctest::Approx(4).epsilon(exact));
}

TEST_CASE("L1: its gradient is E / T p (f - sum p f)") {
  const auto d = logit_gradient(moue::switch_loss{.weight = 1}, z, 3);
  const numbers f{0, 0, 2.0 / 3, 1.0 / 3};
  for (std::size_t t = 0; t < 3; ++t) {
    const auto p = softmax(z.data() + 4 * t, 4);
    const double own = p[2] * f[2] + p[3] * f[3];
    for (std::size_t e = 0; e < 4; ++e)
      CHECK(d[4 * t + e] == doctest::Approx(4.0 / 3 * p[e] * (f[e] - own)).epsilon(exact));
  }
}

TEST_CASE("L3: the z-loss is (log E)² at zero, 0 once shifted, and its gradient is 2 / T lse p") {
  const moue::z_loss loss{.weight = 1};
  const numbers none;
  CHECK(loss.token_value(view(numbers(8, 0)), view(none)) ==
        doctest::Approx(std::log(8.0) * std::log(8.0)).epsilon(exact));
  CHECK(std::abs(loss.token_value(view(numbers(8, -std::log(8.0))), view(none))) < exact);
  const auto d = logit_gradient(loss, z, 3);
  for (std::size_t t = 0; t < 3; ++t) {
    const auto p = softmax(z.data() + 4 * t, 4);
    const double lse = z[4 * t] - std::log(p[0]);
    for (std::size_t e = 0; e < 4; ++e) CHECK(d[4 * t + e] == doctest::Approx(2.0 / 3 * lse * p[e]).epsilon(exact));
  }
}

TEST_CASE("the gradient of a loss is multiplied by the scale of balance, and losses add up") {
  const moue::switch_loss load{.weight = 0.3};
  const moue::z_loss size{.weight = 0.2};
  const auto a = logit_gradient(load, z, 3), b = logit_gradient(size, z, 3);
  const auto both = logit_gradient(moue::sum_of_losses{load, size}, z, 3, 2.5);
  for (std::size_t i = 0; i < z.size(); ++i) CHECK(both[i] == doctest::Approx(2.5 * (a[i] + b[i])).epsilon(exact));
  CHECK(logit_gradient(moue::no_balancing{}, z, 3) == numbers(z.size(), 0));
}

TEST_CASE("the universal loss is 1 at its optimum, where load is proportional to c^gamma, and more elsewhere") {
  for (const double gamma : {0.0, 0.5, 1.0}) {
    const moue::universal_balance loss{.weight = 1, .gamma = gamma};
    depth trial(uneven_ring);
    for (std::uint64_t key = 1; key <= 20; ++key) {
      trial.randomise(trial.share, key);
      trial.probability = trial.share;
      CHECK(loss.value(trial.statistics()) > 1);
    }
    // Spread c^gamma over each expert's layers; only the sum over layers enters.
    double sum = 0;
    for (const double c : trial.exposure) sum += std::pow(c, gamma);
    for (std::size_t i = 0; i < trial.share.size(); ++i) {
      const double c = trial.exposure[static_cast<std::size_t>(trial.lowered.all_candidates()[i])];
      trial.share[i] = trial.probability[i] = 4 * std::pow(c, gamma) / sum / c;
    }
    CHECK(loss.value(trial.statistics()) == doctest::Approx(1).epsilon(exact));
  }
}

TEST_CASE("the universal loss with gamma 1 is 1 where every layer is even") {
  depth trial(uneven_ring);
  for (std::size_t i = 0; i < trial.share.size(); ++i) trial.share[i] = trial.probability[i] = 1.0 / 5;
  CHECK(moue::universal_balance{.weight = 1, .gamma = 1}.value(trial.statistics()) ==
        doctest::Approx(1).epsilon(exact));
}

TEST_CASE("with nothing shared the universal loss is the mean Switch loss for any gamma") {
  depth trial(moue::layer_local{3, 4});
  trial.randomise(trial.share, 1);
  trial.randomise(trial.probability, 2);
  const double expected = moue::switch_loss{.weight = 1}.value(trial.statistics());
  for (const double gamma : {0.0, 0.5, 1.0, 3.0})
    CHECK(moue::universal_balance{.weight = 1, .gamma = gamma}.value(trial.statistics()) ==
          doctest::Approx(expected).epsilon(exact));
}

TEST_CASE("with one shared pool the universal loss is the pool loss E <mean f, mean P>") {
  depth trial(moue::shared_pool{3, 5});
  trial.randomise(trial.share, 1);
  trial.randomise(trial.probability, 2);
  double expected = 0;
  for (std::size_t e = 0; e < 5; ++e)
    expected += 5 * (trial.share[e] + trial.share[5 + e] + trial.share[10 + e]) / 3 *
                (trial.probability[e] + trial.probability[5 + e] + trial.probability[10 + e]) / 3;
  for (const double gamma : {0.0, 1.0})
    CHECK(moue::universal_balance{.weight = 1, .gamma = gamma}.value(trial.statistics()) ==
          doctest::Approx(expected).epsilon(exact));
}

TEST_CASE("the universal loss has the gradient (sum c^gamma / L²) F_e / c_e^gamma") {
  const moue::universal_balance loss{.weight = 0.7, .gamma = 0.5};
  depth trial(uneven_ring);
  trial.randomise(trial.share, 1);
  trial.randomise(trial.probability, 2);
  numbers d(trial.share.size(), 1);
  loss.gradient(trial.statistics(), view(d));
  double sum = 0;
  for (const double c : trial.exposure) sum += std::sqrt(c);
  for (std::size_t i = 0; i < d.size(); ++i) {
    const auto e = static_cast<std::size_t>(trial.lowered.all_candidates()[i]);
    CHECK(d[i] - 1 == doctest::Approx(0.7 * sum / 16 * trial.f[e] / std::sqrt(trial.exposure[e])).epsilon(exact));
  }
}

TEST_CASE("the universal loss leaves layers free to prefer different experts") {
  depth trial(moue::shared_pool{2, 4});
  trial.share = trial.probability = {0.5, 0.5, 0, 0, 0, 0, 0.5, 0.5};
  CHECK(moue::universal_balance{.weight = 1}.value(trial.statistics()) == doctest::Approx(1).epsilon(exact));
  CHECK(moue::switch_loss{.weight = 1}.value(trial.statistics()) == doctest::Approx(2).epsilon(exact));
}

TEST_CASE("candidates that are closed to every token count in no loss") {
  constexpr moue::index_t width = 3, tokens = 16;
  const auto losses = moue::sum_of_losses{moue::switch_loss{.weight = 0.3}, moue::universal_balance{.weight = 0.7}};
  const moue::mixture wide{moue::copy_expert{width}, moue::shared_pool{2, 4},
                           moue::router{moue::score_sum{moue::linear_score{}, moue::logit_bias{}}, moue::top_k{1},
                                        moue::softmax_then_select{}},
                           losses, moue::reference{}};
  // The same without expert 2, and without expert 3 at the second layer.
  const moue::mixture narrow{moue::copy_expert{width}, moue::table{4, {{0, 1, 3}, {0, 1}}},
                             moue::router{moue::linear_score{}, moue::top_k{1}, moue::softmax_then_select{}}, losses,
                             moue::reference{}};
  auto weights = wide.initialize<double>(1);
  auto saved = narrow.initialize<double>(2);
  const double closed = moue::detail::minus_infinity<double>();
  weights["layers.0.router.bias"](0, 2) = weights["layers.1.router.bias"](0, 2) = closed;
  weights["layers.1.router.bias"](0, 3) = closed;
  for (moue::index_t j = 0; j < width; ++j) {
    for (moue::index_t e = 0; e < 2; ++e) {
      saved["layers.0.router.weight"](e, j) = weights["layers.0.router.weight"](e, j);
      saved["layers.1.router.weight"](e, j) = weights["layers.1.router.weight"](e, j);
    }
    saved["layers.0.router.weight"](2, j) = weights["layers.0.router.weight"](3, j);
  }
  const auto run = [&](const auto& model, const auto& values, auto&& look) {
    const moue::pass_options options{.tokens = tokens};
    moue::workspace scratch(model.template workspace_bytes<double>(options));
    auto pass = model.start(values, options, scratch);
    numbers x(tokens * width), y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = moue::detail::normal_at(5, i);
    std::vector<std::uint8_t> valid(tokens, 1);
    valid[0] = 0;
    pass.begin(tokens, {.valid = {valid.data(), tokens}});
    for (moue::index_t layer = 0; layer < 2; ++layer)
      pass.forward(layer, {x.data(), tokens, width}, {y.data(), tokens, width});
    look(pass.statistics());
    const double value = pass.balance();
    pass.arm();
    moue::gradients<double> into(model.layout());
    for (moue::index_t layer = 2; layer-- > 0;)
      pass.backward(layer, {y.data(), tokens, width}, {x.data(), tokens, width}, into);
    numbers gradient;
    for (const char* name : {"layers.0.router.weight", "layers.1.router.weight"})
      for (moue::index_t e = 0; e < 2; ++e)
        for (const double d : into[name].row(e)) gradient.push_back(d);
    return std::pair(value, gradient);
  };
  const auto [expected, gradient] = run(narrow, saved, [](const auto&) {});
  const auto [value, same] = run(wide, weights, [](const auto& s) {
    CHECK(std::vector<int>(s.open.begin(), s.open.end()) == std::vector<int>{1, 1, 0, 1, 1, 1, 0, 0});
    CHECK(numbers(s.exposure.begin(), s.exposure.end()) == numbers{2, 2, 0, 1});
    CHECK(s.open_candidates(0) == 3);
    CHECK(s.open_candidates(1) == 2);
  });
  CHECK(expected > 0);
  CHECK(value == expected);
  CHECK(gradient[0] != 0);
  CHECK(same == gradient);
}

TEST_CASE("the pooled Switch loss is that of Hugging Face's Mixtral family") {
  const char* given = std::getenv("MOUE_POOLED_LOSS");  // what `test/run.sh --parity` has written
  std::ifstream file(given != nullptr ? given : MOUE_TEST_DATA "/pooled_loss.json");
  const auto theirs = nlohmann::json::parse(file);
  const auto& logits = theirs["logits"];
  const auto layers = static_cast<moue::index_t>(logits.size()), tokens = static_cast<moue::index_t>(logits[0].size()),
             n = static_cast<moue::index_t>(logits[0][0].size()), k = theirs["k"].get<moue::index_t>();
  // Logits are the router's input, and experts send no gradient to it.
  const auto run = [&](bool pooled, numbers& dx) {
    const moue::mixture model{moue::zero_expert{n}, moue::layer_local{layers, n}, moue::linear_router(k),
                              moue::switch_loss{.weight = double(k), .pooled = pooled}, moue::reference{}};
    moue::parameters<double> weights(model.layout());
    for (moue::index_t layer = 0; layer < layers; ++layer)
      for (moue::index_t e = 0; e < n; ++e) weights["layers." + std::to_string(layer) + ".router.weight"](e, e) = 1;
    const moue::pass_options options{.tokens = tokens};
    moue::workspace scratch(model.workspace_bytes<double>(options));
    auto pass = model.start(weights, options, scratch);
    numbers y(static_cast<std::size_t>(tokens * n));
    pass.begin(tokens);
    for (moue::index_t layer = 0; layer < layers; ++layer) {
      numbers x;
      for (const auto& row : logits[static_cast<std::size_t>(layer)])
        for (const auto& logit : row) x.push_back(logit.get<double>());
      pass.forward(layer, {x.data(), tokens, n}, {y.data(), tokens, n});
    }
    const double value = pass.balance();
    pass.arm();
    moue::gradients<double> into(model.layout());
    for (moue::index_t layer = layers; layer-- > 0;) {
      std::fill(y.begin(), y.end(), 0);
      pass.backward(layer, {y.data(), tokens, n}, {y.data(), tokens, n}, into);
      dx.insert(dx.begin(), y.begin(), y.end());
    }
    return value;
  };
  constexpr double single = 1e-7;  // they form shares in single precision
  numbers dx, other;
  CHECK(run(true, dx) == doctest::Approx(theirs["loss"].get<double>()).epsilon(single));
  CHECK(std::abs(run(false, other) - theirs["loss"].get<double>()) > 0.01);
  std::size_t i = 0;
  for (const auto& layer : theirs["gradient"])
    for (const auto& row : layer)
      for (const auto& d : row) CHECK(std::abs(dx[i++] - d.get<double>()) < single);
  CHECK(i == dx.size());
}

TEST_CASE("pooled, layers with other candidates or closed ones count what is there") {
  depth trial(moue::table{5, {{0, 1, 2}, {3, 4}, {0}}});
  trial.randomise(trial.share, 1);
  trial.randomise(trial.probability, 2);
  for (const std::size_t closed : {2, 5}) {
    trial.open[closed] = 0;
    trial.share[closed] = trial.probability[closed] = 0;
  }
  const auto& f = trial.share;
  const auto& p = trial.probability;
  const moue::switch_loss loss{.weight = 0.7, .pooled = true};
  const double expected = 0.7 * 2 / 9 * ((f[0] + f[3]) * (p[0] + p[3]) + (f[1] + f[4]) * (p[1] + p[4]));
  CHECK(loss.value(trial.statistics()) == doctest::Approx(expected).epsilon(exact));
  numbers d(f.size(), 1);
  loss.gradient(trial.statistics(), view(d));
  for (std::size_t i = 0; i < d.size(); ++i) {
    const double of_column = i == 2 ? 0 : f[i % 5 % 3] + f[i % 5 % 3 + 3];
    CHECK(d[i] - 1 == doctest::Approx(0.7 * 2 / 9 * of_column).epsilon(exact));
  }
  const auto report = moue::testing::check_balance_laws(loss);
  CHECK(report.broke("names and order of experts do not matter"));  // as theirs does: columns are pooled by position
  for (const auto* law : {"gradient adds", "gradient agrees with central differences", "padding does not matter",
                          "a batch without tokens is legal", "the order of tokens does not matter"})
    CHECK(!report.broke(law));
}

TEST_CASE("experts that no layer can reach count in no form of the universal loss") {
  depth whole(moue::table{4, {{0, 1, 2}, {1, 2, 3}}}), less(moue::table{3, {{0, 1, 2}, {1, 2}}});
  less.randomise(less.share, 1);
  less.randomise(less.probability, 2);
  std::copy(less.share.begin(), less.share.end(), whole.share.begin());
  std::copy(less.probability.begin(), less.probability.end(), whole.probability.begin());
  whole.open[5] = 0;
  whole.exposure[3] = 0;
  for (const double gamma : {1.0, 0.5, 0.0, -1.0}) {
    CAPTURE(gamma);
    const moue::universal_balance loss{.weight = 0.7, .gamma = gamma};
    CHECK(loss.value(whole.statistics()) == doctest::Approx(loss.value(less.statistics())).epsilon(exact));
    numbers d(6, 0), expected(5, 0);
    loss.gradient(whole.statistics(), view(d));
    loss.gradient(less.statistics(), view(expected));
    for (std::size_t i = 0; i < 5; ++i) CHECK(d[i] == doctest::Approx(expected[i]).epsilon(exact));
    CHECK(d[5] == 0);
  }
  const auto report = moue::summarise_load(whole.statistics()), expected = moue::summarise_load(less.statistics());
  CHECK(report.raw == doctest::Approx(expected.raw).epsilon(exact));
  CHECK(report.corrected == doctest::Approx(expected.corrected).epsilon(exact));
  CHECK(report.layer_max_mean[1] == doctest::Approx(expected.layer_max_mean[1]).epsilon(exact));
  CHECK(report.layer_entropy[1] == doctest::Approx(expected.layer_entropy[1]).epsilon(exact));
  CHECK(report.dead == expected.dead);
}

namespace {

/// Closes candidate `id` for tokens with that id, and looks at nothing else.
struct closes_own_id {
  template <class C>
  void forward(const auto& ops, const moue::router_frame<C>& frame, const auto&, const auto&) const {
    ops.each_element(frame.logits.rows, frame.logits.cols,
                     [=](moue::index_t t, moue::index_t j) { frame.logits(t, j) += C(0.1) * C((t + j) % 3); });
  }
  template <class C>
  void close(const auto& ops, const moue::router_frame<C>& frame, const auto&, const auto&) const {
    ops.each_element(frame.logits.rows, frame.logits.cols, [=](moue::index_t t, moue::index_t j) {
      if (frame.batch.token_ids[t] == j) frame.logits(t, j) = moue::detail::minus_infinity<C>();
    });
  }
  template <class C>
  void backward(const auto&, const moue::router_frame<C>&, const moue::router_gradient<C>&, const auto&, const auto&,
                const auto&) const {}
};

/// Takes the best for every row, valid or not, and keeps what it was shown.
struct watched_table {
  std::vector<std::uint8_t>* valid;
  std::vector<double>* scores;

  constexpr moue::index_t max_selected(moue::index_t) const { return 1; }
  template <class C>
  void table(const auto&, const moue::select_frame<C>& frame, moue::matrix_view<std::int32_t> selected,
             const auto&) const {
    const auto rows = frame.batch.valid;
    const auto shown = frame.scores;
    valid->assign(rows.begin(), rows.end());
    scores->clear();
    for (moue::index_t t = 0; t < shown.rows; ++t) {
      scores->insert(scores->end(), shown.row(t).begin(), shown.row(t).end());
      selected(t, 0) = rows[t] ? static_cast<std::int32_t>(t % shown.cols) : -1;
    }
  }
};

}  // namespace

TEST_CASE("padding opens no candidate, and a table selection sees it as closed") {
  constexpr moue::index_t tokens = 5, width = 2;
  std::vector<std::uint8_t> shown_valid;
  numbers shown;
  const moue::mixture model{
      moue::copy_expert{width}, moue::layer_local{.depth = 1, .per_layer = 3},
      moue::router{closes_own_id{}, watched_table{&shown_valid, &shown}, moue::softmax_then_select{}},
      moue::switch_loss{1}, moue::reference{}};
  const auto weights = model.initialize<double>(1);
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.workspace_bytes<double>(options));
  auto pass = model.start(weights, options, scratch);
  const std::vector<std::int64_t> ids{1, 1, 0, 1, 2};
  const std::vector<std::uint8_t> valid{1, 1, 0, 1, 0};  // padding alone could take candidate 1
  const numbers x(tokens * width, 1);
  numbers y(x.size());
  pass.begin(tokens, {.valid = {valid.data(), tokens}, .token_ids = {ids.data(), tokens}});
  pass.forward(0, {x.data(), tokens, width}, {y.data(), tokens, width});
  const auto s = pass.statistics();
  CHECK(std::vector<int>(s.open.begin(), s.open.end()) == std::vector<int>{1, 0, 1});
  CHECK(s.exposure[1] == 0);
  CHECK(s.probability[1] == 0);
  CHECK(shown_valid == valid);
  const double closed = moue::detail::minus_infinity<double>();
  for (const moue::index_t t : {2, 4})
    for (moue::index_t j = 0; j < 3; ++j) CHECK(shown[static_cast<std::size_t>(3 * t + j)] == closed);
  for (const moue::index_t t : {0, 1, 3}) CHECK(shown[static_cast<std::size_t>(3 * t + 1)] == closed);
  CHECK(pass.selected(0)(1, 0) == -1);  // it took a closed one
  CHECK(pass.selected(0)(3, 0) == 0);
}
