// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Gradients that hold something, nothing yet, or are not wanted, and weights that may not be written.

#include "moue/gradients.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "moue/backend/reference.hpp"
#include "moue/balance/universal_balance.hpp"
#include "moue/expert/gated_mlp.hpp"
#include "moue/mixture.hpp"
#include "moue/pass.hpp"
#include "moue/router/preference.hpp"
#include "moue/topology/staggered_rotation.hpp"
#include "moue/train/adamw.hpp"
#include "moue/train/clip.hpp"
#include "moue/train/muon.hpp"

namespace {

constexpr moue::index_t tokens = 3;

/// Of seven experts at most six are reached. The preference's bias is a buffer.
const moue::mixture model{
    moue::gated_mlp<moue::silu, true>{6, 5}, moue::staggered_rotation{.depth = 3, .pool = 7, .window = 4, .stride = 2},
    moue::universal_router(1).with(moue::biased_sigmoid{}), moue::universal_balance{}, moue::reference{}};

/// A training step; what comes back is the gradient of the input.
std::vector<double> step(const moue::parameters<double>& weights, moue::gradients<double>& into) {
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.workspace_bytes<double>(options));
  auto pass = model.start(weights, options, scratch);
  std::vector<double> x(tokens * 6), dx(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = moue::detail::normal_at(1, i);
    dx[i] = moue::detail::normal_at(2, i);
  }
  const moue::matrix_view<double> rows{x.data(), tokens, 6}, back{dx.data(), tokens, 6};
  pass.begin(tokens);
  for (moue::index_t layer = 0; layer < model.layers(); ++layer) pass.forward(layer, rows, rows);
  pass.balance();
  for (moue::index_t layer = model.layers(); layer-- > 0;) pass.backward(layer, back, back, into);
  return dx;
}

bool same(const moue::matrix_view<const double>& a, const moue::matrix_view<const double>& b) {
  return a.rows == b.rows && a.cols == b.cols &&
         (a.empty() || std::memcmp(a.data, b.data, static_cast<std::size_t>(a.rows * a.cols) * sizeof(double)) == 0);
}

void spoil(moue::gradients<double>& g) {
  for (moue::index_t i = 0; i < g.layout().tensors(); ++i)
    for (moue::index_t j = 0; j < g[i].rows * g[i].cols; ++j) g[i].data[j] = std::nan("");
}

}  // namespace

TEST_CASE("after reset nobody reads what the memory holds") {
  const auto weights = model.initialize<double>(3);
  moue::gradients<double> fresh(model.layout()), used(model.layout());
  const auto dx = step(weights, fresh);
  spoil(used);
  used.reset();
  CHECK(step(weights, used) == dx);
  moue::index_t dead = 0;
  for (moue::index_t i = 0; i < model.layout()->tensors(); ++i) {
    CAPTURE((*model.layout())[i].name);
    REQUIRE(used.live(i) == fresh.live(i));
    if (used.live(i)) CHECK(same(std::as_const(used)[i], std::as_const(fresh)[i]));
    if (used.wanted(i) && !used.live(i)) ++dead;
  }
  CHECK(dead > 0);  // an expert that nobody reached
  CHECK(moue::gradient_norm(used) == moue::gradient_norm(fresh));
  CHECK(std::isfinite(moue::clip_gradients(used, 1e-3)));
  auto a = model.initialize<double>(3), b = model.initialize<double>(3);
  moue::clip_gradients(fresh, 1e-3);
  for (const bool skip : {true, false}) {
    moue::adamw one(a, {.skip_untouched = skip}), two(b, {.skip_untouched = skip});
    moue::muon three(a, {.skip_untouched = skip}), four(b, {.skip_untouched = skip});
    one.step(a, used, 0.1);
    two.step(b, fresh, 0.1);
    three.step(a, used, 0.1);
    four.step(b, fresh, 0.1);
  }
  for (moue::index_t i = 0; i < model.layout()->tensors(); ++i) CHECK(same(std::as_const(a)[i], std::as_const(b)[i]));
  used.finish();
  for (moue::index_t i = 0; i < model.layout()->tensors(); ++i)
    CHECK(same(std::as_const(used)[i], std::as_const(fresh)[i]));
}

TEST_CASE("later writes add, over layers and batches") {
  const auto weights = model.initialize<double>(3);
  moue::gradients<double> once(model.layout()), twice(model.layout());
  step(weights, once);
  spoil(twice);
  twice.reset();
  step(weights, twice);
  step(weights, twice);
  for (moue::index_t i = 0; i < model.layout()->tensors(); ++i)
    for (moue::index_t j = 0; once.live(i) && j < (*model.layout())[i].size(); ++j)
      CHECK(twice[i].data[j] == doctest::Approx(2 * once[i].data[j]).epsilon(1e-12));  // a few roundings
}

