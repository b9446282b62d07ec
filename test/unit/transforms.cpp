// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "leaning_stages.hpp"
#include "moue/any/erase.hpp"
#include "moue/backend/cpu.hpp"
#include "moue/backend/reference.hpp"
#include "moue/moue.hpp"
#include "moue/testing/laws.hpp"
#include "published/norm_router.hpp"
#include "restless_score.hpp"

// Transforms, columns beside the logits and parameters of row stages. That gradients agree, that batches may be cut and that
// devices say the same is in pass_laws, laws_model and cuda_pass, whose composition has all of these.

namespace {

using moue::index_t;
constexpr double closed = -std::numeric_limits<double>::infinity();

void obeys(const moue::testing::law_report& report) { CHECK_MESSAGE(static_cast<bool>(report), report.summary()); }
bool says(const moue::testing::law_report& report, const std::string& law) {
  return report.summary().find(law) != std::string::npos;
}

auto model_of(const auto& router, const auto& loss) {
  return moue::mixture{moue::mlp<moue::silu>{.width = 4, .hidden = 3}, moue::shared_pool{.depth = 1, .pool = 5}, router,
                       loss, moue::reference{}};
}

/// One layer of a training pass with its memory.
template <class MixtureT>
struct run {
  const MixtureT& model;
  index_t tokens;
  moue::parameters<double> weights = model.template initialize<double>(3);
  moue::workspace scratch{model.template workspace_bytes<double>({.tokens = tokens})};
  moue::pass<MixtureT, double> pass = model.start(weights, {.tokens = tokens}, scratch);
  std::vector<double> x = std::vector<double>(static_cast<std::size_t>(tokens * 4)), y = x;

  run(const MixtureT& m, index_t n) : model(m), tokens(n) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<double>(i * i % 31));
  }
  moue::matrix_view<double> rows(std::vector<double>& v) const { return {v.data(), tokens, 4}; }
  void forward(const moue::side_inputs& inputs = {}) {
    pass.begin(tokens, inputs);
    pass.forward(0, rows(x), rows(y));
  }
};

/// Whose backward forgets the parameter.
struct forgetful : test::stretched {
  template <class C>
  MOUE_HD void backward(moue::vector_view<const C>, const auto& p, moue::vector_view<const C>,
                        moue::vector_view<const C> dtransformed, moue::vector_view<C> dlogits, const auto&) const {
    for (index_t j = 0; j < dlogits.size; ++j) dlogits[j] += (C(1) + static_cast<C>(p[0](0, 0))) * dtransformed[j];
  }
};

/// A gate with a table, whose gradient is no vector.
struct tabled_gate : test::leaning_gate {
  auto parameters(moue::router_shape s) const {
    return std::array{moue::parameter_spec{.name = "lean", .rows = s.candidates, .cols = 2}};
  }
};

}  // namespace

TEST_CASE("row stages with columns beside the logits and parameters obey the laws") {
  obeys(moue::testing::check_transform_laws(moue::no_transform{}));
  obeys(moue::testing::check_transform_laws(test::stretched{}));
  obeys(moue::testing::check_gate_laws(test::leaning_gate{}));
  obeys(moue::testing::check_probability_laws(test::leaning_probability{}));
  obeys(moue::testing::check_score_laws(test::restless_score{}));
  CHECK(says(moue::testing::check_transform_laws(forgetful{}), "backward agrees with central differences"));
}

TEST_CASE("parameters of gates are vectors") {
  const moue::router router{moue::score_sum{moue::linear_score{}, test::restless_score{}}, moue::top_k{2},
                            tabled_gate{}};
  CHECK_THROWS_WITH_AS(model_of(router, moue::no_balancing{}), doctest::Contains("parameter 'lean' has 5 rows"),
                       moue::error);
}

TEST_CASE("a transform sees open logits alone, and others see what it made") {
  const auto router = moue::router{moue::score_sum{moue::linear_score{.deviation = 1}, moue::logit_bias{}},
                                   moue::top_k{2}, moue::softmax_of_selected{}}
                          .with(test::stretched{});
  const auto model = model_of(router, moue::no_balancing{});
  run layer(model, 6);
  layer.weights[model.layout()->find("layers.0.router.bias")](0, 1) = closed;
  layer.forward();
  const auto plain_model = model_of(moue::router{router.score, router.select, router.gate}, moue::no_balancing{});
  run plain(plain_model, 6);
  for (const char* name : {"layers.0.router.weight", "layers.0.router.bias"}) {
    const auto from = layer.weights[model.layout()->find(name)], to = plain.weights[plain_model.layout()->find(name)];
    std::copy(from.data, from.data + from.rows * from.cols, to.data);
  }
  plain.forward();
  for (index_t t = 0; t < 6; ++t) {
    double mean = 0;
    for (index_t j = 0; j < 5; ++j)
      if (j != 1) mean += plain.pass.logits(0)(t, j) / 4;
    for (index_t j = 0; j < 5; ++j) {
      const double z = plain.pass.logits(0)(t, j);
      if (j == 1)
        CHECK(layer.pass.logits(0)(t, j) == closed);
      else
        CHECK(layer.pass.logits(0)(t, j) == doctest::Approx(z + 0.2 * (z - mean)).epsilon(1e-14));
    }
  }
}

