// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Products of groups by every way that `product_choice` chooses between, and what they should have given.

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "fill.hpp"
#include "moue/backend/cuda/products.cuh"
#include "oracle.hpp"
#include "shapes.hpp"

namespace bench {

namespace library = moue::detail::gpu;

enum class product { linear, transposed, gradient };

/// A way to a product: the choice that leads there, whatever the number of rows.
struct way {
  std::string_view name;
  moue::product_choice choice;
};
/// The first is what the library takes unasked.
inline std::array<way, 5> ways(index_t multiprocessors) {
  constexpr index_t all = std::numeric_limits<std::int32_t>::max();
  return {{{"chosen", {.multiprocessors = multiprocessors}},
           {"few_rows", {.few_rows = all, .multiprocessors = multiprocessors}},
           {"low_tiles", {.few_rows = 0, .low_tiles = all, .multiprocessors = all}},
           {"high_tiles", {.few_rows = 0, .low_tiles = 0, .multiprocessors = 1}},
           {"cublas_loop", {.few_rows = 0, .expert_blas = true, .blas_rows = 0}}}};
}
/// Gradients sum over rows, be they few or many.
inline bool exists(product p, std::string_view name) { return name != "few_rows" || p != product::gradient; }

/// With a choice of one's own, and scratch memory for cuBLAS.
template <class RuntimeT>
struct lending : RuntimeT {
  moue::product_choice chosen;
  std::span<std::byte> memory;

  const moue::product_choice& choice() const { return chosen; }
  std::span<std::byte> scratch() const { return memory; }
};

/// One line of a result: sum over d of left[d left_step] right[j next + d right_step].
template <class S>
struct sampled_line {
  using C = moue::compute_t<S>;
  const C* left;
  const void* right;
  const C* given;
  index_t depth;
};
template <class S, class R>
struct find_line {
  using C = moue::compute_t<S>;
  moue::vector_view<const sampled_line<S>> lines;
  index_t left_step, right_step, next;
  moue::matrix_view<double> to;
  MOUE_HD void operator()(index_t i, index_t j) const {
    const auto& line = lines[i];
    const R* const right = static_cast<const R*>(line.right) + j * next;
    double sum = 0;
    for (index_t d = 0; d < line.depth; ++d)
      sum += static_cast<double>(line.left[d * left_step]) * static_cast<double>(static_cast<C>(right[d * right_step]));
    to(i, j) = sum;
  }
};

/// Weights [hidden, width] of each expert, and rows that tokens with random experts would give: groups differ in size as
/// they do in use, and some may be empty.
template <class GpuT, class S>
class grouped_products {
  using C = moue::compute_t<S>;
  using runtime_type = typename GpuT::runtime_type;

 public:
  grouped_products(const GpuT& gpu, const shape& s, index_t rows)
      : gpu_(gpu),
        shape_(s),
        rows_(rows),
        w_(array<S>(s.experts * s.hidden * s.width)),
        dw_(array<C>(w_.size())),
        wide_(array<C>(rows * s.width)),
        high_(array<C>(rows * s.hidden)),
        wide_out_(array<C>(wide_.size())),
        high_out_(array<C>(high_.size())),
        offsets_(array<index_t>(s.experts + 1)),
        addresses_(array<void*>(2 * s.experts)),
        scratch_(
            array<std::byte>(rows * (s.width + s.hidden) * static_cast<index_t>(sizeof(S)) + 24 * s.experts + 1024)) {
    host_.offsets.assign(static_cast<std::size_t>(s.experts) + 1, 0);
    for (index_t row = 0; row < rows; ++row)
      ++host_.offsets[moue::detail::mix(static_cast<std::uint64_t>(row)) % static_cast<std::uint64_t>(s.experts) + 1];
    for (std::size_t g = 1; g < host_.offsets.size(); ++g) {
      hit_ += host_.offsets[g] > 0 ? 1 : 0;
      host_.offsets[g] += host_.offsets[g - 1];
    }
    for (const auto& [first, numbers] :
         {std::pair<std::byte*, std::size_t>(bytes(w_), sizeof(S)), {bytes(dw_), sizeof(C)}})
      for (index_t e = 0; e < s.experts; ++e)
        on_host_.push_back(first + static_cast<std::size_t>(e * s.hidden * s.width) * numbers);
    offsets_.upload(host_.offsets);
    addresses_.upload(on_host_);
    const auto ops = gpu.operations(moue::matrix_view<C>{});
    fill_normal(ops, w_.view(s.experts * s.hidden, s.width), 1, 1 / std::sqrt(static_cast<double>(s.width)));
    fill_normal(ops, wide_.view(rows, s.width), 2);
    fill_normal(ops, high_.view(rows, s.hidden), 3);
  }

  /// Bytes of memory.
  static double bytes(const shape& s, index_t rows) {
    return static_cast<double>(s.experts * s.hidden * s.width) * static_cast<double>(sizeof(S) + sizeof(C)) +
           static_cast<double>(rows * (s.width + s.hidden)) * static_cast<double>(2 * sizeof(C) + sizeof(S));
  }

