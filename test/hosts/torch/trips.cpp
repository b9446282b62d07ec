// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include <torch/autograd.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adam.h>
#include <torch/serialize.h>
#include <torch/utils.h>

#include <moue/adapt/torch.hpp>
#include <sstream>
#include <vector>

#include "models.hpp"
#include "reference.hpp"

// Last: glog, which Debian's torch includes, has a macro CHECK as well.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

namespace {

constexpr int64_t tokens = 11, width = 8;
// Both sum the same products of numbers near 1 in fp64, in other orders.
constexpr double rounding = 1e-12;

at::Tensor input(int64_t rows, uint64_t seed = 1) {
  torch::manual_seed(seed);
  return at::randn({rows, width}, at::kDouble);
}

std::shared_ptr<moue::torch_mixture<double>> make_module() {
  torch::manual_seed(5);
  auto module = std::make_shared<moue::torch_mixture<double>>(make_model<double>("universal"), 3);
  torch::NoGradGuard raw;
  for (auto& p : module->parameters()) p.add_(0.3 * at::randn_like(p));  // maps begin at zero
  return module;
}

/// A residual stack with work of the host between the layers. What the losses read.
struct outputs {
  at::Tensor y, balance, state;
};
outputs run(auto& trip, moue::index_t layers, torch::nn::Linear& between, at::Tensor h) {
  for (moue::index_t layer = 0; layer < layers; ++layer) h = h + trip.forward(layer, at::tanh(between->forward(h)));
  return {h, trip.balance(), trip.state()};
}

std::vector<at::Tensor> gradients(const at::Tensor& loss, std::vector<at::Tensor> by) {
  return torch::autograd::grad({loss}, by, {}, true, false, true);
}

double apart(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  double most = a.size() == b.size() ? 0 : 1e9;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!a[i].defined() && !b[i].defined()) continue;
    const auto zero = a[i].defined() ? at::zeros_like(a[i]) : at::zeros_like(b[i]);
    const auto difference = (a[i].defined() ? a[i] : zero) - (b[i].defined() ? b[i] : zero);
    most = (std::max)(most, difference.abs().max().item<double>());
  }
  return most;
}

}  // namespace

TEST_CASE("gradients are those of torch's own operations") {
  const auto module = make_module();
  torch::nn::Linear between(width, width);
  between->to(at::kDouble);
  const auto x = input(tokens).requires_grad_();
  auto by = module->parameters();
  for (auto& p : between->parameters()) by.push_back(p);
  by.push_back(x);

  auto trip = module->start({.tokens = tokens});
  reference other(module->model(), module->parameters(), tokens);
  const auto ours = run(trip, 3, between, x), theirs = run(other, 3, between, x);
  CHECK((ours.y - theirs.y).abs().max().item<double>() < rounding);
  CHECK((ours.balance - theirs.balance).abs().item<double>() < rounding);
  CHECK((ours.state - theirs.state).abs().max().item<double>() < rounding);

  const auto losses = [](const outputs& of) {
    return std::vector<at::Tensor>{of.y.square().sum(), of.balance, of.state.sum(),
                                   of.y.sum() + 3 * of.balance + of.state.square().sum()};
  };
  const auto a = losses(ours), b = losses(theirs);
  for (std::size_t i = 0; i < a.size(); ++i) {
    CAPTURE(i);
    const auto of_ours = gradients(a[i], by), of_theirs = gradients(b[i], by);
    CHECK(apart(of_ours, of_theirs) < rounding);
    CHECK(apart(of_ours, gradients(a[i], by)) == 0);  // retained
    CHECK(of_ours.back().abs().max().item<double>() > 1e6 * rounding);
  }
}

TEST_CASE("experts alone are a function with gradients") {
  const auto experts = make_experts<double>();
  const auto x = input(tokens).requires_grad_();
  const auto gates = at::rand({tokens, 2}, at::kDouble).requires_grad_();
  const auto ids = at::randint(0, 4, {tokens, 2}, at::kLong);  // nobody goes to the last
  std::vector<at::Tensor> weights;
  for (const auto& info : experts.layout())
    weights.push_back(at::randn({info.rows, info.cols}, at::kDouble).requires_grad_());

  auto y = at::zeros_like(x);
  for (int64_t e = 0; e < 5; ++e) {
    const auto* of = &weights[static_cast<std::size_t>(3 * e)];
    const auto hidden = at::silu(at::matmul(x, of[0].t())) * at::matmul(x, of[1].t());
    const auto gate = (gates * ids.eq(e).to(at::kDouble)).sum(1, true);
    y = y + gate * at::matmul(hidden, of[2].t());
  }
  const auto ours = experts(x, ids, gates, weights);
  CHECK((ours - y).abs().max().item<double>() < rounding);
  std::vector<at::Tensor> by = weights;
  by.push_back(x);
  by.push_back(gates);
  const auto of_ours = gradients(ours.square().sum(), by);
  CHECK(apart(of_ours, gradients(y.square().sum(), by)) < 100 * rounding);  // outputs near 100
  CHECK(!of_ours[12].defined());
}

