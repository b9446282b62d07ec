// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Whole models with one fault each: the check of gradients must find it and name the tensor.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "moue/backend/reference.hpp"
#include "moue/policies.hpp"
#include "moue/testing/model_laws.hpp"

namespace {

enum class fault { none, expert, score, trajectory, loss, tie };

constexpr std::string_view parameters_agree = "gradients of parameters agree with central differences";
constexpr std::string_view input_agrees = "the gradient of the input agrees with central differences";

/// y = scale x + x² / 2, element by element.
struct faulty_expert {
  moue::index_t width;
  fault what;

  auto parameters() const {
    return std::array{moue::parameter_spec{"scale", 1, width, moue::initializer::normal(1), moue::scope::expert}};
  }
  auto saved() const { return std::array<moue::index_t, 0>{}; }
  auto temporaries() const { return std::array<moue::index_t, 0>{}; }
  template <class C>
  void forward(const auto&, const auto& p, const auto& x, const auto&, const auto&, moue::matrix_view<C> y) const {
    for (moue::index_t i = 0; i < x.rows; ++i)
      for (moue::index_t j = 0; j < x.cols; ++j)
        y(i, j) = static_cast<C>(p[0].for_row(i)(0, j)) * x(i, j) + x(i, j) * x(i, j) / 2;
  }
  template <class C>
  void backward(const auto& ops, const auto& p, const auto& x, const auto&, const auto&, moue::matrix_view<const C> dy,
                moue::matrix_view<C> dx, const auto& dp) const {
    const auto d = moue::accumulate(ops, dp[0]);
    for (moue::index_t i = 0; i < x.rows; ++i)
      for (moue::index_t j = 0; j < x.cols; ++j) {
        d.for_row(i)(0, j) += dy(i, j) * x(i, j) * C(what == fault::expert ? 1.001 : 1);
        dx(i, j) = dy(i, j) * (static_cast<C>(p[0].for_row(i)(0, j)) + x(i, j));
      }
  }
};

struct faulty_score : moue::linear_score {
  fault what;

  template <class C>
  void backward(const auto& ops, const moue::router_frame<C>& frame, const moue::router_gradient<C>& gradient,
                const auto& p, const auto& temporary, const auto& dp) const {
    linear_score::backward(ops, frame, gradient, p, temporary, dp);
    if (what == fault::score && gradient.logits.rows > 0)
      moue::accumulate(ops, dp[0])(0, 0) += gradient.logits(0, 0) * frame.features(0, 0);
  }
};

/// With its fault, gradients of keys and gates stop at the state. It adds nothing to logits that are to be almost equal.
struct faulty_trajectory : moue::trajectory {
  fault what;

  template <class C>
  void forward(const auto& ops, const moue::router_frame<C>& frame, const auto& p, const auto& temporary) const {
    if (what != fault::tie) trajectory::forward(ops, frame, p, temporary);
  }
  template <class C>
  void backward(const auto& ops, const moue::router_frame<C>& frame, const moue::router_gradient<C>& gradient,
                const auto& p, const auto& temporary, const auto& dp) const {
    if (what != fault::tie) trajectory::backward(ops, frame, gradient, p, temporary, dp);
  }
  template <class C>
  void advance_backward(const auto& ops, const moue::router_frame<C>& frame, const moue::router_gradient<C>& gradient,
                        const auto& p, const auto& temporary, const auto& dp) const {
    if (what != fault::trajectory) trajectory::advance_backward(ops, frame, gradient, p, temporary, dp);
  }
};

struct faulty_loss : moue::switch_loss {
  fault what;

  template <class C>
  void gradient(const moue::depth_statistics<C>& s, moue::vector_view<C> d) const {
    switch_loss::gradient(s, d);
    if (what == fault::loss) d[0] += C(0.01);
  }
};

/// Depth state, always-on experts, routers tied across visits, and two losses, one of them over the whole depth.
auto model_with(fault what) {
  const moue::staggered_rotation ring{.depth = 2, .pool = 5, .window = 4, .stride = 2};
  return moue::mixture{faulty_expert{4, what}, moue::always_on{moue::revisit{ring, 2, true}, 1},
                       moue::router{moue::score_sum{faulty_score{{.deviation = what == fault::tie ? 1e-9 : 1}, what},
                                                    faulty_trajectory{{.rank = 3}, what}},
                                    moue::top_k{2}, moue::softmax_of_selected{}},
                       moue::sum_of_losses{faulty_loss{{0.3}, what}, moue::universal_balance{0.4}}, moue::reference{}};
}

/// The next layer reads x + tanh(y).
struct tanh_residual {
  bool wrong = false;

