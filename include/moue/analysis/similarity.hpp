// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// How alike experts are, by what they compute or by their weights. All measures are cosines between one row per expert;
/// they differ in what the row holds.

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "moue/error.hpp"
#include "moue/executor.hpp"
#include "moue/parameter.hpp"
#include "moue/view.hpp"
#include "moue/workspace.hpp"

namespace moue::inline v0_1 {

/// A symmetric table over pairs of items (experts, or rows of any kind). NaN where the measure has no value.
struct similarity_matrix {
  index_t items = 0;           ///< experts, or rows of any kind
  std::vector<double> values;  ///< [items, items]

  /// The entry of items `a` and `b`.
  double operator()(index_t a, index_t b) const { return values[static_cast<std::size_t>(a * items + b)]; }
  /// All entries, as long as this lives.
  matrix_view<const double> view() const& { return {values.data(), items, items}; }
};

/// The cosine between every two rows of `rows` [items, n], such as router rows or flattened weights; NaN for rows that
/// are zero or not finite. One product of O(items² n) on `backend`.
template <class BackendT, class C>
similarity_matrix cosine_of_rows(const BackendT& backend, matrix_view<const C> rows) {
  const index_t items = rows.rows;
  std::vector<C> unit(static_cast<std::size_t>(items * rows.cols));
  std::vector<bool> usable(static_cast<std::size_t>(items));
  const matrix_view<C> scaled{unit.data(), items, rows.cols};
  for (index_t i = 0; i < items; ++i) {
    double most = 0;  // squares of large or tiny weights would leave the range of C
    for (const C value : rows.row(i)) {
      const double size = std::abs(static_cast<double>(value));
      if (!(size <= most)) most = size;
    }
    double sum = 0;
    for (const C value : rows.row(i)) sum += static_cast<double>(value) / most * (static_cast<double>(value) / most);
    usable[static_cast<std::size_t>(i)] = most > 0 && std::isfinite(most) && std::isfinite(sum);
    if (!usable[static_cast<std::size_t>(i)]) continue;
    const double factor = 1 / (most * std::sqrt(sum));
    for (index_t j = 0; j < rows.cols; ++j) scaled(i, j) = static_cast<C>(static_cast<double>(rows(i, j)) * factor);
  }
  std::vector<C> products(static_cast<std::size_t>(detail::checked_product(items, items, "products of rows")));
  const matrix_view<C> out{products.data(), items, items};
  if (items > 0)
    backend.operations(matrix_view<C>{}).linear(matrix_view<const C>(scaled), matrix_view<const C>(scaled), out);
  similarity_matrix result{items, std::vector<double>(static_cast<std::size_t>(items * items))};
  for (index_t a = 0; a < items; ++a)
    for (index_t b = 0; b < items; ++b) {
      // The product need not be symmetric to the last bit, nor the diagonal exactly 1; the measure is.
      const double value = a == b ? 1 : static_cast<double>(out(a < b ? a : b, a < b ? b : a));
      const bool defined = usable[static_cast<std::size_t>(a)] && usable[static_cast<std::size_t>(b)];
      result.values[static_cast<std::size_t>(a * items + b)] =
          defined ? value : std::numeric_limits<double>::quiet_NaN();
    }
  return result;
}

/// What every expert makes of the same inputs: `probes` [tokens, width] in, [experts, tokens · width] out, expert by
/// expert. Draw probes from the layers' real inputs where you can; random ones reach parts of an expert that text does
/// not. O(experts tokens) rows through the experts.
template <class ExpertT, class BackendT, Storage S, class C = compute_t<S>>
std::vector<C> probe_outputs(const executor<ExpertT, BackendT>& experts, const parameters<S>& weights,
                             matrix_view<const C> probes) {
  const index_t tokens = probes.rows, row = detail::checked_product(tokens, experts.width(), "probes");
  workspace block(experts.template workspace_bytes<S>(tokens, tokens));
  auto memory = experts.template carve<S>(block, tokens, tokens);
  std::vector<C> out(static_cast<std::size_t>(detail::checked_product(experts.experts(), row, "outputs of probes")));
  std::vector<index_t> offsets(static_cast<std::size_t>(tokens) + 1);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens));
  const std::vector<C> gates(static_cast<std::size_t>(tokens), C(1));
  for (index_t t = 0; t <= tokens; ++t) offsets[static_cast<std::size_t>(t)] = t;
  for (index_t e = 0; e < experts.experts(); ++e) {
    ids.assign(ids.size(), static_cast<std::int32_t>(e));
    const routing<C> all{{offsets.data(), tokens + 1}, {ids.data(), tokens}, {gates.data(), tokens}};
    experts.template forward<S>(all, weights, probes, matrix_view<C>{out.data() + e * row, tokens, experts.width()},
                                memory);
  }
  return out;
}

