// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Dense blocks made into experts: which ways keep the function, and which do not.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "moue/convert/dense_to_moe.hpp"
#include "moue/moue.hpp"
#include "stack.hpp"

namespace {

using numbers = std::vector<double>;

constexpr moue::index_t width = 6, tokens = 9;
constexpr double exact = 1e-13;  // relative: sums of some dozen products in another order

numbers forward(const auto& model, const moue::parameters<double>& weights) {
  const moue::pass_options options{.tokens = tokens, .how = moue::mode::inference};
  moue::workspace scratch(model.template workspace_bytes<double>(options));
  auto pass = model.start(weights, options, scratch);
  const numbers x = test::noise_vector(3, tokens * width);
  numbers y(x.size());
  pass.begin(tokens);
  pass.forward(0, {x.data(), tokens, width}, {y.data(), tokens, width});
  return y;
}

/// A dense block, as a mixture with one expert whose gate is 1.
template <class ExpertT>
struct dense {
  moue::mixture<ExpertT, moue::shared_pool, decltype(moue::linear_router(1)), moue::no_balancing, moue::reference>
      model;
  moue::parameters<double> weights;

  explicit dense(ExpertT expert)
      : model{expert, moue::shared_pool{1, 1}, moue::linear_router(1), {}, {}},
        weights(test::random_weights<double>(*test::erase<double>(model), 1)) {}
  numbers output() const { return forward(model, weights); }
  auto block() const { return moue::convert::expert_ffn(weights, 0); }
};

/// A mixture of experts cut from dense blocks, its router's rows repeated for the parts of a copy.
template <class ExpertT, class GateT, class TopologyT, class ScoreT = moue::linear_score>
struct upcycled {
  moue::mixture<ExpertT, TopologyT, moue::router<ScoreT, moue::top_k<>, GateT>, moue::no_balancing, moue::reference>
      model;
  moue::parameters<double> weights;
  moue::convert::granularity how;

  template <class Sources>
  upcycled(ExpertT expert, TopologyT topology, moue::index_t k, GateT gate, const Sources& sources,
           moue::convert::granularity wanted = {})
      : model{expert, topology, moue::router{ScoreT{}, moue::top_k{k}, gate}, {}, {}},
        weights(model.template initialize<double>(2)),
        how(moue::convert::upcycle_layer(sources, model.connections(), 0, weights, wanted)) {
    const auto rows = weights["layers.0.router.weight"];
    for (moue::index_t i = 0; i < rows.rows; ++i)
      for (moue::index_t j = 0; j < width; ++j) rows(i, j) = test::noise(8, i * width + j);
    const moue::matrix_view<const double> first = rows.row_block(0, how.copies);
    moue::convert::repeat_rows(first, how.parts, rows);
  }
  numbers output() const { return forward(model, weights); }
};

template <class E, class T, class G, class Sources>
upcycled(E, T, moue::index_t, G, const Sources&) -> upcycled<E, G, T>;
template <class E, class T, class G, class Sources>
upcycled(E, T, moue::index_t, G, const Sources&, moue::convert::granularity) -> upcycled<E, G, T>;

double difference(const numbers& a, const numbers& b) { return test::distance(a, b, 1e-3); }

}  // namespace

TEST_CASE("sparse upcycling equals its source for any router if gates sum to 1, and is their sum times it if not") {
  const dense source(moue::gated_mlp<moue::silu, true>{width, 8});
  for (const moue::index_t k : {1, 2, 5}) {
    const upcycled same(moue::gated_mlp<moue::silu, true>{width, 8}, moue::shared_pool{1, 5}, k,
                        moue::softmax_of_selected{}, source.block());
    CHECK(same.how.copies == 5);
    CHECK(same.how.parts == 1);
    CHECK(difference(same.output(), source.output()) < exact);
  }
  const upcycled raw(moue::gated_mlp<moue::silu, true>{width, 8}, moue::shared_pool{1, 5}, 5,
                     moue::softmax_then_select{}, source.block());
  CHECK(difference(raw.output(), source.output()) < exact);  // all five: they sum to 1
  const upcycled two(moue::gated_mlp<moue::silu, true>{width, 8}, moue::shared_pool{1, 5}, 2,
                     moue::softmax_then_select{}, source.block());
  const numbers y = two.output(), expected = source.output();
  for (std::size_t t = 0; t < tokens; ++t)
    for (std::size_t j = 1; j < width; ++j)  // one factor below 1 for all of a token's outputs
      CHECK(y[t * width + j] / expected[t * width + j] ==
            doctest::Approx(y[t * width] / expected[t * width]).epsilon(1e-9));
  CHECK(y[0] / expected[0] < 0.999);
}