  void forward(moue::index_t, moue::matrix_view<const double> x, moue::matrix_view<const double> y,
               moue::matrix_view<double> next) const {
    for (moue::index_t t = 0; t < x.rows; ++t)
      for (moue::index_t j = 0; j < x.cols; ++j) next(t, j) = x(t, j) + std::tanh(y(t, j));
  }
  void backward(moue::index_t, moue::matrix_view<const double>, moue::matrix_view<const double> y,
                moue::matrix_view<const double> dnext, moue::matrix_view<double> dx,
                moue::matrix_view<double> dy) const {
    for (moue::index_t t = 0; t < y.rows; ++t)
      for (moue::index_t j = 0; j < y.cols; ++j) {
        const double value = std::tanh(y(t, j));
        dx(t, j) = wrong ? 0 : dnext(t, j);
        dy(t, j) = dnext(t, j) * (1 - value * value);
      }
  }
};

/// A residual stack that squares the router's gates and drops an entry of every other token, with a fault if `forgets`: it
/// does not apply the derivative of the square.
struct editing_host {
  moue::index_t layers;
  bool forgets = false;
  std::vector<std::vector<double>> gates = {};

  using rows = std::vector<double>;
  static moue::matrix_view<double> view(rows& v, const auto& like) { return {v.data(), like.rows, like.cols}; }

  void forward(moue::any_pass<double>& pass, moue::matrix_view<const double> x, moue::matrix_view<double> out) {
    rows stream, y(static_cast<std::size_t>(x.rows * x.cols));
    for (moue::index_t t = 0; t < x.rows; ++t) stream.insert(stream.end(), x.row(t).begin(), x.row(t).end());
    gates.clear();
    for (moue::index_t layer = 0; layer < layers; ++layer) {
      auto edited = pass.route(layer, view(stream, x));
      std::vector<std::int32_t> experts(edited.expert.begin(), edited.expert.end());
      for (moue::index_t t = 0; t < x.rows; t += 2) experts[static_cast<std::size_t>(edited.offsets[t] + 1)] = -1;
      gates.emplace_back(edited.gate.begin(), edited.gate.end());
      rows squares = gates.back();
      for (auto& g : squares) g *= g;
      edited.expert = {experts.data(), std::ssize(experts)};
      edited.gate = {squares.data(), std::ssize(squares)};
      pass.run(layer, view(stream, x), edited, view(y, x));
      for (std::size_t i = 0; i < y.size(); ++i) stream[i] += y[i];
    }
    moue::testing::detail::assign(out, view(stream, x));
  }
  void backward(moue::any_pass<double>& pass, moue::matrix_view<const double> dout, moue::matrix_view<double> dx,
                moue::gradients<double>& into) {
    rows experts_dx(static_cast<std::size_t>(dout.rows * dout.cols)), router_dx = experts_dx;
    moue::testing::detail::assign(dx, dout);
    for (moue::index_t layer = layers; layer-- > 0;) {
      const auto& g = gates[static_cast<std::size_t>(layer)];
      rows dgates(g.size());
      const moue::vector_view<double> list{dgates.data(), std::ssize(dgates)};
      pass.run_backward(layer, dx, view(experts_dx, dx), list, into);
      if (!forgets)
        for (std::size_t i = 0; i < g.size(); ++i) dgates[i] *= 2 * g[i];
      pass.route_backward(layer, list, view(router_dx, dx), into);
      for (moue::index_t t = 0; t < dx.rows; ++t)
        for (moue::index_t j = 0; j < dx.cols; ++j) dx(t, j) += view(experts_dx, dx)(t, j) + view(router_dx, dx)(t, j);
    }
  }
};

/// A residual stack whose selections are given: a third of the tokens name two candidates, a third one candidate twice,
/// and a third one candidate and none; some name an expert that is no candidate, too.
struct replaying_host {
  const moue::any_model<double>& model;
  moue::index_t repeats = 0;

  using rows = std::vector<double>;
  static moue::matrix_view<double> view(rows& v, const auto& like) { return {v.data(), like.rows, like.cols}; }