/// The measure to reach for first: mean over tokens of the cosine between two experts' outputs for the same token.
/// `outputs` [experts, tokens · width], as from `probe_outputs`. Blind to the scale of an expert and to the order of its
/// hidden units. Tokens whose output is zero count as similar to nothing.
template <class BackendT, class C>
similarity_matrix output_similarity(const BackendT& backend, matrix_view<const C> outputs, index_t tokens) {
  std::vector<C> unit(outputs.data, outputs.data + outputs.rows * outputs.cols);
  const index_t width = tokens > 0 ? outputs.cols / tokens : 0;
  detail::require(
      outputs.stride == outputs.cols && width * tokens == outputs.cols, "output_similarity",
      [&] { return std::to_string(outputs.cols) + " columns are not " + std::to_string(tokens) + " equal tokens"; },
      "give densely packed outputs [experts, tokens * width]");
  for (index_t i = 0; i < outputs.rows * tokens; ++i) {
    const vector_view<C> token{unit.data() + i * width, width};
    double sum = 0;
    for (const C value : token) sum += static_cast<double>(value) * static_cast<double>(value);
    for (C& value : token) value = sum > 0 ? static_cast<C>(static_cast<double>(value) / std::sqrt(sum)) : C(0);
  }
  return cosine_of_rows(backend, matrix_view<const C>{unit.data(), outputs.rows, outputs.cols});
}

/// Linear centred kernel alignment (Kornblith et al., arXiv 1905.00414) between the outputs of every two experts, which
/// also ignores rotations of the output. `outputs` [experts, tokens · width]. O(experts tokens² width).
template <class BackendT, class C>
similarity_matrix output_alignment(const BackendT& backend, matrix_view<const C> outputs, index_t tokens) {
  const index_t width = tokens > 0 ? outputs.cols / tokens : 0;
  detail::require(
      outputs.stride == outputs.cols && width * tokens == outputs.cols, "output_alignment",
      [&] { return std::to_string(outputs.cols) + " columns are not " + std::to_string(tokens) + " equal tokens"; },
      "give densely packed outputs [experts, tokens * width]");
  const auto ops = backend.operations(matrix_view<C>{});
  const index_t gram = detail::checked_product(tokens, tokens, "products of tokens");
  std::vector<C> grams(static_cast<std::size_t>(detail::checked_product(outputs.rows, gram, "products of tokens")));
  std::vector<C> centred(static_cast<std::size_t>(outputs.cols));
  for (index_t e = 0; e < outputs.rows; ++e) {
    const matrix_view<const C> y{outputs.data + e * outputs.cols, tokens, width};
    const matrix_view<C> to{centred.data(), tokens, width};
    for (index_t j = 0; j < width; ++j) {
      double mean = 0;
      for (index_t t = 0; t < tokens; ++t) mean += static_cast<double>(y(t, j)) / static_cast<double>(tokens);
      for (index_t t = 0; t < tokens; ++t) to(t, j) = static_cast<C>(static_cast<double>(y(t, j)) - mean);
    }
    ops.linear(matrix_view<const C>(to), matrix_view<const C>(to),
               matrix_view<C>{grams.data() + e * tokens * tokens, tokens, tokens});
  }
  return cosine_of_rows(backend, matrix_view<const C>{grams.data(), outputs.rows, tokens * tokens});
}

/// Cosine of all weights of two experts, laid end to end. Near 1 for copies, as after upcycling; near 0 between experts
/// trained apart even if they compute the same, since their hidden units come in different orders. All experts must be
/// of one shape; copies the weights once.
template <class BackendT, Storage S>
similarity_matrix weight_similarity(const BackendT& backend, const parameters<S>& weights) {
  using C = compute_t<S>;
  const auto& layout = weights.layout();
  std::vector<C> rows;
  index_t columns = -1;
  for (index_t e = 0; e < layout.experts(); ++e) {
    const auto before = rows.size();
    for (index_t i = layout.expert_first(e); i < layout.tensors() && layout[i].expert == e; ++i)
      for (index_t j = 0; j < layout[i].size(); ++j) rows.push_back(static_cast<C>(weights[i].data[j]));
    const auto here = static_cast<index_t>(rows.size() - before);
    detail::require(
        columns < 0 || columns == here, "weight_similarity",
        [&] {
          return "expert " + std::to_string(e) + " has " + std::to_string(here) + " weights, expert 0 has " +
                 std::to_string(columns);
        },
        "compare outputs instead (output_similarity)");
    columns = here;
  }
  return cosine_of_rows(backend, matrix_view<const C>{rows.data(), layout.experts(), columns < 0 ? 0 : columns});
}

}  // namespace moue::inline v0_1
