// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// What is handed to cuBLAS: every argument, looked at by a fake that computes what it was asked for.

#include "emulated_products.hpp"
#include "fake_blas.hpp"

namespace {

namespace gpu = test::gpu;

/// Launches, scratch memory and a fake in place of cuBLAS.
struct blas_runtime : test::emulated_launches {
  std::shared_ptr<test::fake_blas> fake = std::make_shared<test::fake_blas>();
  std::shared_ptr<std::vector<std::byte>> memory;

  explicit blas_runtime(bool expert_blas = true, std::size_t bytes = 1 << 20)
      : memory(std::make_shared<std::vector<std::byte>>(bytes)) {
    chosen.expert_blas = expert_blas;
    chosen.blas_rows = 1;
    chosen.few_rows = 0;
    fake->allow(*memory);
  }
  const test::fake_blas& blas() const { return *fake; }
  std::span<std::byte> scratch() const { return *memory; }
};

/// The groups of a trial, with a copy for the host.
struct known_groups {
  gpu::host_groups host;
  gpu::segments segments;

  template <class S>
  explicit known_groups(const test::product_trial<S>& trial, bool tell = true) : segments(trial.segments()) {
    host = {trial.offsets, trial.shape.kinds, 1};
    if (tell) segments.host = &host;
  }
};

template <class T>
gpu::weight_table<T> told(gpu::weight_table<T> w) {
  w.on_host = w.of_group;
  return w;
}
template <class T>
void allow_matrix(test::fake_blas& fake, const moue::matrix_view<T>& m) {
  if (m.rows > 0) fake.allow(m.data, static_cast<std::size_t>((m.rows - 1) * m.stride + m.cols) * sizeof(T));
}
template <class T>
void allow_table(test::fake_blas& fake, const gpu::weight_table<T>& w, std::size_t groups) {
  const auto bytes = [&](moue::index_t stride) {
    return static_cast<std::size_t>((w.rows - 1) * stride + w.cols) * sizeof(T);
  };
  if (w.of_group == nullptr) return fake.allow(w.dense, bytes(w.stride));
  for (std::size_t g = 0; g < groups; ++g)
    if (w.of_group[g] != nullptr) fake.allow(w.of_group[g], bytes(w.cols));
}

/// All three products of a shape; R: what activations are rounded to.
template <class S, class R>
void check(const test::product_shape& shape) {
  const test::product_trial<S> trial(shape);
  const blas_runtime runtime;
  const auto rows = [&](auto transposed) {
    return [&runtime, &trial](const auto&, auto x, const auto& w, auto y, auto mode) {
      const known_groups groups(trial);
      allow_matrix(*runtime.fake, x), allow_matrix(*runtime.fake, y);
      allow_table(*runtime.fake, w, trial.shape.sizes.size());
      gpu::products::rows(runtime, gpu::one_product<decltype(transposed)::value>(groups.segments, x, told(w), y, mode));
    };
  };
  trial.template check_both_modes<false, R>(rows(std::false_type()));
  trial.template check_both_modes<true, R>(rows(std::true_type()));
  trial.template check_gradient<R>([&](const auto&, auto dy, auto x, const auto& dw) {
    const known_groups groups(trial);
    allow_matrix(*runtime.fake, dy), allow_matrix(*runtime.fake, x);
    allow_table(*runtime.fake, dw, trial.shape.sizes.size());
    CHECK(gpu::gradient_by_blas<S>(runtime, runtime.choice(), gpu::one_gradient(groups.segments, dy, x, told(dw))));
  });
  CHECK((runtime.fake->calls > 0) == (trial.offsets.back() > 0));
}

}  // namespace

TEST_CASE("experts one by one, and dense products") {
  for (const auto& shape : test::product_shapes()) {
    check<float, void>(shape);
    check<double, void>(shape);
    if (shape.dense) continue;  // a router's activations keep their type, which cuBLAS does not mix with another
    check<moue::bf16, moue::bf16>(shape);
    check<moue::half, moue::half>(shape);
  }
}

TEST_CASE("arguments, by hand") {
  float x[6] = {}, w[8] = {}, y[12] = {};
  const moue::matrix_view<const float> in{x, 3, 2}, weights{w, 4, 2};
  const moue::matrix_view<float> out{y, 3, 4};
  const auto forward = gpu::rows_call(in, weights, out, moue::store::add, false);
  CHECK(forward.m == 4);
  CHECK(forward.n == 3);
  CHECK(forward.k == 2);
  CHECK(forward.a.data == w);
  CHECK(forward.a.transposed);
  CHECK(forward.a.leading == 2);
  CHECK(forward.b.data == x);
  CHECK(!forward.b.transposed);
  CHECK(forward.c_leading == 4);
  CHECK(forward.mode == moue::store::add);
  const auto gradient = gpu::gradient_call(moue::matrix_view<const float>(out), in, moue::matrix_view<float>{w, 4, 2});
  CHECK(gradient.m == 2);
  CHECK(gradient.n == 4);
  CHECK(gradient.k == 3);
  CHECK(gradient.a.data == x);
  CHECK(gradient.b.data == y);
  CHECK(gradient.b.transposed);
  CHECK(gradient.b.leading == 4);
}