TEST_CASE("a module's parameters are the library's weights") {
  const auto module = make_module();
  const auto names = module->named_parameters();
  CHECK(names.contains("layers_0_router_weight"));
  const auto weights = module->weights();
  for (moue::index_t i = 0; i < weights.layout().tensors(); ++i)
    CHECK(weights[i].data == module->parameters()[static_cast<std::size_t>(i)].data_ptr<double>());
  moue::torch_mixture<double> fresh(make_model<double>("universal"), 3);
  auto initial = make_model<double>("universal")->initialize(3);
  const auto filled = fresh.weights();
  CHECK(filled["experts.1.up"](2, 3) == initial["experts.1.up"](2, 3));
}

TEST_CASE("a module is saved, loaded and trained") {
  const auto module = make_module();
  const auto x = input(64);
  torch::optim::Adam optimiser(module->parameters(), 1e-2);
  const auto loss_of = [&](const moue::torch_mixture<double>& of) {
    auto trip = of.start({.tokens = 64});
    auto h = x;
    for (moue::index_t layer = 0; layer < 3; ++layer) h = h + trip.forward(layer, h);
    return (h - x.abs()).square().mean() + trip.balance();
  };
  const double first = loss_of(*module).item<double>();
  for (int step = 0; step < 100; ++step) {
    optimiser.zero_grad();
    loss_of(*module).backward();
    optimiser.step();
  }
  const auto last = loss_of(*module);
  CHECK(last.item<double>() < first / 2);

  std::stringstream file;
  torch::serialize::OutputArchive out;
  module->save(out);
  out.save_to(file);
  moue::torch_mixture<double> loaded(make_model<double>("universal"));
  torch::serialize::InputArchive in;
  in.load_from(file);
  loaded.load(in);
  CHECK(loss_of(loaded).item<double>() == last.item<double>());

  loaded.to(at::kFloat);
  CHECK_THROWS_WITH_AS(loss_of(loaded), doctest::Contains("has dtype Float; give one of Double"), moue::error);
}

TEST_CASE("what is refused comes out of torch's own threads") {
  const auto module = make_module();
  auto trip = module->start({.tokens = tokens});
  const auto x = input(tokens).requires_grad_();
  const auto y = trip.forward(0, x);
  CHECK_THROWS_WITH_AS(torch::autograd::grad({y.sum()}, {x}, {}, true, true), doctest::Contains("create_graph"),
                       moue::error);
  {
    torch::NoGradGuard raw;
    module->parameters()[0].mul_(2);
  }
  CHECK_THROWS_WITH_AS(y.sum().backward(), doctest::Contains("was changed since forward read it"), moue::error);
}

TEST_CASE("nothing is left of a trip") {
  const auto model = make_model<double>("universal");
  const auto owners = model.use_count();
  for (const bool back : {false, true}) {
    moue::torch_mixture<double> module(model);
    const auto x = input(tokens).requires_grad_();
    auto trip = module.start({.tokens = tokens});
    const auto y = trip.forward(0, x);
    const auto loss = y.sum() + trip.balance();
    if (back) loss.backward({}, true);
    CHECK(model.use_count() > owners);
  }
  CHECK(model.use_count() == owners);
}

TEST_CASE("what a batch brings reaches the router") {
  moue::torch_mixture<double> module(make_model<double>("told"), 3);
  const auto x = input(tokens);
  const auto y = [&](moue::torch_batch batch) {
    batch.tokens = tokens;
    return module.start(batch).forward(0, x).detach();
  };
  const auto plain = y({.how = {.step = 2, .seed = 5}});
  CHECK(plain.equal(y({.how = {.step = 2, .seed = 5}})));
  CHECK_FALSE(plain.equal(y({.how = {.step = 3, .seed = 5}})));
  CHECK_FALSE(plain.equal(y({.how = {.step = 2, .seed = 6}})));
  CHECK_FALSE(plain.equal(y({.side = at::ones({tokens, 1}), .how = {.step = 2, .seed = 5}})));
  const auto given = y({.sequences = at::tensor({0, 4, 11}, at::kLong), .how = {.step = 2, .seed = 5}});
  CHECK(plain.slice(0, 0, 4).equal(given.slice(0, 0, 4)));
  CHECK_FALSE(plain.slice(0, 4).equal(given.slice(0, 4)));
  CHECK_THROWS_WITH(y({.side = at::ones({3, 1})}), doctest::Contains("side has shape [3, 1]"));
  // Picked up on the way back, the layer is routed by the same noise: the gradient of x is that of finite differences.
  const auto leaf = x.clone().requires_grad_();
  auto trip = module.start({.tokens = tokens, .how = {.step = 2, .seed = 5}});
  const auto dx = gradients(trip.forward(0, leaf).pow(2).sum(), {leaf})[0];
  const auto shift = 1e-6 * at::ones_like(x);
  const auto at_shift = [&](double sign) {
    return module.start({.tokens = tokens, .how = {.step = 2, .seed = 5}}).forward(0, x + sign * shift).pow(2).sum();
  };
  const double slope = ((at_shift(1) - at_shift(-1)) / 2e-6).item<double>();
  CHECK(slope == doctest::Approx(dx.sum().item<double>()).epsilon(1e-6));
}
