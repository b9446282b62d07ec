// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What the checks of laws share: matrices that notice stray writes, random numbers, and central differences.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "moue/parameter.hpp"
#include "moue/scalar.hpp"
#include "moue/testing/report.hpp"
#include "moue/view.hpp"

namespace moue::testing::detail {

inline std::string text(double value) {
  std::ostringstream out;
  out.precision(10);
  out << value;
  return out.str();
}
inline std::string place(index_t row, index_t col) {
  return "(" + std::to_string(row) + ", " + std::to_string(col) + ")";
}

/// What uninitialised memory is filled with, so that reading it shows.
template <class T>
T poison() {
  if constexpr (std::is_integral_v<T>)
    return (std::numeric_limits<T>::min)();
  else
    return T(std::numeric_limits<compute_t<T>>::quiet_NaN());
}

/// An owned matrix whose rows are padded (views have a stride), with watched padding.
template <class T>
class watched {
 public:
  watched() = default;
  watched(index_t rows, index_t cols, T fill = poison<T>())
      : rows_(rows), cols_(cols), values_(static_cast<std::size_t>((rows + 1) * stride()), canary()) {
    this->fill(fill);
  }

  index_t rows() const { return rows_; }
  index_t cols() const { return cols_; }
  T& operator()(index_t i, index_t j) { return view()(i, j); }
  const T& operator()(index_t i, index_t j) const { return view()(i, j); }
  matrix_view<T> view() { return {values_.data() + margin, rows_, cols_, stride()}; }
  matrix_view<const T> view() const { return {values_.data() + margin, rows_, cols_, stride()}; }
  vector_view<T> row(index_t i = 0) { return view().row(i); }
  vector_view<const T> row(index_t i = 0) const { return view().row(i); }

  template <class F>
  void each(F&& f) {
    for (index_t i = 0; i < rows_; ++i)
      for (index_t j = 0; j < cols_; ++j) f((*this)(i, j), i, j);
  }
  watched& fill(T value) {
    each([&](T& v, index_t, index_t) { v = value; });
    return *this;
  }
  /// Standard normal numbers times `scale`; the same for the same `key`.
  watched& randomise(std::uint64_t key, double scale = 1) {
    each([&](T& v, index_t i, index_t j) {
      v = T(static_cast<compute_t<T>>(scale * moue::detail::normal_at(key, static_cast<std::uint64_t>(i * cols_ + j))));
    });
    return *this;
  }

  /// Whether nobody wrote beside the elements.
  bool intact() const {
    for (std::size_t at = 0; at < values_.size(); ++at) {
      const index_t inside = static_cast<index_t>(at) - margin;
      const bool element = inside >= 0 && inside / stride() < rows_ && inside % stride() < cols_;
      if (!element && !(values_[at] == canary())) return false;
    }
    return true;
  }
  /// Whether `other` has the same bits, poison included.
  bool same(const watched& other) const {
    for (index_t i = 0; i < rows_; ++i)
      for (index_t j = 0; j < cols_; ++j) {
        const T a = (*this)(i, j), b = other(i, j);
        if (!(a == b) && !(a != a && b != b)) return false;
      }
    return true;
  }

 private:
  static constexpr index_t margin = 3;
  index_t stride() const { return cols_ + margin; }
  static T canary() {
    if constexpr (std::is_integral_v<T>)
      return static_cast<T>(0x5a5a5a5a);
    else
      return T(static_cast<compute_t<T>>(6.5536e33f));
  }

