// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "message_of.hpp"
#include "moue/any/erase.hpp"
#include "moue/backend/cpu.hpp"
#include "moue/backend/reference.hpp"
#include "moue/pass.hpp"
#include "moue/policies.hpp"
#include "moue/testing/model_laws.hpp"
#include "seen_loss.hpp"

// Losses that look at whole layers, and gradients that a host adds. What holds of a pass with such a loss on any backend is
// in pass_laws, pass_resume and cuda_pass.

namespace {

using moue::index_t;
using numbers = std::vector<double>;

template <class LossT, class ExpertT, class B = moue::reference>
auto model_with(LossT loss, ExpertT expert, const B& backend = {}) {
  return moue::mixture{expert, moue::always_on{moue::shared_pool{.depth = 2, .pool = 4}, 1}, moue::linear_router(2),
                       loss, backend};
}

void right(const auto& model) {
  const auto report = moue::testing::check_gradients(model);
  CHECK_MESSAGE(bool(report), report.summary());
}

constexpr index_t tokens = 6, width = 4;

/// What a pass leaves behind if its host makes the gradients of a loss itself, or if the mixture has the loss.
struct trained {
  numbers dx, gradients;
  double balance = 0;
};
bool near(const numbers& a, const numbers& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return a.size() == b.size() && worst < 1e-14;
}

/// One layer's gradients as `seen_loss` makes them, by the host.
struct own_gradients {
  numbers logits, probabilities, gates, outputs;
  moue::routing_gradient<const double> view;

  own_gradients(const auto& pass, index_t layer, double scale) {
    const auto z = pass.logits(layer);
    const auto r = pass.assignments(layer);
    logits.resize(static_cast<std::size_t>(z.rows * z.cols));
    probabilities = logits;
    gates.resize(static_cast<std::size_t>(r.entries()));
    outputs.resize(gates.size() * width);
    numbers p = probabilities;
    for (index_t t = 0; t < tokens; ++t)
      moue::softmax_probability{}.forward(z.row(t), moue::vector_view<double>{p.data() + t * z.cols, z.cols});
    const std::vector<std::uint8_t> all(tokens, 1);
    moue::layer_frame<double> frame;
    frame.at.layer = layer;
    frame.batch.valid = {all.data(), tokens};
    frame.logits = z;
    frame.probabilities = {p.data(), tokens, z.cols};
    frame.assigned = r;
    frame.plan = pass.plan(layer);
    frame.outputs = pass.outputs(layer);
    const moue::routing_gradient<double> add{{logits.data(), tokens, z.cols},
                                             {probabilities.data(), tokens, z.cols},
                                             {gates.data(), r.entries()},
                                             {outputs.data(), r.entries(), width}};
    test::seen::gradient<double>{frame, {&scale, 1}, add, 1}(0);
    view = {add.logits, add.probabilities, add.gates, add.outputs};
  }
};

trained run(const auto& model, bool by_host, bool halves) {
  const auto weights = model.template initialize<double>(3);
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.template workspace_bytes<double>(options));
  auto pass = model.start(weights, options, scratch);
  moue::gradients<double> into(model.layout());
  numbers x(tokens * width), y = x;
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(double(i * i));
  trained result{numbers(x.size(), 0.5), {}};
  const moue::matrix_view<double> dx{result.dx.data(), tokens, width};
  pass.begin(tokens);
  for (index_t l = 0; l < 2; ++l) pass.forward(l, {x.data(), tokens, width}, {y.data(), tokens, width});
  result.balance = pass.balance();
  if (!by_host) pass.arm();
  for (index_t l = 2; l-- > 0;) {
    moue::routing_gradient<const double> also;
    if constexpr (moue::detail::sees_outputs<std::remove_cvref_t<decltype(model.loss())>>) {
      const own_gradients own(pass, l, 0.5);  // a loss is averaged over layers
      if (by_host) also = own.view;
      if (!halves) {
        pass.backward(l, dx, dx, into, also);
      } else {
        numbers dgates(static_cast<std::size_t>(pass.assignments(l).entries())), router = result.dx;
        pass.run_backward(l, dx, dx, {dgates.data(), std::ssize(dgates)}, into, also);
        pass.route_backward(l, {dgates.data(), std::ssize(dgates)}, {router.data(), tokens, width}, into, also);
        for (std::size_t i = 0; i < router.size(); ++i) result.dx[i] += router[i];
      }
    }
  }
  into.finish();
  for (index_t i = 0; i < into.layout().tensors(); ++i)
    for (index_t r = 0; r < into[i].rows; ++r)
      result.gradients.insert(result.gradients.end(), into[i].row(r).begin(), into[i].row(r).end());
  return result;
}

/// A layer loss that sees no outputs: the mean square of logits.
struct square_logits {
  template <class C>
  void layer_value(const auto& ops, const moue::layer_frame<C>& frame, moue::vector_view<C> value, const auto&) const {
    ops.each_row(1, [=](index_t) {
      value[0] = C(0);
      for (index_t t = 0; t < frame.logits.rows; ++t)
        for (const C z : frame.logits.row(t)) value[0] += frame.batch.valid[t] ? z * z : C(0);
    });
  }
  template <class C>
  void layer_gradient(const auto& ops, const moue::layer_frame<C>& frame, moue::vector_view<const C> scale,
                      const moue::routing_gradient<C>& add, const auto&) const {
    ops.each_element(frame.logits.rows, frame.logits.cols, [=](index_t t, index_t j) {
      if (frame.batch.valid[t]) add.logits(t, j) += 2 * scale[0] * frame.logits(t, j);
    });
  }
};

}  // namespace

