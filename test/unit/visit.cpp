// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "message_of.hpp"
#include "moue/backend/cpu.hpp"
#include "moue/backend/reference.hpp"
#include "moue/pass.hpp"
#include "moue/policies.hpp"
#include "moue/testing/laws.hpp"
#include "moue/testing/model_laws.hpp"
#include "restless_score.hpp"

// What stages and losses are told of the batch, and what they may do with it. That cuts of the depth, parts of a batch,
// passes put down and other backends see the same is in pass_laws, pass_resume and cuda_pass, whose router makes noise.

namespace {

using moue::index_t;
using moue::matrix_view;
using moue::row_context;
using moue::vector_view;
using numbers = std::vector<double>;

/// The logits and noise.
struct noisy_preference {
  template <class C>
  void operator()(vector_view<const C> logits, const auto&, vector_view<C> scores, const row_context& at) const {
    for (index_t j = 0; j < logits.size; ++j)
      scores[j] = logits[j] + static_cast<C>(moue::normal_at(at.at, at.token, j));
  }
};
/// Two in training, one in inference.
struct by_mode {
  constexpr index_t max_selected(index_t n) const { return std::min<index_t>(n, 2); }
  template <class C>
  index_t operator()(vector_view<const C> scores, vector_view<const std::int32_t> candidates,
                     vector_view<std::int32_t> selected, const row_context& at) const {
    return std::min<index_t>(moue::top_k<2>{}(scores, candidates, selected), at.at.how == moue::mode::training ? 2 : 1);
  }
};
/// sigmoid(z) times one more than the first number of the side matrix.
struct side_gate {
  template <class C>
  void forward(vector_view<const C> z, vector_view<const std::int32_t> selected, vector_view<C> gates,
               const row_context& at) const {
    for (index_t i = 0; i < selected.size; ++i) gates[i] = factor<C>(at) / (1 + std::exp(-z[selected[i]]));
  }
  template <class C>
  void backward(vector_view<const C> z, vector_view<const std::int32_t> selected, vector_view<const C> gates,
                vector_view<const C> dgates, vector_view<C> dz, const row_context& at) const {
    for (index_t i = 0; i < selected.size; ++i)
      dz[selected[i]] += dgates[i] * gates[i] * (1 - gates[i] / factor<C>(at));
    static_cast<void>(z);
  }
  template <class C>
  static C factor(const row_context& at) {
    return at.batch.side.empty() ? C(1) : C(1) + static_cast<C>(at.batch.side(at.token, 0));
  }
};
/// A softmax whose temperature falls from step to step.
struct cooling {
  template <class C>
  void forward(vector_view<const C> z, vector_view<C> p, const row_context& at) const {
    std::vector<C> scaled(z.begin(), z.end());
    for (auto& v : scaled) v *= C(at.at.step + 1);
    moue::softmax_probability{}.forward(vector_view<const C>{scaled.data(), z.size}, p);
  }
  template <class C>
  void backward(vector_view<const C> z, vector_view<const C> p, vector_view<const C> dp, vector_view<C> dz,
                const row_context& at) const {
    std::vector<C> d(static_cast<std::size_t>(z.size));
    moue::softmax_probability{}.backward(z, p, dp, vector_view<C>{d.data(), z.size});
    for (index_t j = 0; j < z.size; ++j) dz[j] += d[static_cast<std::size_t>(j)] * C(at.at.step + 1);
  }
};
/// Of a token: its place in its sequence times the layer times the sum of its squared logits.
struct placed_loss {
  template <class C>
  C token_value(vector_view<const C> z, vector_view<const C>, const row_context& at) const {
    C sum = 0;
    for (const C v : z) sum += v * v;
    return sum * weight<C>(at);
  }
  template <class C>
  void token_gradient(vector_view<const C> z, vector_view<const C>, C scale, vector_view<C> dz,
                      const row_context& at) const {
    for (index_t j = 0; j < z.size; ++j) dz[j] += 2 * scale * weight<C>(at) * z[j];
  }
  template <class C>
  static C weight(const row_context& at) {
    const auto& begins = at.batch.sequences;
    index_t first = 0;
    for (const index_t begin : begins)
      if (begin <= at.token) first = begin;
    return C(at.at.layer + 1) * C(at.token - first + 1);
  }
};
/// The step times the sum of squared probabilities.
struct stepped_loss {
  template <class C>
  C value(const moue::depth_statistics<C>& s) const {
    C sum = 0;
    for (const C p : s.probability) sum += p * p;
    return sum * C(s.at.step);
  }
  template <class C>
  void gradient(const moue::depth_statistics<C>& s, vector_view<C> d) const {
    for (index_t i = 0; i < d.size; ++i) d[i] += 2 * s.probability[i] * C(s.at.step);
  }
};

template <class B = moue::reference>
auto told(const B& backend = {}) {
  return moue::mixture{
      moue::swiglu{.width = 4, .hidden = 3}, moue::shared_pool{.depth = 2, .pool = 3},
      moue::router{moue::linear_score{.deviation = 1}, by_mode{}, side_gate{}}.with(noisy_preference{}).with(cooling{}),
      moue::sum_of_losses{placed_loss{}, stepped_loss{}}, backend};
}

struct outcome {
  numbers y, parts;
  std::vector<std::int32_t> experts;
  bool operator==(const outcome&) const = default;
};
outcome run(const auto& model, moue::batch_options how, moue::mode mode = moue::mode::training,
            const moue::side_inputs& inputs = {}) {
  constexpr index_t tokens = 6, width = 4;
  const auto weights = model.template initialize<double>(1);
  const moue::pass_options options{.tokens = tokens, .how = mode};
  moue::workspace scratch(model.template workspace_bytes<double>(options));
  auto pass = model.start(weights, options, scratch);
  numbers x(tokens * width);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(double(i));
  outcome result{numbers(x.size()), {}, {}};
  pass.begin(tokens, inputs, how);
  for (index_t l = 0; l < model.layers(); ++l) {
    pass.forward(l, {x.data(), tokens, width}, {result.y.data(), tokens, width});
    const auto experts = pass.assignments(l).expert;
    result.experts.insert(result.experts.end(), experts.begin(), experts.end());
  }
  const auto parts = pass.balance().parts;
  result.parts.assign(parts.begin(), parts.end());
  return result;
}

}  // namespace