TEST_CASE("tensors that are not wanted have no memory, and the others get the same bits") {
  const auto weights = model.initialize<double>(3);
  moue::gradients<double> all(model.layout());
  const auto dx = step(weights, all);
  const auto frozen = [](const moue::tensor_info& info) { return info.expert == 3 || info.name.ends_with(".up"); };
  for (const bool routers_too : {false, true}) {
    moue::gradients<double> some(model.layout(), [&](const moue::tensor_info& info) {
      CHECK(info.trained);
      return !frozen(info) && !(routers_too && info.expert < 0);
    });
    CHECK(step(weights, some) == dx);
    auto changed = model.initialize<double>(3);
    moue::adamw(changed, {.skip_untouched = false}).step(changed, some, 0.1);
    for (moue::index_t i = 0; i < model.layout()->tensors(); ++i) {
      const auto& info = (*model.layout())[i];
      CAPTURE(info.name);
      const bool wanted = info.trained && !frozen(info) && !(routers_too && info.expert < 0);
      CHECK(some.wanted(i) == wanted);
      CHECK(some[i].empty() == !wanted);
      if (wanted && all.live(i)) CHECK(same(std::as_const(some)[i], std::as_const(all)[i]));
      if (!wanted) {
        CHECK_FALSE(some.live(i));
        CHECK(some.marks()[i] == 0);  // whoever reads the marks alone is not told of numbers that are not there
        CHECK(same(std::as_const(changed)[i], weights[i]));
      }
    }
  }
}

TEST_CASE("zero writes everywhere, whatever the memory held; finish only where nothing was written") {
  std::vector<double> memory(static_cast<std::size_t>(model.layout()->elements()), std::nan(""));
  std::vector<double*> tensors;
  for (const auto& info : *model.layout()) tensors.push_back(memory.data() + info.offset);
  moue::gradients<double> grads(model.layout(), tensors);
  CHECK_FALSE(grads.owned());
  const auto buffer = model.layout()->find("layers.0.router.selection_bias");
  CHECK_FALSE(grads.wanted(buffer));
  const auto up = model.layout()->find("experts.1.up");
  grads.set_live(up);
  CHECK(grads.touched(1));
  CHECK_FALSE(grads.touched(0));
  grads.finish();
  CHECK(std::isnan(grads[up](0, 0)));
  CHECK(grads["experts.0.up"](0, 0) == 0);
  CHECK_FALSE(grads.touched(0));
  spoil(grads);
  grads.zero();
  CHECK_FALSE(grads.touched(1));
  for (moue::index_t i = 0; i < model.layout()->tensors(); ++i)
    for (moue::index_t j = 0; j < grads[i].rows * grads[i].cols; ++j) REQUIRE(grads[i].data[j] == 0);
}

TEST_CASE("memory that two tensors would share is refused") {
  std::vector<double> memory(static_cast<std::size_t>(model.layout()->elements()));
  std::vector<double*> tensors;
  for (const auto& info : *model.layout()) tensors.push_back(memory.data() + info.offset);
  const auto a = static_cast<std::size_t>(model.layout()->find("experts.1.up")),
             b = static_cast<std::size_t>(model.layout()->find("experts.4.gate"));
  auto partly = tensors;
  partly[b] = tensors[a] + 29;
  CHECK_THROWS_WITH_AS(moue::gradients<double>(model.layout(), partly),
                       doctest::Contains("'experts.1.up' and 'experts.4.gate' share memory"), moue::error);
  partly[a] = nullptr;
  partly[b] = tensors[a];
  CHECK_NOTHROW(moue::gradients<double>{model.layout(), partly});
  moue::gradients<double> external(model.layout(), tensors);
  CHECK_THROWS_WITH_AS(moue::gradients<double>{external}, doctest::Contains("a copy of external memory"), moue::error);
}

TEST_CASE("what is empty or moved from is refused in words, everywhere") {
  const std::string words = "made without a layout, or moved from";
  const auto refused = [&](const auto& call) {
    CHECK_THROWS_WITH_AS(call(), doctest::Contains(words.c_str()), moue::error);
  };
  auto weights = model.initialize<double>(3);
  moue::gradients<double> grads(model.layout());
  moue::adamw optimiser(weights);
  moue::muon other(weights);
  const auto check = [&](moue::parameters<double>& none) {
    const moue::pass_options options{.tokens = tokens};
    moue::workspace scratch(model.workspace_bytes<double>(options));
    refused([&] { model.start(none, options, scratch); });
    refused([&] { moue::adamw{none}; });
    refused([&] { optimiser.step(none, grads, 0.1); });
    refused([&] { optimiser.adopt(none); });
    refused([&] { other.step(none, grads, 0.1); });
    refused([&] { moue::initialize(none, 1); });
    refused([&] { none[0]; });
    refused([&] { std::as_const(none)["x"]; });
    refused([&] { none.clone(); });
    refused([&] { none.alias(); });
    const auto copy = none;
    CHECK(copy.shared_layout() == nullptr);
  };
  moue::parameters<double> none;
  check(none);
  auto source = model.initialize<double>(3);
  const auto taken = std::move(source);
  check(source);  // NOLINT: what is left of it
  moue::gradients<double> given(model.layout());
  const auto moved = std::move(given);
  refused([&] { given.zero(); });  // NOLINT
  refused([&] { given.reset(); });
  refused([&] { given.live(0); });
  refused([&] { given[0]; });
  refused([&] { moue::clip_gradients(given, 1); });
  refused([&] { moue::gradient_norm(given); });
  refused([&] { optimiser.step(weights, given, 0.1); });
  refused([&] { step(weights, given); });
  refused([] { moue::gradients<double>(std::shared_ptr<const moue::parameter_layout>()); });
  refused([] { moue::parameters<double>(std::shared_ptr<const moue::parameter_layout>()); });
}

