// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "moue/train/muon.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "moue/backend/cpu.hpp"
#include "training.hpp"

namespace {

using namespace training;

// Everything is about 1 and a product sums at most 16 numbers, 15 products one after another; their polynomial grows an
// error by less than 3.45 a step.
constexpr double tolerance = 1e-12;

struct matrix {
  moue::index_t rows = 0, cols = 0;
  std::vector<double> data;

  matrix(moue::index_t r, moue::index_t c) : rows(r), cols(c), data(static_cast<std::size_t>(r * c)) {}
  moue::matrix_view<double> view() { return {data.data(), rows, cols}; }
  double& operator()(moue::index_t i, moue::index_t j) { return data[static_cast<std::size_t>(i * cols + j)]; }
  double operator()(moue::index_t i, moue::index_t j) const { return data[static_cast<std::size_t>(i * cols + j)]; }
};

matrix operator*(const matrix& a, const matrix& b) {
  matrix c(a.rows, b.cols);
  for (moue::index_t i = 0; i < a.rows; ++i)
    for (moue::index_t j = 0; j < b.cols; ++j)
      for (moue::index_t k = 0; k < a.cols; ++k) c(i, j) += a(i, k) * b(k, j);
  return c;
}

matrix transposed(const matrix& a) {
  matrix t(a.cols, a.rows);
  for (moue::index_t i = 0; i < a.rows; ++i)
    for (moue::index_t j = 0; j < a.cols; ++j) t(j, i) = a(i, j);
  return t;
}

matrix random_matrix(moue::index_t rows, moue::index_t cols, std::uint64_t key) {
  matrix m(rows, cols);
  for (std::size_t i = 0; i < m.data.size(); ++i) m.data[i] = moue::detail::normal_at(key, i);
  return m;
}

/// A product of random plane rotations: orthogonal to rounding.
matrix random_orthogonal(moue::index_t n, std::uint64_t key) {
  matrix q(n, n);
  for (moue::index_t i = 0; i < n; ++i) q(i, i) = 1;
  for (moue::index_t i = 0; i < n; ++i)
    for (moue::index_t j = i + 1; j < n; ++j) {
      const double angle = 6.28 * moue::detail::uniform_at(key, static_cast<std::uint64_t>(i * n + j));
      for (moue::index_t k = 0; k < n; ++k) {
        const double a = q(i, k), b = q(j, k);
        q(i, k) = std::cos(angle) * a - std::sin(angle) * b;
        q(j, k) = std::sin(angle) * a + std::cos(angle) * b;
      }
    }
  return q;
}

matrix orthogonalised(matrix u) {
  std::vector<double> scratch(static_cast<std::size_t>(moue::orthogonalise_elements(u.rows, u.cols)));
  moue::orthogonalise(moue::reference_operations{}, u.view(), scratch.data());
  return u;
}

double difference(const matrix& a, const matrix& b) {
  REQUIRE(a.rows == b.rows);
  REQUIRE(a.cols == b.cols);
  double worst = 0;
  for (std::size_t i = 0; i < a.data.size(); ++i) worst = std::max(worst, std::abs(a.data[i] - b.data[i]));
  return worst;
}

double five_steps(double s) {
  for (int i = 0; i < 5; ++i) s = 3.4445 * s - 4.7750 * std::pow(s, 3) + 2.0315 * std::pow(s, 5);
  return s;
}

/// Sets every expert's "up" gradient to `left` times `right` transposed.
template <class C>
void set_rank_one(moue::gradients<C>& grads, double factor) {
  for (const auto tensor : {up_0, up_1})
    for (moue::index_t i = 0; i < 6; ++i)
      for (moue::index_t j = 0; j < 5; ++j)
        grads[tensor](i, j) = static_cast<C>(factor * (i == 0 ? 0.6 : i == 3 ? -0.8 : 0) * (j == 2 ? 1 : 0));
}

}  // namespace