  index_t rows_ = 0;
  index_t cols_ = 0;
  std::vector<T> values_;
};

using numbers = watched<double>;

template <class T, std::size_t N>
std::array<matrix_view<T>, N> views(std::array<watched<T>, N>& all) {
  std::array<matrix_view<T>, N> result;
  for (std::size_t i = 0; i < N; ++i) result[i] = all[i].view();
  return result;
}
template <class T, std::size_t N>
std::array<matrix_view<const T>, N> const_views(const std::array<watched<T>, N>& all) {
  std::array<matrix_view<const T>, N> result;
  for (std::size_t i = 0; i < N; ++i) result[i] = all[i].view();
  return result;
}
template <class T, std::size_t N>
bool intact(const std::array<watched<T>, N>& all) {
  return std::all_of(all.begin(), all.end(), [](const auto& m) { return m.intact(); });
}

/// A parameter as declared, but away from special points: constants get noise, so that what starts at zero is seen too.
inline numbers parameter_values(const parameter_spec& spec, std::uint64_t key) {
  numbers result(spec.rows, spec.cols);
  const bool constant = spec.init.what == initializer::kind::constant;
  result.randomise(key, constant ? 0.3 : spec.init.value);
  if (constant) result.each([&](double& v, index_t, index_t) { v += spec.init.value; });
  return result;
}

/// How far sums of some hundred products in double precision may differ when only their order or grouping does.
inline constexpr double rounding = 1e-11;

inline bool close(double a, double b, double tolerance = rounding) {
  return std::abs(a - b) <= tolerance * (1 + std::abs(a) + std::abs(b));  // false for NaN
}

/// Expects two matrices to agree up to rounding.
inline void expect_close(law_report& report, std::string_view law, std::string_view what, const numbers& a,
                         const numbers& b, double tolerance = rounding) {
  for (index_t i = 0; i < a.rows(); ++i)
    for (index_t j = 0; j < a.cols(); ++j)
      report.expect(law, close(a(i, j), b(i, j), tolerance), [&] {
        return std::string(what) + place(i, j) + " is " + text(a(i, j)) + ", not " + text(b(i, j));
      });
}

/// Step of central differences, and what they may be off by: truncation is step², cancellation 1e-16 / step times the
/// magnitude of the function, both below 1e-7 for functions of size 100.
inline constexpr double step = 1e-6;
inline constexpr double difference_tolerance = 1e-6;

/// Expects `gradient` to be that of the scalar function `f` with respect to `values`: at up to 32 entries and along two
/// directions that all entries have a part in. `values` is left as it was.
template <class F>
void expect_gradient(law_report& report, std::string_view law, std::string_view what, numbers& values,
                     const numbers& gradient, F&& f) {
  const index_t count = values.rows() * values.cols();
  const auto expect = [&](double stated, double measured, auto&& where) {
    report.expect(law, close(stated, measured, difference_tolerance), [&] {
      return "d " + std::string(what) + where() + " is " + text(stated) + ", central differences give " +
             text(measured);
    });
  };
  constexpr index_t entries = 32;
  for (index_t at = 0; at < (std::min)(count, entries); ++at) {
    const index_t position = count <= entries ? at
                                              : static_cast<index_t>(moue::detail::mix(static_cast<std::uint64_t>(at)) %
                                                                     static_cast<std::uint64_t>(count));
    const index_t i = position / values.cols(), j = position % values.cols();
    double& value = values(i, j);
    const double before = value;
    value = before + step;
    const double up = f();
    value = before - step;
    const double down = f();
    value = before;
    expect(gradient(i, j), (up - down) / (2 * step), [&] { return place(i, j); });
  }
  if (count <= entries) return;
  for (std::uint64_t key = 1; key <= 2; ++key) {
    const numbers before = values;
    numbers direction(values.rows(), values.cols());
    direction.randomise(key, 1 / std::sqrt(static_cast<double>(count)));
    double stated = 0;
    direction.each([&](double& v, index_t i, index_t j) { stated += v * gradient(i, j); });
    const auto move = [&](double length) {
      values.each([&](double& v, index_t i, index_t j) { v = before(i, j) + length * direction(i, j); });
      return f();
    };
    const double measured = (move(step) - move(-step)) / (2 * step);
    values = before;
    expect(stated, measured, [] { return std::string(" along a random direction"); });
  }
}

inline double dot(const numbers& a, const numbers& b) {
  double sum = 0;
  for (index_t i = 0; i < a.rows(); ++i)
    for (index_t j = 0; j < a.cols(); ++j) sum += a(i, j) * b(i, j);
  return sum;
}

/// The names by which parameters are reported, after checking the declarations.
template <std::size_t N>
void expect_declarations(law_report& report, const std::array<parameter_spec, N>& specs) {
  constexpr std::string_view law = "parameters have names of their own and sizes that are not negative";
  report.expect(law, true, [] { return std::string(); });
  for (std::size_t i = 0; i < N; ++i) {
    report.expect(law, !specs[i].name.empty() && specs[i].rows >= 0 && specs[i].cols >= 0, [&] {
      return "parameter " + std::to_string(i) + " '" + std::string(specs[i].name) + "' is [" +
             std::to_string(specs[i].rows) + ", " + std::to_string(specs[i].cols) + "]";
    });
    for (std::size_t j = 0; j < i; ++j)
      report.expect(law, specs[i].name != specs[j].name,
                    [&] { return "two are called '" + std::string(specs[i].name) + "'"; });
  }
}

}  // namespace moue::testing::detail
