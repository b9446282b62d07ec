// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// A finished conversion study, and what is written of it: metrics.json and pictures.

#include <array>
#include <filesystem>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "../report/report.hpp"
#include "compare_report.hpp"
#include "convert_runs.hpp"
#include "statistics.hpp"

namespace language_model {

struct conversion_study {
  std::string text;
  std::vector<arm> arms;
  std::vector<std::string> names;                ///< of the arms
  std::vector<source_run> sources;               ///< by seed
  std::vector<std::vector<arm_result>> results;  ///< by arm, then by seed
  std::vector<run_result> anchor;                ///< by seed, or empty

  std::vector<double> bits_per_byte(std::size_t arm) const {
    std::vector<double> values;
    for (const auto& r : results[arm]) values.push_back(r.held_out.bits_per_byte);
    return values;
  }
  /// The control that did best, to which all arms are compared.
  std::size_t best_control() const {
    std::size_t best = 0;
    for (std::size_t a = 0; a < arms.size(); ++a)
      if (arms[a].what == arm::kind::control && mean_of(bits_per_byte(a)) < mean_of(bits_per_byte(best))) best = a;
    return best;
  }
  paired_difference difference(std::size_t arm) const { return {bits_per_byte(arm), bits_per_byte(best_control())}; }
  paired_difference anchor_difference() const {
    return {each(anchor, language_model::bits_per_byte), bits_per_byte(best_control())};
  }
  /// Share of the held-out text's assignments that leave home, mean over layers and seeds.
  double foreign_share(std::size_t arm) const {
    double sum = 0;
    for (const auto& r : results[arm]) {
      const auto layers = r.held_out.share.size();
      const auto own = physical_experts / model_depth;
      for (std::size_t l = 0; l < layers; ++l)
        for (std::size_t e = 0; e < r.held_out.share[l].size(); ++e)
          if (const double share = r.held_out.share[l][e];
              static_cast<moue::index_t>(e) / own != static_cast<moue::index_t>(l) && std::isfinite(share))
            sum += share / static_cast<double>(layers * results[arm].size());
    }
    return sum;
  }
};

namespace detail {

inline void write_difference(report::json_writer& json, const paired_difference& d) {
  json.key("difference")
      .begin_object()
      .member("pairs", d.pairs)
      .member("mean", d.mean)
      .member("interval", std::array{d.mean - d.half_width, d.mean + d.half_width})
      .end_object();
}

inline void write_metrics(const std::filesystem::path& path, const conversion_study& all) {
  const auto& config = all.sources[0].config;
  std::ostringstream text;
  report::json_writer json(text);
  std::vector<std::uint64_t> seeds;
  std::vector<double> at_conversion;
  for (const auto& source : all.sources) {
    seeds.push_back(source.config.seed);
    at_conversion.push_back(source.bits_per_byte);
  }
  json.begin_object()
      .member("text", all.text)
      .member("router", name_of(config.router))
      .member("steps", config.steps)
      .member("converted_at", all.sources[0].step())
      .member("learning_rate", config.learning_rate)
      .member("warm_up", config.warm_up)
      .member("seeds", seeds)
      .member("val_bpb_at_conversion", at_conversion)
      .member("compared_to", all.names[all.best_control()])
      .key("arms")
      .begin_array();
  for (std::size_t a = 0; a < all.arms.size(); ++a) {
    const auto& results = all.results[a];
    json.begin_object().member("name", all.names[a]).key("settings").begin_object();
    for (const auto& [name, value] : settings_of(all.arms[a])) json.member(name, value);
    json.end_object()
        .member("params_physical", results[0].size.physical)
        .member("params_active", results[0].size.active)
        .member("virtual_width", results[0].size.virtual_width)
        .member("val_bpb", all.bits_per_byte(a))
        .member("val_bpb_mean", mean_of(all.bits_per_byte(a)))
        .member("foreign_share", all.foreign_share(a));
    write_difference(json, all.difference(a));
    std::vector<std::vector<double>> losses;
    for (const auto& r : results) losses.push_back(r.losses);
    if (losses[0].empty()) {
      json.end_object();
      continue;
    }
    const auto curve = smooth("", losses, static_cast<std::size_t>(all.sources[0].step()));
    json.key("loss_curve")
        .begin_object()
        .member("step", curve.x)
        .member("train_bpb", curve.y)
        .end_object()
        .end_object();
  }
  json.end_array();
  if (!all.anchor.empty()) {
    json.key("anchor")
        .begin_object()
        .member("name", name_of(all.anchor[0].config.model))
        .member("val_bpb", each(all.anchor, bits_per_byte));
    write_difference(json, all.anchor_difference());
    json.end_object();
  }
  json.end_object();
  moue::io::replace_file(path, text.str());
}

}  // namespace detail

/// Writes into `folder`, which must exist: the training loss of all arms, the same less that of the control, seed by seed
/// on the same data, and the traffic between layers.
inline void write_report(const std::filesystem::path& folder, const conversion_study& all) {
  detail::write_metrics(folder / "metrics.json", all);
  const auto first = static_cast<std::size_t>(all.sources[0].step());
  const auto control = all.best_control();
  std::vector<report::curve> losses, differences, foreign;
  for (std::size_t a = 0; a < all.arms.size(); ++a) {
    std::vector<std::vector<double>> whole, less, traffic;
    for (std::size_t s = 0; s < all.sources.size(); ++s) {
      const auto& result = all.results[a][s];
      whole.push_back(all.sources[s].losses);
      whole.back().insert(whole.back().end(), result.losses.begin(), result.losses.end());
      less.push_back(result.losses);
      for (std::size_t i = 0; i < less.back().size(); ++i) less.back()[i] -= all.results[control][s].losses[i];
      traffic.push_back(result.foreign);
    }
    if (whole[0].empty() || less[0].empty()) continue;
    if (all.arms[a].what != arm::kind::nudged) losses.push_back(detail::smooth(all.names[a], whole));
    if (a != control) differences.push_back(detail::smooth(all.names[a], less, first));
    if (all.arms[a].what == arm::kind::converted) foreign.push_back(detail::smooth(all.names[a], traffic, first));
  }
  if (!all.anchor.empty())
    losses.push_back(detail::smooth(std::string(name_of(all.anchor[0].config.model)) + " from scratch",
                                    detail::losses_of(all.anchor)));
  report::write_curves(folder / "convert_loss.svg", "Training loss, mean over seeds", "step", "bits per byte", losses,
                       1.3 * all.sources[0].bits_per_byte);  // the steep beginning would flatten what matters
  report::write_curves(folder / "convert_difference.svg",
                       "Training loss less that of '" + all.names[control] + "' on the same data, mean over seeds",
                       "step", "bits per byte", differences);
  report::write_curves(folder / "convert_foreign.svg",
                       "Share of assignments that leave home, mean over layers and seeds", "step", "share", foreign);
}

}  // namespace language_model