  void run(product p, const moue::product_choice& choice) const {
    const lending<runtime_type> runtime{
        gpu_.runtime(), choice, {scratch_.data(), static_cast<std::size_t>(scratch_.size())}};
    const library::segments groups{offsets_.data(), shape_.experts, nullptr, 0, rows_, &host_};
    const moue::matrix_view<const C> wide = wide_.view(rows_, shape_.width), high = high_.view(rows_, shape_.hidden);
    const auto w = table<const S>(0);
    if (p == product::linear)
      library::products::rows(runtime, library::one_product<false>(
                                           groups, wide, w, high_out_.view(rows_, shape_.hidden), moue::store::assign));
    else if (p == product::transposed)
      library::products::rows(runtime, library::one_product<true>(groups, high, w, wide_out_.view(rows_, shape_.width),
                                                                  moue::store::assign));
    else
      library::products::gradient<S>(runtime, library::one_gradient(groups, high, wide, table<C>(shape_.experts)));
  }

  /// Before an `error` of gradients, which are added to.
  void clear() const {
    dw_.zero();
    high_out_.zero();
    wide_out_.zero();
  }
  /// The worst disagreement of a few rows of the result with double.
  double error(product p) const {
    const auto given = lines(p);
    const auto there = array<sampled_line<S>>(std::ssize(given));
    there.upload(given);
    const index_t columns = p == product::linear ? shape_.hidden : shape_.width;
    const auto expected = array<double>(std::ssize(given) * columns);
    const auto ops = gpu_.operations(moue::matrix_view<C>{});
    const auto find = [&]<class R>(index_t left_step, index_t right_step, index_t next) {
      const auto to = expected.view(std::ssize(given), columns);
      ops.each_element(to.rows, to.cols, find_line<S, R>{there.view(), left_step, right_step, next, to});
    };
    if (p == product::linear)
      find.template operator()<S>(1, 1, shape_.width);
    else if (p == product::transposed)
      find.template operator()<S>(1, shape_.width, 1);
    else
      find.template operator()<C>(shape_.hidden, shape_.width, 1);
    std::vector<double> found;
    std::vector<C> numbers(static_cast<std::size_t>(columns));
    for (const auto& line : given) {
      gpu_.download(line.given, std::span(numbers));
      found.insert(found.end(), numbers.begin(), numbers.end());
    }
    return distance(found, expected.download());
  }

  /// Weights of the groups that have rows, and rows in and out, both once.
  work needed(product p) const {
    const double weights = static_cast<double>(shape_.width * shape_.hidden);
    const double weight_bytes = p == product::gradient ? 2.0 * sizeof(C) : 1.0 * sizeof(S);
    return {2 * static_cast<double>(rows_) * weights,
            static_cast<double>(hit_) * weights * weight_bytes +
                static_cast<double>(rows_ * (shape_.width + shape_.hidden)) * static_cast<double>(sizeof(C))};
  }
  index_t scratch_bytes() const { return scratch_.size(); }

 private:
  template <class T>
  using array_type = decltype(std::declval<GpuT>().template make_array<T>(0));
  template <class T>
  auto array(index_t size) const {
    return gpu_.template make_array<T>(size);
  }
  static std::byte* bytes(const auto& array) { return reinterpret_cast<std::byte*>(array.data()); }
  template <class T>
  library::weight_table<T> table(index_t first) const {
    return {addresses_.data() + first, nullptr, shape_.hidden, shape_.width, shape_.width, on_host_.data() + first};
  }

  std::vector<sampled_line<S>> lines(product p) const {
    std::vector<sampled_line<S>> result;
    const index_t samples = rows_ < 8 ? rows_ : 8;
    for (index_t i = 0; i < samples; ++i) {
      const index_t row = i * rows_ / samples;
      std::size_t g = 0;
      while (host_.offsets[g + 1] <= row) ++g;
      const index_t first = host_.offsets[g], column = i * shape_.hidden / samples;
      const auto w = static_cast<index_t>(g) * shape_.hidden * shape_.width;
      if (p == product::linear)
        result.push_back(
            {wide_.data() + row * shape_.width, w_.data() + w, high_out_.data() + row * shape_.hidden, shape_.width});
      else if (p == product::transposed)
        result.push_back(
            {high_.data() + row * shape_.hidden, w_.data() + w, wide_out_.data() + row * shape_.width, shape_.hidden});
      else
        result.push_back({high_.data() + first * shape_.hidden + column, wide_.data() + first * shape_.width,
                          dw_.data() + w + column * shape_.width, host_.offsets[g + 1] - first});
    }
    return result;
  }

  GpuT gpu_;
  shape shape_;
  index_t rows_, hit_ = 0;
  array_type<S> w_;
  array_type<C> dw_, wide_, high_, wide_out_, high_out_;
  array_type<index_t> offsets_;
  array_type<void*> addresses_;
  array_type<std::byte> scratch_;
  library::host_groups host_;
  std::vector<void*> on_host_;
};

}  // namespace bench
