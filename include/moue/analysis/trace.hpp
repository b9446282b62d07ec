// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Where tokens went, as a value that outlives the pass: for files, plots, and measures of one's own.

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "moue/error.hpp"
#include "moue/routing.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {
namespace detail {

/// What lies in a backend's memory, on the host.
template <class B, class T>
std::vector<T> on_the_host(const B& backend, const vector_view<const T>& view) {
  std::vector<T> copy(static_cast<std::size_t>(view.size));
  if (!copy.empty()) backend.download(view.data, std::span<T>(copy));
  return copy;
}

/// The shortest text that reads as the same number; JSON knows no others than finite ones.
inline void append_number(std::string& text, double value) {
  char digits[32];
  if (!(value - value == 0)) {
    text += "null";
    return;
  }
  text.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}
template <class T>
  requires std::is_integral_v<T>
void append_number(std::string& text, T value) { text += std::to_string(value); }
template <class T>
void append_json(std::string& text, const char* name, const std::vector<T>& values) {
  text += '"' + std::string(name) + "\": [";
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i > 0) text += ", ";
    append_number(text, values[i]);
  }
  text += ']';
}

}  // namespace detail

/// The assignments of some layers, of any number of batches one after another. Owns its memory.
struct routing_trace {
  /// One layer: token t has the entries from `offsets[t]` up to `offsets[t + 1]`.
  struct layer_trace {
    std::vector<index_t> offsets{0};    ///< [tokens + 1]
    std::vector<std::int32_t> experts;  ///< [entries] physical ids; −1 where an entry ran nowhere
    std::vector<double> gates;          ///< [entries]

    /// Tokens that were recorded.
    index_t tokens() const { return static_cast<index_t>(offsets.size()) - 1; }
    /// Whether both hold the same.
    bool operator==(const layer_trace&) const = default;
  };

  std::vector<layer_trace> layers;  ///< up to the last one that was recorded

  /// Appends the assignments of a batch at `layer`, which the host can read.
  template <class C>
  void record(index_t layer, const routing<C>& r) {
    detail::require(
        layer >= 0, "routing_trace", [&] { return "layer " + std::to_string(layer) + " was to be recorded"; },
        "count layers from 0");
    if (layer >= std::ssize(layers)) layers.resize(static_cast<std::size_t>(layer) + 1);
    auto& of = layers[static_cast<std::size_t>(layer)];
    const index_t before = of.offsets.back();
    for (index_t t = 0; t < r.tokens(); ++t) of.offsets.push_back(before + r.offsets[t + 1]);
    for (index_t i = 0; i < r.entries(); ++i) {
      of.experts.push_back(r.expert[i]);
      of.gates.push_back(static_cast<double>(r.gate[i]));
    }
  }
  /// Appends what ran at `layer` of a pass, on whatever backend; waits for a device.
  void record(const auto& pass, index_t layer) {
    const auto r = pass.assignments(layer);
    const auto copy = [&](const auto& view) { return detail::on_the_host(pass.model().backend(), view); };
    const auto offsets = copy(r.offsets);
    const auto experts = copy(r.expert);
    const auto gates = copy(r.gate);
    using C = typename std::remove_cvref_t<decltype(gates)>::value_type;
    record(layer, routing<C>{{offsets.data(), std::ssize(offsets)},
                             {experts.data(), std::ssize(experts)},
                             {gates.data(), std::ssize(gates)},
                             {}});
  }

  /// Appends the tokens of another trace, layer by layer.
  routing_trace& operator+=(const routing_trace& other) {
    const routing_trace copy = &other == this ? other : routing_trace{};
    const auto& from = &other == this ? copy.layers : other.layers;
    for (std::size_t l = 0; l < from.size(); ++l)
      record(static_cast<index_t>(l), routing<double>{{from[l].offsets.data(), std::ssize(from[l].offsets)},
                                                      {from[l].experts.data(), std::ssize(from[l].experts)},
                                                      {from[l].gates.data(), std::ssize(from[l].gates)},
                                                      {}});
    return *this;
  }
  /// Whether both hold the same.
  bool operator==(const routing_trace&) const = default;
};

/// `{"layers": [{"offsets": [0, 2], "experts": [3, 1], "gates": [0.75, 0.25]}]}`; numbers read back as they were, and what is
/// not finite is null.
inline std::string to_json(const routing_trace& trace) {
  std::string text = "{\"layers\": [";
  for (std::size_t l = 0; l < trace.layers.size(); ++l) {
    text += l > 0 ? ", {" : "{";
    detail::append_json(text, "offsets", trace.layers[l].offsets);
    text += ", ";
    detail::append_json(text, "experts", trace.layers[l].experts);
    text += ", ";
    detail::append_json(text, "gates", trace.layers[l].gates);
    text += '}';
  }
  return text + "]}";
}

/// A line "layer,token,expert,gate" for every entry, below one with these names.
inline std::string to_csv(const routing_trace& trace) {
  std::string text = "layer,token,expert,gate\n";
  for (std::size_t l = 0; l < trace.layers.size(); ++l) {
    const auto& of = trace.layers[l];
    for (index_t t = 0; t < of.tokens(); ++t)
      for (auto i = of.offsets[static_cast<std::size_t>(t)]; i < of.offsets[static_cast<std::size_t>(t) + 1]; ++i) {
        text += std::to_string(l) + ',' + std::to_string(t) + ',' +
                std::to_string(of.experts[static_cast<std::size_t>(i)]) + ',';
        detail::append_number(text, of.gates[static_cast<std::size_t>(i)]);
        text += '\n';
      }
  }
  return text;
}

}  // namespace moue::inline v0_1
