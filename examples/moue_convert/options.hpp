// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The command line.

#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../program/program.hpp"
#include "moue/view.hpp"

namespace converting {

using program::usage_error;

/// "name:1:2" as it stands on the command line.
struct spec {
  std::string name;
  std::vector<double> numbers;
  std::string text;  ///< all that follows the first colon
};

struct options {
  std::filesystem::path in, out;
  spec topology{"shared_pool", {}, {}};
  spec universal{"all", {}, {}};
  spec rows{"zero", {}, {}};
  double opening = -std::numeric_limits<double>::infinity();
  std::uint64_t seed = 1;
  std::uint64_t shard_bytes = 5'000'000'000;
  std::string family;
  bool back = false;
  bool dry_run = false;
  bool help = false;
};

inline constexpr std::string_view help_text =
    R"(moue_convert: a checkpoint of a mixture of experts becomes one of universal experts, without changing what it computes

  moue_convert IN OUT [options]     IN: a file or folder that moue_inspect recognises; OUT: a folder, made if need be
  moue_convert IN OUT --back        IN: such an OUT; the open connections become private copies of experts

All tensors of IN go into OUT byte for byte, and any program that reads IN's family still finds IN's model there. Beside
them stand, for every layer, a router row and an opening bias for each expert of other layers that it can now reach.

--topology WHICH   what layers reach, of the universal experts in their order:
                     shared_pool                          all of them (default)
                     staggered_rotation:WINDOW:STRIDE     a window that moves on by STRIDE from layer to layer
                     reuse_blocks:LAYERS                  those of the same block of layers
                     adjacent_reuse:REACH                 those of REACH layers before and behind
--universal WHICH  which experts other layers may reach:
                     all                                  every routed expert (default)
                     list:ID,ID,...                       these; expert e of mixture layer l is l * experts + e
                     most_used:COUNT:FILE                 the COUNT with the highest load; FILE is a JSON list of loads,
                                                          one per layer and expert
                     most_similar:COUNT                   the COUNT with the closest kin in other layers, by what they
                                                          make of random inputs; reads every expert
--rows WHICH       what the new router rows start as: zero (default), mean:SCALE (of the layer's own rows), home:SCALE
                   (the expert's row in its own layer), random:DEVIATION
--open BIAS        open all connections with this bias on their logits, instead of leaving them closed
--seed N           of random rows (default 1)
--shard-size MB    data in one file of OUT (default 5000)
--family NAME      take IN for one of this family, instead of finding out
--back             see above
--dry-run          say what would be written, and write nothing
--help             this text
)";

namespace detail {

/// Which numbers an option takes.
struct range {
  double least, most;
  bool whole = false;
};
inline constexpr range positive{1, 1e9, true}, from_zero{0, 1e9, true}, factor{-1e6, 1e6}, deviation{0, 1e6};

inline double number_in(std::string_view flag, std::string_view value, const range& taken) {
  double result = 0;
  const auto [end, problem] = std::from_chars(value.data(), value.data() + value.size(), result);
  const bool read = problem == std::errc() && end == value.data() + value.size();
  if (!read || !(result >= taken.least && result <= taken.most) || (taken.whole && result != std::floor(result))) {
    char needed[80];
    std::snprintf(needed, sizeof needed, "a %snumber from %.10g to %.10g", taken.whole ? "whole " : "", taken.least,
                  taken.most);
    throw usage_error("option '" + std::string(flag) + "' needs " + needed + ", not '" + std::string(value) +
                      "' (see --help)");
  }
  return result;
}

/// A name, and the numbers that have to follow it.
struct known {
  std::string_view name;
  std::array<range, 2> numbers{};
  std::size_t count = 0;
};

inline spec spec_in(std::string_view flag, std::string_view value, std::span<const known> all) {
  const auto colon = value.find(':');
  spec result{std::string(value.substr(0, colon)), {}, {}};
  if (colon != std::string_view::npos) result.text = value.substr(colon + 1);
  for (const auto& [name, numbers, count] : all) {
    if (name != result.name) continue;
    std::string_view rest = result.text;
    for (std::size_t i = 0; i < count; ++i) {
      const auto end = rest.find(':');
      result.numbers.push_back(number_in(flag, rest.substr(0, end), numbers[i]));
      rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
    }
    const bool free_text = name == "list" || name == "most_used";
    if (!free_text && !rest.empty())
      throw usage_error("option '" + std::string(flag) + "' cannot take '" + std::string(value) + "' (see --help)");
    if (name == "most_used") result.text = rest;
    return result;
  }
  throw usage_error("option '" + std::string(flag) + "' does not know '" + std::string(value) + "' (see --help)");
}

inline constexpr known topologies[] = {{"shared_pool"},
                                       {"staggered_rotation", {positive, from_zero}, 2},
                                       {"reuse_blocks", {positive}, 1},
                                       {"adjacent_reuse", {from_zero}, 1}};
inline constexpr known choices[] = {{"all"}, {"list"}, {"most_used", {positive}, 1}, {"most_similar", {positive}, 1}};
inline constexpr known fillings[] = {
    {"zero"}, {"mean", {factor}, 1}, {"home", {factor}, 1}, {"random", {deviation}, 1}};

}  // namespace detail

/// Reads the arguments that follow the program's name. Throws `usage_error`.
inline options parse_options(std::span<const std::string_view> arguments) {
  options o;
  bool converts = false;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const auto flag = arguments[i];
    const auto value = [&]() -> std::string_view {
      if (++i == arguments.size()) throw usage_error("option '" + std::string(flag) + "' needs a value");
      return arguments[i];
    };
    const bool of_conversion = flag == "--topology" || flag == "--universal" || flag == "--rows" || flag == "--open";
    converts = converts || of_conversion;
    if (flag == "--help" || flag == "-h")
      o.help = true;
    else if (flag == "--back")
      o.back = true;
    else if (flag == "--dry-run")
      o.dry_run = true;
    else if (flag == "--topology")
      o.topology = detail::spec_in(flag, value(), detail::topologies);
    else if (flag == "--universal")
      o.universal = detail::spec_in(flag, value(), detail::choices);
    else if (flag == "--rows")
      o.rows = detail::spec_in(flag, value(), detail::fillings);
    else if (flag == "--open")
      o.opening = detail::number_in(flag, value(), {-1e4, 1e4});
    else if (flag == "--seed")
      o.seed = static_cast<std::uint64_t>(detail::number_in(flag, value(), detail::from_zero));
    else if (flag == "--shard-size")
      o.shard_bytes = static_cast<std::uint64_t>(detail::number_in(flag, value(), {1e-6, 1e9}) * 1e6);
    else if (flag == "--family")
      o.family = value();
    else if (flag.starts_with("--"))
      throw usage_error("unknown option '" + std::string(flag) + "' (see --help)");
    else if (o.in.empty())
      o.in = flag;
    else if (o.out.empty())
      o.out = flag;
    else
      throw usage_error("'" + std::string(flag) + "' is one path too many");
  }
  if (!o.help && (o.in.empty() || o.out.empty())) throw usage_error("give IN and OUT (see --help)");
  if (o.back && converts) throw usage_error("--back takes no --topology, --universal, --rows or --open");
  return o;
}

}  // namespace converting