TEST_CASE("granular upcycling equals its source for any router and any number of copies a token takes") {
  const dense gated(moue::gated_mlp<moue::silu, true>{width, 12});
  const dense plain(moue::mlp<moue::gelu, true>{width, 12});
  for (const moue::index_t copies_taken : {1, 2, 3}) {
    const upcycled a(moue::gated_mlp<moue::silu, true>{width, 3}, moue::shared_pool{1, 12}, 4 * copies_taken,
                     moue::softmax_of_selected{}, gated.block());
    CHECK(a.how.copies == 3);
    CHECK(a.how.parts == 4);
    CHECK(difference(a.output(), gated.output()) < exact);
    const upcycled b(moue::mlp<moue::gelu, true>{width, 6}, moue::shared_pool{1, 8}, 2 * copies_taken,
                     moue::softmax_of_selected{}, plain.block());
    CHECK(difference(b.output(), plain.output()) < exact);
  }
  // Gates that sum to something else: DeepSeek-V3's to its scale; each 1 where their sum is the number of parts.
  const upcycled scaled(moue::gated_mlp<moue::silu, true>{width, 3}, moue::shared_pool{1, 12}, 4,
                        moue::sigmoid_renormalised{2.5}, gated.block(), {.gates_sum = 2.5});
  CHECK(difference(scaled.output(), gated.output()) < exact);
  upcycled summed(moue::gated_mlp<moue::silu, true>{width, 3}, moue::shared_pool{1, 12}, 4, moue::sigmoid_gate{2},
                  gated.block(), {.gates_sum = 4});
  for (moue::index_t e = 0; e < 12; ++e)
    for (auto& w : summed.weights["layers.0.router.weight"].row(e)) w = 0;  // sigmoid(0) = 1/2
  CHECK(difference(summed.output(), gated.output()) < exact);
}

TEST_CASE("spreading the factor evenly is exact for homogeneous activations only") {
  using moue::convert::spread;
  const dense gated(moue::swiglu{width, 12});
  const upcycled a(moue::swiglu{width, 3}, moue::shared_pool{1, 12}, 4, moue::softmax_of_selected{}, gated.block(),
                   {.where = spread::evenly});
  CHECK(difference(a.output(), gated.output()) > 0.02);
  const dense squared(moue::mlp<moue::relu_squared>{width, 12});
  const upcycled b(moue::mlp<moue::relu_squared>{width, 3}, moue::shared_pool{1, 12}, 4, moue::softmax_of_selected{},
                   squared.block(), {.where = spread::evenly, .squared = true});
  CHECK(difference(b.output(), squared.output()) < exact);
  const dense rectified(moue::mlp<moue::relu>{width, 12});
  const upcycled c(moue::mlp<moue::relu>{width, 3}, moue::shared_pool{1, 12}, 4, moue::softmax_of_selected{},
                   rectified.block(), {.where = spread::evenly});
  CHECK(difference(c.output(), rectified.output()) < exact);
}

TEST_CASE("without renormalisation the factor copies parts² / k is right for equal logits and for no others") {
  const dense source(moue::swiglu{width, 12});
  constexpr moue::index_t k = 4;
  upcycled made(moue::swiglu{width, 3}, moue::shared_pool{1, 12}, k, moue::softmax_then_select{}, source.block(),
                {.gates_sum = double(k) / 12});
  CHECK(made.how.output_factor() == doctest::Approx(3.0 * 4 * 4 / k));
  CHECK(difference(made.output(), source.output()) > 0.02);
  for (moue::index_t e = 0; e < 12; ++e)
    for (auto& w : made.weights["layers.0.router.weight"].row(e)) w = 0;
  CHECK(difference(made.output(), source.output()) < exact);
}

TEST_CASE("shared experts take the first units with gate 1, the routed ones share out the rest") {
  const dense source(moue::gated_mlp<moue::silu, true>{width, 12});
  const upcycled made(moue::gated_mlp<moue::silu, true>{width, 2}, moue::always_on{moue::shared_pool{1, 8}, 2, 0}, 4,
                      moue::softmax_of_selected{}, source.block());
  CHECK(made.how.parts == 4);  // of the 8 units that two shared experts leave
  CHECK(made.how.copies == 2);
  CHECK(difference(made.output(), source.output()) < exact);
}

