// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// How much each expert did at each layer, as a value: for pruning, merging, placement, and reports.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "moue/analysis/trace.hpp"
#include "moue/error.hpp"
#include "moue/layer_loss.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {

/// Sums over the tokens of any number of batches. Entries of one token that name one expert count as one. Owns its memory.
struct expert_usage {
  index_t layers = 0;                ///< of the mixture
  index_t experts = 0;               ///< physical ones
  std::vector<std::int64_t> tokens;  ///< [layers] tokens that had an expert
  std::vector<std::int64_t> load;    ///< [layers, experts] tokens that ran on the expert
  std::vector<double> gate_mass;     ///< [layers, experts] their gates
  /// [layers, experts] |gate| times the Euclidean norm of what the expert said; zeros where nobody showed outputs
  std::vector<double> output_mass;
  std::vector<std::int64_t>
      together;  ///< [experts, experts] how often two ran for one token at one layer; the load on the diagonal

  expert_usage() = default;
  /// Zeros. Throws if a size is negative.
  expert_usage(index_t layers_, index_t experts_) : layers(layers_), experts(experts_) {
    detail::require(
        layers >= 0 && experts >= 0, "expert_usage",
        [&] {
          return "it was made for " + std::to_string(layers) + " layers and " + std::to_string(experts) + " experts";
        },
        "use 0 or more");
    const auto table = static_cast<std::size_t>(layers * experts);
    tokens.resize(static_cast<std::size_t>(layers));
    load.resize(table);
    gate_mass.resize(table);
    output_mass.resize(table);
    together.resize(static_cast<std::size_t>(experts * experts));
  }

  /// Adds a trace. Throws if it has other layers or experts, and is then as before.
  void add(const routing_trace& trace) {
    expert_usage more(layers, experts);
    more.count(trace);
    *this += more;
  }
  /// Adds what ran at `layer` of a pass, and the outputs of its experts if it shows them (`show_outputs`) and ran them
  /// itself; waits for a device.
  void add(const auto& pass, index_t layer) {
    routing_trace trace;
    trace.record(pass, layer);
    expert_usage more(layers, experts);
    more.count(trace);
    const auto place = static_cast<std::size_t>(layer - pass.first_layer());
    if constexpr (detail::sees_outputs<typename std::remove_cvref_t<decltype(pass.model())>::loss_type>)
      if (pass.position().elsewhere[place] == 0) more.add_outputs(pass, layer, trace.layers.back());
    *this += more;
  }
  /// Adds the sums of another; an empty value adds nothing. Throws if that is of other layers or experts.
  expert_usage& operator+=(const expert_usage& other) {
    if (other.layers == 0 && other.experts == 0) return *this;
    if (layers == 0 && experts == 0) return *this = other;
    detail::require(
        layers == other.layers && experts == other.experts, "expert_usage",
        [&] {
          return "usage of " + std::to_string(other.layers) + " layers and " + std::to_string(other.experts) +
                 " experts was added to one of " + std::to_string(layers) + " and " + std::to_string(experts);
        },
        "add the usage of one mixture");
    const auto sum = [](auto& to, const auto& from) {
      std::transform(to.begin(), to.end(), from.begin(), to.begin(), [](auto a, auto b) { return a + b; });
    };
    sum(tokens, other.tokens);
    sum(load, other.load);
    sum(gate_mass, other.gate_mass);
    sum(output_mass, other.output_mass);
    sum(together, other.together);
    return *this;
  }
  /// Whether all sums are the same.
  bool operator==(const expert_usage&) const = default;

  /// The place of an expert at a layer in the tables above.
  std::size_t at(index_t layer, index_t expert) const { return static_cast<std::size_t>(layer * experts + expert); }