TEST_CASE("what is broken before a transform is told, closed or shown") {
  const auto router =
      moue::router{moue::linear_score{.deviation = 1}, moue::top_k{2}, moue::softmax_of_selected{}}.with(
          test::stretched{});
  const auto broken = [](auto& layer) {
    layer.weights[layer.model.layout()->find("layers.0.router.weight")](2, 0) = std::nan("");
    layer.forward();
  };
  const auto masking = model_of(router.with(moue::non_finite::mask), moue::no_balancing{});
  run masked(masking, 6);
  broken(masked);
  for (index_t t = 0; t < 6; ++t)
    for (index_t j = 0; j < 5; ++j) CHECK((masked.pass.logits(0)(t, j) == closed) == (j == 2));
  const auto rejecting = model_of(router.with(moue::non_finite::reject), moue::no_balancing{});
  run refused(rejecting, 6);
  CHECK_THROWS_AS(broken(refused), moue::error);
  const auto showing = model_of(router, moue::no_balancing{});
  run shown(showing, 6);
  broken(shown);
  CHECK(std::isnan(shown.y[0]));
}

TEST_CASE("masked rows and columns send no NaN back through a transform") {
  const auto router = moue::router{moue::score_sum{moue::linear_score{.deviation = 1}, moue::candidate_bias{}},
                                   moue::top_k{2}, published::as_they_are{}}
                          .with(published::on_sphere{})
                          .with(moue::non_finite::mask);
  const auto model = model_of(router, moue::switch_loss{1});
  run layer(model, 6);
  const auto bias = layer.weights[model.layout()->find("layers.0.router.candidate_bias")];
  for (index_t j = 0; j < 5; ++j) bias(0, j) = 1;
  layer.x[9] = std::nan("");  // of the third token
  layer.forward();
  for (const index_t i : {4, 5}) CHECK(layer.pass.assignments(0).expert[i] == -1);
  layer.pass.arm();
  moue::gradients<double> gradients(model.layout());
  std::vector<double> d(24, 1);
  layer.pass.backward(0, layer.rows(d), layer.rows(d), gradients);
  gradients.finish();
  for (index_t i = 0; i < model.layout()->tensors(); ++i)
    for (index_t r = 0; r < gradients[i].rows; ++r)
      for (const double v : gradients[i].row(r)) CHECK(std::isfinite(v));
  for (const double v : d) CHECK(std::isfinite(v));
}

TEST_CASE("a broken column beside the logits is refused by name, or takes its token out") {
  const moue::router router{moue::score_sum{moue::linear_score{}, test::restless_score{}}, moue::top_k{2},
                            test::leaning_gate{}};
  const auto broken = [](auto& layer) {
    layer.weights[layer.model.layout()->find("layers.0.router.noise")](0, 1) = std::numeric_limits<double>::infinity();
    layer.forward();
  };
  const auto rejecting = model_of(router.with(moue::non_finite::reject), moue::no_balancing{});
  run refused(rejecting, 3);
  CHECK_THROWS_WITH_AS(broken(refused), doctest::Contains("the extra column 1 of token 0 at layer 0 is not finite"),
                       moue::error);
  const auto masking = model_of(router.with(moue::non_finite::mask), moue::no_balancing{});
  run masked(masking, 3);
  broken(masked);
  for (const auto expert : masked.pass.assignments(0).expert) CHECK(expert == -1);
}

TEST_CASE("features, scores and probabilities on request are those that the layer was routed by") {
  const auto router = moue::router{moue::linear_score{.deviation = 1}, moue::top_k{2}, moue::softmax_of_selected{}}
                          .with(moue::biased_sigmoid{})
                          .with(test::stretched{});
  for (const moue::mode how : {moue::mode::training, moue::mode::inference}) {
    const auto model = model_of(router, moue::no_balancing{});
    run layer(model, 6);
    const moue::pass_options options{.tokens = 6, .how = how};
    moue::workspace scratch(model.workspace_bytes<double>(options));
    auto pass = model.start(layer.weights, options, scratch);
    const std::vector<std::uint8_t> valid{1, 1, 0, 1, 1, 1};
    pass.begin(6, {.valid = {valid.data(), 6}});
    const auto made = pass.route(0, layer.rows(layer.x));
    std::vector<double> scores(30, 7), probabilities(30, 7), features(24, 7);
    const moue::matrix_view<double> s{scores.data(), 6, 5}, p{probabilities.data(), 6, 5}, f{features.data(), 6, 4};
    pass.scores(0, s);
    pass.probabilities(0, p);
    pass.features(0, f);
    for (index_t t = 0; t < 6; ++t) {
      if (!valid[static_cast<std::size_t>(t)]) {
        CHECK((s(t, 0) == closed && p(t, 0) == 0));
        continue;
      }
      double sum = 0;
      for (index_t j = 0; j < 5; ++j) {
        CHECK(s(t, j) == doctest::Approx(1 / (1 + std::exp(-pass.logits(0)(t, j)))).epsilon(1e-14));
        CHECK(p(t, j) / p(t, 0) ==
              doctest::Approx(std::exp(pass.logits(0)(t, j) - pass.logits(0)(t, 0))).epsilon(1e-13));
        sum += p(t, j);
      }
      CHECK(sum == doctest::Approx(1).epsilon(1e-14));
      for (index_t j = 0; j < 4; ++j) CHECK(f(t, j) == layer.rows(layer.x)(t, j));
    }
    CHECK_THROWS_WITH_AS(pass.scores(0, f), doctest::Contains("were to be written to a matrix of shape [6, 4]"),
                         moue::error);
    pass.run(0, layer.rows(layer.x), made, layer.rows(layer.x));
    if (how == moue::mode::inference)
      CHECK_THROWS_WITH_AS(pass.features(0, f), doctest::Contains("after its input was given back"), moue::error);
    else
      pass.features(0, f);
    CHECK_THROWS_WITH_AS(pass.probabilities(1, p), doctest::Contains("the probabilities of layer 1"), moue::error);
  }
}