TEST_CASE("weights in read-only memory can be read, and nothing else") {
  const auto owned = model.initialize<double>(3);
  std::vector<const double*> tensors;
  for (moue::index_t i = 0; i < model.layout()->tensors(); ++i) tensors.push_back(owned[i].data);
  moue::parameters<double> weights(model.layout(), tensors);
  CHECK_FALSE(weights.writable(0));
  moue::gradients<double> a(model.layout()), b(model.layout());
  CHECK(step(weights, a) == step(owned, b));
  CHECK_THROWS_WITH_AS(weights["experts.2.up"], doctest::Contains("'experts.2.up' was to be changed"), moue::error);
  CHECK_THROWS_AS(moue::initialize(weights, 1), moue::error);
  moue::adamw optimiser(owned);
  CHECK_THROWS_WITH_AS(optimiser.step(weights, a, 0.1), doctest::Contains("lie in read-only memory"), moue::error);
  CHECK(optimiser.steps()[0] == 0);
  const auto fresh = model.initialize<double>(3);
  for (moue::index_t i = 0; i < model.layout()->tensors(); ++i) CHECK(same(owned[i], fresh[i]));
  CHECK(weights.clone().writable(0));
}

TEST_CASE("a tensor may be rebound while a pass lives") {
  const auto owned = model.initialize<double>(3), other = model.initialize<double>(4);
  std::vector<const double*> tensors;
  for (moue::index_t i = 0; i < model.layout()->tensors(); ++i) tensors.push_back(owned[i].data);
  moue::parameters<double> weights(model.layout(), tensors);
  const moue::pass_options options{.tokens = tokens, .how = moue::mode::inference};
  moue::workspace scratch(model.workspace_bytes<double>(options));
  auto pass = model.start(weights, options, scratch);
  const auto run = [&](auto& it) {
    std::vector<double> x(tokens * 6, 0.5);
    it.begin(tokens);
    for (moue::index_t layer = 0; layer < model.layers(); ++layer)
      it.forward(layer, {x.data(), tokens, 6}, {x.data(), tokens, 6});
    return x;
  };
  const auto before = run(pass);
  for (moue::index_t i = 0; i < model.layout()->tensors(); ++i) weights.rebind(i, other[i].data);
  moue::workspace more(model.workspace_bytes<double>(options));
  auto expected = model.start(other, options, more);
  CHECK(run(pass) == run(expected));
  CHECK(run(pass) != before);

  double number = 1;
  auto layout = std::make_shared<moue::parameter_layout>();
  layout->add("one", {.name = "", .cols = 1}, -1, -1);
  moue::parameters<double> small(layout, std::vector<const double*>{&number});
  small.rebind(0, &number);
  small[0](0, 0) = 2;
  CHECK(number == 2);
  CHECK_THROWS_WITH_AS(small.rebind(1, &number), doctest::Contains("tensor 1 of 1"), moue::error);
  CHECK_THROWS_WITH_AS(small.rebind(0, static_cast<double*>(nullptr)), doctest::Contains("'one' is null"), moue::error);
  moue::parameters<double> mine(layout);
  CHECK_THROWS_WITH_AS(mine.rebind(0, &number), doctest::Contains("owned memory"), moue::error);
}

TEST_CASE("layouts whose sizes overflow are refused, and integers are no storage") {
  moue::parameter_layout layout;
  const auto large = moue::index_t{1} << 32;
  CHECK_THROWS_WITH_AS(layout.add("x", {.name = "", .rows = large, .cols = large}, -1, -1),
                       doctest::Contains("the number of elements overflows"), moue::error);
  const auto most = std::numeric_limits<moue::index_t>::max() / 32;
  layout.add("a", {.name = "", .rows = 1, .cols = most}, -1, -1);
  layout.add("b", {.name = "", .rows = 1, .cols = most}, -1, -1);
  CHECK_THROWS_WITH_AS(layout.add("c", {.name = "", .rows = 1, .cols = most}, -1, -1), doctest::Contains("with 'c'"),
                       moue::error);
  CHECK(layout.tensors() == 2);
  CHECK_FALSE(moue::Storage<int>);
  CHECK_FALSE(moue::Storage<bool>);
  CHECK(moue::Storage<long double>);
}