TEST_CASE("gradients of layer losses are right, for experts of every form") {
  static_assert(moue::LayerLoss<test::seen_loss> && moue::LayerLoss<square_logits>);
  right(model_with(test::seen_loss{}, moue::swiglu{.width = width, .hidden = 3}));
  right(model_with(test::seen_loss{}, moue::copy_expert{.width = width}));
  right(model_with(test::seen_loss{}, moue::recomputed{moue::swiglu{.width = width, .hidden = 3}}));
  right(model_with(moue::sum_of_losses{moue::switch_loss{0.5}, test::seen_loss{0.3}, square_logits{}},
                   moue::mlp<moue::relu_squared>{.width = width, .hidden = 3}));
  right(model_with(square_logits{}, moue::swiglu{.width = width, .hidden = 3}));
}

TEST_CASE("a host may add the gradients that a layer loss would") {
  const moue::swiglu expert{.width = width, .hidden = 3};
  const auto own = run(model_with(test::seen_loss{}, expert), false, false);
  CHECK(own.balance > 0);
  const auto shown = model_with(moue::sum_of_losses{moue::switch_loss{0}, moue::show_outputs{}}, expert);
  for (const bool halves : {false, true}) {
    CAPTURE(halves);
    const auto host = run(shown, true, halves);
    CHECK(host.balance == 0);
    CHECK(near(host.dx, own.dx));
    CHECK(near(host.gradients, own.gradients));
    CHECK(!near(run(shown, false, halves).gradients, own.gradients));  // nobody added anything
    CHECK(near(run(model_with(test::seen_loss{}, expert, moue::cpu{2}), false, halves).gradients, own.gradients));
  }
}

TEST_CASE("what a host adds is checked") {
  const auto model = model_with(moue::no_balancing{}, moue::swiglu{.width = width, .hidden = 3});
  const auto weights = model.initialize<double>(3);
  const moue::pass_options options{.tokens = 2};
  moue::workspace scratch(model.workspace_bytes<double>(options));
  auto pass = model.start(weights, options, scratch);
  moue::gradients<double> into(model.layout());
  numbers x(2 * width, 0.5);
  const moue::matrix_view<double> rows{x.data(), 2, width};
  pass.begin(2);
  CHECK(contains(message_of([&] { pass.plan(0); }), "the plan of layer 0 were asked for when 0 layers"));
  for (index_t l = 0; l < 2; ++l) pass.forward(l, rows, rows);
  CHECK(pass.plan(0).rows() == 6);  // two of the router's and one always on, for each token
  numbers given(64);
  const auto refused = [&](const moue::routing_gradient<const double>& also) {
    return message_of([&] { pass.backward(1, rows, rows, into, also); });
  };
  CHECK(refused({.logits = {given.data(), 2, 5}}) ==
        "moue: pass: gradients of logits have shape [2, 5]; give [2, 4], or none");
  CHECK(refused({.logits = {nullptr, 2, 4}}) ==
        "moue: pass: gradients of logits have shape [2, 4], and are null; give [2, 4], or none");
  CHECK(refused({.gates = {given.data(), 5}}) ==
        "moue: pass: gradients of gates have shape [1, 5]; give [1, 6], or none");
  CHECK(
      refused({.probabilities = {given.data(), 2, 4}}) ==
      "moue: pass: gradients of probabilities were given to a mixture that computes none; give the mixture a balancing "
      "loss, if need be of weight 0");
  CHECK(
      refused({.outputs = {given.data(), 6, width}}) ==
      "moue: pass: gradients of outputs were given to a mixture that does not show them; add moue::show_outputs to its "
      "losses");
  pass.backward(1, rows, rows, into, {.logits = {given.data(), 2, 4}});

  const auto erased = moue::erase<double>(model);
  auto hidden = erased->start(weights, options, scratch);
  CHECK(contains(message_of([&] { hidden->outputs(0); }), "add moue::show_outputs to its losses"));
}

TEST_CASE("experts that ran elsewhere show no outputs, and the loss goes on without them") {
  const auto model = model_with(test::seen_loss{}, moue::swiglu{.width = width, .hidden = 3});
  const auto weights = model.initialize<double>(3);
  const moue::pass_options options{.tokens = 2};
  moue::workspace scratch(model.workspace_bytes<double>(options));
  auto pass = model.start(weights, options, scratch);
  moue::gradients<double> into(model.layout());
  numbers x(2 * width, 0.5), dgates(6, 0.25);
  const moue::matrix_view<double> rows{x.data(), 2, width};
  pass.begin(2);
  for (index_t l = 0; l < 2; ++l) pass.ran(l, pass.route(l, rows));
  CHECK(contains(message_of([&] { pass.outputs(0); }), "the outputs of layer 0, whose experts did not run here"));
  CHECK(pass.balance() > 0);
  pass.arm();
  for (index_t l = 2; l-- > 0;) pass.route_backward(l, {dgates.data(), 6}, rows, into);
  CHECK(into.live(0));
}