 private:
  void count(const routing_trace& trace) {
    for (std::size_t l = 0; l < trace.layers.size(); ++l) {
      const auto& of = trace.layers[l];
      for (index_t t = 0; t < of.tokens(); ++t) {
        const auto first = static_cast<std::size_t>(of.offsets[static_cast<std::size_t>(t)]),
                   last = static_cast<std::size_t>(of.offsets[static_cast<std::size_t>(t) + 1]);
        add_token(static_cast<index_t>(l), of, first, last);
      }
    }
  }
  void add_token(index_t layer, const routing_trace::layer_trace& of, std::size_t first, std::size_t last) {
    std::vector<std::int32_t> ran;
    for (std::size_t i = first; i < last; ++i) {
      const std::int32_t e = of.experts[i];
      if (e < 0) continue;
      check(layer, e);
      gate_mass[at(layer, e)] += of.gates[i];
      if (std::find(ran.begin(), ran.end(), e) == ran.end()) ran.push_back(e);
    }
    if (!ran.empty()) ++tokens[static_cast<std::size_t>(layer)];
    for (const auto a : ran) {
      ++load[at(layer, a)];
      for (const auto b : ran) ++together[static_cast<std::size_t>(a * experts + b)];
    }
  }
  void add_outputs(const auto& pass, index_t layer, const routing_trace::layer_trace& of) {
    const auto plan = pass.plan(layer);
    const auto rows = pass.outputs(layer);
    const auto copy = [&](auto view) {
      using T = std::remove_const_t<std::remove_pointer_t<decltype(view.data)>>;
      return detail::on_the_host(pass.model().backend(), vector_view<const T>(view));
    };
    const auto offsets = copy(plan.expert_offsets);
    const auto token = copy(plan.row_token);
    using C = std::remove_const_t<std::remove_pointer_t<decltype(rows.data)>>;
    const auto values = copy(vector_view<const C>{rows.data, rows.rows * rows.cols});
    for (index_t e = 0; e < experts; ++e)
      for (auto row = static_cast<std::size_t>(offsets[static_cast<std::size_t>(e)]);
           row < static_cast<std::size_t>(offsets[static_cast<std::size_t>(e) + 1]); ++row) {
        double square = 0, gate = 0;
        for (std::size_t j = 0; j < static_cast<std::size_t>(rows.cols); ++j) {
          const auto y = static_cast<double>(values[row * static_cast<std::size_t>(rows.cols) + j]);
          square += y * y;
        }
        const auto t = static_cast<std::size_t>(token[row]);
        for (auto i = static_cast<std::size_t>(of.offsets[t]); i < static_cast<std::size_t>(of.offsets[t + 1]); ++i)
          if (of.experts[i] == e) gate += of.gates[i];
        output_mass[at(layer, e)] += std::abs(gate) * std::sqrt(square);
      }
  }
  void check(index_t layer, std::int32_t expert) const {
    detail::require(
        layer < layers && expert < experts, "expert_usage",
        [&] {
          return "expert " + std::to_string(expert) + " at layer " + std::to_string(layer) +
                 " was added to a usage of " + std::to_string(layers) + " layers and " + std::to_string(experts) +
                 " experts";
        },
        "make it for as many layers and experts as the mixture has");
  }
};

/// All tables by their names, flat, row after row.
inline std::string to_json(const expert_usage& usage) {
  std::string text = "{\"layers\": " + std::to_string(usage.layers) + ", \"experts\": " + std::to_string(usage.experts);
  const auto table = [&](const char* name, const auto& values) {
    text += ", ";
    detail::append_json(text, name, values);
  };
  table("tokens", usage.tokens);
  table("load", usage.load);
  table("gate_mass", usage.gate_mass);
  table("output_mass", usage.output_mass);
  table("together", usage.together);
  return text + '}';
}

/// A line "layer,expert,load,gate_mass,output_mass" for every expert of every layer, below one with these names.
inline std::string to_csv(const expert_usage& usage) {
  std::string text = "layer,expert,load,gate_mass,output_mass\n";
  for (index_t l = 0; l < usage.layers; ++l)
    for (index_t e = 0; e < usage.experts; ++e) {
      const std::size_t i = usage.at(l, e);
      text += std::to_string(l) + ',' + std::to_string(e) + ',' + std::to_string(usage.load[i]) + ',';
      detail::append_number(text, usage.gate_mass[i]);
      text += ',';
      detail::append_number(text, usage.output_mass[i]);
      text += '\n';
    }
  return text;
}

}  // namespace moue::inline v0_1
