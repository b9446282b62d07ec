// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The search for each contender's learning rate and warm-up.

#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

#include "compare_report.hpp"
#include "options.hpp"
#include "runs.hpp"
#include "statistics.hpp"

namespace language_model {

inline constexpr std::array sweep_rates{6e-3, 1.2e-2, 2.4e-2};
inline constexpr std::array sweep_warm_ups{1.0 / 9, 2.0 / 9, 4.0 / 9};  // shares of all steps

/// Trains every contender at every point of the grid and prints a table of Markdown. The seeds must not be those of a
/// comparison that uses the outcome.
inline void sweep(const options& o, const corpus& text) {
  const auto seeds = static_cast<std::size_t>(o.seeds.value_or(2));
  const auto steps = o.steps_or_default();
  std::vector<run_config> configs;
  for (const auto model : all_models) {
    if (o.model && *o.model != model) continue;
    for (const double rate : sweep_rates)
      for (const double warm_up : sweep_warm_ups)
        for (std::size_t s = 0; s < seeds; ++s) {
          auto config = contender(model, steps, static_cast<std::uint64_t>(o.seed.value_or(1)) + s);
          config.learning_rate = rate;
          config.warm_up = std::lround(warm_up * static_cast<double>(steps));
          configs.push_back(config);
        }
  }
  const auto results = run_all(configs, text, static_cast<std::size_t>(o.threads));

  std::ostringstream file;
  report::json_writer json(file);
  json.begin_object().member("text", text.description).member("steps", steps).key("points").begin_array();
  std::printf(
      "\n| contender | learning rate | warm-up | bits per byte, each seed | mean |\n| --- | --- | --- | --- | --- |\n");
  for (std::size_t i = 0; i < results.size(); i += seeds) {
    const std::vector<run_result> point(results.begin() + static_cast<std::ptrdiff_t>(i),
                                        results.begin() + static_cast<std::ptrdiff_t>(i + seeds));
    const auto values = each(point, bits_per_byte);
    const auto& config = point[0].config;
    std::printf("| %s | %g | %lld |", std::string(name_of(config.model)).c_str(), config.learning_rate,
                static_cast<long long>(config.warm_up));
    for (const double value : values) std::printf(" %.4f", value);
    std::printf(" | %.4f |\n", mean_of(values));
    json.begin_object()
        .member("contender", name_of(config.model))
        .member("learning_rate", config.learning_rate)
        .member("warm_up", config.warm_up)
        .member("first_seed", config.seed)
        .member("val_bpb", values)
        .member("mean", mean_of(values))
        .end_object();
  }
  json.end_array().end_object();
  std::printf("\n%zu seed%s from %llu, %lld steps. Text: %s\n", seeds, seeds == 1 ? "" : "s",
              static_cast<unsigned long long>(configs[0].seed), static_cast<long long>(steps),
              text.description.c_str());
  if (!o.out.empty()) {
    moue::io::replace_file(o.out / "sweep.json", file.str());
    std::printf("Written: sweep.json in %s\n", moue::io::printable(o.out.native()).c_str());
  }
}

}  // namespace language_model
