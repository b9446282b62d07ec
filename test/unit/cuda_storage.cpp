// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Numbers stored in 16 bits, and a pass whose weights, gradients and workspace the backend's own classes hold.

#include "emulated.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "carried.hpp"
#include "moue/policies.hpp"
#include "moue/train/adamw.hpp"
#include "stored.hpp"

// Without tensor cores a layer's arithmetic is not rounded to 16 bits: its output would be off by several roundoffs. Three
// layers round their inputs, outputs and gradients, and each amplifies what came before: a few roundoffs in all.
TEST_CASE("16-bit weights and activations on the CUDA backend") {
  const test::emulated plain(1, moue::product_choice{.tensor_cores = false});
  test::check_against_double(test::stored_as<moue::bf16>(plain), 0x1p-8, 8 * 0x1p-8);
  test::check_against_double(test::stored_as<moue::half>(plain), 0x1p-11, 8 * 0x1p-11);
  test::check_against_double(test::stored_as<float>(plain), 0x1p-24, 1e-5);
}

// With them, factors are rounded as well, those of half's weight gradients to bf16: sums of some dozen terms are off by
// about a roundoff of the largest.
TEST_CASE("16-bit weights and activations in tensor cores") {
  test::check_against_double(test::stored_as<moue::bf16>(test::emulated()), 0x1p-8, 8 * 0x1p-8, test::inside::rounded);
  test::check_against_double(test::stored_as<moue::half>(test::emulated()), 0x1p-11, 1e-2, test::inside::rounded);
}

namespace {

const test::recipe& everything = test::everything;

template <class Backend>
auto mixture_on(const Backend& backend) {
  return moue::mixture{moue::swiglu{everything.width, everything.hidden}, everything.ring, moue::universal_router(2),
                       moue::universal_balance{}, backend};
}

struct step_result {
  std::vector<float> y, dx;
  float balance = 0;
  std::unique_ptr<moue::gradients<float>> gradients;
};

step_result step_on_host(const moue::parameters<float>& weights, const std::vector<float>& x, moue::index_t tokens) {
  const auto model = mixture_on(moue::reference{});
  step_result result{x, x, 0, std::make_unique<moue::gradients<float>>(model.layout())};
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.workspace_bytes<float>(options));
  auto pass = model.start(weights, options, scratch);
  const moue::matrix_view<float> y{result.y.data(), tokens, model.width()}, dx{result.dx.data(), tokens, model.width()};
  pass.begin(tokens);
  for (moue::index_t layer = 0; layer < model.layers(); ++layer) pass.forward(layer, y, y);
  result.balance = pass.balance();
  for (moue::index_t layer = model.layers(); layer-- > 0;) pass.backward(layer, dx, dx, *result.gradients);
  return result;
}

void check_near(const step_result& result, const step_result& expected) {
  CHECK(test::distance(result.y, expected.y) < 1e-5);
  CHECK(test::distance(result.dx, expected.dx) < 1e-5);
  CHECK(result.balance == doctest::Approx(expected.balance).epsilon(1e-5));
  for (moue::index_t i = 0; i < expected.gradients->layout().tensors(); ++i)
    CHECK(test::distance(test::to_vector(std::as_const(*result.gradients)[i]),
                         test::to_vector(std::as_const(*expected.gradients)[i])) < 1e-5);
  for (moue::index_t e = 0; e < expected.gradients->layout().experts(); ++e)
    CHECK(result.gradients->touched(e) == expected.gradients->touched(e));
}

}  // namespace

