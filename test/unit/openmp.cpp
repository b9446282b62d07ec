// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// The CPU backend in a program that is compiled with OpenMP, where Eigen would spread products over threads of its own.
// This file shares no object with other tests: they are compiled without, and a linker keeps one of equal functions.

#include <doctest/doctest.h>
#include <omp.h>

#include <cmath>
#include <filesystem>
#include <iterator>
#include <vector>

#include "moue/backend/cpu.hpp"
#include "moue/scalar.hpp"

namespace {

using moue::index_t;

template <class C>
std::vector<C> numbers(index_t size, double step) {
  std::vector<C> result(static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < result.size(); ++i)
    result[i] = static_cast<C>(static_cast<float>(std::sin(step * static_cast<double>(i))));
  return result;
}

/// All three products of a shape.
template <class C, class W>
std::vector<C> products(const moue::cpu& backend, index_t m, index_t k, index_t n) {
  const auto x = numbers<C>(m * k, 0.7), dy = numbers<C>(m * n, 0.3);
  const auto w = numbers<W>(n * k, 1.1);
  std::vector<C> result(static_cast<std::size_t>(m * n + m * k + n * k)), room(w.size());
  const moue::matrix_view<const C> in(x.data(), m, k), out(dy.data(), m, n);
  const moue::matrix_view<const W> weight(w.data(), n, k);
  const auto ops = backend.operations(moue::matrix_view<C>(room.data(), 1, n * k));
  C* to = result.data();
  ops.linear(in, weight, moue::matrix_view<C>(to, m, n));
  ops.input_gradient(out, weight, moue::matrix_view<C>(to + m * n, m, k));
  ops.weight_gradient(out, in, moue::matrix_view<C>(to + m * n + m * k, n, k), moue::store::assign);
  return result;
}

template <class C, class W>
void check(index_t m, index_t k, index_t n) {
  CAPTURE(m);
  const auto expected = [&] {
    ::omp_set_num_threads(1);
    return products<C, W>(moue::cpu{}, m, k, n);
  }();
  for (const int threads : {2, 3, 8}) {
    CAPTURE(threads);
    ::omp_set_num_threads(threads);
    CHECK(products<C, W>(moue::cpu{}, m, k, n) == expected);
    CHECK(products<C, W>(moue::cpu{2}, m, k, n) == expected);
  }
}

auto threads_of_this_process() {
#if defined(__linux__)
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"), std::filesystem::directory_iterator());
#else
  return 1;
#endif
}

}  // namespace

TEST_CASE("products have the same bits for any number of OpenMP threads, and take none of them") {
  REQUIRE(Eigen::nbThreads() == ::omp_get_max_threads());
  check<float, float>(260, 96, 130);
  check<float, moue::bf16>(64, 300, 520);
  check<double, double>(600, 130, 96);
  ::omp_set_num_threads(3);
  Eigen::setNbThreads(3);  // whoever asks for them gets them elsewhere
  CHECK(products<float, float>(moue::cpu{}, 260, 96, 130) == products<float, float>(moue::cpu{2}, 260, 96, 130));
  CHECK(threads_of_this_process() == 1);
#if defined(__linux__)
  const Eigen::MatrixXf a = Eigen::MatrixXf::Ones(260, 96), b = Eigen::MatrixXf::Ones(96, 130), c = a * b;
  CHECK(c.sum() == 260 * 96 * 130);
  CHECK(threads_of_this_process() == 3);  // so the check above would have seen them
#endif
}
