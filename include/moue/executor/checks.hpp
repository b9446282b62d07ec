// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What an executor refuses, and in which words.

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "moue/error.hpp"
#include "moue/executor/memory.hpp"
#include "moue/parameter.hpp"
#include "moue/routing.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::detail {

/// What the host knows of a routing wherever its arrays lie.
template <class C>
void check_routing(const routing<C>& r, const expert_record<C>& record) {
  const index_t tokens = r.tokens(), entries = r.entries();
  const bool whole = entries == 0 || (r.expert.data != nullptr && r.gate.data != nullptr && r.offsets.size > 1);
  require(
      r.gate.size == entries && whole, "executor",
      [&] {
        return "the routing has " + std::to_string(entries) + " experts and " + std::to_string(r.gate.size) + " gates" +
               (whole ? "" : ", or no offsets, or an array is null");
      },
      "give one expert and one gate per entry, and offsets");
  require(
      entries <= record.plan.row_token.size && tokens < record.plan.token_offsets.size, "executor",
      [&] {
        return std::to_string(tokens) + " tokens with " + std::to_string(entries) +
               " entries were given to memory for " + std::to_string(record.plan.token_offsets.size - 1) + " with " +
               std::to_string(record.plan.row_token.size);
      },
      "take memory for the largest batch");
}

/// What an expert declares: names that tell its parameters apart, and sizes that make sense.
inline void check_declarations(std::span<const parameter_spec> parameters, std::span<const index_t> saved,
                               std::span<const index_t> temporaries) {
  std::string what;
  const auto number = [](auto i) { return std::to_string(static_cast<index_t>(i)); };
  for (std::size_t i = 0; what.empty() && i < parameters.size(); ++i) {
    const std::string_view name = parameters[i].name;
    const index_t rows = parameters[i].rows, cols = parameters[i].cols;
    if (name.empty()) what = "parameter " + number(i) + " of an expert has an empty name";
    if (std::any_of(parameters.begin(), parameters.begin() + static_cast<std::ptrdiff_t>(i),
                    [&](const parameter_spec& other) { return other.name == name; }))
      what = "two parameters of an expert are called '" + std::string(name) + "'";
    if (rows <= 0 || cols <= 0)
      what = "parameter '" + std::string(name) + "' of an expert has shape " + shape_text(rows, cols);
  }
  for (const auto& widths : {saved, temporaries})
    for (std::size_t i = 0; what.empty() && i < widths.size(); ++i)
      if (widths[i] < 0)
        what = "matrix " + number(i) + " of an expert's " + (widths.data() == saved.data() ? "saved" : "temporaries") +
               "() has width " + number(widths[i]);
  if (!what.empty())
    throw error(
        "executor", what,
        "give each parameter of an expert a name of its own and positive sizes, and row matrices widths of 0 or "
        "more");
}

inline void check_experts(const parameter_layout& layout, index_t experts) {
  require(
      layout.experts() == experts, "executor",
      [&] {
        return "the weights or gradients hold " + std::to_string(layout.experts()) + " experts, not " +
               std::to_string(experts);
      },
      "create them from this executor's layout()");
}

/// What is only read may have rows any distance apart, none too; a single row has no stride.
inline void check_batch(std::string_view name, const void* data, index_t rows, index_t cols, index_t stride,
                        bool read_only, index_t tokens, index_t width) {
  if (rows != tokens || cols != width)
    throw error("executor",
                std::string(name) + " has shape " + shape_text(rows, cols) + ", not " + shape_text(tokens, width),
                "give [tokens, width] with the tokens of the routing");
  if (data == nullptr && rows > 0 && cols > 0)
    throw error("executor", std::string(name) + " is null", "point it at your data");
  if (rows > 1 && stride < cols && !read_only)
    throw error("executor",
                std::string(name) + " has rows of " + std::to_string(cols) + " elements that start " +
                    std::to_string(stride) + " apart",
                "let rows start at least their length apart");
}
template <class T>
void check_batch(std::string_view name, const matrix_view<T>& m, index_t tokens, index_t width) {
  check_batch(name, m.data, m.rows, m.cols, m.stride, std::is_const_v<T>, tokens, width);
}

/// What a backend with memory of its own works on must lie there; what owns its memory lies on the host.
inline void check_external(bool owned, std::string_view where, std::string_view what, std::string_view maker) {
  require(
      !owned, where, [&] { return std::string(what) + " own memory of the host, which this backend cannot reach"; },
      "make them with the backend's " + std::string(maker) + ", or pass memory that it can reach");
}

}  // namespace moue::inline v0_1::detail
