// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Products do not depend on where their operands lie in memory: neither on alignment nor on the stride of rows. Kernels
// that treat entries alike round alike; where they do not, only a build with fused multiply-add shows it (-march=native).

#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "moue/backend/cpu.hpp"
#include "stack.hpp"

namespace {

/// A matrix that begins `offset` elements into its buffer and has `gap` elements between rows.
template <class C>
struct placed {
  std::vector<C> buffer;
  moue::matrix_view<C> view;

  placed(moue::index_t rows, moue::index_t cols, moue::index_t offset, moue::index_t gap, std::uint64_t seed)
      : buffer(static_cast<std::size_t>(offset + rows * (cols + gap)), C(0)),
        view(buffer.data() + offset, rows, cols, cols + gap) {
    for (moue::index_t i = 0; i < rows; ++i)
      for (moue::index_t j = 0; j < cols; ++j) view(i, j) = static_cast<C>(test::noise(seed, i * cols + j));
  }
};

template <class C>
std::vector<C> products(moue::index_t m, moue::index_t n, moue::index_t k, moue::index_t offset, moue::index_t gap) {
  const auto ops = moue::cpu{}.operations(moue::matrix_view<C>{});
  placed<C> a(m, k, offset, gap, 1), b(n, k, offset, gap, 2), b_across(k, n, offset, gap, 3),
      a_across(k, m, offset, gap, 4);
  placed<C> linear(m, n, offset, gap, 5), input(m, n, offset, gap, 6), weight(m, n, offset, gap, 7);
  const auto in = [](const placed<C>& p) { return moue::matrix_view<const C>(p.view); };
  ops.linear(in(a), in(b), linear.view, moue::store::add);
  ops.input_gradient(in(a), in(b_across), input.view, moue::store::add);
  ops.weight_gradient(in(a_across), in(b_across), weight.view);
  std::vector<C> result;
  for (const auto* p : {&linear, &input, &weight})
    for (moue::index_t i = 0; i < m; ++i) result.insert(result.end(), p->view.row(i).begin(), p->view.row(i).end());
  return result;
}

template <class C>
void check_places() {
  for (const moue::index_t m : {1, 3, 5, 6, 9, 17})
    for (const moue::index_t n : {1, 4, 5, 8, 13})
      for (const moue::index_t k : {1, 2, 3, 5, 8, 13, 33}) {
        const auto expected = products<C>(m, n, k, 0, 0);
        for (const moue::index_t offset : {0, 1, 2, 3, 5, 6})
          for (const moue::index_t gap : {0, 1, 2, 3, 8}) {
            INFO("[", m, ", ", n, "] over ", k, ", offset ", offset, ", gap ", gap);
            CHECK(test::same_bits(products<C>(m, n, k, offset, gap), expected));
          }
      }
}

}  // namespace

TEST_CASE("products in float do not depend on where operands lie") { check_places<float>(); }
TEST_CASE("products in double do not depend on where operands lie") { check_places<double>(); }
