// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What an executor refuses, and in which words.

#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "moue/error.hpp"
#include "moue/executor/memory.hpp"
#include "moue/parameter.hpp"
#include "moue/routing.hpp"
#include "moue/view.hpp"

namespace moue::detail {

/// What the host knows of a routing wherever its arrays lie.
template <class C>
void check_routing(const routing<C>& r, const expert_record<C>& record) {
  const index_t entries = r.entries();
  require(
      r.gate.size == entries, "executor",
      [&] {
        return "the routing has " + std::to_string(entries) + " experts and " + std::to_string(r.gate.size) + " gates";
      },
      "give one expert and one gate per entry");
  require(
      entries == 0 || (r.expert.data != nullptr && r.gate.data != nullptr && r.offsets.size > 1), "executor",
      [&] { return "the routing has " + std::to_string(entries) + " entries without offsets, experts or gates"; },
      "give all three arrays");
  require(
      entries <= record.plan.row_token.size && r.tokens() < record.plan.token_offsets.size, "executor",
      [&] {
        return std::to_string(r.tokens()) + " tokens with " + std::to_string(entries) +
               " entries were given to memory for " + std::to_string(record.plan.token_offsets.size - 1) + " with " +
               std::to_string(record.plan.row_token.size);
      },
      "take memory for the largest batch");
}

/// What an expert declares: names that tell its parameters apart, and sizes that make sense.
inline void check_declarations(std::span<const parameter_spec> parameters, std::span<const index_t> saved,
                               std::span<const index_t> temporaries) {
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto& spec = parameters[i];
    require(
        !spec.name.empty(), "executor",
        [&] { return "parameter " + std::to_string(i) + " of an expert has an empty name"; },
        "name it: files and optimisers find it by its name");
    for (std::size_t j = 0; j < i; ++j)
      require(
          spec.name != parameters[j].name, "executor",
          [&] { return "two parameters of an expert are called '" + std::string(spec.name) + "'"; },
          "give each parameter of an expert a name of its own");
    require(
        spec.rows > 0 && spec.cols > 0, "executor",
        [&] {
          return "parameter '" + std::string(spec.name) + "' of an expert has shape " +
                 shape_text(spec.rows, spec.cols);
        },
        "give experts positive sizes");
  }
  const auto check = [](std::string_view member, std::span<const index_t> widths) {
    for (std::size_t i = 0; i < widths.size(); ++i)
      require(
          widths[i] >= 0, "executor",
          [&] {
            return "matrix " + std::to_string(i) + " of an expert's " + std::string(member) + "() has width " +
                   std::to_string(widths[i]);
          },
          "declare widths of 0 or more");
  };
  check("saved", saved);
  check("temporaries", temporaries);
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

/// What is only read may repeat one row, with a stride of 0; a single row has no stride.
template <class T>
void check_batch(std::string_view name, const matrix_view<T>& m, index_t tokens, index_t width) {
  require(
      m.rows == tokens && m.cols == width, "executor",
      [&] {
        return std::string(name) + " has shape " + shape_text(m.rows, m.cols) + ", not " + shape_text(tokens, width);
      },
      "give [tokens, width] with the tokens of the routing");
  require(
      m.data != nullptr || m.empty(), "executor", [&] { return std::string(name) + " is null"; },
      "point it at your data");
  require(
      m.rows <= 1 || m.stride >= m.cols || (std::is_const_v<T> && m.stride == 0), "executor",
      [&] {
        return std::string(name) + " has rows of " + std::to_string(m.cols) + " elements that start " +
               std::to_string(m.stride) + " apart";
      },
      std::is_const_v<T> ? "let rows start at least their length apart, or 0 to read one row for every token"
                         : "let rows start at least their length apart");
}

/// What a backend with memory of its own works on must lie there; what owns its memory lies on the host.
inline void check_external(bool owned, std::string_view where, std::string_view what, std::string_view maker) {
  require(
      !owned, where, [&] { return std::string(what) + " own memory of the host, which this backend cannot reach"; },
      "make them with the backend's " + std::string(maker) + ", or pass memory that it can reach");
}

}  // namespace moue::detail