TEST_CASE("a matrix of rank one becomes 0.6964364 times its direction") {
  for (const auto& [rows, cols] : {std::pair{3, 7}, {7, 3}, {5, 5}, {1, 4}}) {
    matrix left = random_matrix(rows, 1, 1), right = random_matrix(1, cols, 2);
    const matrix u = left * right;
    double norm = 0;
    for (const double x : u.data) norm += x * x;
    matrix expected = u;
    for (double& x : expected.data) x *= 0.6964364 / std::sqrt(norm);
    // The constant has seven digits, and 1e-7 in the divisor moves s = 1 where the slope of five steps is below 10.
    CHECK(difference(orthogonalised(u), expected) < 1e-6);
  }
}

TEST_CASE("the identity stays diagonal, with the entries that the polynomial gives") {
  // Worked out in double precision, without the 1e-7 in the divisor.
  for (const auto& [n, entry] :
       {std::pair{1, 0.6964364}, {2, 1.1081111}, {4, 0.7654385}, {8, 1.0669679}, {16, 0.7145263}}) {
    matrix identity(n, n);
    for (moue::index_t i = 0; i < n; ++i) identity(i, i) = 1;
    matrix expected = identity;
    for (double& x : expected.data) x *= entry;
    CHECK(difference(orthogonalised(identity), expected) < 1e-6);
  }
}

TEST_CASE("singular vectors stay and singular values follow the polynomial into the band") {
  const std::vector<double> values{1, 0.5, 0.2, 0.1, 0.05, 0.012};
  double norm = 0;
  for (const double s : values) norm += s * s;
  norm = std::sqrt(norm) + 1e-7;
  for (const moue::index_t cols : {6, 9}) {
    const matrix q = random_orthogonal(6, 3), r = random_orthogonal(cols, 4);
    matrix before(6, cols), after(6, cols);
    for (moue::index_t i = 0; i < 6; ++i) {
      const double s = values[static_cast<std::size_t>(i)];
      before(i, i) = s;
      after(i, i) = five_steps(s / norm);
      CHECK(after(i, i) >= 0.6818);
      CHECK(after(i, i) <= 1.1344);
    }
    CHECK(difference(orthogonalised(q * before * r), q * after * r) < tolerance);
    CHECK(difference(orthogonalised(transposed(q * before * r)), transposed(q * after * r)) < tolerance);
  }
}

TEST_CASE("rotations commute with it, and scale does not matter") {
  const matrix u = random_matrix(6, 10, 5), q = random_orthogonal(6, 6), r = random_orthogonal(10, 7);
  CHECK(difference(orthogonalised(q * u * r), q * orthogonalised(u) * r) < tolerance);
  matrix scaled = u;
  for (double& x : scaled.data) x *= 1e3;
  // The 1e-7 in the divisor is the only difference; |u| is about 8.
  CHECK(difference(orthogonalised(scaled), orthogonalised(u)) < 1e-7);
  CHECK(difference(orthogonalised(matrix(4, 3)), matrix(4, 3)) == 0);
}

TEST_CASE("a step moves matrices by the scaled direction, after decay") {
  for (const auto scale : {moue::muon_scale::match_adamw, moue::muon_scale::spectral}) {
    problem<double> p;
    set_rank_one(p.grads, 2.5);
    const auto before = p.weights;
    moue::muon optimiser(p.weights, {.weight_decay = 0.3, .scale = scale});
    optimiser.step(p.weights, p.grads, 0.1);
    const double length = scale == moue::muon_scale::spectral ? std::sqrt(6.0 / 5) : 0.2 * std::sqrt(6.0);
    for (moue::index_t i = 0; i < 6; ++i)
      for (moue::index_t j = 0; j < 5; ++j) {
        const double direction = (i == 0 ? 0.6 : i == 3 ? -0.8 : 0) * (j == 2 ? 1 : 0) * 0.6964364;
        const double expected = before[up_0](i, j) * (1 - 0.1 * 0.3) - 0.1 * length * direction;
        // Seven digits of the constant; the 1e-7 in the divisor against |u| = 0.24, at a slope below 10, times 0.1.
        CHECK(std::abs(p.weights[up_0](i, j) - expected) < 1e-6);
      }
  }
}

