// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The study of conversion: what is run, and the table at its end.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "convert_report.hpp"
#include "options.hpp"
#include "runs.hpp"

namespace language_model {

namespace detail {

inline void print_row(const std::string& name, const std::vector<double>& values, const paired_difference& d,
                      double foreign, std::size_t width) {
  std::printf("| %-*s | %.4f | %+.4f |", static_cast<int>(width), name.c_str(), mean_of(values), d.mean);
  if (std::isfinite(d.half_width))
    std::printf(" [%+.4f, %+.4f] |", d.mean - d.half_width, d.mean + d.half_width);
  else
    std::printf(" one pair |");
  for (const double pair : d.pairs) std::printf(" %+.4f", pair);
  if (std::isfinite(foreign))
    std::printf(" | %.1f %% |\n", 100 * foreign);
  else
    std::printf(" | |\n");
}

inline void print_table(const conversion_study& all) {
  constexpr double none = std::numeric_limits<double>::quiet_NaN();
  std::size_t width = 20;
  for (const auto& name : all.names) width = std::max(width, name.size());
  std::printf(
      "\n| %-*s | bits per byte | difference | 95 %% t-interval | pairs | foreign |\n| --- | --- | --- | --- | --- | "
      "--- |\n",
      static_cast<int>(width), "after the conversion");
  for (std::size_t a = 0; a < all.arms.size(); ++a)
    print_row(all.names[a], all.bits_per_byte(a), all.difference(a),
              all.arms[a].what == arm::kind::converted ? all.foreign_share(a) : none, width);
  if (!all.anchor.empty())
    print_row(std::string(name_of(all.anchor[0].config.model)) + " from scratch", each(all.anchor, bits_per_byte),
              all.anchor_difference(), none, width);
}

inline void print_conditions(const conversion_study& all) {
  const auto& config = all.sources[0].config;
  const auto& reference = all.names[all.best_control()];
  std::printf(
      "\nBits per byte on held-out text, lower is better; differences to '%s', seed by seed (%zu seed%s from %llu).\n"
      "foreign: share of assignments that leave home. 'nudged': the control after a change of all weights by a\n"
      "millionth; its differences show the noise.\n",
      reference.c_str(), all.sources.size(), all.sources.size() == 1 ? "" : "s",
      static_cast<unsigned long long>(config.seed));
  std::printf(
      "Source: moe, %s router, learning rate %g, warm-up %lld; converted after step %td of %lld, %td bytes each.\n",
      std::string(name_of(config.router)).c_str(), config.learning_rate, static_cast<long long>(config.warm_up),
      all.sources[0].step(), static_cast<long long>(config.steps), shape{}.tokens());
  for (const auto kind : {arm::kind::control, arm::kind::converted})
    for (std::size_t a = 0; a < all.arms.size(); ++a) {
      if (all.arms[a].what != kind) continue;
      std::printf("  %s:", all.names[a].c_str());
      for (const auto& [name, value] : settings_of(all.arms[a])) std::printf(" %s=%s", name.c_str(), value.c_str());
      std::printf("\n");
    }
  std::printf("Text: %s\n", all.text.c_str());
}

}  // namespace detail

inline constexpr std::uint64_t first_study_seed = 201;  // the search for the study's settings used others

/// All arms of a seed start from one source and see the same data.
inline void study_conversion(const options& o, const corpus& text) {
  const auto seeds = static_cast<std::size_t>(o.seeds.value_or(4));
  const auto steps = o.steps_or_default();
  const auto at = o.study.at.value_or(steps / 2);
  const auto threads = static_cast<std::size_t>(o.threads);
  conversion_study all;
  all.text = text.description;
  all.arms = arms_of(o.study, steps);
  all.names = names_of_arms(all.arms);
  const auto count = all.arms.size();
  std::vector<run_config> configs;
  for (std::size_t s = 0; s < seeds; ++s) {
    configs.push_back(configure(o, model_kind::moe, static_cast<std::uint64_t>(o.seed.value_or(first_study_seed)) + s));
  }
  const bool anchored = o.study.anchor == anchor_kind::moue;
  const auto runs = static_cast<std::int64_t>(seeds * (count + (anchored ? 1 : 0)));
  progress shown("step of " + std::to_string(runs) + " runs", 0,
                 static_cast<std::int64_t>(seeds) *
                     (at + static_cast<std::int64_t>(count) * (steps - at) + (anchored ? steps : 0)),
                 shape{}.tokens());
  std::vector<std::optional<source_run>> sources(seeds);  // a run has no empty state
  side_by_side(seeds, threads, [&](std::size_t s) { sources[s] = train_source(configs[s], at, text, shown); });
  for (auto& source : sources) all.sources.push_back(std::move(*source));
  all.results.assign(count, std::vector<arm_result>(seeds));
  if (anchored) all.anchor.resize(seeds);
  side_by_side(seeds * (count + (anchored ? 1 : 0)), threads, [&](std::size_t i) {
    const std::size_t s = i % seeds, a = i / seeds;
    if (a < count)
      all.results[a][s] = train_arm(all.sources[s], all.arms[a], text, shown);
    else
      all.anchor[s] = run_once(contender(model_kind::moue, steps, configs[s].seed), text, shown);
  });
  detail::print_table(all);
  detail::print_conditions(all);
  if (!o.out.empty()) {
    write_report(o.out, all);
    std::printf("Written: metrics.json and pictures in %s\n", moue::io::printable(o.out.native()).c_str());
  }
}

}  // namespace language_model
