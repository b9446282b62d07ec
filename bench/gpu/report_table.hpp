// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Implementations of one task side by side.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <limits>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "results.hpp"

namespace bench {

/// Figures that count, one task a line. Times are the better of queued and replayed; a ratio says how many times longer
/// another implementation takes than the first.
class comparison {
 public:
  explicit comparison(std::vector<result> results) : results_(std::move(results)) {}

  void write_text(std::ostream& out) const {
    for (const auto& table : tables()) {
      out << '\n' << table.title << '\n';
      std::vector<std::size_t> widths(table.rows[0].size());
      for (const auto& row : table.rows)
        for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
      for (const auto& row : table.rows) {
        for (std::size_t i = 0; i < row.size(); ++i)
          out << (i > 0 ? "  " : "") << std::string(widths[i] - row[i].size(), ' ') << row[i];
        out << '\n';
      }
    }
    out << '\n';
    for (const auto& line : verdicts()) out << line << '\n';
  }

  void write_markdown(std::ostream& out, const std::vector<std::string>& notes) const {
    out << "# GPU benchmark\n";
    for (const auto& note : notes) out << "\n- " << note;
    if (!notes.empty()) out << '\n';
    for (const auto& table : tables()) {
      out << "\n## " << table.title << "\n\n";
      for (std::size_t r = 0; r < table.rows.size(); ++r) {
        for (const auto& cell : table.rows[r]) out << "| " << cell << ' ';
        out << "|\n";
        if (r > 0) continue;
        for (std::size_t i = 0; i < table.rows[0].size(); ++i) out << "| --- ";
        out << "|\n";
      }
    }
    out << "\n## Goals\n\n";
    for (const auto& line : verdicts()) out << "- " << line << '\n';
  }

 private:
  struct table_type {
    std::string title;
    std::vector<std::vector<std::string>> rows;
  };
  using filter = std::function<bool(const result&)>;

  static std::string text(double value, const char* format) {
    if (!std::isfinite(value)) return "-";
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, format, value);
    return buffer;
  }

  const result* find(const result& like, const std::string& implementation) const {
    for (const auto& r : results_)
      if (r.chip == like.chip && r.type == like.type && r.shape == like.shape && r.tokens == like.tokens &&
          r.scope == like.scope && r.implementation == implementation && r.counts())
        return &r;
    return nullptr;
  }
  /// How many times longer `implementation` takes than `r`.
  double ratio(const result& r, const std::string& implementation) const {
    const result* const other = find(r, implementation);
    return other != nullptr ? other->best_us() / r.best_us() : not_measured;
  }

  table_type compare(const std::string& title, const std::string& scope, const std::string& first,
                     const std::vector<std::pair<std::string, std::string>>& others) const {
    table_type table{title, {{"type", "shape", "experts", "tokens", "us", "TFLOP/s", "of floor", "launches", "MB"}}};
    for (const auto& [name, heading] : others) table.rows[0].push_back(heading);
    for (const auto& r : results_) {
      if (r.scope != scope || r.implementation != first || !r.counts()) continue;
      table.rows.push_back({r.type, r.shape, std::to_string(r.experts), std::to_string(r.tokens),
                            text(r.best_us(), "%.1f"), text(r.flops / r.best_us() * 1e-6, "%.1f"),
                            text(r.floor_us / r.best_us(), "%.2f"), std::to_string(r.launches),
                            text(r.scratch_bytes * 1e-6, "%.1f")});
      for (const auto& [name, heading] : others) table.rows.back().push_back(text(ratio(r, name), "%.2f"));
    }
    return table;
  }

  std::vector<table_type> tables() const {
    const std::vector<std::pair<std::string, std::string>> rivals{{"cublas_loop", "x cuBLAS loop"},
                                                                  {"cublas_grouped", "x cuBLAS grouped"},
                                                                  {"torch_grouped", "x torch grouped"},
                                                                  {"torch_loop", "x torch loop"}};
    std::vector<table_type> result{
        compare("A layer, forward", "layer_forward", "moue", {}),
        compare("A layer, forward and backward", "layer_training", "moue", {}),
        compare("Eight layers, forward: universal experts", "stack_forward", "universal", {{"private", "x private"}}),
        compare("Eight layers, forward and backward: universal experts", "stack_training", "universal",
                {{"private", "x private"}}),
        compare("Experts, forward", "experts_forward", "moue", rivals),
        compare("Experts, forward and backward", "experts_training", "moue", rivals)};
    std::erase_if(result, [](const table_type& table) { return table.rows.size() < 2; });
    return result;
  }

  /// Whether `value` reaches `least` wherever it was measured, and where it is lowest.
  template <class Value>
  std::string verdict(const std::string& goal, double least, const filter& wanted, const Value& value) const {
    double lowest = std::numeric_limits<double>::infinity();
    std::string where;
    for (const auto& r : results_) {
      if (r.implementation != "moue" || !r.counts() || !wanted(r)) continue;
      if (const double v = value(r); v < lowest) {
        lowest = v;
        where = r.type + " " + r.shape + " T=" + std::to_string(r.tokens) + " " + r.scope;
      }
    }
    if (where.empty()) return goal + ": not measured";
    return goal + ": " + (lowest >= least ? "met" : "MISSED") + " (lowest " + text(lowest, "%.2f") + " at " + where +
           ")";
  }

  std::vector<std::string> verdicts() const {
    const auto experts = [](const result& r) { return r.scope == "experts_forward" || r.scope == "experts_training"; };
    const auto than = [this](const char* name) { return [this, name](const result& r) { return ratio(r, name); }; };
    long broken = 0;
    for (const auto& r : results_) broken += r.counts() ? 0 : 1;
    return {
        verdict("never slower than a cuBLAS loop", 1, experts, than("cublas_loop")),
        verdict(
            "twice as fast at up to 256 tokens on OLMoE and Qwen3", 2,
            [&](const result& r) {
              return experts(r) && r.tokens <= 256 && (r.shape == "olmoe" || r.shape == "qwen3-30b");
            },
            than("cublas_loop")),
        verdict(
            "0.8 of the floor from 4096 tokens on", 0.8,
            [&](const result& r) { return experts(r) && r.tokens >= 4096; },
            [](const result& r) { return r.floor_us / r.best_us(); }),
        verdict("never slower than torch's grouped products", 1, experts, than("torch_grouped")),
        std::to_string(results_.size()) + " figures, of which " + std::to_string(broken) +
            " do not count because the output was wrong",
    };
  }

  std::vector<result> results_;
};

}  // namespace bench
