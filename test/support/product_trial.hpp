// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Grouped products on random numbers, compared with `reference` one group at a time. All that a product must not read is
// not a number, all that it must not write has to keep its bits.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "moue/backend/cuda/products.cuh"
#include "moue/backend/reference.hpp"

namespace test {

namespace gpu = moue::detail::gpu;

/// A product of groups with `sizes` rows each and weights [n, k].
struct product_shape {
  std::vector<moue::index_t> sizes;
  moue::index_t n = 1;
  moue::index_t k = 1;
  moue::index_t padding = 0;             // numbers between the rows of activations
  moue::index_t shift = 0;               // numbers from a multiple of 16 bytes to the first activations
  moue::index_t weight_shift = 0;        // and to each group's weights
  std::vector<std::int32_t> kinds = {};  // of groups; those of kind 1 take part, all if empty
  bool dense = false;                    // one group without offsets
  moue::index_t spare = 3;               // rows past those of the last group

  moue::index_t rows() const {
    moue::index_t sum = dense ? 0 : spare;
    for (const auto size : sizes) sum += size;
    return sum;
  }
  bool takes_part(std::size_t group) const { return kinds.empty() || kinds[group] == 1; }
  std::string text() const {
    return std::to_string(sizes.size()) + " groups, " + std::to_string(rows()) + " rows, n " + std::to_string(n) +
           ", k " + std::to_string(k) + ", padding " + std::to_string(padding) + ", shift " + std::to_string(shift) +
           ", " + std::to_string(weight_shift) + (kinds.empty() ? "" : ", kinds") + (dense ? ", dense" : "");
  }
};

/// Shapes that divide no tile, and corners.
inline std::vector<product_shape> product_shapes() {
  std::vector<moue::index_t> many(257);
  for (std::size_t g = 0; g < many.size(); ++g) many[g] = g % 50 == 7 ? 2 : (g == 256 ? 5 : 0);
  return {
      {.sizes = {5, 0, 37, 1}, .n = 70, .k = 45},
      {.sizes = {3, 34}, .n = 72, .k = 136},
      {.sizes = {3, 9, 0, 2}, .n = 264, .k = 24, .padding = 8},
      {.sizes = {2, 3}, .n = 24, .k = 40, .padding = 3, .shift = 1, .weight_shift = 1},
      {.sizes = {3, 8}, .n = 32, .k = 48, .shift = 1},
      {.sizes = {3, 8}, .n = 32, .k = 48, .weight_shift = 1},
      {.sizes = {0, 7, 4, 0, 6}, .n = 20, .k = 33, .kinds = {1, 0, 1, 1, 2}},
      {.sizes = {0, 0, 141, 0}, .n = 16, .k = 8},
      {.sizes = {6, 1}, .n = 1, .k = 33},
      {.sizes = {6, 1}, .n = 9, .k = 1},
      {.sizes = {1}, .n = 1, .k = 1},
      {.sizes = {0, 0, 0}, .n = 5, .k = 6},
      {.sizes = many, .n = 8, .k = 17},
      {.sizes = {29}, .n = 7, .k = 50, .padding = 2, .dense = true},
  };
}

/// The same for what differs only by type.
inline std::vector<product_shape> few_product_shapes() {
  return {{.sizes = {3, 0, 9}, .n = 36, .k = 72},
          {.sizes = {1, 4}, .n = 9, .k = 35, .padding = 3, .shift = 1, .weight_shift = 3}};
}

/// A matrix in memory that ends with it.
template <class T>
class shifted_matrix {
 public:
  shifted_matrix(moue::index_t rows, moue::index_t cols, moue::index_t padding, moue::index_t shift)
      : numbers_(static_cast<std::size_t>(std::max<moue::index_t>(0, rows * (cols + padding) - padding) + shift),
                 nan()),
        rows_(rows),
        cols_(cols),
        stride_(cols + padding),
        shift_(shift) {
    if (reinterpret_cast<std::uintptr_t>(numbers_.data()) % 16 != 0 && !numbers_.empty())
      throw std::logic_error("memory for a test is not aligned");
  }
  void fill(moue::index_t first, moue::index_t rows, std::mt19937& random) {
    std::normal_distribution<double> normal;
    for (moue::index_t i = first; i < first + rows; ++i)
      for (auto& x : view().row(i)) x = T(static_cast<moue::compute_t<T>>(normal(random)));
  }
  moue::matrix_view<T> view() { return {numbers_.data() + shift_, rows_, cols_, stride_}; }
  bool same_bits(const shifted_matrix& other) const {
    return numbers_.empty() || std::memcmp(numbers_.data(), other.numbers_.data(), numbers_.size() * sizeof(T)) == 0;
  }

