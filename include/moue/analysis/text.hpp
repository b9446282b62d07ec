// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// `to_string` for what one wants to look at: views, layouts, topologies, assignments, load and size. All of it reads
/// memory of the host; the texts are for people, and their form may change.

#include <cstddef>
#include <locale>
#include <sstream>
#include <string>
#include <type_traits>

#include "moue/analysis/load.hpp"
#include "moue/analysis/size.hpp"
#include "moue/error.hpp"
#include "moue/parameter.hpp"
#include "moue/routing.hpp"
#include "moue/scalar.hpp"
#include "moue/topology.hpp"
#include "moue/topology/connectivity.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {
namespace detail {

/// At most so many rows and columns of a view are shown.
inline constexpr index_t shown_most = 8;

template <class T>
std::string number_text(T value) {
  std::ostringstream out;
  out.imbue(std::locale::classic());
  if constexpr (std::is_integral_v<T>)
    out << +value;
  else
    out << static_cast<double>(static_cast<compute_t<T>>(value));
  return out.str();
}

template <class T>
std::string row_text(vector_view<T> row) {
  std::string text;
  for (index_t j = 0; j < row.size && j < shown_most; ++j) text += " " + number_text<std::remove_const_t<T>>(row[j]);
  return text + (row.size > shown_most ? " ..." : "");
}

inline std::string tensor_text(const tensor_info& tensor) {
  return tensor.name + " " + shape_text(tensor.rows, tensor.cols) + (tensor.trained ? "" : ", not trained");
}

}  // namespace detail

/// The size, then the first numbers: "[3] 0.5 1 2".
template <class T>
std::string to_string(vector_view<T> v) {
  const std::string size = "[" + std::to_string(v.size) + "]";
  return v.data == nullptr && v.size > 0 ? size + " null" : size + detail::row_text(v);
}

/// The shape, then a line for each of the first rows, with their first numbers.
template <class T>
std::string to_string(const matrix_view<T>& m) {
  std::string text = detail::shape_text(m.rows, m.cols);
  if (m.data == nullptr && !m.empty()) return text + " null";
  if (m.empty()) return text;
  for (index_t i = 0; i < m.rows && i < detail::shown_most; ++i) text += "\n " + detail::row_text(m.row(i));
  return text + (m.rows > detail::shown_most ? "\n  ..." : "");
}

/// A line for each tensor, with its name and shape, and one for all.
inline std::string to_string(const parameter_layout& layout) {
  std::string text;
  for (const auto& tensor : layout) text += detail::tensor_text(tensor) + "\n";
  return text + std::to_string(layout.tensors()) + " tensors, " + std::to_string(layout.elements()) + " elements";
}

/// A line for each layer and a character for each expert: # where the layer may choose it, + where it is always on.
inline std::string to_string(const connectivity& c) {
  std::string text = std::to_string(c.layers()) + " layers, " + std::to_string(c.experts()) + " experts";
  for (index_t layer = 0; layer < c.layers(); ++layer) {
    std::string row(static_cast<std::size_t>(c.experts()), '.');
    for (const auto e : c.candidates(layer)) row[static_cast<std::size_t>(e)] = '#';
    for (const auto e : c.always(layer)) row[static_cast<std::size_t>(e)] = '+';
    text += "\n" + row;
  }
  return text;
}
/// The same of a topology. Throws if it breaks its laws.
template <Topology T>
std::string to_string(const T& topology) {
  return to_string(connectivity(topology));
}

/// A line for each token with its experts, and their gates behind them; - where an entry runs nowhere.
template <class C>
std::string to_string(const routing<C>& r) {
  std::string text = std::to_string(r.tokens()) + " tokens, " + std::to_string(r.entries()) + " entries";
  for (index_t t = 0; t < r.tokens(); ++t) {
    text += "\n" + std::to_string(t) + ":";
    for (index_t i = r.offsets[t]; i < r.offsets[t + 1]; ++i)
      text += r.expert[i] < 0 ? std::string(" -")
                              : " " + std::to_string(r.expert[i]) + " (" + detail::number_text(r.gate[i]) + ")";
  }
  return text;
}

/// Imbalance over the depth, experts that nobody chose, then a line for each layer.
inline std::string to_string(const load_report& report) {
  std::string text = "largest / mean load " + detail::number_text(report.raw) + ", in proportion to reach " +
                     detail::number_text(report.corrected) + "; idle experts:";
  for (const index_t e : report.dead) text += " " + std::to_string(e);
  if (report.dead.empty()) text += " none";
  for (std::size_t layer = 0; layer < report.layer_max_mean.size(); ++layer)
    text += "\nlayer " + std::to_string(layer) + ": largest / mean " +
            detail::number_text(report.layer_max_mean[layer]) + ", entropy " +
            detail::number_text(report.layer_entropy[layer]);
  return text;
}

/// All of them, in one line.
inline std::string to_string(const model_size& size) {
  return std::to_string(size.physical) + " parameters (" + std::to_string(size.trained) + " trained, " +
         std::to_string(size.unshared) + " if nothing were shared), " + detail::number_text(size.active) +
         " active and " + detail::number_text(size.flops) + " operations per token";
}

}  // namespace moue::inline v0_1
