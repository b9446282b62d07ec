// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The command line.

#include <charconv>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "contender.hpp"

namespace language_model {

/// A command line that cannot be followed; the text is for the user.
struct usage_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct options {
  std::string command;
  std::optional<model_kind> model;
  std::optional<topology_kind> topology;
  std::optional<router_kind> router;
  std::optional<std::int64_t> steps;
  std::optional<std::int64_t> warm_up;
  std::optional<double> learning_rate;
  std::optional<std::int64_t> seeds;
  std::optional<std::int64_t> seed;
  std::int64_t threads = std::max(1u, std::thread::hardware_concurrency());
  std::int64_t length = 400;
  std::string prompt = "#include ";
  std::filesystem::path text, save, resume, out;
  bool help = false;

  std::int64_t steps_or_default() const { return steps.value_or(default_steps); }
};

inline constexpr std::string_view help_text =
    R"(moue_lm: byte-level language models whose feed-forward part is a mixture of experts

  moue_lm train      trains one model
  moue_lm generate   continues a prompt with a trained model
  moue_lm compare    trains the contenders moe, moe_shared and moue on equal terms, paired by seed, and compares them
  moue_lm sweep      searches learning rate and warm-up for every contender

The contenders have 24 physical experts, two of them active per token and layer, in 6 layers:
  moe          plain mixture of experts: 4 experts for each layer
  moe_shared   the same with one of the 4 always on
  moue         universal experts on a staggered ring: each layer reaches 16 of the 24, shared with other layers

Model (train)
  --model NAME        moe, moe_shared or moue (default: moue)
  --topology NAME     staggered_rotation, shared_pool, reuse_blocks, adjacent_reuse or layer_local; in compare: of moue
  --router NAME       linear, normalised or universal; in compare: of moue
Training (train, compare, sweep)
  --text PATH         a file, or a folder of text files (default: the Eigen headers this program was built with)
  --steps N           updates of 1024 bytes each (default: 600)
  --lr RATE           peak learning rate (default: tuned for each contender, see sweep.md)
  --warmup N          steps of linear warm-up (default: tuned)
  --seed N            first seed (default: train 1, sweep 1, compare 101)
  --seeds N           seeds per model (compare: 4, sweep: 2)
  --threads N         runs at a time in compare and sweep; changes no result (default: all cores)
Files
  --save FILE         train: write a checkpoint at the end, and on Ctrl-C
  --resume FILE       train: go on from a checkpoint; generate: the model to use
  --out DIR           compare: write metrics.json and pictures; sweep: write sweep.json
Generation
  --prompt TEXT       what to continue (default: "#include ")
  --length N          bytes to generate (default: 400)
  --help              this text
)";