 private:
  static T nan() { return T(std::numeric_limits<moue::compute_t<T>>::quiet_NaN()); }

  std::vector<T> numbers_;
  moue::index_t rows_, cols_, stride_, shift_;
};

/// `from` in doubles, rounded to R on the way unless that is void, or their absolute values.
template <class R, class T>
std::vector<double> in_double(const moue::matrix_view<T>& from, bool absolute) {
  std::vector<double> result;
  for (moue::index_t i = 0; i < from.rows; ++i)
    for (moue::index_t j = 0; j < from.cols; ++j) {
      double x = static_cast<moue::compute_t<std::remove_const_t<T>>>(from(i, j));
      if constexpr (!std::is_void_v<R>) x = static_cast<float>(R(static_cast<float>(x)));
      result.push_back(absolute ? std::abs(x) : x);
    }
  return result;
}

/// Compares `result` with what `compute(out, absolute)` makes of doubles, and copies it over `expected`.
template <class C, class Compute>
void compare_block(moue::matrix_view<C> result, moue::matrix_view<C> expected, moue::index_t depth,
                   const Compute& compute) {
  std::vector<double> exact(static_cast<std::size_t>(result.rows * result.cols)), size = exact;
  compute(moue::matrix_view<double>{exact.data(), result.rows, result.cols}, false);
  compute(moue::matrix_view<double>{size.data(), result.rows, result.cols}, true);
  double worst = 0;
  for (moue::index_t i = 0; i < result.rows; ++i)
    for (moue::index_t j = 0; j < result.cols; ++j) {
      const auto at = static_cast<std::size_t>(i * result.cols + j);
      const double error = std::abs(static_cast<double>(result(i, j)) - exact[at]);
      // A sum of `depth` products and the number before errs by no more in any order. Where C is double the reference
      // errs as much.
      const double bound = 2 * static_cast<double>(depth + 2) * std::numeric_limits<C>::epsilon() * size[at];
      if (!(error <= bound)) worst = std::max(worst, bound > 0 ? error / bound : 1e300);
      expected(i, j) = result(i, j);
    }
  CHECK(worst == 0);
}

template <class S>
struct product_trial {
  using C = moue::compute_t<S>;

  product_shape shape;
  std::vector<moue::index_t> offsets = {};

  explicit product_trial(product_shape s) : shape(std::move(s)) {
    offsets.push_back(0);
    for (const auto size : shape.sizes) offsets.push_back(offsets.back() + size);
  }

  gpu::segments segments() const {
    if (shape.dense) return gpu::one_segment(shape.rows());
    return {offsets.data(), std::ssize(shape.sizes), shape.kinds.empty() ? nullptr : shape.kinds.data(), 1,
            shape.rows()};
  }
  shifted_matrix<C> rows_of(moue::index_t cols, std::mt19937& random) const {
    shifted_matrix<C> result(shape.rows(), cols, shape.padding, shape.shift);
    for (std::size_t g = 0; g < shape.sizes.size(); ++g)
      if (shape.takes_part(g)) result.fill(offsets[g], shape.sizes[g], random);
    return result;
  }
  template <class T>
  std::vector<shifted_matrix<T>> matrices(std::mt19937& random) const {
    std::vector<shifted_matrix<T>> result;
    for (std::size_t g = 0; g < shape.sizes.size(); ++g) {
      result.emplace_back(shape.n, shape.k, shape.dense ? shape.padding : 0, shape.weight_shift);
      if (shape.takes_part(g)) result.back().fill(0, shape.n, random);
    }
    return result;
  }
  /// Calls `f` with what stands for the groups' matrices.
  template <class T, class F>
  void with_table(std::vector<shifted_matrix<T>>& of_groups, const F& f) const {
    if (shape.dense) return f(gpu::table_of(of_groups[0].view()));
    std::vector<void*> pointers;
    for (std::size_t g = 0; g < of_groups.size(); ++g)
      pointers.push_back(shape.takes_part(g) && shape.sizes[g] > 0 ? of_groups[g].view().data : nullptr);
    f(gpu::table_of(moue::grouped_matrix<T>{pointers.data(), {}, shape.n, shape.k}));
  }

