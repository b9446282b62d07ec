// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Policies as an outside user would write them, from the public headers alone: each passes its laws, and mixtures of
// them agree with central differences as a whole and learn.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "moue/moue.hpp"
#include "moue/testing/laws.hpp"

namespace {

using moue::matrix_view;
using moue::vector_view;

/// Even layers see the lower two thirds of the experts, odd layers the upper two thirds.
struct overlapping_halves {
  moue::index_t depth, third;
  constexpr moue::index_t layers() const { return depth; }
  constexpr moue::index_t experts() const { return 3 * third; }
  constexpr void candidates(moue::index_t layer, auto append) const {
    for (moue::index_t i = 0; i < 2 * third; ++i) append(layer % 2 * third + i);
  }
};
static_assert(moue::virtual_width(overlapping_halves{4, 2}) == 16);
static_assert(moue::exposure(overlapping_halves{4, 2}, 2) == 4);

/// y = tanh(W x), with the plain form of backward.
struct tanh_expert {
  moue::index_t width;
  auto parameters() const {
    return std::array{
        moue::parameter_spec{"weight", width, width, moue::initializer::normal(0.5), moue::scope::expert}};
  }
  auto saved() const { return std::array{width}; }  // the output
  auto temporaries() const { return std::array{width}; }

  template <class C>
  void forward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto&, matrix_view<C> y) const {
    const auto out = saved[0];
    ops.linear(x, p[0], out);
    ops.each_element(y.rows, y.cols,
                     [=](moue::index_t i, moue::index_t j) { y(i, j) = out(i, j) = std::tanh(out(i, j)); });
  }
  template <class C>
  void backward(const auto& ops, const auto& p, const auto& x, const auto& saved, const auto& temporary,
                matrix_view<const C> dy, matrix_view<C> dx, const auto& dp) const {
    const auto out = saved[0];
    const auto d = temporary[0];
    ops.each_element(d.rows, d.cols,
                     [=](moue::index_t i, moue::index_t j) { d(i, j) = dy(i, j) * (1 - out(i, j) * out(i, j)); });
    ops.input_gradient(d, p[0], dx);
    ops.weight_gradient(d, x, dp[0]);
  }
};

/// y = a * x with one learned factor per channel, with the gated form of backward.
struct diagonal_expert {
  moue::index_t width;
  auto parameters() const {
    return std::array{moue::parameter_spec{"factor", 1, width, moue::initializer::constant(1), moue::scope::expert}};
  }
  auto saved() const { return std::array<moue::index_t, 0>{}; }
  auto temporaries() const { return std::array{width}; }

  template <class C>
  void forward(const auto& ops, const auto& p, const auto& x, const auto&, const auto&, matrix_view<C> y) const {
    const auto a = p[0];
    ops.each_element(y.rows, y.cols,
                     [=](moue::index_t i, moue::index_t j) { y(i, j) = static_cast<C>(a.for_row(i)(0, j)) * x(i, j); });
  }
  template <class C, class T>
  void backward(const auto& ops, const auto& p, const auto& x, const auto&, const auto& temporary,
                moue::gated_gradient<C, T> out, matrix_view<C> dx, const auto& dp) const {
    const auto a = p[0];
    const auto products = temporary[0];
    ops.each_row(x.rows, [=](moue::index_t i) {
      C sum = C(0);
      for (moue::index_t j = 0; j < x.cols; ++j) {
        sum += out.dy(i, j) * static_cast<C>(a.for_row(i)(0, j)) * x(i, j);
        products(i, j) = out.gate[i] * out.dy(i, j) * x(i, j);
        dx(i, j) = out.gate[i] * out.dy(i, j) * static_cast<C>(a.for_row(i)(0, j));
      }
      out.dgate[i] = sum;
    });
    ops.column_sum(products, dp[0]);
  }
};

