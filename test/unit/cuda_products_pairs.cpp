// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Two products that share a launch, compared with the same products one after the other.

#include <cstring>

#include "emulated_products.hpp"
#include "fake_blas.hpp"

namespace {

namespace gpu = test::gpu;

/// Two of everything that a product of one shape needs.
template <class S>
struct pair_trial {
  using C = moue::compute_t<S>;
  test::product_trial<S> trial;
  std::mt19937 random{9};
  test::shifted_matrix<C> x[2], y[2];
  std::vector<test::shifted_matrix<S>> w[2];
  std::vector<test::shifted_matrix<C>> dw[2];
  std::vector<void*> addresses[4];

  explicit pair_trial(const test::product_shape& shape)
      : trial(shape),
        x{trial.rows_of(shape.k, random), trial.rows_of(shape.k, random)},
        y{trial.rows_of(shape.n, random), trial.rows_of(shape.n, random)},
        w{trial.template matrices<S>(random), trial.template matrices<S>(random)},
        dw{trial.template matrices<C>(random), trial.template matrices<C>(random)} {
    for (std::size_t i = 0; i < 2; ++i) {
      for (auto& m : w[i]) addresses[i].push_back(m.view().data);
      for (auto& m : dw[i]) addresses[2 + i].push_back(m.view().data);
    }
  }
  moue::matrix_view<const C> in(test::shifted_matrix<C>& m) const { return m.view(); }
  moue::grouped_matrix<const S> weights(std::size_t i) const {
    return {addresses[i].data(), {}, trial.shape.n, trial.shape.k};
  }
  moue::grouped_matrix<C> gradients(std::size_t i) const {
    return {addresses[2 + i].data(), {}, trial.shape.n, trial.shape.k};
  }
};

/// Results of pairs and of single products that were given the same numbers.
template <class S>
void check(const test::product_shape& shape, const moue::product_choice& choice) {
  CAPTURE(shape.text());
  CAPTURE(choice.few_rows);
  using C = moue::compute_t<S>;
  const test::emulated_launches runtime{1, choice};
  pair_trial<S> together(shape), apart(shape);
  const auto groups = together.trial.segments();

  gpu::linear_pair(runtime, groups, together.in(together.x[0]), together.weights(0), together.weights(1),
                   together.y[0].view(), together.y[1].view());
  gpu::linear(runtime, groups, apart.in(apart.x[0]), apart.weights(0), apart.y[0].view());
  gpu::linear(runtime, groups, apart.in(apart.x[0]), apart.weights(1), apart.y[1].view());
  for (std::size_t i = 0; i < 2; ++i) CHECK(together.y[i].same_bits(apart.y[i]));

  gpu::weight_gradient_pair<S>(runtime, groups, together.in(together.y[0]), together.in(together.y[1]),
                               together.in(together.x[0]), together.gradients(0), together.gradients(1));
  for (std::size_t i = 0; i < 2; ++i)
    gpu::weight_gradient<S>(runtime, groups, apart.in(apart.y[i]), apart.in(apart.x[0]), apart.gradients(i));
  for (std::size_t i = 0; i < 2; ++i)
    for (std::size_t g = 0; g < shape.sizes.size(); ++g) CHECK(together.dw[i][g].same_bits(apart.dw[i][g]));

  gpu::input_gradient_pair(runtime, groups, together.in(together.y[0]), together.weights(0), together.in(together.y[1]),
                           together.weights(1), together.x[1].view());
  gpu::input_gradient(runtime, groups, apart.in(apart.y[0]), apart.weights(0), apart.x[1].view());
  gpu::input_gradient(runtime, groups, apart.in(apart.y[1]), apart.weights(1), apart.x[1].view(), moue::store::add);
  double worst = 0;
  for (std::size_t g = 0; g < shape.sizes.size(); ++g)
    for (moue::index_t row = together.trial.offsets[g]; row < together.trial.offsets[g + 1]; ++row)
      for (moue::index_t j = 0; j < shape.k; ++j) {
        const double a = together.x[1].view()(row, j), b = apart.x[1].view()(row, j);
        worst = std::max(worst, std::abs(a - b) / (1 + std::abs(b)));
      }
  // Sums of 2 n products of size about n each, in another order.
  CHECK(worst <= 4 * static_cast<double>(shape.n) * static_cast<double>(shape.n) * std::numeric_limits<C>::epsilon());
}

}  // namespace