  void forward(moue::any_pass<double>& pass, moue::matrix_view<const double> x, moue::matrix_view<double> out) {
    rows y(static_cast<std::size_t>(x.rows * x.cols));
    moue::testing::detail::assign(out, x);
    repeats = 0;
    for (moue::index_t layer = 0; layer < model.layers(); ++layer) {
      const auto candidates = model.connections().candidates(layer);
      std::vector<std::int32_t> ids;
      for (moue::index_t t = 0; t < x.rows; ++t) {
        const auto at = static_cast<std::size_t>(t + layer);
        const std::int32_t first = candidates[at % candidates.size()],
                           second = candidates[(at + 1) % candidates.size()];
        ids.insert(ids.end(), {t % 6 == 5 ? 5 : first, t % 3 == 0 ? second : t % 3 == 1 ? first : -1});
      }
      const auto r = pass.replay(layer, out, {ids.data(), x.rows, 2});
      for (moue::index_t t = 0; t < x.rows; ++t)
        repeats += pass.selected(layer)(t, 0) >= 0 && pass.selected(layer)(t, 1) == pass.selected(layer)(t, 0);
      pass.run(layer, out, r, view(y, x));
      for (moue::index_t t = 0; t < x.rows; ++t)
        for (moue::index_t j = 0; j < x.cols; ++j) out(t, j) += view(y, x)(t, j);
    }
  }
  void backward(moue::any_pass<double>& pass, moue::matrix_view<const double> dout, moue::matrix_view<double> dx,
                moue::gradients<double>& into) {
    rows through(static_cast<std::size_t>(dout.rows * dout.cols));
    moue::testing::detail::assign(dx, dout);
    for (moue::index_t layer = model.layers(); layer-- > 0;) {
      pass.backward(layer, dx, view(through, dx), into);
      for (moue::index_t t = 0; t < dx.rows; ++t)
        for (moue::index_t j = 0; j < dx.cols; ++j) dx(t, j) += view(through, dx)(t, j);
    }
    CHECK(repeats == 0);  // an id that a token repeats is selected once
  }
};

void holds(const moue::testing::law_report& report) { CHECK_MESSAGE(static_cast<bool>(report), report.summary()); }
const moue::testing::law& law_of(const moue::testing::law_report& report, std::string_view name) {
  for (const auto& law : report.laws())
    if (law.name == name) return law;
  FAIL(name << " was not checked:\n" << report.summary());
  return report.laws().front();
}
void names(const moue::testing::law_report& report, std::string_view law, std::string_view tensor) {
  CHECK_MESSAGE(report.broke(law), report.summary());
  CHECK_MESSAGE(law_of(report, law).detail.starts_with("d " + std::string(tensor)), report.summary());
}

}  // namespace

TEST_CASE("a right model passes, in any host") {
  const auto model = model_with(fault::none);
  const auto report = moue::testing::check_gradients(model, tanh_residual{});
  holds(report);
  for (const auto& note : report.notes()) CHECK_MESSAGE(note.find("moved a selection") == std::string::npos, note);
  holds(moue::testing::check_gradients(*moue::erase<double>(model)));
}

TEST_CASE("ranges of layers pass, with the depth state that enters and leaves them") {
  const auto model = moue::erase<double>(model_with(fault::none));
  const auto report = moue::testing::check_gradients(*model, tanh_residual{}, {.tokens = 6, .first = 1, .count = 2});
  holds(report);
  CHECK_FALSE(law_of(report, "the gradient of the depth state agrees with central differences").name.empty());
}

TEST_CASE("a host that runs the whole depth itself edits assignments, and answers for its gates") {
  const auto model = moue::erase<double>(model_with(fault::none));
  holds(moue::testing::check_gradients(*model, editing_host{.layers = model->layers()}));
  const auto report = moue::testing::check_gradients(*model, editing_host{.layers = model->layers(), .forgets = true});
  CHECK(report.broke(parameters_agree));
  CHECK(report.broke(input_agrees));
}

TEST_CASE("a host that gives the selections gets their gradients, also where a token repeats an id") {
  const auto model = moue::erase<double>(model_with(fault::none));
  holds(moue::testing::check_gradients(*model, replaying_host{*model}));
}

TEST_CASE("faults are found, and the worst tensor is named") {
  const auto check = [](fault what) { return moue::testing::check_gradients(model_with(what), tanh_residual{}); };
  names(check(fault::expert), parameters_agree, "experts.");
  names(check(fault::score), parameters_agree, "layers.");
  names(check(fault::trajectory), parameters_agree, "router.trajectory_key");
  names(check(fault::loss), parameters_agree, "layers.0.router.");
  CHECK(check(fault::trajectory).broke(input_agrees));
  CHECK_FALSE(check(fault::score).broke(input_agrees));
  names(moue::testing::check_gradients(model_with(fault::none), tanh_residual{.wrong = true}), input_agrees, "x(");
}

TEST_CASE("differences that move a selection are left out, and said to be") {
  const auto report = moue::testing::check_gradients(model_with(fault::tie), tanh_residual{});
  constexpr std::string_view law = "some difference of every tensor leaves selections as they are";
  CHECK_MESSAGE(report.broke(law), report.summary());
  CHECK(law_of(report, law).detail == "no difference of layers.0.router.weight does: choose another seed");
  CHECK_FALSE(report.broke(parameters_agree));
  const auto& notes = report.notes();
  CHECK(std::any_of(notes.begin(), notes.end(), [](const std::string& note) {
    return note.starts_with("16 of 16 differences of layers.0.router.weight moved a selection and were left out");
  }));
}