/// z_e = -|u - c_e|² / 2 with a learned prototype per candidate.
struct prototype_score {
  auto parameters(moue::router_shape s) const {
    return std::array{moue::parameter_spec{"prototype", s.candidates, s.width, moue::initializer::normal(1)}};
  }
  template <class C>
  void forward(const auto& ops, const moue::router_frame<C>& frame, const auto& p, const auto&) const {
    const auto prototypes = p[0];
    ops.each_element(frame.logits.rows, frame.logits.cols, [=](moue::index_t t, moue::index_t e) {
      C sum = C(0);
      for (moue::index_t j = 0; j < prototypes.cols; ++j) {
        const C d = frame.features(t, j) - static_cast<C>(prototypes(e, j));
        sum += d * d;
      }
      frame.logits(t, e) -= sum / 2;
    });
  }
  template <class C>
  void backward(const auto& ops, const moue::router_frame<C>& frame, const moue::router_gradient<C>& gradient,
                const auto& p, const auto&, const auto& dp) const {
    const auto prototypes = p[0];
    const auto d = moue::accumulate(ops, dp[0]);
    const auto along = [=](moue::index_t t, moue::index_t e, moue::index_t j) {
      return gradient.logits(t, e) * (frame.features(t, j) - static_cast<C>(prototypes(e, j)));
    };
    ops.each_element(d.rows, d.cols, [=](moue::index_t e, moue::index_t j) {
      for (moue::index_t t = 0; t < frame.features.rows; ++t) d(e, j) += along(t, e, j);
    });
    ops.each_element(frame.features.rows, frame.features.cols, [=](moue::index_t t, moue::index_t j) {
      for (moue::index_t e = 0; e < gradient.logits.cols; ++e) gradient.features(t, j) -= along(t, e, j);
    });
  }
};

/// The fewest best candidates whose softmax mass exceeds `mass` (dynamic routing, arXiv 2403.07652).
struct top_p {
  double mass;
  constexpr moue::index_t max_selected(moue::index_t candidates) const { return candidates; }

  template <class C>
  moue::index_t operator()(vector_view<const C> scores, vector_view<const std::int32_t> candidates,
                           vector_view<std::int32_t> selected) const {
    const moue::index_t count =
        moue::top_k{scores.size}(scores, candidates, selected);  // sorts, and drops the closed ones
    C sum = C(0), reached = C(0);
    for (moue::index_t i = 0; i < count; ++i) sum += std::exp(scores[selected[i]] - scores[selected[0]]);
    for (moue::index_t i = 0; i < count; ++i) {
      reached += std::exp(scores[selected[i]] - scores[selected[0]]) / sum;
      if (!(reached <= C(mass))) return i + 1;
    }
    return count;
  }
};

/// Up to k candidates, but only those whose score is positive.
struct positive_top_k {
  moue::index_t k;
  constexpr moue::index_t max_selected(moue::index_t candidates) const { return std::min(k, candidates); }

  template <class C>
  moue::index_t operator()(vector_view<const C> scores, vector_view<const std::int32_t> candidates,
                           vector_view<std::int32_t> selected) const {
    moue::index_t count = moue::top_k{k}(scores, candidates, selected);
    while (count > 0 && scores[selected[count - 1]] <= C(0)) --count;
    return count;
  }
};

/// w_i = log(1 + exp z_i).
struct softplus_gate {
  template <class C>
  void forward(vector_view<const C> logits, vector_view<const std::int32_t> selected, vector_view<C> gates) const {
    for (moue::index_t i = 0; i < selected.size; ++i) {
      const C z = logits[selected[i]];
      gates[i] = std::max(z, C(0)) + std::log1p(std::exp(-std::abs(z)));
    }
  }
  template <class C>
  void backward(vector_view<const C> logits, vector_view<const std::int32_t> selected, vector_view<const C>,
                vector_view<const C> dgates, vector_view<C> dlogits) const {
    for (moue::index_t i = 0; i < selected.size; ++i)
      dlogits[selected[i]] += dgates[i] / (1 + std::exp(-logits[selected[i]]));
  }
};

/// weight times the mean entropy of the router's probabilities: keeps top_p short.
struct entropy_loss {
  double weight;

  template <class C>
  C token_value(vector_view<const C>, vector_view<const C> p) const {
    C sum = C(0);
    for (const C v : p)
      if (v > C(0)) sum -= v * std::log(v);
    return C(weight) * sum;
  }
  template <class C>
  void token_gradient(vector_view<const C> logits, vector_view<const C> p, C scale, vector_view<C> dlogits) const {
    const C weighted = token_value(logits, p);
    for (moue::index_t j = 0; j < p.size; ++j)
      if (p[j] > C(0)) dlogits[j] -= scale * p[j] * (C(weight) * std::log(p[j]) + weighted);
  }
};

/// weight times the squared distance of each layer's mean probabilities from even.
struct evenness_loss {
  double weight;