namespace detail {

template <class Number>
Number number_in(std::string_view flag, std::string_view value, Number least, Number most) {
  Number result{};
  const auto [end, problem] = std::from_chars(value.data(), value.data() + value.size(), result);
  if (problem != std::errc() || end != value.data() + value.size() || !(result >= least && result <= most)) {
    const auto text = [](Number n) {
      std::string s = std::to_string(n);
      if (s.find('.') != std::string::npos) s.erase(s.find_last_not_of('0') + 1);
      return s.ends_with('.') ? s.substr(0, s.size() - 1) : s;
    };
    throw usage_error("option '" + std::string(flag) + "' needs a number from " + text(least) + " to " + text(most) +
                      ", not '" + std::string(value) + "'");
  }
  return result;
}

template <class Kind>
Kind kind_in(std::string_view flag, std::string_view value) {
  if (const auto kind = kind_called<Kind>(value)) return *kind;
  std::string known;
  for (const auto name : names_of<Kind>::all) known += (known.empty() ? "" : ", ") + std::string(name);
  throw usage_error("option '" + std::string(flag) + "' knows " + known + ", not '" + std::string(value) + "'");
}

struct flag {
  std::string_view name;
  std::string_view commands;
  void (*set)(options&, std::string_view flag, std::string_view value);
};

inline std::filesystem::path path_in(std::string_view flag, std::string_view value) {
  if (value.empty()) throw usage_error("option '" + std::string(flag) + "' needs a path");
  return value;
}

inline constexpr std::int64_t most_steps = 1'000'000;
inline constexpr flag flags[] = {
    {"--model", "train sweep", [](options& o, auto f, auto v) { o.model = kind_in<model_kind>(f, v); }},
    {"--topology", "train compare", [](options& o, auto f, auto v) { o.topology = kind_in<topology_kind>(f, v); }},
    {"--router", "train compare", [](options& o, auto f, auto v) { o.router = kind_in<router_kind>(f, v); }},
    {"--text", "train compare sweep", [](options& o, auto f, auto v) { o.text = path_in(f, v); }},
    {"--steps", "train compare sweep",
     [](options& o, auto f, auto v) { o.steps = number_in<std::int64_t>(f, v, 1, most_steps); }},
    {"--lr", "train compare", [](options& o, auto f, auto v) { o.learning_rate = number_in<double>(f, v, 1e-6, 1); }},
    {"--warmup", "train compare",
     [](options& o, auto f, auto v) { o.warm_up = number_in<std::int64_t>(f, v, 0, most_steps); }},
    {"--seed", "train generate compare sweep",
     [](options& o, auto f, auto v) { o.seed = number_in<std::int64_t>(f, v, 0, 1'000'000'000); }},
    {"--seeds", "compare sweep", [](options& o, auto f, auto v) { o.seeds = number_in<std::int64_t>(f, v, 1, 100); }},
    {"--threads", "compare sweep",
     [](options& o, auto f, auto v) { o.threads = number_in<std::int64_t>(f, v, 1, 256); }},
    {"--save", "train", [](options& o, auto f, auto v) { o.save = path_in(f, v); }},
    {"--resume", "train generate", [](options& o, auto f, auto v) { o.resume = path_in(f, v); }},
    {"--out", "compare sweep", [](options& o, auto f, auto v) { o.out = path_in(f, v); }},
    {"--prompt", "generate", [](options& o, auto, auto v) { o.prompt = v; }},
    {"--length", "generate",
     [](options& o, auto f, auto v) { o.length = number_in<std::int64_t>(f, v, 1, most_steps); }},
};

inline bool has_word(std::string_view words, std::string_view word) {
  return (" " + std::string(words) + " ").find(" " + std::string(word) + " ") != std::string::npos;
}

inline void check_together(const options& o) {
  if (o.command == "generate" && o.resume.empty()) throw usage_error("generate needs a model: --resume FILE");
  if (o.command == "train" && !o.resume.empty() &&
      (o.model || o.topology || o.router || o.steps || o.learning_rate || o.warm_up || o.seed))
    throw usage_error("a resumed run keeps its settings: --resume goes with --save and --text alone");
  if (o.warm_up && *o.warm_up > o.steps_or_default())
    throw usage_error("a warm-up of " + std::to_string(*o.warm_up) + " steps is longer than the run of " +
                      std::to_string(o.steps_or_default()));
}

}  // namespace detail

/// Reads the arguments that follow the program's name. Throws `usage_error`.
inline options parse_options(std::span<const std::string_view> arguments) {
  options result;
  for (const auto argument : arguments)
    if (argument == "--help" || argument == "-h") {
      result.help = true;
      return result;
    }
  if (arguments.empty()) throw usage_error("say what to do: train, generate, compare or sweep (see --help)");
  result.command = arguments[0];
  if (!detail::has_word("train generate compare sweep", result.command))
    throw usage_error("there is no command '" + result.command + "', but train, generate, compare and sweep");
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    const auto name = arguments[i];
    const auto* found = std::find_if(std::begin(detail::flags), std::end(detail::flags),
                                     [&](const detail::flag& f) { return f.name == name; });
    if (found == std::end(detail::flags)) throw usage_error("unknown option '" + std::string(name) + "' (see --help)");
    if (!detail::has_word(found->commands, result.command))
      throw usage_error("option '" + std::string(name) + "' does not go with " + result.command);
    if (++i == arguments.size()) throw usage_error("option '" + std::string(name) + "' needs a value");
    found->set(result, name, arguments[i]);
  }
  detail::check_together(result);
  return result;
}

/// The run that the options ask for, starting from a contender's defaults.
inline run_config configure(const options& o, model_kind model, std::uint64_t seed) {
  auto config = contender(model, o.steps_or_default(), seed);
  if (o.topology) config.topology = *o.topology;
  if (o.router) config.router = *o.router;
  if (o.learning_rate) config.learning_rate = *o.learning_rate;
  if (o.warm_up) config.warm_up = *o.warm_up;
  return config;
}

}  // namespace language_model
