// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Feed-forward blocks as views, and how an expert is cut from one.

#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "moue/error.hpp"
#include "moue/parameter.hpp"
#include "moue/scalar.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::convert {

/// The weights of one feed-forward block or expert, in the shapes of `gated_mlp` and `mlp`. What is not there is empty.
template <class T>
struct ffn {
  matrix_view<T> gate;       ///< [hidden, width], only if gated
  matrix_view<T> up;         ///< [hidden, width]
  matrix_view<T> down;       ///< [width, hidden]
  vector_view<T> gate_bias;  ///< [hidden], only if gated
  vector_view<T> up_bias;    ///< [hidden]
  vector_view<T> down_bias;  ///< [width]

  /// Columns of its input and output.
  index_t width() const { return up.cols; }
  /// Hidden units.
  index_t hidden() const { return up.rows; }
  /// The same, to be read.
  operator ffn<const T>() const requires(!std::is_const_v<T>) {
    return {gate, up, down, gate_bias, up_bias, down_bias};
  }
};

/// The tensors of physical expert `expert`, by name. Throws if it is no feed-forward block.
template <class Values>  // parameters<S>, const or not
auto expert_ffn(Values& weights, index_t expert) {
  using view = decltype(weights[index_t{0}]);
  using element = std::remove_pointer_t<decltype(view::data)>;
  const auto& layout = weights.layout();
  moue::detail::require(
      expert >= 0 && expert < layout.experts(), "convert",
      [&] { return "expert " + std::to_string(expert) + " was asked for of " + std::to_string(layout.experts()); },
      "name a physical expert of the model");
  ffn<element> result;
  for (index_t i = layout.expert_first(expert); i < layout.tensors() && layout[i].expert == expert; ++i) {
    const std::string_view name = std::string_view(layout[i].name).substr(layout[i].name.rfind('.') + 1);
    if (name == "gate")
      result.gate = weights[i];
    else if (name == "up")
      result.up = weights[i];
    else if (name == "down")
      result.down = weights[i];
    else if (name == "gate_bias")
      result.gate_bias = weights[i].row(0);
    else if (name == "up_bias")
      result.up_bias = weights[i].row(0);
    else if (name == "down_bias")
      result.down_bias = weights[i].row(0);
    else
      throw error("convert", "'" + layout[i].name + "' belongs to no feed-forward block",
                  "use gated_mlp or mlp experts");
  }
  moue::detail::require(
      result.up.data != nullptr && result.down.data != nullptr, "convert",
      [&] { return "expert " + std::to_string(expert) + " has no 'up' or no 'down'"; }, "use gated_mlp or mlp experts");
  return result;
}

/// What the parts of an expert are multiplied by when it is cut from a block.
struct cut_factors {
  double gate = 1;       ///< with its bias
  double up = 1;         ///< with its bias
  double down = 1;       ///< of the matrix
  double down_bias = 1;  ///< of its bias
};

/// The hidden units [first, first + count).
inline std::vector<index_t> hidden_units(index_t first, index_t count) {
  std::vector<index_t> units(static_cast<std::size_t>(count));
  std::iota(units.begin(), units.end(), first);
  return units;
}

namespace detail {

template <class To, class From>
To scaled(From value, double factor) {
  // A factor of 1 changes no bit; others are applied in double, which holds every compute type but long double.
  using C = compute_t<std::remove_const_t<From>>;
  const C wide = static_cast<C>(value);
  return To(static_cast<compute_t<To>>(factor == 1 ? wide : static_cast<C>(static_cast<double>(wide) * factor)));
}

}  // namespace detail

/// Writes the expert made of the hidden units `units` of `source` to `out`. Throws if shapes do not fit, a unit is out of
/// range, or one of the two has a gate or a bias that the other lacks.
template <class From, class To>
void write_expert(const ffn<const From>& source, std::span<const index_t> units, const cut_factors& by,
                  const ffn<To>& out) {
  using moue::detail::require;
  constexpr auto where = "convert";
  const auto count = static_cast<index_t>(units.size());
  require(
      out.hidden() == count && out.width() == source.width() && out.down.rows == source.width() &&
          out.down.cols == count && source.down.rows == source.width() && source.down.cols == source.hidden(),
      where,
      [&] {
        return "an expert of shape " + moue::detail::shape_text(out.hidden(), out.width()) + " was to be cut as " +
               std::to_string(count) + " units from a block of shape " +
               moue::detail::shape_text(source.hidden(), source.width());
      },
      "give up and gate as [hidden, width] and down as [width, hidden]");
  require((source.gate.data == nullptr) == (out.gate.data == nullptr) &&
              source.gate_bias.size * count == out.gate_bias.size * source.hidden() &&
              source.up_bias.size * count == out.up_bias.size * source.hidden() &&
              source.down_bias.size == out.down_bias.size,
          where, [] { return std::string("block and expert differ in having a gate or biases"); },
          "use the expert type that matches the block");
  for (index_t i = 0; i < count; ++i) {
    const index_t unit = units[static_cast<std::size_t>(i)];
    require(
        unit >= 0 && unit < source.hidden(), where,
        [&] { return "hidden unit " + std::to_string(unit) + " was asked for of " + std::to_string(source.hidden()); },
        "name units of the block");
    for (index_t j = 0; j < source.width(); ++j) {
      if (source.gate.data != nullptr) out.gate(i, j) = detail::scaled<To>(source.gate(unit, j), by.gate);
      out.up(i, j) = detail::scaled<To>(source.up(unit, j), by.up);
      out.down(j, i) = detail::scaled<To>(source.down(j, unit), by.down);
    }
    if (source.gate_bias.size > 0) out.gate_bias[i] = detail::scaled<To>(source.gate_bias[unit], by.gate);
    if (source.up_bias.size > 0) out.up_bias[i] = detail::scaled<To>(source.up_bias[unit], by.up);
  }
  for (index_t j = 0; j < source.down_bias.size; ++j)
    out.down_bias[j] = detail::scaled<To>(source.down_bias[j], by.down_bias);
}

}  // namespace moue::inline v0_1::convert
