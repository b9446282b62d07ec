// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Gradients of groups on the emulated device: of groups that hold numbers, hold nothing, or are not wanted, which only
// the device knows.

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "emulated_products.hpp"
#include "moue/backend/reference.hpp"
#include "stack_compare.hpp"

namespace {

namespace gpu = test::gpu;

constexpr moue::index_t groups = 5, rows = 9, n = 10, k = 24;

/// Group 1 has no rows, group 3 no memory; groups 2 and 4 hold numbers, the others rubbish.
template <class C>
struct grouped_trial {
  std::array<moue::index_t, groups + 1> offsets{0, 2, 2, 5, 6, rows};
  std::array<std::uint8_t, groups> marks{0, 0, 1, 0, 1};
  std::vector<std::vector<C>> values;
  std::array<void*, groups> pointers, mark_pointers;
  bool written = false;

  explicit grouped_trial(moue::index_t size) {
    for (std::size_t g = 0; g < groups; ++g) {
      values.emplace_back(static_cast<std::size_t>(size), marks[g] != 0 ? C(2) : C(NAN));
      pointers[g] = g == 3 ? nullptr : values[g].data();
      mark_pointers[g] = &marks[g];
    }
  }
  gpu::segments segments() const { return {offsets.data(), groups, nullptr, 0, rows}; }
  moue::grouped_target<C> target(moue::index_t r, moue::index_t c) {
    return {{pointers.data(), {}, r, c, pointers.data()}, mark_pointers.data(), &written};
  }
  /// After `times` products that each add `sum(first, rows, out)`.
  template <class Sum>
  void check(int times, const Sum& sum) const {
    for (std::size_t g = 0; g < groups; ++g) {
      const moue::index_t first = offsets[g], count = offsets[g + 1] - first;
      std::vector<C> expected(values[g].size(), marks[g] != 0 ? C(2) : C(0));
      for (int time = 0; time < times; ++time) sum(first, count, expected.data());
      for (std::size_t i = 0; i < expected.size(); ++i)
        if (g == 3 || count == 0)
          CHECK(std::isnan(values[g][i]));
        else
          CHECK(values[g][i] == doctest::Approx(expected[i]).epsilon(1e-5));  // sums of up to 3 products of size 1
    }
  }
};

template <class C>
std::vector<C> noise(std::uint64_t key, moue::index_t size) {
  const auto numbers = test::noise_vector(key, size);
  return {numbers.begin(), numbers.end()};
}

template <class C>
void check_products() {
  const test::emulated_launches runtime;
  const auto x = noise<C>(1, rows * k), dy = noise<C>(2, rows * n), dy1 = noise<C>(3, rows * n);
  const moue::matrix_view<const C> in{x.data(), rows, k}, out{dy.data(), rows, n}, out1{dy1.data(), rows, n};
  const auto product = [&](const moue::matrix_view<const C>& d) {
    return [&](moue::index_t first, moue::index_t count, C* to) {
      moue::reference_operations{}.weight_gradient(d.row_block(first, count), in.row_block(first, count),
                                                   moue::matrix_view<C>{to, n, k});
    };
  };
  grouped_trial<C> single(n * k), left(n * k), right(n * k), sums(n);
  for (const int times : {1, 2}) {
    gpu::weight_gradient(runtime, single.segments(), out, in, single.target(n, k));
    CHECK(single.written);
    single.check(times, product(out));
    gpu::weight_gradient_pair(runtime, left.segments(), out, out1, in, left.target(n, k), right.target(n, k));
    left.check(times, product(out));
    right.check(times, product(out1));
    gpu::column_sum(runtime, sums.segments(), out, sums.target(1, n));
    CHECK(sums.written);
    sums.check(times, [&](moue::index_t first, moue::index_t count, C* to) {
      moue::reference_operations{}.column_sum(out.row_block(first, count), moue::matrix_view<C>{to, 1, n});
    });
  }
  // One of a pair, or nobody, is wanted.
  grouped_trial<C> alone(n * k), nobody(n * k);
  gpu::weight_gradient_pair(runtime, alone.segments(), out, out1, in, moue::grouped_target<C>{}, alone.target(n, k));
  alone.check(1, product(out1));
  gpu::weight_gradient_pair(runtime, alone.segments(), out, out1, in, moue::grouped_target<C>{},
                            moue::grouped_target<C>{});
  alone.check(1, product(out1));
}

}  // namespace

TEST_CASE("the first product of a group assigns, later ones add, and groups without memory are left out") {
  check_products<double>();
  check_products<float>();
}

TEST_CASE("a dense product assigns by its mark, from no rows too") {
  const test::emulated_launches runtime;
  const auto x = noise<double>(1, 4 * k), dy = noise<double>(2, 4 * n);
  for (const std::uint8_t mark : {std::uint8_t{0}, std::uint8_t{1}})
    for (const moue::index_t count : {4, 0}) {
      CAPTURE(count);
      const moue::matrix_view<const double> in{x.data(), count, k}, out{dy.data(), count, n};
      std::vector<double> dw(n * k, mark != 0 ? 2.0 : NAN), sum(n, mark != 0 ? 2.0 : NAN);
      std::vector<double> expected_dw(n * k, mark != 0 ? 2.0 : 0.0), expected_sum(n, mark != 0 ? 2.0 : 0.0);
      bool first = false, second = false;
      gpu::weight_gradient(runtime, gpu::one_segment(count), out, in,
                           moue::gradient_target<double>({dw.data(), n, k}, &mark, &first));
      gpu::column_sum(runtime, gpu::one_segment(count), out,
                      moue::gradient_target<double>({sum.data(), 1, n}, &mark, &second));
      CHECK(first);
      CHECK(second);
      moue::reference_operations{}.weight_gradient(out, in, moue::matrix_view<double>{expected_dw.data(), n, k});
      moue::reference_operations{}.column_sum(out, moue::matrix_view<double>{expected_sum.data(), 1, n});
      CHECK(test::distance(dw, expected_dw) < 1e-13);
      CHECK(test::distance(sum, expected_sum) < 1e-13);
    }
}

TEST_CASE("an explicit mode of plain matrices") {
  const test::emulated_launches runtime;
  const auto x = noise<double>(1, 4 * k), dy = noise<double>(2, 4 * n);
  const moue::matrix_view<const double> in{x.data(), 4, k}, out{dy.data(), 4, n};
  std::vector<double> dw(n * k, NAN), expected(n * k, NAN);
  gpu::weight_gradient(runtime, gpu::one_segment(4), out, in, moue::matrix_view<double>{dw.data(), n, k},
                       moue::store::assign);
  moue::reference_operations{}.weight_gradient(out, in, moue::matrix_view<double>{expected.data(), n, k},
                                               moue::store::assign);
  CHECK(test::distance(dw, expected) < 1e-13);
  std::vector<double> sum(n, NAN), expected_sum(n, NAN);
  gpu::column_sum(runtime, gpu::one_segment(4), out, moue::matrix_view<double>{sum.data(), 1, n}, moue::store::assign);
  moue::reference_operations{}.column_sum(out, moue::matrix_view<double>{expected_sum.data(), 1, n},
                                          moue::store::assign);
  CHECK(test::distance(sum, expected_sum) < 1e-13);
}
