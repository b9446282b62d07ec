// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What an executor refuses, and in which words.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "moue/dispatch/offsets.hpp"
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
  if (r.gate.size != entries || !whole) refuse_routing(entries, r.gate.size, whole);
  if (entries > record.room || tokens >= record.plan.token_offsets.size)
    refuse_batch(tokens, entries, record.plan.token_offsets.size - 1, record.room);
}

[[noreturn]] inline void refuse_unlike(index_t tokens, index_t entries, index_t ran_tokens, index_t ran_entries) {
  const std::string ran = ran_tokens < 0
                              ? "forward has not run"
                              : "forward ran " + std::to_string(ran_tokens) + " with " + std::to_string(ran_entries);
  throw error("executor",
              "backward was given " + std::to_string(tokens) + " tokens with " + std::to_string(entries) +
                  " entries, but " + ran,
              "call forward with the same routing and memory before backward");
}
/// What backward is given must be of the sizes that forward ran, or the record is one of something else.
template <class C>
void check_ran(const routing<C>& r, const expert_record<C>& record) {
  if (record.tokens != r.tokens() || record.entries != r.entries())
    refuse_unlike(r.tokens(), r.entries(), record.tokens, record.entries);
}

/// Widths up to here can be added up and counted in bytes.
inline constexpr index_t largest_width = index_t{1} << (sizeof(index_t) > 4 ? 40 : 24);

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
      if (widths[i] < 0 || widths[i] > largest_width)
        what = "matrix " + number(i) + " of an expert's " + (widths.data() == saved.data() ? "saved" : "temporaries") +
               "() has width " + number(widths[i]);
  if (!what.empty())
    throw error("executor", what,
                "give each parameter of an expert a name of its own and positive sizes, and row matrices widths from 0 "
                "to 2^40");
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

/// A matrix as memory: rows of `bytes` that start `stride` bytes apart.
struct byte_rows {
  const void* data;
  index_t rows, bytes, stride;

  template <class T>
  byte_rows(const matrix_view<T>& m)
      : data(m.data), rows(m.rows), bytes(m.cols * index_t{sizeof(T)}), stride(m.stride * index_t{sizeof(T)}) {}
  /// From the lowest row on: rows that are only read may run backwards.
  std::uintptr_t begin() const { return reinterpret_cast<std::uintptr_t>(data) + (stride < 0 ? span() : 0); }
  std::uintptr_t end() const {
    return reinterpret_cast<std::uintptr_t>(data) + (stride > 0 ? span() : 0) + static_cast<std::uintptr_t>(bytes);
  }
  std::uintptr_t span() const { return static_cast<std::uintptr_t>((rows - 1) * stride); }
  bool empty() const { return rows <= 0 || bytes <= 0; }
};

/// Whether the elements of two matrices meet. Columns of one buffer side by side do not.
inline bool overlap(const byte_rows& a, const byte_rows& b) {
  if (a.empty() || b.empty()) return false;
  if (a.begin() > b.begin()) return overlap(b, a);
  if (b.begin() >= a.end()) return false;
  if (a.rows == 1 || a.stride != b.stride || a.stride <= 0) return true;
  const auto stride = static_cast<std::uintptr_t>(a.stride), between = (b.begin() - a.begin()) % stride;
  return between < static_cast<std::uintptr_t>(a.bytes) || stride - between < static_cast<std::uintptr_t>(b.bytes);
}
[[noreturn]] inline void refuse_overlap(std::string_view where, std::string_view from, std::string_view to) {
  throw error(where, std::string(to) + " shares some of its elements with " + std::string(from),
              "give the same matrix, or memory of its own");
}
/// What is written may lie where something is read, but not in a part of it.
inline void check_overlap(std::string_view where, std::string_view from, const byte_rows& read, std::string_view to,
                          const byte_rows& written) {
  const bool same =
      read.data == written.data && read.bytes == written.bytes && (read.stride == written.stride || read.rows < 2);
  if (!same && overlap(read, written)) refuse_overlap(where, from, to);
}

/// What a backend with memory of its own works on must lie there; what owns its memory lies on the host.
inline void check_external(bool owned, std::string_view where, std::string_view what, std::string_view maker) {
  require(
      !owned, where, [&] { return std::string(what) + " own memory of the host, which this backend cannot reach"; },
      "make them with the backend's " + std::string(maker) + ", or pass memory that it can reach");
}

}  // namespace moue::inline v0_1::detail
