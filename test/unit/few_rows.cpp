// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Products of few rows on `cpu`: values, and the bits that moue/backend/cpu/few_rows.hpp promises.

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "moue/backend/cpu.hpp"
#include "moue/parameter.hpp"

namespace {

using moue::index_t;
using moue::matrix_view;

template <class T>
std::vector<T> noise(index_t size, std::uint64_t key) {
  std::vector<T> values(static_cast<std::size_t>(size));
  for (index_t i = 0; i < size; ++i)
    values[static_cast<std::size_t>(i)] = T(static_cast<float>(moue::detail::normal_at(key, std::uint64_t(i))));
  return values;
}

/// y [m, n] = x wᵀ on `backend`, with x of stride `stride`, and w of stride k + 3 one element off any alignment.
template <class C, class W>
std::vector<C> product(const moue::cpu& backend, index_t m, index_t n, index_t k, index_t stride, moue::store mode) {
  const auto x = noise<C>(16 * stride, 1);
  const auto w = noise<W>(n * (k + 3) + 1, 2);
  auto y = noise<C>(m * n, 3);
  std::vector<C> room(static_cast<std::size_t>(backend.workers() * n * k));
  const auto ops = backend.operations(matrix_view<C>{room.data(), backend.workers(), n * k});
  ops.linear(matrix_view<const C>(x.data(), m, k, stride), matrix_view<const W>(w.data() + 1, n, k, k + 3),
             matrix_view<C>(y.data(), m, n), mode);
  return y;
}

/// The sum as the header describes it, with fused multiply-adds or without.
template <class C, class W>
C in_order(const C* x, const W* w, index_t k, bool fused) {
  constexpr index_t parts = moue::detail::sum_parts<C>;
  C sums[parts] = {};
  for (index_t i = 0; i < k; ++i) {
    C& sum = sums[i % parts];
    const C factor = static_cast<C>(w[i]);
    if (fused) {
      sum = std::fma(x[i], factor, sum);
    } else {
      const volatile C rounded = x[i] * factor;
      sum += rounded;
    }
  }
  for (index_t half = parts / 2; half > 0; half /= 2)
    for (index_t p = 0; p < half; ++p) sums[p] += sums[p + half];
  return sums[0];
}

}  // namespace

TEST_CASE_TEMPLATE("a row's bits depend on that row and the matrix alone, and on no width of registers", W, float,
                   double, moue::bf16, moue::half) {
  using C = moue::compute_t<W>;
  for (const index_t k : {64, 79, 1024, 1025, 2100})
    for (const index_t n : {1, 2, 5, 193}) {
      CAPTURE(k);
      CAPTURE(n);
      const index_t stride = k + 5;
      const auto x = noise<C>(16 * stride, 1);
      const auto w = noise<W>(n * (k + 3) + 1, 2);
      const auto all = product<C, W>(moue::cpu{}, 16, n, k, stride, moue::store::assign);
      bool same[2] = {true, true};
      for (index_t i = 0; i < 16; ++i)
        for (index_t j = 0; j < n; ++j)
          for (const bool fused : {false, true})
            same[fused] = same[fused] && all[std::size_t(i * n + j)] ==
                                             in_order(x.data() + i * stride, w.data() + 1 + j * (k + 3), k, fused);
      CHECK((same[0] || same[1]));
      for (const index_t m : {1, 2, 3, 4, 7, 13}) {
        const auto few = product<C, W>(moue::cpu{}, m, n, k, stride, moue::store::assign);
        CHECK(few == std::vector<C>(all.begin(), all.begin() + m * n));
      }
      CHECK(product<C, W>(moue::cpu{3}, 16, n, k, stride, moue::store::assign) == all);
    }
}

TEST_CASE("products of few rows add to what is there") {
  const auto before = noise<float>(3 * 7, 3);
  const auto alone = product<float, float>(moue::cpu{}, 3, 7, 100, 100, moue::store::assign);
  const auto added = product<float, float>(moue::cpu{}, 3, 7, 100, 100, moue::store::add);
  for (std::size_t i = 0; i < added.size(); ++i) CHECK(added[i] == before[i] + alone[i]);
}