TEST_CASE("a training step in memory of the backend; steps after the first allocate nothing there") {
  const test::emulated gpu;
  const auto model = mixture_on(gpu);
  const moue::index_t tokens = 21, size = tokens * model.width();
  const auto host = model.initialize<float>(3);
  const auto numbers = test::noise_vector(4, size);
  const std::vector<float> x(numbers.begin(), numbers.end());
  const auto expected = step_on_host(host, x, tokens);

  const auto weights = gpu.make_parameters(host);
  auto gradients = gpu.make_gradients<float>(model.layout());
  const moue::pass_options options{.tokens = tokens};
  auto scratch = gpu.make_workspace(model.workspace_bytes<float>(options));
  auto pass = model.start(weights, options, scratch);
  const auto y = gpu.make_array<float>(size), dx = gpu.make_array<float>(size);
  const auto step = [&] {
    y.upload(x);
    dx.upload(x);
    gradients.reset();
    pass.begin(tokens);
    const auto rows = y.view(tokens, model.width()), drows = dx.view(tokens, model.width());
    for (moue::index_t layer = 0; layer < model.layers(); ++layer) pass.forward(layer, rows, rows);
    const float balance = pass.balance();
    for (moue::index_t layer = model.layers(); layer-- > 0;) pass.backward(layer, drows, drows, gradients);
    step_result result{y.download(), dx.download(), balance, std::make_unique<moue::gradients<float>>(model.layout())};
    gradients.copy_to(*result.gradients);
    return result;
  };
  const auto first = step();
  check_near(first, expected);
  const auto allocations = gpu.runtime().allocations();
  const auto second = step();
  CHECK(gpu.runtime().allocations() == allocations);
  CHECK(test::same_bits(second.y, first.y));
  CHECK(test::same_bits(*second.gradients, *first.gradients));

  moue::parameters<float> back(model.layout());
  weights.copy_to(back);
  for (moue::index_t i = 0; i < back.layout().tensors(); ++i)
    CHECK(test::same_bits(test::to_vector(std::as_const(back)[i]), test::to_vector(host[i])));
}

TEST_CASE("an executor takes ids and gates from the caller, on the device") {
  const test::emulated gpu;
  const moue::mlp<moue::silu> expert{6, 5};
  const moue::executor experts(expert, 7, gpu);
  const moue::index_t tokens = 4, entries = 7;
  const std::vector<moue::index_t> offsets{0, 2, 2, 5, 7};
  const std::vector<std::int32_t> ids{6, 0, 3, -1, 1, 0, 99};
  const std::vector<double> gates{0.5, 1, -2, 7, 0.25, 1, 3}, x = test::noise_vector(5, tokens * 6);
  moue::parameters<double> host(experts.layout());
  moue::initialize(host, 1);

  const auto there = [&](const auto& values) {
    using T = typename std::remove_cvref_t<decltype(values)>::value_type;
    auto result = gpu.make_array<T>(std::ssize(values));
    result.upload(values);
    return result;
  };
  const auto weights = gpu.make_parameters(host);
  const auto in = there(x), out = there(x), gate = there(gates);
  const auto id = there(ids);
  const auto offset = there(offsets);
  auto scratch = gpu.make_workspace(experts.workspace_bytes<double>(tokens, entries));
  auto memory = experts.carve<double>(scratch, tokens, entries);
  const moue::routing<double> given{offset.view(), id.view(), gate.view()};
  experts.forward(given, weights, in.view(tokens, 6), out.view(tokens, 6), memory);
  const auto y = out.download();

  const moue::executor plain(expert, 7, moue::reference{});
  auto valid_ids = ids;
  valid_ids.back() = -1;  // what the host would have thrown at
  moue::workspace host_scratch(plain.workspace_bytes<double>(tokens, entries));
  auto host_memory = plain.carve<double>(host_scratch, tokens, entries);
  std::vector<double> expected(x.size());
  plain.forward(moue::routing<double>{{offsets.data(), 5}, {valid_ids.data(), entries}, {gates.data(), entries}}, host,
                moue::matrix_view<const double>{x.data(), tokens, 6},
                moue::matrix_view<double>{expected.data(), tokens, 6}, host_memory);
  CHECK(test::distance(y, expected) < 1e-13);
  CHECK(gpu.refused_entries(memory.record.plan) == 1);
}

