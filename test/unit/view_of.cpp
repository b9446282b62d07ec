// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Memory of other libraries as views: the same addresses, shapes, strides and constness.

#include "moue/adapt/view_of.hpp"

#include <doctest/doctest.h>

#include <Eigen/Core>
#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "message_of.hpp"
#include "moue/moue.hpp"

namespace {

using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class V, class Expected>
constexpr bool is = std::is_same_v<V, Expected>;

template <class T>
void check_shape(const moue::matrix_view<T>& view, const std::type_identity_t<T>* data, moue::index_t rows,
                 moue::index_t cols, moue::index_t stride) {
  CHECK(view.data == data);
  CHECK(view.rows == rows);
  CHECK(view.cols == cols);
  CHECK(view.stride == stride);
}

/// What std::mdspan offers; the standard library of g++ 12 has none.
template <class T, std::size_t Rank>
class mdspan {
 public:
  using element_type = T;
  using data_handle_type = T*;
  using extents = std::array<std::size_t, Rank>;

  mdspan(T* data, extents sizes, extents strides) : data_(data), sizes_(sizes), strides_(strides) {}
  static constexpr std::size_t rank() noexcept { return Rank; }
  const data_handle_type& data_handle() const { return data_; }
  std::size_t extent(std::size_t i) const { return sizes_[i]; }
  std::size_t stride(std::size_t i) const { return strides_[i]; }

 private:
  T* data_;
  extents sizes_, strides_;
};

}  // namespace

TEST_CASE("what is contiguous is a vector view") {
  std::vector<float> numbers(6);
  const std::vector<float>& constant = numbers;
  std::array<double, 3> array{};
  int plain[4] = {};
  static_assert(is<decltype(moue::view_of(numbers)), moue::vector_view<float>>);
  static_assert(is<decltype(moue::view_of(constant)), moue::vector_view<const float>>);
  static_assert(is<decltype(moue::view_of(std::span<const float>(numbers))), moue::vector_view<const float>>);
  static_assert(is<decltype(moue::view_of(plain)), moue::vector_view<int>>);
  CHECK(moue::view_of(numbers).data == numbers.data());
  CHECK(moue::view_of(numbers).size == 6);
  CHECK(moue::view_of(std::span(numbers).subspan(2)).data == numbers.data() + 2);
  CHECK(moue::view_of(array).size == 3);
  CHECK(moue::view_of(plain).size == 4);
}

TEST_CASE("a range is as many rows as it has elements for") {
  std::vector<float> numbers(6);
  const std::vector<float>& constant = numbers;
  check_shape(moue::view_of(numbers, 2, 3), numbers.data(), 2, 3, 3);
  check_shape(moue::view_of(constant, 3, 2), numbers.data(), 3, 2, 2);
  CHECK(moue::view_of(std::span<float>(), 0, 3).cols == 3);
  for (const auto& shape : {std::array{2, 2}, {4, 2}, {0, 3}, {-2, -3}, {6, 0}})
    CHECK(message_of([&] { (void)moue::view_of(numbers, shape[0], shape[1]); }) ==
          "moue: view_of: 6 elements were given for [" + std::to_string(shape[0]) + ", " + std::to_string(shape[1]) +
              "]; give as many as there are");
}

TEST_CASE("the rows of a row-major matrix") {
  row_major m(4, 6);
  const row_major& constant = m;
  static_assert(is<decltype(moue::view_of(constant)), moue::matrix_view<const float>>);
  check_shape(moue::view_of(m), m.data(), 4, 6, 6);
  check_shape(moue::view_of(m.middleCols(2, 3)), m.data() + 2, 4, 3, 6);
  check_shape(moue::view_of(m.middleRows(1, 2)), m.data() + 6, 2, 6, 6);
  static_assert(is<decltype(moue::view_of(constant.leftCols(2))), moue::matrix_view<const float>>);

  Eigen::Ref<row_major> reference = m;
  check_shape(moue::view_of(reference), m.data(), 4, 6, 6);
  const Eigen::Ref<const row_major> read = m;
  check_shape(moue::view_of(read), m.data(), 4, 6, 6);
  using apart = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  check_shape(moue::view_of(Eigen::Map<row_major, 0, Eigen::OuterStride<>>(m.data(), 2, 6, Eigen::OuterStride<>(12))),
              m.data(), 2, 6, 12);
  check_shape(moue::view_of(Eigen::Map<row_major, 0, apart>(m.data(), 3, 1, apart(2, 5))), m.data(), 3, 1, 2);
  CHECK(message_of([&] { (void)moue::view_of(Eigen::Map<row_major, 0, apart>(m.data(), 2, 3, apart(12, 2))); }) ==
        "moue: view_of: the elements of a row lie 2 apart; copy it into a matrix of its own");
}

