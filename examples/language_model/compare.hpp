// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The comparison of the contenders: what is run, and the table at its end.

#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "compare_report.hpp"
#include "options.hpp"
#include "runs.hpp"
#include "statistics.hpp"

namespace language_model {

namespace detail {

inline void print_table(const comparison& all) {
  std::printf("\n%-11s %10s %10s %8s %10s %12s %14s %5s %9s\n", "", "physical", "active", "virtual", "bits per",
              "max/mean", "corrected for", "dead", "seconds");
  std::printf("%-11s %10s %10s %8s %10s %12s %14s %5s %9s\n", "contender", "parameters", "parameters", "width", "byte",
              "load", "exposure", "", "a run");
  for (const auto& runs : all.contenders) {
    const auto mean = [&](auto member) { return mean_of(each(runs, member)); };
    std::printf("%-11s %10td %10td %8td %10.4f %12.2f %14.2f %5.1f %9.1f\n",
                std::string(name_of(runs[0].config.model)).c_str(), runs[0].size.physical, runs[0].size.active,
                runs[0].size.virtual_width, mean(bits_per_byte), mean(raw_load), mean(corrected_load),
                mean(dead_experts), mean(seconds));
  }
  std::printf("\nBits per byte on held-out text, means over %zu seed%s (first %llu); lower is better.\n",
              all.contenders[0].size(), all.contenders[0].size() == 1 ? "" : "s",
              static_cast<unsigned long long>(all.contenders[0][0].config.seed));
}

inline void print_difference(const comparison& all, model_kind baseline) {
  const auto difference = all.difference(baseline);
  std::printf("moue - %-11s", std::string(name_of(baseline)).c_str());
  for (const double pair : difference.pairs) std::printf(" %+.4f", pair);
  std::printf("   mean %+.4f", difference.mean);
  if (std::isfinite(difference.half_width))
    std::printf(" +- %.4f (95 %% t-interval [%+.4f, %+.4f])", difference.half_width,
                difference.mean - difference.half_width, difference.mean + difference.half_width);
  else
    std::printf(" (one pair: no interval)");
  std::printf("\n");
}

inline void print_conditions(const options& o, const comparison& all) {
  std::printf("\nTraining: %lld steps of %td bytes, the same data in the same order for every contender of a seed.\n",
              static_cast<long long>(all.contenders[0][0].config.steps), shape{}.tokens());
  for (const auto& runs : all.contenders) {
    const auto& config = runs[0].config;
    const bool own = o.learning_rate || o.warm_up || (config.model == model_kind::moue && (o.topology || o.router));
    std::printf("  %-11s %s, %s router, learning rate %g, warm-up %lld steps (%s)\n",
                std::string(name_of(config.model)).c_str(), std::string(name_of(config.topology)).c_str(),
                std::string(name_of(config.router)).c_str(), config.learning_rate,
                static_cast<long long>(config.warm_up),
                own ? "not the tuned contender: changed on the command line" : "tuned, see sweep.md");
  }
  std::printf("Text: %s\n", all.text.c_str());
}

}  // namespace detail

inline constexpr std::uint64_t first_compare_seed = 101;  // the sweep, which chose the recipes, starts from 1

inline void compare(const options& o, const corpus& text) {
  const auto seeds = o.seeds.value_or(4);
  const auto first = static_cast<std::uint64_t>(o.seed.value_or(first_compare_seed));
  std::vector<run_config> configs;
  for (std::int64_t s = 0; s < seeds; ++s)
    for (const auto model : all_models) {
      auto from = o;
      if (model != model_kind::moue) from.topology.reset(), from.router.reset();
      configs.push_back(configure(from, model, first + static_cast<std::uint64_t>(s)));
    }
  auto results = run_all(configs, text, static_cast<std::size_t>(o.threads));
  comparison all;
  all.text = text.description;
  for (std::size_t i = 0; i < results.size(); ++i)
    all.contenders[i % all_models.size()].push_back(std::move(results[i]));
  detail::print_table(all);
  for (const auto baseline : {model_kind::moe, model_kind::moe_shared}) detail::print_difference(all, baseline);
  detail::print_conditions(o, all);
  if (!o.out.empty()) {
    write_report(o.out, all);
    std::printf("Written: metrics.json and pictures in %s\n", moue::io::printable(o.out.native()).c_str());
  }
}

}  // namespace language_model