TEST_CASE("noise by counter is what its definition says") {
  // From the formulas in another program: SplitMix64, and the inverse of the normal distribution of Python's statistics.
  const auto near = [](double a, double b) { return std::abs(a - b) <= 4e-16 * std::abs(b); };
  const moue::visit plain{.layer = 0, .seed = 11};
  CHECK(moue::uniform_at(plain, 0, 0) == 0.4556135366674076);
  CHECK(moue::uniform_at(plain, 0, 1) == 0.37799130849218515);
  CHECK(moue::uniform_at(plain, 5, 0) == 0.6669429179248334);
  CHECK(near(moue::normal_at(plain, 0, 0), -0.11149091012072956));
  CHECK(near(moue::normal_at(plain, 0, 1), -0.31076060957615415));
  CHECK(near(moue::normal_at(plain, 5, 0), 0.4314871911211233));
  const moue::visit later{.layer = 0, .seed = (1ull << 63) + 1, .first_token = 1000000000};
  CHECK(moue::uniform_at(later, 7, 3) == 0.6178142476524979);
  CHECK(near(moue::normal_at(later, 7, 3), 0.299745217807536));

  struct known {
    double p, x;
  };
  for (const auto& [p, x] : {known{1e-300, -37.0470962993612},
                             {1e-17, -8.4937932241096},
                             {1e-9, -5.9978070150076865},
                             {0.001, -3.090232306167813},
                             {0.075, -1.4395314709384557},
                             {0.3, -0.5244005127080407},
                             {0.925, 1.439531470938456},
                             {0.999, 3.090232306167813}})
    CHECK(near(moue::detail::normal_quantile(p), x));
  CHECK(moue::detail::normal_quantile(0.5) == 0);
  CHECK(moue::detail::exact_log(1.0) == 0);
  CHECK(near(moue::detail::exact_log(0.7071), std::log(0.7071)));

  double mean = 0, square = 0;
  constexpr int count = 20000;
  for (int t = 0; t < count; ++t) {
    const double v = moue::normal_at(plain, t, 2);
    mean += v / count;
    square += v * v / count;
  }
  CHECK(std::abs(mean) < 3 / std::sqrt(double(count)));
  CHECK(std::abs(square - 1) < 3 * std::sqrt(2.0 / count));
}

