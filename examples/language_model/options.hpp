// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The command line.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "contender.hpp"
#include "convert_options.hpp"
#include "option_values.hpp"

namespace language_model {

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
  study_options study;
  bool help = false;

  std::int64_t steps_or_default() const { return steps.value_or(default_steps); }
};

inline constexpr std::string_view help_text =
    R"(moue_lm: byte-level language models whose feed-forward part is a mixture of experts

  moue_lm train      trains one model
  moue_lm generate   continues a prompt with a trained model
  moue_lm compare    trains the contenders moe, moe_shared and moue on equal terms, paired by seed, and compares them
  moue_lm sweep      searches learning rate and warm-up for every contender
  moue_lm convert-study
                     trains moe for half of the steps, then goes on with it as it is and converted to universal
                     experts, paired by seed, and compares the two

The contenders have 24 physical experts, two of them active per token and layer, in 6 layers:
  moe          plain mixture of experts: 4 experts for each layer
  moe_shared   the same with one of the 4 always on
  moue         universal experts on a staggered ring: each layer reaches 16 of the 24, shared with other layers

Model (train)
  --model NAME        moe, moe_shared or moue (default: moue)
  --topology NAME     staggered_rotation, shared_pool, reuse_blocks, adjacent_reuse or layer_local; in compare: of moue
  --router NAME       linear, normalised or universal; in compare: of moue
Training (train, compare, sweep, convert-study)
  --text PATH         a file, or a folder of text files (default: the Eigen headers this program was built with)
  --steps N           updates of 1024 bytes each (default: 600)
  --lr RATE           peak learning rate (default: tuned for each contender, see sweep.md)
  --warmup N          steps of linear warm-up (default: tuned)
  --seed N            first seed (default: train 1, sweep 1, compare 101, convert-study 201)
  --seeds N           seeds per model (compare: 4, sweep: 2, convert-study: 4)
  --threads N         runs at a time, except in train; changes no result (default: all cores)
Files
  --save FILE         train: write a checkpoint at the end, and on Ctrl-C or SIGTERM
  --resume FILE       train: go on from a checkpoint; generate: the model to use
  --out DIR           compare, convert-study: write metrics.json and pictures; sweep: write sweep.json
Conversion (convert-study); several values, separated by commas, are all tried, in every combination
  --router NAME       of the source: linear (default) or normalised
  --at N              step of the conversion (default: half of all)
  --topology NAMES    that the universal experts get
  --universal NAMES   all, most_used or most_similar
  --per-layer N       most_used and most_similar: experts of every layer that become universal (1 to 4)
  --rows NAMES        first router rows of foreign experts: zero, mean, home or fresh
  --scale X           of these rows
  --schedule NAMES    open, annealed, growing, sampled, faded or closed
  --end BIAS          last opening bias
  --opening N         steps until it is reached (default: a tenth of all)
  --balance W         weight of the balancing loss after the conversion
  --restart X         learning rate restarted after the conversion, as a share of the peak; 0: it goes on as it was
  --rewarm N          steps of linear warm-up after a restart (default: a thirtieth of all)
  --moments NAMES     what AdamW remembers of the time before: carry or reset
  --control-restart X, --control-moments NAMES
                      the same for the model that is not converted
  --anchor NAME       a run from scratch beside them: moue or none
Generation
  --prompt TEXT       what to continue (default: "#include ")
  --length N          bytes to generate (default: 400)
  --help              this text
)";

namespace detail {

struct flag {
  std::string_view name;
  std::string_view commands;
  void (*set)(options&, std::string_view flag, std::string_view value);
};

inline constexpr flag flags[] = {
    {"--model", "train sweep", [](options& o, auto f, auto v) { o.model = kind_in<model_kind>(f, v); }},
    {"--topology", "train compare", [](options& o, auto f, auto v) { o.topology = kind_in<topology_kind>(f, v); }},
    {"--router", "train compare convert-study",
     [](options& o, auto f, auto v) { o.router = kind_in<router_kind>(f, v); }},
    {"--text", "train compare sweep convert-study", [](options& o, auto f, auto v) { o.text = path_in(f, v); }},
    {"--steps", "train compare sweep convert-study",
     [](options& o, auto f, auto v) { o.steps = number_in<std::int64_t>(f, v, 1, most_steps); }},
    {"--lr", "train compare convert-study",
     [](options& o, auto f, auto v) { o.learning_rate = number_in<double>(f, v, 1e-6, 1); }},
    {"--warmup", "train compare convert-study",
     [](options& o, auto f, auto v) { o.warm_up = number_in<std::int64_t>(f, v, 0, most_steps); }},
    {"--seed", "train generate compare sweep convert-study",
     [](options& o, auto f, auto v) { o.seed = number_in<std::int64_t>(f, v, 0, 1'000'000'000); }},
    {"--seeds", "compare sweep convert-study",
     [](options& o, auto f, auto v) { o.seeds = number_in<std::int64_t>(f, v, 1, 100); }},
    {"--threads", "compare sweep convert-study",
     [](options& o, auto f, auto v) { o.threads = number_in<std::int64_t>(f, v, 1, 256); }},
    {"--save", "train", [](options& o, auto f, auto v) { o.save = path_in(f, v); }},
    {"--resume", "train generate", [](options& o, auto f, auto v) { o.resume = path_in(f, v); }},
    {"--out", "compare sweep convert-study", [](options& o, auto f, auto v) { o.out = path_in(f, v); }},
    {"--prompt", "generate", [](options& o, auto, auto v) { o.prompt = v; }},
    {"--length", "generate",
     [](options& o, auto f, auto v) { o.length = number_in<std::int64_t>(f, v, 1, most_steps); }},
};

inline void check_together(const options& o) {
  if (o.command == "generate" && o.resume.empty()) throw usage_error("generate needs a model: --resume FILE");
  if (o.command == "train" && !o.resume.empty() &&
      (o.model || o.topology || o.router || o.steps || o.learning_rate || o.warm_up || o.seed))
    throw usage_error("a resumed run keeps its settings: --resume goes with --save and --text alone");
  if (o.warm_up && *o.warm_up > o.steps_or_default())
    throw usage_error("a warm-up of " + std::to_string(*o.warm_up) + " steps is longer than the run of " +
                      std::to_string(o.steps_or_default()));
  if (o.study.at && *o.study.at > o.steps_or_default())
    throw usage_error("the run of " + std::to_string(o.steps_or_default()) + " steps ends before the conversion at " +
                      std::to_string(*o.study.at));
  if (o.command == "convert-study" && o.router == router_kind::universal)
    throw usage_error("convert-study knows sources with a linear or a normalised router");
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
  if (arguments.empty())
    throw usage_error("say what to do: train, generate, compare, sweep or convert-study (see --help)");
  result.command = arguments[0];
  if (!detail::has_word("train generate compare sweep convert-study", result.command))
    throw usage_error("there is no command '" + result.command +
                      "', but train, generate, compare, sweep and convert-study");
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    const auto name = arguments[i];
    if (const auto* own = detail::find_study_flag(name); own != nullptr && result.command == "convert-study") {
      if (++i == arguments.size()) throw usage_error("option '" + std::string(name) + "' needs a value");
      own->set(result.study, name, arguments[i]);
      continue;
    }
    const auto* found = std::find_if(std::begin(detail::flags), std::end(detail::flags),
                                     [&](const detail::flag& f) { return f.name == name; });
    const bool known = found != std::end(detail::flags);
    if (!known && detail::find_study_flag(name) == nullptr)
      throw usage_error("unknown option '" + std::string(name) + "' (see --help)");
    if (!known || !detail::has_word(found->commands, result.command))
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
