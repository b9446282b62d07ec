// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

/// @file
/// torch_lm: the transformer of moue_lm in libtorch, with moue's layers and with a mixture in torch's own operations,
/// beside moue_lm itself. See `torch_lm --help`.

#include <ATen/Parallel.h>
#include <torch/version.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "../language_model/option_values.hpp"
#include "../language_model/progress.hpp"
#include "../program/program.hpp"
#include "layers.hpp"
#include "plain_mixture.hpp"
#include "stopwatch.hpp"
#include "training.hpp"

namespace {

namespace lm = language_model;

constexpr std::string_view help_text = R"(torch_lm: the transformer of moue_lm in libtorch

Trains the same model three times, step by step in turn, from the same weights on the same batches: as moue_lm does, in
libtorch with moue's layers, and in libtorch alone. Fails if the losses of the first 6 steps differ by more than rounding, or if with moue's
layers the model ends more than 1 % away from moue_lm.

  --model NAME   moe or moue (default: moue)
  --text PATH    a file, or a folder of text files (default: the Eigen headers this program was built with)
  --steps N      updates of 1024 bytes each (default: 600)
  --seed N       of weights and batches (default: 101)
  --threads N    of torch, and of the layers in it (default: 1; moue_lm runs on one in any case)
  --help         this text
)";

struct options {
  lm::model_kind model = lm::model_kind::moue;
  std::filesystem::path text = MOUE_LM_TEXT;
  std::int64_t steps = lm::default_steps, seed = 101, threads = 1;
  bool help = false;
};

options parse(const std::vector<std::string_view>& arguments) {
  options result;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const auto name = arguments[i];
    if (name == "--help") {
      result.help = true;
      return result;
    }
    const bool known = lm::detail::has_word("--model --text --steps --seed --threads", name);
    if (!known) throw program::usage_error("unknown option '" + std::string(name) + "' (see --help)");
    if (++i == arguments.size()) throw program::usage_error("option '" + std::string(name) + "' needs a value");
    const auto value = arguments[i];
    if (name == "--model") result.model = lm::detail::kind_in<lm::model_kind>(name, value);
    if (name == "--text") result.text = lm::detail::path_in(name, value);
    if (name == "--steps") result.steps = lm::detail::number_in<std::int64_t>(name, value, 1, lm::detail::most_steps);
    if (name == "--seed") result.seed = lm::detail::number_in<std::int64_t>(name, value, 0, 1'000'000'000);
    if (name == "--threads") result.threads = lm::detail::number_in<std::int64_t>(name, value, 1, 256);
  }
  if (result.model == lm::model_kind::moe_shared)
    throw program::usage_error("moe_shared was not written in torch's operations; --model takes moe and moue");
  return result;
}

// Sums of some hundred float32 in other orders. Later, routing is another choice for a token now and then, and runs part.
constexpr double rounding = 1e-5;

constexpr moue::index_t most_batches = 64;  // of held-out text, as moue_lm takes

struct run {
  std::string name;
  std::int64_t threads;
  std::unique_ptr<torch_lm::contestant> of;
  std::vector<double> losses = {};  ///< bits per byte, before each step
  double held_out = 0;
  torch_lm::stopwatch clock = {};
};

/// The largest relative difference between losses of the first 6 steps.
double begins_apart(const run& a, const run& b) {
  double most = 0;
  for (std::size_t i = 0; i < (std::min)(a.losses.size(), std::size_t{6}); ++i)
    most = (std::max)(most, std::abs(a.losses[i] / b.losses[i] - 1));
  return most;
}

int follow(const options& o) {
  if (o.help) {
    std::fwrite(help_text.data(), 1, help_text.size(), stdout);
    return 0;
  }
  at::set_num_threads(static_cast<int>(o.threads));
  const auto config = lm::contender(o.model, o.steps, static_cast<std::uint64_t>(o.seed));
  const auto text = lm::read_text(o.text, lm::shape{}.context);
  const auto layers = torch_lm::make_layers(config, o.threads > 1);
  const auto in_torch = [&]<class MixtureT>(const std::shared_ptr<MixtureT>& mixture) {
    return std::make_unique<torch_lm::in_torch<MixtureT>>(mixture, config, text);
  };
  std::vector<run> runs;
  runs.push_back({"moue_lm", 1, torch_lm::make_demo(config, text)});
  runs.push_back({"libtorch with moue's layers", o.threads,
                  in_torch(std::make_shared<moue::torch_mixture<float>>(layers, config.seed))});
  runs.push_back(
      {"libtorch alone", o.threads, in_torch(std::make_shared<torch_lm::plain_mixture>(layers, config.seed))});

  const auto tokens = lm::shape{}.tokens();
  lm::progress shown("step of all three", 0, o.steps, 3 * tokens);
  for (std::int64_t step = 0; step < o.steps; ++step) {
    for (auto& r : runs) r.losses.push_back(r.clock.time([&] { return r.of->advance(); }));
    shown.report(runs[0].losses.back());
  }
  for (auto& r : runs) r.held_out = r.of->evaluate((std::min)(o.steps, most_batches));

  std::printf("%s, %lld steps, seed %lld; text: %s; torch %s\n\n", std::string(lm::name_of(o.model)).c_str(),
              static_cast<long long>(o.steps), static_cast<long long>(o.seed), text.description.c_str(), TORCH_VERSION);
  std::printf("| model | threads | held out, bits per byte | apart from moue_lm | tokens/s |\n");
  std::printf("| --- | --- | --- | --- | --- |\n");
  const auto apart = [&](const run& r) { return r.held_out / runs[0].held_out - 1; };
  for (const auto& r : runs)
    std::printf("| %s | %lld | %.4f | %+.3f %% | %.0f |\n", r.name.c_str(), static_cast<long long>(r.threads),
                r.held_out, 100 * apart(r), static_cast<double>(tokens) / r.clock.median());
  for (const auto& r : runs)
    if (const double most = begins_apart(r, runs[0]); !(most <= rounding))
      throw std::runtime_error(r.name + ": a loss of the first steps is " + std::to_string(100 * most) +
                               " % away from moue_lm's");
  if (!(std::abs(apart(runs[1])) <= 0.01))
    throw std::runtime_error("with moue's layers the model ended more than 1 % away from moue_lm");
  return 0;
}

}  // namespace

int main(int count, char** values) {
  return program::run("torch_lm", count, values, [](const auto& arguments) { return follow(parse(arguments)); });
}
