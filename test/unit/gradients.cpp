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
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "moue/backend/reference.hpp"
#include "moue/policies.hpp"
#include "moue/train/adamw.hpp"
#include "moue/train/clip.hpp"
#include "moue/train/muon.hpp"
#include "whole.hpp"

namespace {

/// Multiplications of the products that give gradients of weights.
struct product_count {
  moue::index_t of_weights = 0;
};

struct counting_operations : moue::reference_operations {
  product_count* count;

  explicit counting_operations(product_count* to) : count(to) {}
  template <class C>
  void weight_gradient(const auto& dy, const auto& x, const moue::matrix_view<C>& dw,
                       moue::store mode = moue::store::add) const {
    count->of_weights += x.rows * dw.rows * dw.cols;
    reference_operations::weight_gradient(dy, x, dw, mode);
  }
  template <class C>
  void weight_gradient(const auto& dy, const auto& x, const moue::gradient_target<C>& dw) const {
    moue::detail::write_target(
        dw, [&](const moue::matrix_view<C>& to, moue::store mode) { weight_gradient(dy, x, to, mode); });
  }
};

/// The reference backend, which counts what it multiplies.
struct counting : moue::reference {
  product_count* count = nullptr;

  template <class C>
  counting_operations operations(moue::matrix_view<C>) const {
    return counting_operations(count);
  }
  template <class S, class C, class Body>
  void each_block(const moue::dispatch_plan& plan, moue::index_t entries, moue::vector_view<const std::int32_t> kinds,
                  moue::index_t number, const moue::block_scratch<C>& scratch, const Body& body) const {
    reference::each_block<S>(
        plan, entries, kinds, number, scratch, [&](const auto&, moue::index_t kind, const moue::plan_block& at) {
          body(moue::block_operations<counting_operations, C>(counting_operations(count), plan, at,
                                                              plan.row_expert[at.first], scratch.gathered),
               kind, at);
        });
  }
};

product_count products;
const test::model_pointer<double> erased = test::erase<double>(test::whole_mixture(counting{{}, &products}));
const test::any_model<double>& model = *erased;

/// A training step of the whole composition, with padding and an armed balance; what comes back is the gradient of the
/// input. So few tokens are valid that some expert is not reached.
std::vector<double> step(const moue::parameters<double>& weights, moue::gradients<double>& into,
                         moue::routing_counts<double>* counts = nullptr) {
  test::whole_host host(model);
  host.valid = {0, 1, 0, 0, 0, 0, 0, 0, 0};
  const test::placed_pass pass(host, {}, weights);
  host.forward(*pass);
  if (counts != nullptr) *counts = pass->counts();
  pass->arm();
  products = {};
  host.backward(*pass, into);
  return host.dx;
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
  const auto weights = test::random_weights(model, 3);
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
  auto a = test::random_weights(model, 3), b = test::random_weights(model, 3);
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
  const auto weights = test::random_weights(model, 3);
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

TEST_CASE("tensors that are not wanted have no memory, cost no product, and the others get the same bits") {
  const auto weights = test::random_weights(model, 3);
  moue::gradients<double> all(model.layout());
  moue::routing_counts<double> counts;
  const auto dx = step(weights, all, &counts);
  const auto products_of_all = products.of_weights;
  std::size_t reached = 0;
  while (counts.load[reached] == 0) ++reached;
  const moue::index_t frozen_expert = model.connections().candidates(0)[reached];
  const auto check = [&](const auto& frozen) {
    moue::gradients<double> some(model.layout(), [&](const moue::tensor_info& info) {
      CHECK(info.trained);
      return !frozen(info);
    });
    CHECK(step(weights, some) == dx);
    auto changed = test::random_weights(model, 3);
    moue::adamw(changed, {.skip_untouched = false}).step(changed, some, 0.1);
    const double* end = nullptr;  // of the memory of the tensor before
    moue::index_t without_memory = 0;
    for (moue::index_t i = 0; i < model.layout()->tensors(); ++i) {
      const auto& info = (*model.layout())[i];
      CAPTURE(info.name);
      const bool wanted = info.trained && !frozen(info);
      CHECK(some.wanted(i) == wanted);
      CHECK(some[i].empty() == !wanted);
      if (wanted && all.live(i)) CHECK(same(std::as_const(some)[i], std::as_const(all)[i]));
      if (wanted) {
        CHECK((end == nullptr || some[i].data == end));  // nothing lies between two wanted tensors
        end = some[i].data + info.size();
      } else {
        ++without_memory;
        CHECK_FALSE(some.live(i));
        CHECK(some.marks()[i] == 0);  // whoever reads the marks alone is not told of numbers that are not there
        CHECK(same(std::as_const(changed)[i], weights[i]));
      }
    }
    CHECK(without_memory > 0);
    return products.of_weights;
  };
  const auto is_buffer = [](const moue::tensor_info& info) { return !info.trained; };
  CHECK(check(is_buffer) == products_of_all);
  // gate, up and down of an expert: 6 * 5 multiplications each for every row
  std::int64_t rows = 0;
  for (moue::index_t l = 0; l < model.layers(); ++l)
    rows += counts.rows[static_cast<std::size_t>(l * model.experts() + frozen_expert)];
  CHECK(rows > 0);
  CHECK(products_of_all - check([&](const auto& info) { return info.expert == frozen_expert; }) == 3 * 30 * rows);
  const auto all_rows = std::accumulate(counts.rows.begin(), counts.rows.end(), std::int64_t{0});
  CHECK(products_of_all - check([](const auto& info) { return info.name.ends_with(".up"); }) == 30 * all_rows);
  const auto of_routers = check([](const auto& info) { return info.expert >= 0; });
  CHECK(products_of_all - of_routers == 3 * 30 * all_rows);
  CHECK(of_routers > 0);
  CHECK(check([](const auto& info) { return info.expert < 0; }) == 3 * 30 * all_rows);
  CHECK(check([](const auto&) { return true; }) == 0);
}

TEST_CASE("a tensor that is declared untrained costs no product") {
  struct untrained_up : moue::swiglu {
    auto parameters() const {
      auto specs = moue::swiglu::parameters();
      for (auto& spec : specs) spec.trained = spec.name != "up";
      return specs;
    }
  };
  const auto products_of = [](const auto& expert) {
    const moue::mixture small{expert, moue::shared_pool{1, 3}, moue::linear_router(3), moue::no_balancing{},
                              counting{{}, &products}};
    const auto weights = small.template initialize<double>(1);
    const moue::pass_options options{.tokens = 4};
    moue::workspace block(small.template workspace_bytes<double>(options));
    auto pass = small.start(weights, options, block);
    moue::gradients<double> grads(small.layout());
    auto x = test::noise_vector(1, 4 * 6);
    const moue::matrix_view<double> rows{x.data(), 4, 6};
    pass.begin(4);
    pass.forward(0, rows, rows);
    products = {};
    pass.backward(0, rows, rows, grads);
    return products.of_weights;
  };
  const moue::swiglu all{.width = 6, .hidden = 5};
  const moue::index_t of_router = 4 * 3 * 6, of_tensor = 3 * 4 * 5 * 6;
  CHECK(products_of(all) == of_router + 3 * of_tensor);
  CHECK(products_of(untrained_up{all}) == of_router + 2 * of_tensor);
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
  auto weights = test::random_weights(model, 3);
  moue::gradients<double> grads(model.layout());
  moue::adamw optimiser(weights);
  moue::muon other(weights);
  const auto check = [&](moue::parameters<double>& none) {
    const moue::pass_options options{.tokens = 3};
    moue::workspace scratch(model.workspace_bytes(options));
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
  auto source = test::random_weights(model, 3);
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
  const auto owned = test::random_weights(model, 3);
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
  const auto fresh = test::random_weights(model, 3);
  for (moue::index_t i = 0; i < model.layout()->tensors(); ++i) CHECK(same(owned[i], fresh[i]));
  CHECK(weights.clone().writable(0));
}

TEST_CASE("a tensor may be rebound while a pass lives") {
  const auto owned = test::random_weights(model, 3), other = test::random_weights(model, 4);
  std::vector<const double*> tensors;
  for (moue::index_t i = 0; i < model.layout()->tensors(); ++i) tensors.push_back(owned[i].data);
  moue::parameters<double> weights(model.layout(), tensors);
  test::whole_host host(model);
  const moue::pass_options options{.how = moue::mode::inference};
  const test::placed_pass pass(host, options, weights), expected(host, options, other);
  const auto run = [&](const test::placed_pass& it) {
    host.forward(*it);
    return host.entered.back();
  };
  const auto before = run(pass);
  for (moue::index_t i = 0; i < model.layout()->tensors(); ++i) weights.rebind(i, other[i].data);
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