  /// y (=|+=) x wᵀ, or x w if `Transposed`, by `run(segments, x, w, y, mode)`. Returns y. R: what the path rounds x to.
  template <bool Transposed, class R, class Run>
  shifted_matrix<C> check_rows(const Run& run, moue::store mode, unsigned seed = 5) const {
    CAPTURE(shape.text());
    CAPTURE(static_cast<int>(mode));
    std::mt19937 random(seed);
    const moue::index_t inner = Transposed ? shape.n : shape.k, outer = Transposed ? shape.k : shape.n;
    auto x = rows_of(inner, random), y = rows_of(outer, random);
    auto w = matrices<S>(random);
    auto expected = y, before = y;
    with_table(w, [&](const auto& table) {
      run(segments(), moue::matrix_view<const C>(x.view()), gpu::products::readable(table), y.view(), mode);
    });
    for (std::size_t g = 0; g < shape.sizes.size(); ++g) {
      if (!shape.takes_part(g)) continue;
      const auto block = [&](auto& m) { return m.view().row_block(offsets[g], shape.sizes[g]); };
      compare_block(block(y), block(expected), inner, [&](moue::matrix_view<double> out, bool absolute) {
        const auto a = in_double<R>(block(x), absolute), b = in_double<void>(w[g].view(), absolute),
                   c = in_double<void>(block(before), absolute);
        std::copy(c.begin(), c.end(), out.data);
        const moue::matrix_view<const double> left{a.data(), out.rows, inner}, right{b.data(), shape.n, shape.k};
        if constexpr (Transposed)
          moue::reference_operations{}.input_gradient(left, right, out, mode);
        else
          moue::reference_operations{}.linear(left, right, out, mode);
      });
    }
    CHECK(y.same_bits(expected));  // nothing else was written
    return y;
  }
  template <bool Transposed, class R, class Run>
  void check_both_modes(const Run& run) const {
    check_rows<Transposed, R>(run, moue::store::assign);
    check_rows<Transposed, R>(run, moue::store::add);
  }

  /// dw += dyᵀ x by `run(segments, dy, x, dw)`. Returns dw. R: what the path rounds dy and x to.
  template <class R, class Run>
  std::vector<shifted_matrix<C>> check_gradient(const Run& run, unsigned seed = 5) const {
    CAPTURE(shape.text());
    std::mt19937 random(seed);
    auto dy = rows_of(shape.n, random), x = rows_of(shape.k, random);
    auto dw = matrices<C>(random), before = dw, expected = dw;
    with_table(dw, [&](const auto& table) {
      run(segments(), moue::matrix_view<const C>(dy.view()), moue::matrix_view<const C>(x.view()), table);
    });
    for (std::size_t g = 0; g < shape.sizes.size(); ++g) {
      const auto block = [&](auto& m) { return m.view().row_block(offsets[g], shape.sizes[g]); };
      if (shape.takes_part(g) && shape.sizes[g] > 0)
        compare_block(dw[g].view(), expected[g].view(), shape.sizes[g],
                      [&](moue::matrix_view<double> out, bool absolute) {
                        const auto a = in_double<R>(block(dy), absolute), b = in_double<R>(block(x), absolute),
                                   c = in_double<void>(before[g].view(), absolute);
                        std::copy(c.begin(), c.end(), out.data);
                        moue::reference_operations{}.weight_gradient(
                            moue::matrix_view<const double>{a.data(), shape.sizes[g], shape.n},
                            moue::matrix_view<const double>{b.data(), shape.sizes[g], shape.k}, out);
                      });
      CHECK(dw[g].same_bits(expected[g]));
    }
    return dw;
  }
};

}  // namespace test
