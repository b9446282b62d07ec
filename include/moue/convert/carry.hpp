// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Moves numbers from one layout to another that has more.

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

#include "moue/error.hpp"
#include "moue/parameter.hpp"
#include "moue/train.hpp"

namespace moue::inline v0_1::convert {
namespace detail {

/// The positions of a layout's tensors by name; valid as long as the layout.
inline std::unordered_map<std::string_view, index_t> tensor_places(const parameter_layout& layout) {
  std::unordered_map<std::string_view, index_t> places;
  for (index_t i = 0; i < layout.tensors(); ++i) places.emplace(layout[i].name, i);
  return places;
}

/// Calls `f(from, to)` for every tensor of `source` and the one of its name in `target`. Throws if there is none, or if
/// its shape differs, except that a layer's router tensor may have grown in rows or in columns.
template <class F>
void match_tensors(const parameter_layout& source, const parameter_layout& target, F&& f) {
  const auto places = tensor_places(target);
  for (index_t i = 0; i < source.tensors(); ++i) {
    const auto& from = source[i];
    const auto found = places.find(from.name);
    moue::detail::require(
        found != places.end(), "carry", [&] { return "the target has no tensor '" + from.name + "'"; },
        "carry into a model whose layout extends the source's");
    const auto& to = target[found->second];
    const bool grown = from.layer >= 0 &&
                       ((to.rows == from.rows && to.cols > from.cols) || (to.cols == from.cols && to.rows > from.rows));
    moue::detail::require(
        grown || (to.rows == from.rows && to.cols == from.cols), "carry",
        [&] {
          return "'" + from.name + "' is " + moue::detail::shape_text(from.rows, from.cols) + " in the source and " +
                 moue::detail::shape_text(to.rows, to.cols) + " in the target";
        },
        "only a layer's router tensor may grow, along its candidates");
    f(i, found->second);
  }
}

}  // namespace detail

/// Copies every tensor of `source` into the tensor of `target` with its name. Where a layer's router tensor grew along
/// its candidates, such as `selection_bias`, it becomes the leading block and the rest is left alone, as are tensors that
/// only the target has. Throws, with the target unchanged, on any other difference, and names the tensor.
template <Storage S>
void carry(const parameters<S>& source, parameters<S>& target) {
  detail::match_tensors(source.layout(), target.layout(), [](index_t, index_t) {});
  detail::match_tensors(source.layout(), target.layout(), [&](index_t from, index_t to) {
    const auto a = source[from];
    const auto b = target[to];
    for (index_t i = 0; i < a.rows; ++i) std::copy_n(&a(i, 0), a.cols, &b(i, 0));
  });
}

/// The same for what an optimiser remembers: moments, master copies and step counts. `target` is an optimiser of the same
/// kind over the converted weights, after these were carried; what is new starts as it does there.
template <class O>
  requires requires(O& o) { o.visit(moue::detail::visitor_archetype{}), o.steps(); }
void carry(O& source, O& target) {
  source.visit([&](std::string_view name, auto& from) {
    target.visit([&](std::string_view other, auto& to) {
      if (name != other) return;
      carry(from, to);
      detail::match_tensors(from.layout(), to.layout(), [&](index_t a, index_t b) {
        target.steps()[static_cast<std::size_t>(b)] = source.steps()[static_cast<std::size_t>(a)];
      });
    });
  });
}

}  // namespace moue::inline v0_1::convert
