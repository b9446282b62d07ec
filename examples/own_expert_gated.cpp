// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// An expert with the gated form of `backward`: it scales its own gradients by the gates and fills in the gates'
// gradients, so that its outputs need not be saved.

#include <array>
#include <cstdio>
#include <moue/moue.hpp>
#include <moue/testing/laws.hpp>

/// y = s * x, one learned factor per column.
struct rescale {
  moue::index_t width = 1;

  auto parameters() const {
    return std::array{moue::parameter_spec{.name = "scale", .cols = width, .init = moue::initializer::normal(1)}};
  }
  auto saved() const { return std::array<moue::index_t, 0>{}; }
  auto temporaries() const { return std::array{width}; }

  template <class C>
  void forward(const auto& ops, const auto& p, const auto& x, const auto&, const auto&, moue::matrix_view<C> y) const {
    const auto s = p[0];
    ops.each_element(y.rows, y.cols,
                     [=](moue::index_t i, moue::index_t j) { y(i, j) = static_cast<C>(s.for_row(i)(0, j)) * x(i, j); });
  }

  template <class C, class T>
  void backward(const auto& ops, const auto& p, const auto& x, const auto&, const auto& temporary,
                moue::gated_gradient<C, T> out, moue::matrix_view<C> dx, const auto& dp) const {
    const auto s = p[0];
    const auto ds = temporary[0];
    ops.each_row(x.rows, [=](moue::index_t i) {
      const auto own = s.for_row(i);  // the factors of the expert that row i was sent to
      C along = 0;
      for (moue::index_t j = 0; j < x.cols; ++j) {
        const C factor = static_cast<C>(own(0, j));
        along += out.dy(i, j) * factor * x(i, j);  // <dy, y>
        ds(i, j) = out.gate[i] * out.dy(i, j) * x(i, j);
        dx(i, j) = out.gate[i] * out.dy(i, j) * factor;
      }
      out.dgate[i] = along;
    });
    ops.column_sum(ds, dp[0]);
  }
};
static_assert(moue::Expert<rescale>);

int main() {
  const auto report = moue::testing::check_expert_laws(rescale{.width = 6});
  std::printf("laws: %s\n", report ? "hold" : report.summary().c_str());
  return report ? 0 : 1;
}