TEST_CASE("two products in one launch are what they are in two") {
  const test::product_shape shape{.sizes = {3, 0, 37, 1}, .n = 70, .k = 45},
      whole{.sizes = {2, 40}, .n = 40, .k = 136, .padding = 8};
  for (const moue::index_t few : {0, 1000})
    for (const moue::index_t low : {0, 1000}) {
      const moue::product_choice choice{.few_rows = few, .low_tiles = low, .multiprocessors = 1};
      check<float>(shape, choice);
      check<moue::bf16>(shape, choice);
      check<moue::bf16>(whole, choice);
    }
}

TEST_CASE("two products through cuBLAS") {
  struct runtime_type : test::emulated_launches {
    test::fake_blas* fake = nullptr;
    const test::fake_blas& blas() const { return *fake; }
    void upload(const void* from, void* to, std::size_t bytes) const { std::memcpy(to, from, bytes); }
  };
  const test::product_shape shape{.sizes = {3, 0, 5}, .n = 7, .k = 4};
  test::fake_blas fake;
  runtime_type runtime;
  runtime.fake = &fake;
  runtime.chosen = {.few_rows = 0, .expert_blas = true, .blas_rows = 0};
  pair_trial<double> trial(shape);
  const auto allow = [&](auto& m) {
    fake.allow(m.view().data, static_cast<std::size_t>(m.view().rows * m.view().cols) * sizeof(double));
  };
  for (std::size_t i = 0; i < 2; ++i) {
    allow(trial.x[i]), allow(trial.y[i]);
    for (auto& m : trial.w[i]) allow(m);
    for (auto& m : trial.dw[i]) allow(m);
  }
  const gpu::host_groups host{trial.trial.offsets, {}, 0};
  auto groups = trial.trial.segments();
  groups.host = &host;
  const auto told = [](auto m) {
    m.on_host = m.of_expert;
    return m;
  };
  pair_trial<double> plain(shape);
  const test::emulated_launches own{1, {.few_rows = 0}};

  gpu::linear_pair(runtime, groups, trial.in(trial.x[0]), told(trial.weights(0)), told(trial.weights(1)),
                   trial.y[0].view(), trial.y[1].view());
  gpu::weight_gradient_pair(runtime, groups, trial.in(trial.y[0]), trial.in(trial.y[1]), trial.in(trial.x[0]),
                            told(trial.gradients(0)), told(trial.gradients(1)));
  gpu::input_gradient_pair(runtime, groups, trial.in(trial.y[0]), told(trial.weights(0)), trial.in(trial.y[1]),
                           told(trial.weights(1)), trial.x[1].view());
  CHECK(fake.calls == 12);
  gpu::linear_pair(own, groups, plain.in(plain.x[0]), plain.weights(0), plain.weights(1), plain.y[0].view(),
                   plain.y[1].view());
  gpu::weight_gradient_pair(own, groups, plain.in(plain.y[0]), plain.in(plain.y[1]), plain.in(plain.x[0]),
                            plain.gradients(0), plain.gradients(1));
  gpu::input_gradient_pair(own, groups, plain.in(plain.y[0]), plain.weights(0), plain.in(plain.y[1]), plain.weights(1),
                           plain.x[1].view());
  const auto same = [](auto& a, auto& b) {
    for (moue::index_t i = 0; i < a.view().rows; ++i)
      for (moue::index_t j = 0; j < a.view().cols; ++j)
        if (!std::isnan(b.view()(i, j)))  // rows past the groups
          CHECK(a.view()(i, j) == doctest::Approx(b.view()(i, j)).epsilon(1e-12));
  };
  for (std::size_t i = 0; i < 2; ++i) {
    same(trial.y[i], plain.y[i]);
    for (std::size_t g = 0; g < 3; ++g) same(trial.dw[i][g], plain.dw[i][g]);
  }
  same(trial.x[1], plain.x[1]);
}
