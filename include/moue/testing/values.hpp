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

#include "moue/gradients/targets.hpp"
#include "moue/lanes.hpp"
#include "moue/parameter.hpp"
#include "moue/router/row_members.hpp"
#include "moue/scalar.hpp"
#include "moue/testing/report.hpp"
#include "moue/view.hpp"
#include "moue/visit.hpp"

namespace moue::inline v0_1::testing::detail {

inline std::string text(double value) {
  std::ostringstream out;
  out.precision(10);
  out << value;
  return out.str();
}
inline std::string place(index_t row, index_t col) {
  return "(" + std::to_string(row) + ", " + std::to_string(col) + ")";
}

/// The turn and the batch that stages and losses are told of.
inline constexpr visit law_visit{.layer = 1, .how = mode::training, .step = 3, .seed = 0x5eed, .first_token = 0};
inline constexpr side_inputs law_inputs{};

/// Calls a member of a row stage as a pass does for one token.
template <class Member, class T, class... A>
void call_row(const Member& member, const T& stage, const A&... a) {
  moue::detail::call_stage(member, row_context{law_visit, law_inputs, 0}, one_lane{}, stage, a...);
}
/// The same for a member that returns a number.
template <class R, class Member, class T, class... A>
R row_value(const Member& member, const T& stage, const A&... a) {
  return moue::detail::call_stage<R>(member, row_context{law_visit, law_inputs, 0}, one_lane{}, stage, a...);
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
  watched(index_t rows, index_t cols, T fill = poison<T>()) : watched(rows, cols, fill, margin) {}
  /// One whose rows lie side by side, as a tensor's do; what is before and behind them is watched.
  static watched dense(index_t rows, index_t cols, T fill = poison<T>()) { return watched(rows, cols, fill, 0); }

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
      const bool element = inside >= 0 && inside < rows_ * stride() && inside % stride() < cols_;
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

  watched(index_t rows, index_t cols, T fill, index_t gap)
      : rows_(rows), cols_(cols), gap_(gap), values_(static_cast<std::size_t>(rows * stride() + 2 * margin), canary()) {
    this->fill(fill);
  }
  index_t stride() const { return cols_ + gap_; }
  static T canary() {
    if constexpr (std::is_integral_v<T>)
      return static_cast<T>(0x5a5a5a5a);
    else
      return T(static_cast<compute_t<T>>(6.5536e33f));
  }

  index_t rows_ = 0;
  index_t cols_ = 0;
  index_t gap_ = 0;
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

/// How a policy finds the gradients of its N parameters: each holds numbers or nothing yet, or is not wanted.
template <std::size_t N>
struct target_states {
  std::array<std::uint8_t, N> marks = {};  // not 0: holds numbers
  std::array<bool, N> unwanted = {};
  std::array<bool, N> written = {};  // by the last call

  target_states() { marks.fill(1); }

  /// The targets of one call.
  template <class C>
  std::array<gradient_target<C>, N> targets(std::array<watched<C>, N>& dp) {
    std::array<gradient_target<C>, N> result;
    written.fill(false);
    for (std::size_t i = 0; i < N; ++i)
      if (!unwanted[i]) result[i] = {dp[i].view(), &marks[i], &written[i]};
    return result;
  }
  /// After the call all hold numbers: what it did not write is zero.
  template <class C>
  void finish(std::array<watched<C>, N>& dp) {
    for (std::size_t i = 0; i < N; ++i)
      if (!written[i] && marks[i] == 0) dp[i].fill(C(0));
    marks.fill(1);
  }
};

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

/// Compares `gradient` with central differences of the scalar function `f` with respect to `values`, at up to 32 entries and,
/// where there are more, along two directions that all entries have a part in. Calls `visit(stated, difference, where)` for
/// each: what `gradient` says, `difference(step)` as a function of its step, and `where()` as text. `values` is left as it
/// was.
template <class F, class Visit>
void each_difference(const matrix_view<double>& values, const numbers& gradient, F&& f, Visit&& visit) {
  const index_t count = values.rows * values.cols;
  constexpr index_t entries = 32;
  for (index_t at = 0; at < (std::min)(count, entries); ++at) {
    const index_t position = count <= entries ? at
                                              : static_cast<index_t>(moue::detail::mix(static_cast<std::uint64_t>(at)) %
                                                                     static_cast<std::uint64_t>(count));
    const index_t i = position / values.cols, j = position % values.cols;
    double& value = values(i, j);
    const double before = value;
    const auto move = [&](double length) {
      value = before + length;
      const double result = f();
      value = before;
      return result;
    };
    visit(
        gradient(i, j), [&](double h) { return (move(h) - move(-h)) / (2 * h); }, [&] { return place(i, j); });
  }
  if (count <= entries) return;
  numbers before(values.rows, values.cols);
  before.each([&](double& v, index_t i, index_t j) { v = values(i, j); });
  for (std::uint64_t key = 1; key <= 2; ++key) {
    numbers direction(values.rows, values.cols);
    direction.randomise(key, 1 / std::sqrt(static_cast<double>(count)));
    double stated = 0;
    direction.each([&](double& v, index_t i, index_t j) { stated += v * gradient(i, j); });
    const auto move = [&](double length) {
      direction.each([&](double& v, index_t i, index_t j) { values(i, j) = before(i, j) + length * v; });
      return f();
    };
    visit(
        stated, [&](double h) { return (move(h) - move(-h)) / (2 * h); },
        [] { return std::string(" along a random direction"); });
    before.each([&](double& v, index_t i, index_t j) { values(i, j) = v; });
  }
}

/// What a gradient that differs from its difference is reported as.
inline std::string difference_text(std::string_view what, double stated, double measured) {
  return "d " + std::string(what) + " is " + text(stated) + ", central differences give " + text(measured);
}

/// Expects `gradient` to be that of the scalar function `f` with respect to `values`.
template <class F>
void expect_gradient(law_report& report, std::string_view law, std::string_view what, numbers& values,
                     const numbers& gradient, F&& f) {
  each_difference(values.view(), gradient, f, [&](double stated, const auto& difference, const auto& where) {
    const double measured = difference(step);
    report.expect(law, close(stated, measured, difference_tolerance),
                  [&] { return difference_text(std::string(what) + where(), stated, measured); });
  });
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

}  // namespace moue::inline v0_1::testing::detail