  template <class C>
  C value(const moue::depth_statistics<C>& s) const {
    C sum = C(0);
    each(s, [&](moue::index_t, C distance) { sum += distance * distance; });
    return C(weight) * sum;
  }
  template <class C>
  void gradient(const moue::depth_statistics<C>& s, vector_view<C> d) const {
    each(s, [&](moue::index_t i, C distance) { d[i] += C(2 * weight) * distance; });
  }

 private:
  template <class C>
  static void each(const moue::depth_statistics<C>& s, const auto& f) {
    for (moue::index_t layer = 0; layer < s.layers; ++layer)
      for (moue::index_t i = s.offsets[layer]; i < s.offsets[layer + 1]; ++i)
        f(i, s.probability[i] - C(1) / C(s.offsets[layer + 1] - s.offsets[layer]));
  }
};

void obeys(const moue::testing::law_report& report) { CHECK_MESSAGE(static_cast<bool>(report), report.summary()); }

/// A residual stack, the loss <r, h> plus balancing, and one step of descent.
template <class MixtureT>
class host {
 public:
  explicit host(const MixtureT& model)
      : model_(model),
        weights(model.template initialize<double>(7)),
        into(model.layout()),
        scratch_(model.template workspace_bytes<double>({.tokens = tokens})),
        pass_(model.start(weights, {.tokens = tokens}, scratch_)),
        x(noise(1)),
        dx_(noise(2)),
        r_(noise(2)) {}

  double loss(bool backward) {
    pass_.begin(tokens);
    auto h = x;
    std::vector<double> y(h.size());
    for (moue::index_t layer = 0; layer < model_.layers(); ++layer) {
      pass_.forward(layer, view(h), view(y));
      std::transform(h.begin(), h.end(), y.begin(), h.begin(), std::plus<>());
    }
    const double balance = pass_.balance();
    if (backward) {
      pass_.arm();
      into.zero();
      dx_ = r_;
      for (moue::index_t layer = model_.layers(); layer-- > 0;) {
        pass_.backward(layer, view(dx_), view(y), into);
        std::transform(dx_.begin(), dx_.end(), y.begin(), dx_.begin(), std::plus<>());
      }
    }
    return balance + std::inner_product(h.begin(), h.end(), r_.begin(), 0.0);
  }

  void agrees_with_central_differences() {
    loss(true);
    const auto expect = [&](double& value, double stated, const std::string& name) {
      constexpr double step = 1e-6;  // truncation 1e-12, cancellation 1e-16 · 10 / 1e-6
      const double before = value;
      value = before + step;
      const double up = loss(false);
      value = before - step;
      const double down = loss(false);
      value = before;
      CHECK_MESSAGE(std::abs((up - down) / (2 * step) - stated) < 1e-7 * (1 + std::abs(stated)), name);
    };
    for (moue::index_t i = 0; i < weights.layout().tensors(); ++i)
      for (moue::index_t j = 0; into.live(i) && j < weights.layout()[i].size(); ++j)
        expect(weights[i].data[j], into[i].data[j], weights.layout()[i].name);
    for (std::size_t i = 0; i < x.size(); ++i) expect(x[i], dx_[i], "x");
  }

  void learns() {
    const double before = loss(true);
    for (moue::index_t i = 0; i < weights.layout().tensors(); ++i)
      for (moue::index_t j = 0; into.live(i) && j < weights.layout()[i].size(); ++j)
        weights[i].data[j] -= 1e-3 * into[i].data[j];
    CHECK(loss(false) < before);
  }

  /// The fewest and the most assignments that a token got anywhere.
  std::pair<moue::index_t, moue::index_t> assignments() {
    loss(false);
    std::pair<moue::index_t, moue::index_t> result{model_.experts(), 0};
    for (moue::index_t layer = 0; layer < model_.layers(); ++layer) {
      const auto selected = pass_.selected(layer);
      for (moue::index_t t = 0; t < tokens; ++t) {
        const moue::index_t count =
            std::count_if(selected.row(t).begin(), selected.row(t).end(), [](auto s) { return s >= 0; });
        result = {std::min(result.first, count), std::max(result.second, count)};
      }
    }
    return result;
  }

 private:
  static constexpr moue::index_t tokens = 7;

  matrix_view<double> view(std::vector<double>& v) const { return {v.data(), tokens, model_.width()}; }
  std::vector<double> noise(std::uint64_t key) const {
    std::vector<double> v(static_cast<std::size_t>(tokens * model_.width()));
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = moue::detail::normal_at(key, i);
    return v;
  }