TEST_CASE("factors whose rows overlap or run backwards") {
  constexpr moue::index_t n = 7, k = 5;
  std::mt19937 random(8);
  std::normal_distribution<double> normal;
  const auto drawn = [&](moue::index_t size) {
    std::vector<double> numbers(static_cast<std::size_t>(size));
    for (auto& x : numbers) x = normal(random);
    return numbers;
  };
  for (const moue::index_t few_rows : {0, 8})
    for (const moue::index_t rows : {1, 6})
      for (const moue::index_t stride : {0, 1, -1, -5, -9, 9}) {
        CAPTURE(few_rows);
        CAPTURE(rows);
        CAPTURE(stride);
        blas_runtime runtime;
        runtime.chosen.few_rows = few_rows;
        const auto memory = drawn((rows - 1) * std::abs(stride) + n), other = drawn(rows * n), weights = drawn(n * k);
        const double* const first = memory.data() + (stride < 0 ? (1 - rows) * stride : 0);
        const moue::matrix_view<const double> wide{first, rows, n, stride}, narrow{first, rows, k, stride},
            packed{other.data(), rows, n}, w{weights.data(), n, k};
        std::vector<double> y[3], expected[3];
        for (auto* const results : {y, expected}) {
          results[0].resize(static_cast<std::size_t>(rows * n));
          results[1].resize(static_cast<std::size_t>(rows * k));
          results[2].resize(static_cast<std::size_t>(n * k));
        }
        const auto compute = [&](auto& to, const auto& linear, const auto& input_gradient,
                                 const auto& weight_gradient) {
          linear(narrow, w, moue::matrix_view<double>{to[0].data(), rows, n});
          input_gradient(wide, w, moue::matrix_view<double>{to[1].data(), rows, k});
          weight_gradient(packed, narrow, moue::matrix_view<double>{to[2].data(), n, k});
          weight_gradient(wide, narrow, moue::matrix_view<double>{to[2].data(), n, k});
        };
        for (const auto* const numbers : {&memory, &other, &weights}) runtime.fake->allow(*numbers);
        for (const auto& numbers : y) runtime.fake->allow(numbers);
        const auto groups = gpu::one_segment(rows);
        compute(
            y, [&](auto... factors) { gpu::linear(runtime, groups, factors...); },
            [&](auto... factors) { gpu::input_gradient(runtime, groups, factors...); },
            [&](auto... factors) { gpu::weight_gradient(runtime, groups, factors...); });
        const moue::reference_operations host;
        compute(
            expected, [&](auto... factors) { host.linear(factors...); },
            [&](auto... factors) { host.input_gradient(factors...); },
            [&](auto... factors) { host.weight_gradient(factors...); });
        for (int i = 0; i < 3; ++i) {
          CAPTURE(i);
          for (std::size_t j = 0; j < y[i].size(); ++j)
            CHECK(y[i][j] == doctest::Approx(expected[i][j]).epsilon(1e-13));  // sums in another order
        }
        const std::size_t of_rows = few_rows > 0 ? 0 : 2;  // cuBLAS gets what it can compute
        CHECK(runtime.fake->calls == (rows == 1 || stride == 9 ? of_rows + 2 : 0));
      }
}

TEST_CASE("without what it takes, the backend's own kernels run") {
  const test::product_trial<float> trial({.sizes = {3, 5}, .n = 4, .k = 6});
  const auto calls = [&](bool expert_blas, bool tell_rows, bool tell_weights) {
    const blas_runtime runtime(expert_blas);
    trial.check_rows<false, void>(
        [&](const auto&, auto x, const auto& w, auto y, auto mode) {
          const known_groups groups(trial, tell_rows);
          allow_matrix(*runtime.fake, x), allow_matrix(*runtime.fake, y);
          allow_table(*runtime.fake, w, 2);
          gpu::products::rows(runtime,
                              gpu::one_product<false>(groups.segments, x, tell_weights ? told(w) : w, y, mode));
        },
        moue::store::assign);
    return runtime.fake->calls;
  };
  CHECK(calls(true, true, true) == 2);
  CHECK(calls(false, true, true) == 0);
  CHECK(calls(true, false, true) == 0);
  CHECK(calls(true, true, false) == 0);
}

TEST_CASE("the fake refuses what cuBLAS would") {
  test::fake_blas fake;
  std::vector<float> a(6), b(6), c(4);
  fake.allow(a), fake.allow(b), fake.allow(c);
  const gpu::gemm_call good{2,
                            2,
                            3,
                            {a.data(), 2, false},
                            {b.data(), 3, false},
                            gpu::number::float32,
                            c.data(),
                            2,
                            gpu::number::float32,
                            moue::store::assign,
                            false};
  CHECK_NOTHROW(fake.gemm(good));
  const auto spoilt = [&](auto spoil) {
    auto call = good;
    spoil(call);
    CHECK_THROWS_AS(fake.gemm(call), test::blas_misuse);
  };
  spoilt([](auto& call) { call.a.leading = 1; });
  spoilt([](auto& call) { call.a.leading = 3; });  // past the end
  spoilt([](auto& call) { call.a.transposed = true; });
  spoilt([](auto& call) { call.b.data = nullptr; });
  spoilt([&](auto& call) { call.b.data = b.data() + 1; });
  spoilt([&](auto& call) { call.c = reinterpret_cast<char*>(c.data()) + 2; });
  spoilt([](auto& call) { call.c_leading = 1; });
  spoilt([](auto& call) { call.m = 0; });
  spoilt([](auto& call) { call.factors = gpu::number::float64; });
  spoilt([](auto& call) { call.factors = gpu::number::bf16, call.tf32 = true; });
}