TEST_CASE("every row stage and loss may be told of the batch") {
  const std::vector<index_t> sequences{0, 2, 6};
  const std::vector<float> side{0.5f, 0, 1, -0.25f, 0.125f, 2};
  const moue::side_inputs inputs{.sequences = {sequences.data(), 3}, .side = {side.data(), 6, 1}};
  const moue::batch_options how{.step = 2, .seed = 5};
  const auto given = run(told(), how, moue::mode::training, inputs);
  CHECK(run(told(moue::cpu{3}), how, moue::mode::training, inputs).experts == given.experts);
  CHECK(run(told(), how, moue::mode::training, inputs) == given);

  const auto other_seed = run(told(), {.step = 2, .seed = 6}, moue::mode::training, inputs);
  CHECK(other_seed.experts != given.experts);
  CHECK(other_seed.parts[0] == given.parts[0]);  // of logits and probabilities alone
  CHECK(run(told(), {.step = 2, .seed = 5, .first_token = 1}, moue::mode::training, inputs).experts != given.experts);
  CHECK(run(told(), {.step = 3, .seed = 5}, moue::mode::training, inputs).experts != given.experts);

  const auto count = [](const outcome& o) { return std::count(o.experts.begin(), o.experts.end(), -1); };
  CHECK(count(given) == 0);
  CHECK(count(run(told(), how, moue::mode::inference, inputs)) == 12);  // one of two, for six tokens in two layers

  const auto plain = run(told(), how);  // another factor of the gates, and one sequence
  CHECK(plain.experts == given.experts);
  CHECK(plain.y != given.y);
  CHECK(plain.parts[0] > given.parts[0]);
  CHECK(plain.parts[1] == given.parts[1]);
  CHECK(run(told(), {.step = 0, .seed = 5}).parts[1] == 0);
}

TEST_CASE("gradients of stages and losses that are told of the batch are right") {
  const auto report = moue::testing::check_gradients(told());
  CHECK_MESSAGE(bool(report), report.summary());
}

TEST_CASE("a stage that saves matrices, and whose state sees the logits, obeys the laws") {
  const auto report = moue::testing::check_score_laws(test::restless_score{});
  CHECK_MESSAGE(bool(report), report.summary());
  const moue::mixture model{moue::swiglu{.width = 4, .hidden = 3}, moue::shared_pool{.depth = 3, .pool = 4},
                            moue::router{moue::score_sum{moue::linear_score{.deviation = 1}, test::restless_score{}},
                                         moue::top_k{2}, moue::softmax_of_selected{}},
                            moue::switch_loss{0.5}};
  CHECK(model.state_width() == 4);
  const auto gradients = moue::testing::check_gradients(model);
  CHECK_MESSAGE(bool(gradients), gradients.summary());
}

TEST_CASE("a state must be as wide at every layer") {
  const auto make = [] {
    return moue::mixture{moue::copy_expert{4}, moue::table{3, {{0, 1}, {0, 1, 2}}},
                         moue::router{test::restless_score{}, moue::top_k{1}, moue::softmax_of_selected{}}};
  };
  CHECK(message_of(make) ==
        "moue: mixture: the depth state is 2 wide at layer 0 and 3 at layer 1; let state_width say the same for every "
        "layer, "
        "or "
        "give all layers as many candidates");
}

TEST_CASE("sequences and side matrices are checked") {
  std::vector<index_t> begins{0, 4, 2, 6};
  std::vector<float> side(10);
  const auto refused = [&](const moue::side_inputs& inputs) {
    return message_of([&] { run(told(), {}, moue::mode::training, inputs); });
  };
  CHECK(refused({.sequences = {begins.data(), 4}}) ==
        "moue: pass: the sequences run from 0 to 6 of 6 tokens, and back on the way; list where each begins, from 0 "
        "on, and at "
        "the end the number of tokens");
  CHECK(contains(refused({.sequences = {begins.data(), 2}}), "from 0 to 4 of 6 tokens;"));
  CHECK(contains(refused({.sequences = {begins.data() + 1, 3}}), "from 4 to 6 of 6 tokens"));
  CHECK(contains(refused({.sequences = {nullptr, 3}}), "the list of sequences is null"));
  CHECK(contains(refused({.side = {side.data(), 5, 2}}), "the side matrix has 5 entries for 6 tokens"));
}
