// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "stack.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <stdexcept>

namespace test {

double noise(std::uint64_t seed, moue::index_t position) {
  return moue::detail::normal_at(moue::detail::mix(seed), static_cast<std::uint64_t>(position));
}

std::vector<double> noise_vector(std::uint64_t seed, moue::index_t size, double deviation) {
  std::vector<double> result(static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < result.size(); ++i) result[i] = deviation * noise(seed, static_cast<moue::index_t>(i));
  return result;
}

template <moue::Storage S>
moue::parameters<S> random_weights(const any_model<S>& model, std::uint64_t seed) {
  moue::parameters<S> weights(model.layout());
  for (moue::index_t i = 0; i < weights.layout().tensors(); ++i) {
    const auto& info = weights.layout()[i];
    const bool temperature = info.name.ends_with("temperature");
    const double deviation = temperature ? 0.2 : 1 / std::sqrt(static_cast<double>(info.cols));
    for (moue::index_t j = 0; j < info.size(); ++j)
      weights[i].data[j] =
          S(static_cast<moue::compute_t<S>>((temperature ? 1 : 0) + deviation * noise(seed + 1000 * (i + 1), j)));
  }
  return weights;
}

template <moue::Storage S>
stack_input<S> random_input(const any_model<S>& model, moue::index_t tokens, std::uint64_t seed) {
  using C = moue::compute_t<S>;
  stack_input<S> input;
  input.tokens = tokens;
  const auto x = noise_vector(seed + 1, tokens * model.width());
  const auto loss_weight = noise_vector(seed + 2, tokens * model.width());
  input.x = std::vector<C>(x.begin(), x.end());
  input.loss_weight = std::vector<C>(loss_weight.begin(), loss_weight.end());
  return input;
}

namespace {

constexpr double epsilon = 1e-6;  // of the host's RMS norm

template <class C>
C inverse_rms(const C* x, moue::index_t width) {
  C sum = 0;
  for (moue::index_t j = 0; j < width; ++j) sum += x[j] * x[j];
  return C(1) / std::sqrt(sum / C(width) + C(epsilon));
}

template <class To, class From>
std::vector<To> convert(const std::vector<From>& from) {
  std::vector<To> to;
  to.reserve(from.size());
  for (const From v : from) to.push_back(static_cast<To>(v));
  return to;
}

}  // namespace

template <moue::Storage S>
stack_result<moue::compute_t<S>> run_stack(const any_model<S>& model, const moue::parameters<S>& weights,
                                           const stack_input<S>& input, moue::mode how) {
  using C = moue::compute_t<S>;
  const moue::index_t tokens = input.tokens, width = model.width(), layers = model.layers();
  const auto size = static_cast<std::size_t>(tokens * width);
  const bool apart = !input.shift.empty(), norm = !input.scale.empty();
  const moue::pass_options options{.tokens = tokens, .how = how, .router_input = apart};
  moue::workspace scratch(model.workspace_bytes(options));
  const auto pass = model.start(weights, options, scratch);
  const auto view = [&](auto& v) { return moue::matrix_view(v.data(), tokens, width); };

  stack_result<C> result(model.layout());
  std::vector<std::vector<C>> entered;  // x on entry to each layer
  std::vector<C> x = input.x;
  std::vector<S> y(size);
  pass->begin(tokens, {.valid = {input.valid.data(), static_cast<moue::index_t>(input.valid.size())}});
  for (moue::index_t l = 0; l < layers; ++l) {
    entered.push_back(x);
    std::vector<C> u = x;
    if (norm)
      for (moue::index_t t = 0; t < tokens; ++t) {
        const C r = inverse_rms(&x[static_cast<std::size_t>(t * width)], width);
        for (moue::index_t j = 0; j < width; ++j)
          u[static_cast<std::size_t>(t * width + j)] *= r * input.scale[static_cast<std::size_t>(l * width + j)];
      }
    std::vector<C> v = u;
    if (apart)
      for (std::size_t i = 0; i < size; ++i)
        v[i] += input.shift[static_cast<std::size_t>(l * width) + i % static_cast<std::size_t>(width)];
    const std::vector<S> for_router = convert<S>(u), for_experts = convert<S>(v);
    pass->forward(l, {view(for_experts), apart ? view(for_router) : moue::matrix_view<const S>{}}, view(y));

    visit_trace<C> trace;
    trace.u = u;
    trace.y = convert<C>(y);
    trace.logits = to_vector(pass->logits(l));
    trace.selected = to_vector(pass->selected(l));
    const auto given = pass->assignments(l);
    trace.experts.assign(given.expert.begin(), given.expert.end());
    trace.gates.assign(given.gate.begin(), given.gate.end());
    if (how == moue::mode::training) trace.state = to_vector(pass->state(l));
    result.visits.push_back(std::move(trace));
    for (std::size_t i = 0; i < size; ++i) x[i] += static_cast<C>(y[i]);
  }
  result.last_state = to_vector(pass->state(layers));
  result.balance = pass->balance();
  if (how == moue::mode::training) pass->arm();
  const auto statistics = pass->statistics();
  result.share.assign(statistics.share.begin(), statistics.share.end());
  result.probability.assign(statistics.probability.begin(), statistics.probability.end());
  result.output = x;
  result.loss = result.balance;
  for (std::size_t i = 0; i < size; ++i) result.loss += x[i] * input.loss_weight[i];
  if (how == moue::mode::inference) return result;

  std::vector<C> dx = input.loss_weight;
  std::vector<S> dv(size), du_router(size);
  result.dscale.assign(input.scale.size(), C(0));
  result.dshift.assign(input.shift.size(), C(0));
  for (moue::index_t l = layers; l-- > 0;) {
    const std::vector<S> dy = convert<S>(dx);
    pass->backward(l, view(dy), {view(dv), apart ? view(du_router) : moue::matrix_view<S>{}}, result.gradients);
    for (moue::index_t t = 0; t < tokens; ++t) {
      const auto at = [&](moue::index_t j) { return static_cast<std::size_t>(t * width + j); };
      const auto in_layer = [&](moue::index_t j) { return static_cast<std::size_t>(l * width + j); };
      const C* in = entered[static_cast<std::size_t>(l)].data() + t * width;
      const C r = norm ? inverse_rms(in, width) : C(1);
      C along = 0;
      std::vector<C> du(static_cast<std::size_t>(width));
      for (moue::index_t j = 0; j < width; ++j) {
        C& d = du[static_cast<std::size_t>(j)];
        d = static_cast<C>(dv[at(j)]);
        if (apart) {
          result.dshift[in_layer(j)] += d;
          d += static_cast<C>(du_router[at(j)]);
        }
        if (norm) {
          result.dscale[in_layer(j)] += d * in[j] * r;
          d *= input.scale[in_layer(j)];
          along += d * in[j];
        }
      }
      for (moue::index_t j = 0; j < width; ++j)
        dx[at(j)] += r * du[static_cast<std::size_t>(j)] - (norm ? along * r * r * r / C(width) * in[j] : C(0));
    }
  }
  result.dx = dx;
  return result;
}

disagreement compare_with_differences(const any_model<double>& model, moue::parameters<double> weights,
                                      stack_input<double> input) {
  // With a loss of order 100 and a step of 1e-5, rounding and curvature each leave about 1e-9 in a difference.
  constexpr double step = 1e-5, least_scale = 1e-2;
  const auto base = run_stack(model, weights, input);
  disagreement worst;
  const auto check = [&](const std::string& where, double* values, const double* gradient, moue::index_t size) {
    double scale = least_scale;
    for (moue::index_t j = 0; j < size; ++j) scale = std::max(scale, std::abs(gradient[j]));
    const auto loss_at = [&](double& place, double value) {
      const double saved = place;
      place = value;
      const auto moved = run_stack(model, weights, input, moue::mode::inference);
      place = saved;
      for (std::size_t l = 0; l < moved.visits.size(); ++l)
        if (moved.visits[l].selected != base.visits[l].selected)
          throw std::logic_error("a difference in " + where + " moved a selection: choose another seed");
      return moved.loss;
    };
    for (moue::index_t j = 0; j < size; ++j) {
      const double center = values[j];
      const double difference = (loss_at(values[j], center + step) - loss_at(values[j], center - step)) / (2 * step);
      const double error = std::abs(difference - gradient[j]) / scale;
      if (!(error <= worst.error)) worst = {error, where + "[" + std::to_string(j) + "]"};
    }
  };
  for (moue::index_t i = 0; i < weights.layout().tensors(); ++i) {
    const auto& info = weights.layout()[i];
    if (info.trained) check(info.name, weights[i].data, base.gradients[i].data, info.size());
  }
  check("x", input.x.data(), base.dx.data(), static_cast<moue::index_t>(input.x.size()));
  check("scale", input.scale.data(), base.dscale.data(), static_cast<moue::index_t>(input.scale.size()));
  check("shift", input.shift.data(), base.dshift.data(), static_cast<moue::index_t>(input.shift.size()));
  return worst;
}

double distance(const moue::gradients<double>& a, const moue::gradients<double>& b) {
  double worst = a.layout().same_shapes(b.layout()) ? 0 : std::numeric_limits<double>::infinity();
  for (moue::index_t i = 0; i < a.layout().tensors(); ++i)
    worst = std::max(worst, distance(to_vector(a[i]), to_vector(b[i])));
  return worst;
}

#define MOUE_TEST_INSTANTIATE(S)                                                                          \
  template moue::parameters<S> random_weights<S>(const any_model<S>&, std::uint64_t);                     \
  template stack_input<S> random_input<S>(const any_model<S>&, moue::index_t, std::uint64_t);             \
  template stack_result<moue::compute_t<S>> run_stack<S>(const any_model<S>&, const moue::parameters<S>&, \
                                                         const stack_input<S>&, moue::mode);
MOUE_TEST_INSTANTIATE(double)
MOUE_TEST_INSTANTIATE(float)
MOUE_TEST_INSTANTIATE(moue::bf16)
MOUE_TEST_INSTANTIATE(moue::half)
#undef MOUE_TEST_INSTANTIATE

}  // namespace test
