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
  explicit comparison(result_file file)
      : results_(std::move(file.results)), left_out_(std::move(file.left_out)), failed_(std::move(file.failed)) {}

  /// Neither a failure nor a wrong output.
  bool clean() const { return failed_.empty() && wrong() == 0; }

  /// What matters most; the page has the rest.
  void write_text(std::ostream& out) const {
    for (const auto& table : short_tables()) {
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
    const std::vector<std::pair<std::string, std::string>> rivals{
        {"cublas_loop", "x cuBLAS loop"}, {"torch_grouped", "x torch grouped"}, {"torch_loop", "x torch loop"}};
    // The rivals' stacks have private experts and no routers.
    auto stacks = rivals;
    stacks.insert(stacks.begin(), {"private", "x private"});
    std::vector<table_type> result{
        compare("A layer, forward", "layer_forward", "moue", {}),
        compare("A layer, forward and backward", "layer_training", "moue", {}),
        compare("Eight layers, forward: universal experts", "stack_forward", "universal", stacks),
        compare("Eight layers, forward and backward: universal experts", "stack_training", "universal", stacks),
        compare("Experts, forward", "experts_forward", "moue", rivals),
        compare("Experts, forward and backward", "experts_training", "moue", rivals)};
    for (const auto& [scope, title] : {std::pair<std::string, std::string>("product_linear", "y = x w^T"),
                                       {"product_transposed", "y = x w"},
                                       {"product_gradient", "dw += dy^T x"}})
      result.push_back(compare_ways("Ways to " + title + ", us", scope));
    std::erase_if(result, [](const table_type& table) { return table.rows.size() < 2; });
    return result;
  }

  /// Times of forward, and of forward and backward, with the ratios to others, one line for both.
  table_type compare_both(const std::string& title, const std::string& scope, const std::string& first,
                          const std::vector<std::pair<std::string, std::string>>& others) const {
    table_type table{title, {{"type", "shape", "T"}}};
    const std::string scopes[] = {scope + "_forward", scope + "_training"};
    for (const auto* const heading : {"fwd us", "fwd+bwd us"}) {
      table.rows[0].insert(table.rows[0].end(), {heading, "of floor"});
      for (const auto& [name, text] : others) table.rows[0].push_back(text);
    }
    for (auto r : results_) {
      if (r.scope != scopes[0] || r.implementation != first || !r.counts()) continue;
      table.rows.push_back({r.type, r.shape, std::to_string(r.tokens)});
      for (const auto& both : scopes) {
        r.scope = both;
        const result* const found = find(r, first);
        const double us = found != nullptr ? found->best_us() : not_measured;
        table.rows.back().push_back(text(us, "%.1f"));
        table.rows.back().push_back(found != nullptr ? text(found->floor_us / us, "%.2f") : "-");
        for (const auto& [name, heading] : others)
          table.rows.back().push_back(found != nullptr ? text(ratio(*found, name), "%.2f") : "-");
      }
    }
    return table;
  }
  std::vector<table_type> short_tables() const {
    std::vector<table_type> result{
        compare_both("Experts (x: how many times longer another takes)", "experts", "moue",
                     {{"cublas_loop", "x loop"}, {"torch_grouped", "x torch"}}),
        compare_both("Eight layers of universal experts", "stack", "universal",
                     {{"private", "x private"}, {"cublas_loop", "x loop"}, {"torch_grouped", "x torch"}})};
    std::erase_if(result, [](const table_type& table) { return table.rows.size() < 2; });
    return result;
  }

  static const std::vector<std::string>& ways() {
    static const std::vector<std::string> all{"few_rows", "low_tiles", "high_tiles", "cublas_loop"};
    return all;
  }
  const result* fastest_way(const result& like) const {
    const result* best = nullptr;
    for (const auto& way : ways())
      if (const result* const r = find(like, way); r != nullptr && (best == nullptr || r->best_us() < best->best_us()))
        best = r;
    return best;
  }
  /// Times of all ways, by rows a group, and how many times longer the chosen one takes than the fastest.
  table_type compare_ways(const std::string& title, const std::string& scope) const {
    table_type table{title, {{"type", "shape", "experts", "rows", "chosen"}}};
    table.rows[0].insert(table.rows[0].end(), ways().begin(), ways().end());
    table.rows[0].insert(table.rows[0].end(), {"fastest", "chosen / fastest"});
    for (const auto& r : results_) {
      const result* const best = fastest_way(r);
      if (r.scope != scope || r.implementation != "chosen" || !r.counts() || best == nullptr) continue;
      table.rows.push_back(
          {r.type, r.shape, std::to_string(r.experts), std::to_string(r.tokens), text(r.best_us(), "%.1f")});
      for (const auto& way : ways()) {
        const result* const other = find(r, way);
        table.rows.back().push_back(other != nullptr ? text(other->best_us(), "%.1f") : "-");
      }
      table.rows.back().push_back(best->implementation);
      table.rows.back().push_back(text(r.best_us() / best->best_us(), "%.2f"));
    }
    return table;
  }
  long wrong() const {
    return std::count_if(results_.begin(), results_.end(), [](const result& r) { return !r.counts(); });
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
    std::vector<std::string> lines{
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
        std::to_string(results_.size()) + " figures, of which " + std::to_string(wrong()) +
            " do not count because the output was wrong",
    };
    for (const auto& r : results_)
      if (!r.counts())
        lines.push_back("wrong: " + r.type + " " + r.shape + " T=" + std::to_string(r.tokens) + " " + r.scope + " " +
                        r.implementation + ", error " + text(r.error, "%.1e"));
    lines.insert(lines.end(), failed_.begin(), failed_.end());
    lines.insert(lines.end(), left_out_.begin(), left_out_.end());
    return lines;
  }

  std::vector<result> results_;
  std::vector<std::string> left_out_, failed_;
};

}  // namespace bench