TEST_CASE("a partition computes its source while all parts are taken alike, and something else with fewer") {
  const dense source(moue::mlp<moue::gelu, true>{width, 12});
  for (const auto& [k, same] : {std::pair<moue::index_t, bool>{4, true}, {2, false}}) {
    const upcycled made(moue::mlp<moue::gelu, true>{width, 3}, moue::shared_pool{1, 4}, k, moue::softmax_of_selected{},
                        source.block());
    CHECK(made.how.copies == 1);
    CHECK((difference(made.output(), source.output()) < exact) == same);
  }
  // Units in any order: every one exactly once.
  upcycled any(moue::mlp<moue::gelu, true>{width, 3}, moue::shared_pool{1, 4}, 4, moue::softmax_of_selected{},
               source.block());
  const std::array<std::array<moue::index_t, 3>, 4> parts{{{11, 0, 5}, {1, 2, 10}, {9, 3, 8}, {4, 6, 7}}};
  for (moue::index_t e = 0; e < 4; ++e)
    moue::convert::write_expert(source.block(), parts[static_cast<std::size_t>(e)], any.how.factors(false),
                                moue::convert::expert_ffn(any.weights, e));
  CHECK(difference(any.output(), source.output()) < exact);
}

TEST_CASE("splitting the experts of a mixture keeps its function; duplicating them does not") {
  using expert = moue::swiglu;
  const moue::mixture coarse{expert{width, 8}, moue::shared_pool{1, 3}, moue::linear_router(2), moue::no_balancing{},
                             moue::reference{}};
  const auto weights = test::random_weights<double>(*test::erase<double>(coarse), 4);
  std::vector<moue::convert::ffn<const double>> blocks, twice;
  for (moue::index_t e = 0; e < 3; ++e) {
    blocks.push_back(moue::convert::expert_ffn(weights, e));
    for (int copy = 0; copy < 2; ++copy) twice.push_back(blocks.back());
  }
  using span = std::span<const moue::convert::ffn<const double>>;
  const auto rows = [&](auto& made, moue::index_t times) {
    moue::convert::repeat_rows(weights["layers.0.router.weight"], times, made.weights["layers.0.router.weight"]);
  };
  upcycled split(expert{width, 2}, moue::shared_pool{1, 12}, 8, moue::softmax_of_selected{}, span(blocks));
  rows(split, 4);
  CHECK(difference(split.output(), forward(coarse, weights)) < exact);
  // Copies fill the columns: k of 2 out of pairs is the source with k = 1.
  upcycled doubled(expert{width, 8}, moue::shared_pool{1, 6}, 2, moue::softmax_of_selected{}, span(twice));
  rows(doubled, 2);
  const moue::mixture one{expert{width, 8}, moue::shared_pool{1, 3}, moue::linear_router(1), moue::no_balancing{},
                          moue::reference{}};
  CHECK(difference(doubled.output(), forward(one, weights)) < exact);
  CHECK(difference(doubled.output(), forward(coarse, weights)) > 0.02);
}

TEST_CASE("numbers that are not scaled keep their bits, in any storage") {
  const dense source(moue::swiglu{width, 4});
  moue::mixture model{moue::swiglu{width, 4}, moue::shared_pool{1, 2}, moue::linear_router(1)};
  moue::parameters<float> narrow(model.layout());
  moue::convert::upcycle_layer(source.block(), model.connections(), 0, narrow);
  for (moue::index_t j = 0; j < width; ++j)
    CHECK(narrow["experts.1.up"](2, j) == static_cast<float>(source.weights["experts.0.up"](2, j)));
}

TEST_CASE("what does not fit is refused") {
  const dense source(moue::swiglu{width, 12});
  const auto make = [&](auto expert, auto topology) {
    upcycled made(expert, topology, 1, moue::softmax_of_selected{}, source.block());
  };
  CHECK_THROWS_AS(make(moue::swiglu{width, 5}, moue::shared_pool{1, 4}), moue::error);   // 5 does not divide 12
  CHECK_THROWS_AS(make(moue::swiglu{width, 4}, moue::shared_pool{1, 4}), moue::error);   // 4 is no multiple of 3 parts
  CHECK_THROWS_AS(make(moue::swiglu{width, 24}, moue::shared_pool{1, 2}), moue::error);  // wider than the block
  CHECK_THROWS_AS(make(moue::mlp<moue::silu>{width, 12}, moue::shared_pool{1, 2}), moue::error);  // no gate
  CHECK_THROWS_AS(make(moue::gated_mlp<moue::silu, true>{width, 12}, moue::shared_pool{1, 2}), moue::error);
  CHECK_THROWS_AS(make(moue::zero_expert{width}, moue::shared_pool{1, 2}), moue::error);
  CHECK_THROWS_AS(make(moue::constant_expert{width}, moue::shared_pool{1, 2}), moue::error);
  CHECK_THROWS_AS(moue::convert::expert_ffn(source.weights, 1), moue::error);
}