TEST_CASE("momentum averages the gradients, Nesterov's looks one ahead") {
  for (const bool nesterov : {true, false}) {
    problem<double> p;
    moue::muon optimiser(p.weights, {.momentum = 0.8, .nesterov = nesterov, .weight_decay = 0});
    matrix momentum(6, 5), sum(6, 5);
    for (std::uint64_t t = 0; t < 3; ++t) {
      fill(p.grads, 50 + t);
      const auto before = p.weights;
      optimiser.step(p.weights, p.grads, 0.1);
      matrix u(6, 5), u_sum(6, 5), moved(6, 5);
      for (moue::index_t i = 0; i < 6; ++i)
        for (moue::index_t j = 0; j < 5; ++j) {
          const double g = p.grads[up_0](i, j);
          momentum(i, j) = 0.8 * momentum(i, j) + 0.2 * g;
          u(i, j) = nesterov ? 0.2 * g + 0.8 * momentum(i, j) : momentum(i, j);
          sum(i, j) = 0.8 * sum(i, j) + g;
          u_sum(i, j) = nesterov ? g + 0.8 * sum(i, j) : sum(i, j);
          moved(i, j) = (before[up_0](i, j) - p.weights[up_0](i, j)) / (0.1 * 0.2 * std::sqrt(6.0));
        }
      CHECK(difference(moved, orthogonalised(u)) < tolerance);
      // The form that sums is 5 times as long; only the 1e-7 in the divisor sees that, and |u| is about 1.
      CHECK(difference(orthogonalised(u), orthogonalised(u_sum)) < 1e-5);
    }
  }
}

TEST_CASE("what is not an expert's matrix is trained by AdamW") {
  problem<double> p, q;
  const moue::muon_options options{.adamw = {.beta1 = 0.7, .weight_decay = 0.2}, .adamw_rate = 0.5};
  moue::muon optimiser(p.weights, options);
  moue::adamw other(q.weights, options.adamw);
  for (std::uint64_t t = 0; t < 3; ++t) {
    fill(p.grads, 60 + t);
    fill(q.grads, 60 + t);
    optimiser.step(p.weights, p.grads, 0.1);
    other.step(q.weights, q.grads, 0.05);
  }
  for (moue::index_t i = 0; i < tensors; ++i) {
    CHECK(optimiser.is_matrix(i) == (i == up_0 || i == up_1));
    CHECK(same_bits(p.weights, q.weights, i) == !optimiser.is_matrix(i));
  }
  moue::muon all(p.weights, {}, [](const moue::tensor_info&) { return true; });
  CHECK(all.is_matrix(router));
  CHECK_FALSE(all.is_matrix(bias));
  CHECK_FALSE(all.is_matrix(buffer));
  optimiser.visit([](std::string_view name, const moue::parameters<double>& set) {
    if (name == "second_moment") CHECK(set.layout().elements() == 24 + 4 + 4 + 6 + 6);  // none for the two matrices
  });
}

TEST_CASE("stale momentum does not move an expert that no token reached, unless asked to") {
  for (const bool skip : {true, false}) {
    problem<double> p;
    moue::muon optimiser(p.weights, {.weight_decay = 0, .skip_untouched = skip});
    optimiser.step(p.weights, p.grads, 0.1);
    p.grads.zero();
    for (const auto i : {up_1, scale_1})  // holds nothing, so nobody may read it
      std::fill_n(p.grads[i].data, p.grads.layout()[i].size(), std::nan(""));
    touch(p.grads, 0);
    const auto before = p.weights;
    optimiser.step(p.weights, p.grads, 0.1);
    CHECK_FALSE(same_bits(p.weights, before, up_0));
    CHECK(same_bits(p.weights, before, up_1) == skip);
    CHECK(same_bits(p.weights, before, scale_1) == skip);
  }
}

TEST_CASE("the products may be another backend's") {
  problem<double> p, q;
  moue::muon a(p.weights), b(q.weights);
  const moue::cpu backend(2);
  for (int t = 0; t < 2; ++t) {
    a.step(p.weights, p.grads, 0.1);
    b.step(backend.operations(moue::matrix_view<double>{}), q.weights, q.grads, 0.1);
  }
  for (moue::index_t i = 0; i < tensors; ++i)
    for (moue::index_t j = 0; j < p.weights.layout()[i].size(); ++j)
      CHECK(std::abs(p.weights[i].data[j] - q.weights[i].data[j]) < tolerance);
}
