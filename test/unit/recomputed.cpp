// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Experts that keep nothing, compared with the same experts as they are.

#include <doctest/doctest.h>

#include <array>
#include <type_traits>

#include "moue/backend/reference.hpp"
#include "moue/policies.hpp"
#include "moue/testing/expert_laws.hpp"
#include "stack.hpp"

namespace {

template <class E>
void obeys_the_laws(const E& expert) {
  const auto report = moue::testing::check_expert_laws(expert);
  CHECK_MESSAGE(static_cast<bool>(report), report.summary());
}

/// y = 3 x, with the plain form of backward alone, which reads a saved copy of x.
struct triple {
  moue::index_t width = 1;
  auto parameters() const { return std::array<moue::parameter_spec, 0>{}; }
  auto saved() const { return std::array{width}; }
  auto temporaries() const { return std::array<moue::index_t, 0>{}; }
  template <class C, class X>
  struct scaled {
    X from;
    moue::matrix_view<C> to;
    C factor;
    void operator()(moue::index_t i, moue::index_t j) const { to(i, j) = factor * from(i, j); }
  };
  template <class C>
  void forward(const auto& ops, const auto&, const auto& x, const auto& saved, const auto&,
               moue::matrix_view<C> y) const {
    ops.each_element(x.rows, width, scaled<C, std::remove_cvref_t<decltype(x)>>{x, saved[0], C(1)});
    ops.each_element(x.rows, width, scaled<C, std::remove_cvref_t<decltype(x)>>{x, y, C(3)});
  }
  template <class C>
  void backward(const auto& ops, const auto&, const auto&, const auto&, const auto&, moue::matrix_view<const C> dy,
                moue::matrix_view<C> dx, const auto&) const {
    ops.each_element(dy.rows, width, scaled<C, decltype(dy)>{dy, dx, C(3)});
  }
};

auto stack_of(auto expert) {
  return moue::mixture{std::move(expert), moue::staggered_rotation{.depth = 3, .pool = 5, .window = 3, .stride = 2},
                       moue::universal_router(2), moue::universal_balance{}, moue::reference{}};
}

}  // namespace

TEST_CASE("recomputed experts obey the laws, whichever backward the inner one has") {
  obeys_the_laws(moue::recomputed{moue::swiglu{6, 5}});
  obeys_the_laws(moue::recomputed{moue::mlp<moue::gelu, true>{6, 5}});
  obeys_the_laws(moue::recomputed{triple{6}});
  obeys_the_laws(moue::recomputed{moue::copy_expert{6}});
  obeys_the_laws(moue::recomputed{moue::self_gated{moue::swiglu{6, 5}}});
}

TEST_CASE("they have the same tensors, keep nothing, and give the same bits") {
  const moue::swiglu expert{.width = 8, .hidden = 12};
  const auto plain = stack_of(expert);
  const auto again = stack_of(moue::recomputed{expert});
  CHECK(plain.layout()->same_shapes(*again.layout()));
  CHECK(moue::recomputed{expert}.saved().empty());

  const auto here = test::erase<double>(plain), there = test::erase<double>(again);
  const auto weights = test::random_weights(*here, 3);
  const auto input = test::random_input(*here, 20, 4);
  const auto expected = test::run_stack(*here, weights, input), result = test::run_stack(*there, weights, input);
  CHECK(test::same_bits(result.output, expected.output));
  CHECK(test::same_bits(result.dx, expected.dx));
  CHECK(test::same_bits(result.gradients, expected.gradients));
}

TEST_CASE("many layers need less memory") {
  const auto bytes = [](auto expert) {
    const moue::mixture model{std::move(expert), moue::shared_pool{.depth = 12, .pool = 4}, moue::linear_router(2),
                              moue::no_balancing{}, moue::reference{}};
    return model.template workspace_bytes<float>({.tokens = 100});
  };
  const moue::swiglu expert{.width = 32, .hidden = 64};
  const std::size_t saved = 12 * 100 * 2 * (64 + 64) * sizeof(float);  // layers, tokens, k, gate and up
  const std::size_t scratch = 100 * 2 * (64 + 64 + 32) * sizeof(float);
  CHECK(bytes(moue::recomputed{expert}) < bytes(expert) - saved + scratch + 4096);  // alignment
}