TEST_CASE("memory of the backend moves, and copies only what fits") {
  const test::emulated_open gpu;
  auto a = gpu.make_array<int>(3);
  a.upload(std::vector<int>{1, 2, 3});
  auto b = std::move(a);
  CHECK(b.download() == std::vector<int>{1, 2, 3});
  a = gpu.make_array<int>(2);
  a.zero();
  b = std::move(a);
  CHECK(b.download() == std::vector<int>{0, 0});
  CHECK(gpu.make_array<int>(0).download().empty());
  CHECK_THROWS_WITH_AS(b.upload(std::vector<int>(3)), doctest::Contains("copy no more than there are"), moue::error);
  CHECK_THROWS_WITH_AS(b.view(2, 2), doctest::Contains("2 elements were viewed as [2, 2]"), moue::error);

  const auto model = mixture_on(gpu);
  auto weights = gpu.make_parameters<float>(model.layout());
  moue::parameters<float> host(model.layout());
  host[0].data[0] = 7;
  weights.copy_to(host);
  CHECK(host[0].data[0] == 0);
  CHECK(!weights.owned());
  for (moue::index_t i = 0; i < model.layout()->tensors(); ++i)
    CHECK(reinterpret_cast<std::uintptr_t>(weights[i].data) % 256 == 0);
  const moue::mixture other{moue::copy_expert{everything.width}, moue::layer_local{.depth = 1, .per_layer = 2},
                            moue::linear_router(1), moue::no_balancing{}, gpu};
  moue::parameters<float> stranger(other.layout());
  CHECK_THROWS_WITH_AS(weights.copy_to(stranger), doctest::Contains("tensors of two layouts were copied"), moue::error);
  CHECK_THROWS_WITH_AS(weights.copy_from(stranger), doctest::Contains("tensors of two layouts were copied"),
                       moue::error);
}

TEST_CASE("memory of the host, and none at all, is refused with a way out") {
  const test::emulated gpu;
  const auto model = mixture_on(gpu);
  const moue::pass_options options{.tokens = 2};
  const auto host = model.initialize<float>(3);
  auto weights = gpu.make_parameters(host);
  auto gradients = gpu.make_gradients<float>(model.layout());
  auto scratch = gpu.make_workspace(model.workspace_bytes<float>(options));
  moue::workspace host_scratch(model.workspace_bytes<float>(options));
  CHECK_THROWS_WITH_AS(model.start(host, options, scratch),
                       doctest::Contains("the weights own memory of the host, which this backend cannot reach"),
                       moue::error);
  CHECK_THROWS_WITH_AS(model.start(weights, options, host_scratch), doctest::Contains("make_workspace"), moue::error);

  auto pass = model.start(weights, options, scratch);
  const auto rows = gpu.make_array<float>(2 * model.width());
  const auto x = rows.view(2, model.width());
  rows.zero();
  pass.begin(2);
  for (moue::index_t layer = 0; layer < model.layers(); ++layer) pass.forward(layer, x, x);
  moue::gradients<float> host_gradients(model.layout());
  CHECK_THROWS_WITH_AS(pass.backward(model.layers() - 1, x, x, host_gradients), doctest::Contains("make_gradients"),
                       moue::error);

  moue::parameters<float> none;
  CHECK_THROWS_WITH_AS(gpu.make_parameters(none), doctest::Contains("the weights are empty"), moue::error);
  CHECK_THROWS_WITH_AS(weights.copy_to(none), doctest::Contains("the weights are empty"), moue::error);

  auto memory = gpu.make_workspace(moue::adamw<float>::workspace_bytes(*model.layout()));
  moue::parameters<float>& values = weights;
  const moue::gradients<float>& changes = gradients;
  moue::adamw<float> optimiser(gpu, values, changes, memory, {});
  CHECK_THROWS_WITH_AS(
      optimiser.step(gpu.operations(moue::matrix_view<float>{}), values, changes, moue::vector_view<const double>{}),
      doctest::Contains("the learning rate is a list of 0 numbers, or null"), moue::error);
}