  const MixtureT& model_;

 public:
  moue::parameters<double> weights;
  moue::gradients<double> into;

 private:
  moue::workspace scratch_;
  decltype(std::declval<const MixtureT&>().start(weights, moue::pass_options{}, scratch_)) pass_;
  std::vector<double> x, dx_, r_;
};

std::vector<std::int32_t> take(const top_p& stage, const std::vector<double>& scores) {
  std::vector<std::int32_t> ids(scores.size()), selected(scores.size());
  std::iota(ids.begin(), ids.end(), 0);
  selected.resize(
      static_cast<std::size_t>(stage(vector_view<const double>{scores.data(), std::ssize(scores)},
                                     {ids.data(), std::ssize(ids)}, {selected.data(), std::ssize(selected)})));
  return selected;
}

}  // namespace

TEST_CASE("policies of a user obey the laws") {
  obeys(moue::testing::check_topology_laws(overlapping_halves{4, 2}));
  obeys(moue::testing::check_expert_laws(tanh_expert{5}));
  obeys(moue::testing::check_expert_laws(diagonal_expert{5}));
  obeys(moue::testing::check_score_laws(prototype_score{}));
  obeys(moue::testing::check_select_laws(top_p{0.4}));
  obeys(moue::testing::check_select_laws(positive_top_k{3}));
  obeys(moue::testing::check_gate_laws(softplus_gate{}));
  obeys(moue::testing::check_balance_laws(entropy_loss{0.5}));
  obeys(moue::testing::check_balance_laws(evenness_loss{0.5}));
}

TEST_CASE("R16: top_p takes the fewest candidates whose mass exceeds P") {
  const std::vector<double> z{0.3, -1.2, 2.1, 0.9, -0.4};
  CHECK(take({0.2}, z) == std::vector<std::int32_t>{2});  // the best alone has 0.59
  CHECK(take({1.0}, z).size() == 5);
  std::size_t before = 1;
  for (int i = 0; i <= 20; ++i) {
    const double mass = 0.05 * i;
    const auto taken = take({mass}, z);
    CHECK(taken.size() >= before);
    before = taken.size();
    if (i % 4 != 0) CHECK(take({mass}, std::vector<double>(5, 1.0)).size() == static_cast<std::size_t>(mass * 5) + 1);
  }
}

TEST_CASE("a ragged selection, a plain backward and a token loss of a user work in a mixture") {
  const moue::mixture model{tanh_expert{4}, overlapping_halves{3, 2},
                            moue::router{prototype_score{}, top_p{0.6}, moue::softmax_then_select{}}, entropy_loss{0.3},
                            moue::cpu{2}};
  host trial(model);
  const auto [fewest, most] = trial.assignments();
  CHECK(fewest == 1);
  CHECK(most > 1);
  trial.agrees_with_central_differences();
  trial.learns();
}

TEST_CASE("a selection that may take nothing, a gated backward and a depth loss of a user work in a mixture") {
  const moue::mixture model{diagonal_expert{4}, overlapping_halves{2, 1},
                            moue::router{moue::linear_score{.deviation = 0.3}, positive_top_k{2}, softplus_gate{}},
                            evenness_loss{0.3}, moue::reference{}};
  host trial(model);
  const auto [fewest, most] = trial.assignments();
  CHECK(fewest == 0);
  CHECK(most == 2);
  trial.agrees_with_central_differences();
  trial.learns();
}

TEST_CASE("experts of a user share a pool with those of the library") {
  const moue::expert_pool pool{[](moue::index_t e) { return e % 3; }, tanh_expert{4}, diagonal_expert{4},
                               moue::swiglu{4, 3}};
  const moue::mixture model{pool, moue::always_on{overlapping_halves{2, 2}, 1}, moue::universal_router(2, {.rank = 3}),
                            moue::sum_of_losses{entropy_loss{0.3}, moue::universal_balance{0.2}}, moue::cpu{}};
  host trial(model);
  for (moue::index_t i = 0; i < trial.weights.layout().tensors();
       ++i)  // the trajectory map starts at zero, a special point
    if (trial.weights.layout()[i].name.ends_with("trajectory_map"))
      for (moue::index_t j = 0; j < 9; ++j)
        trial.weights[i].data[j] = 0.3 * moue::detail::normal_at(3, std::uint64_t(j));
  trial.agrees_with_central_differences();
  trial.learns();
}