TEST_CASE("the columns of Eigen's default are rows of the view") {
  Eigen::MatrixXd m(3, 5);  // [width, tokens]
  for (Eigen::Index token = 0; token < 5; ++token)
    for (Eigen::Index i = 0; i < 3; ++i) m(i, token) = static_cast<double>(10 * token + i);
  const auto view = moue::view_of_columns(m);
  check_shape(view, m.data(), 5, 3, 3);
  CHECK(view(4, 2) == 42);
  const Eigen::MatrixXd& constant = m;
  static_assert(is<decltype(moue::view_of_columns(constant)), moue::matrix_view<const double>>);
  check_shape(moue::view_of_columns(m.middleCols(1, 2)), m.data() + 3, 2, 3, 3);
  check_shape(moue::view_of_columns(m.topRows(2)), m.data(), 5, 2, 3);
  check_shape(moue::view_of(m.transpose()), m.data(), 5, 3, 3);  // its rows are the same columns
  const Eigen::ArrayXXf array(2, 2);
  CHECK(moue::view_of_columns(array).data == array.data());
  using apart = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  const auto spread = [&] {
    (void)moue::view_of_columns(Eigen::Map<Eigen::MatrixXd, 0, apart>(m.data(), 2, 2, apart(6, 2)));
  };
  CHECK(message_of(spread) ==
        "moue: view_of_columns: the elements of a column lie 2 apart; copy it into a matrix of its own");
}

TEST_CASE("Eigen's vectors") {
  Eigen::VectorXf v(6);
  const Eigen::RowVectorXf row(4);
  static_assert(is<decltype(moue::view_of(v)), moue::vector_view<float>>);
  static_assert(is<decltype(moue::view_of(row)), moue::vector_view<const float>>);
  CHECK(moue::view_of(v).data == v.data());
  CHECK(moue::view_of(row).size == 4);
  check_shape(moue::view_of(v, 2, 3), v.data(), 2, 3, 3);
  check_shape(moue::view_of_columns(v), v.data(), 1, 6, 6);  // one token
  row_major m(3, 5);
  CHECK(moue::view_of(m.row(1)).data == m.data() + 5);
  CHECK(message_of([&] { (void)moue::view_of(m.col(1)); }) ==
        "moue: view_of: the elements of a vector lie 5 apart; copy it into one of its own");
}

TEST_CASE("mdspans") {
  std::vector<float> numbers(24);
  float* const data = numbers.data();
  check_shape(moue::view_of(mdspan<float, 2>(data, {4, 6}, {6, 1})), data, 4, 6, 6);
  check_shape(moue::view_of(mdspan<float, 2>(data, {2, 3}, {12, 1})), data, 2, 3, 12);
  check_shape(moue::view_of(mdspan<float, 2>(data, {4, 1}, {6, 6})), data, 4, 1, 6);
  check_shape(moue::view_of_columns(mdspan<float, 2>(data, {6, 4}, {1, 6})), data, 4, 6, 6);
  const mdspan<const float, 2> constant(data, {4, 6}, {6, 1});
  static_assert(is<decltype(moue::view_of(constant)), moue::matrix_view<const float>>);
  CHECK(moue::view_of(mdspan<float, 1>(data, {5}, {1})).size == 5);
  check_shape(moue::view_of(mdspan<float, 1>(data, {6}, {1}), 3, 2), data, 3, 2, 2);
  CHECK(message_of([&] {
          (void)moue::view_of(mdspan<float, 2>(data, {4, 6}, {1, 4}));
        }) ==
        "moue: view_of: the elements of a row lie 4 apart; a column-major [tokens, width] has no rows to view: keep it "
        "as "
        "[width, tokens], whose columns are tokens, and say view_of_columns; or store it row by row");
  CHECK(message_of([&] {
          (void)moue::view_of_columns(mdspan<float, 2>(data, {6, 4}, {4, 1}));
        }) == "moue: view_of_columns: the elements of a column lie 4 apart; say view_of of what is stored row by row");
  CHECK(message_of([&] { (void)moue::view_of(mdspan<float, 1>(data, {5}, {2})); }) ==
        "moue: view_of: the elements of a vector lie 2 apart; copy it into one of its own");
}

TEST_CASE("a pass reads and writes Eigen's columns") {
  const moue::mixture model{moue::swiglu{.width = 3, .hidden = 4}, moue::shared_pool{.depth = 1, .pool = 4},
                            moue::linear_router(2)};
  const auto weights = model.initialize<double>(1);
  const moue::pass_options options{.tokens = 5, .how = moue::mode::inference};
  moue::workspace scratch(model.workspace_bytes<double>(options));
  auto pass = model.start(weights, options, scratch);
  const Eigen::MatrixXd x = Eigen::MatrixXd::NullaryExpr(3, 5, [](auto i, auto j) { return double(i) - double(j); });
  const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rows = x.transpose();
  Eigen::MatrixXd y(3, 5);
  auto other = rows;
  pass.begin(5);
  pass.forward(0, moue::view_of_columns(x), moue::view_of_columns(y));
  pass.begin(5);
  pass.forward(0, moue::view_of(rows), moue::view_of(other));
  CHECK(y.norm() > 0);
  CHECK(y.transpose() == other);
}
