// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What an executor refuses, and in which words.

#include <string>
#include <string_view>

#include "moue/error.hpp"
#include "moue/executor/memory.hpp"
#include "moue/parameter.hpp"
#include "moue/routing.hpp"
#include "moue/view.hpp"

namespace moue::detail {

/// `entries` are those that the routing's offsets end at.
template <class C>
void check_routing(const routing<C>& r, index_t entries, const expert_record<C>& record) {
  require(
      r.expert.size == entries && r.gate.size == entries, "executor",
      [&] {
        return "the routing's offsets end at " + std::to_string(entries) + ", but it has " +
               std::to_string(r.expert.size) + " experts and " + std::to_string(r.gate.size) + " gates";
      },
      "give one expert and one gate per entry");
  require(
      entries <= record.plan.row_token.size && r.tokens() < record.plan.token_offsets.size, "executor",
      [&] {
        return std::to_string(r.tokens()) + " tokens with " + std::to_string(entries) +
               " entries were given to memory for " + std::to_string(record.plan.token_offsets.size - 1) + " with " +
               std::to_string(record.plan.row_token.size);
      },
      "take memory for the largest batch");
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

template <class T>
void check_batch(std::string_view name, const matrix_view<T>& m, index_t tokens, index_t width) {
  require(
      m.rows == tokens && m.cols == width && m.stride >= m.cols && (m.data != nullptr || m.empty()), "executor",
      [&] {
        return std::string(name) + " has shape " + shape_text(m.rows, m.cols) + ", not " + shape_text(tokens, width) +
               ", or is null or overlaps itself";
      },
      "give [tokens, width] with the tokens of the routing");
}

/// What a backend with memory of its own works on must lie there; what owns its memory lies on the host.
inline void check_external(bool owned, std::string_view where, std::string_view what, std::string_view maker) {
  require(
      !owned, where, [&] { return std::string(what) + " own memory of the host, which this backend cannot reach"; },
      "make them with the backend's " + std::string(maker) + ", or pass memory that it can reach");
}

}  // namespace moue::detail
