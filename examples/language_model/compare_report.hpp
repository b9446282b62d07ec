// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// A finished comparison, and what is written of it: metrics.json and pictures.

#include <array>
#include <filesystem>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "../report/report.hpp"
#include "runs.hpp"
#include "statistics.hpp"

namespace language_model {

inline constexpr std::array all_models{model_kind::moe, model_kind::moe_shared, model_kind::moue};

// What a comparison reads off a run.
inline double bits_per_byte(const run_result& r) { return r.held_out.bits_per_byte; }
inline double raw_load(const run_result& r) { return r.held_out.load.raw; }
inline double corrected_load(const run_result& r) { return r.held_out.load.corrected; }
inline double dead_experts(const run_result& r) { return static_cast<double>(r.held_out.load.dead.size()); }
inline double seconds(const run_result& r) { return r.seconds; }

inline std::vector<double> each(const std::vector<run_result>& runs, double (*read)(const run_result&)) {
  std::vector<double> values;
  for (const auto& run : runs) values.push_back(read(run));
  return values;
}

struct comparison {
  std::string text;
  std::array<std::vector<run_result>, all_models.size()> contenders;  ///< by seed, in the order of the enumeration

  const std::vector<run_result>& of(model_kind model) const { return contenders[static_cast<std::size_t>(model)]; }
  /// Bits per byte of moue less those of `baseline`, seed by seed.
  paired_difference difference(model_kind baseline) const {
    return {each(of(model_kind::moue), bits_per_byte), each(of(baseline), bits_per_byte)};
  }
};

namespace detail {

/// The mean of `runs`, which have one number per step, over consecutive steps, so that a curve has at most about a hundred
/// points. `first` is the step of the first number.
inline report::curve smooth(std::string label, const std::vector<std::vector<double>>& runs, std::size_t first = 0) {
  report::curve result{std::move(label), {}, {}};
  const std::size_t steps = runs[0].size();
  const std::size_t stride = std::max<std::size_t>(1, steps / 100);
  for (std::size_t at = 0; at < steps; at += stride) {
    const std::size_t end = std::min(steps, at + stride);
    double sum = 0;
    for (const auto& run : runs)
      for (std::size_t i = at; i < end; ++i) sum += run[i];
    result.x.push_back(static_cast<double>(first + end));
    result.y.push_back(sum / static_cast<double>((end - at) * runs.size()));
  }
  return result;
}

inline std::vector<std::vector<double>> losses_of(const std::vector<run_result>& runs) {
  std::vector<std::vector<double>> losses;
  for (const auto& run : runs) losses.push_back(run.losses);
  return losses;
}

inline grid mean_grid(const std::vector<run_result>& runs, grid evaluation::*member) {
  grid result = runs[0].held_out.*member;
  for (std::size_t i = 0; i < result.size(); ++i)
    for (std::size_t j = 0; j < result[i].size(); ++j) {
      result[i][j] = 0;
      for (const auto& run : runs) result[i][j] += (run.held_out.*member)[i][j] / static_cast<double>(runs.size());
    }
  return result;
}

inline std::vector<std::string> numbered(const std::string& prefix, std::size_t count) {
  std::vector<std::string> result;
  for (std::size_t i = 0; i < count; ++i) result.push_back(prefix + std::to_string(i));
  return result;
}

inline void write_run(report::json_writer& json, const run_result& run) {
  const auto curve = smooth("", {run.losses});
  json.begin_object()
      .member("seed", run.config.seed)
      .member("val_bpb", run.held_out.bits_per_byte)
      .member("params_physical", run.size.physical)
      .member("params_active", run.size.active)
      .member("virtual_width", run.size.virtual_width)
      .member("max_mean_load", run.held_out.load.raw)
      .member("max_mean_load_corrected", run.held_out.load.corrected)
      .member("layer_max_mean_load", run.held_out.load.layer_max_mean)
      .member("dead_experts", run.held_out.load.dead.size())
      .member("seconds", run.seconds)
      .key("loss_curve")
      .begin_object()
      .member("step", curve.x)
      .member("train_bpb", curve.y)
      .end_object()
      .end_object();
}

inline void write_metrics(const std::filesystem::path& path, const comparison& all) {
  std::ostringstream text;
  report::json_writer json(text);
  json.begin_object().member("text", all.text);
  for (const auto& runs : all.contenders) {
    const auto& config = runs[0].config;
    json.key(name_of(config.model))
        .begin_object()
        .member("topology", name_of(config.topology))
        .member("router", name_of(config.router))
        .member("steps", config.steps)
        .member("learning_rate", config.learning_rate)
        .member("warm_up", config.warm_up)
        .member("val_bpb_mean", mean_of(each(runs, bits_per_byte)))
        .key("seeds")
        .begin_array();
    for (const auto& run : runs) write_run(json, run);
    json.end_array().end_object();
  }
  json.key("difference").begin_object();
  for (const auto baseline : {model_kind::moe, model_kind::moe_shared}) {
    const auto d = all.difference(baseline);
    json.key("moue-" + std::string(name_of(baseline)))
        .begin_object()
        .member("pairs", d.pairs)
        .member("mean", d.mean)
        .member("interval", std::array{d.mean - d.half_width, d.mean + d.half_width})
        .end_object();
  }
  json.end_object().end_object();
  moue::io::replace_file(path, text.str());
}

}  // namespace detail

/// Writes into `folder`, which must exist.
inline void write_report(const std::filesystem::path& folder, const comparison& all) {
  detail::write_metrics(folder / "metrics.json", all);

  std::vector<report::curve> curves;
  for (const auto& runs : all.contenders)
    curves.push_back(detail::smooth(std::string(name_of(runs[0].config.model)), detail::losses_of(runs)));
  report::write_curves(folder / "loss.svg", "Training loss, mean over seeds", "step", "bits per byte", curves);

  const auto seeds = std::to_string(all.contenders[0].size()) + " seed" + (all.contenders[0].size() > 1 ? "s" : "");
  for (const auto& runs : all.contenders) {
    const std::string name(name_of(runs[0].config.model));
    const auto share = detail::mean_grid(runs, &evaluation::share);
    const auto layers = detail::numbered("layer ", share.size());
    report::write_heat_map(folder / ("load_" + name + ".svg"),
                           {"Load of " + name, "physical expert", "",
                            "Share of each layer's routed assignments on held-out text, mean over " + seeds +
                                "; experts that are always on receive none.",
                            layers, detail::numbered("", share[0].size()), share});
    const auto columns = detail::numbered("", layers.size());
    report::write_heat_map(
        folder / ("similarity_" + name + ".svg"),
        {"Similarity between the layers of " + name, "layer", "",
         "Cosine between what two layers' mixtures add to the same token, mean over held-out tokens and " + seeds + ".",
         layers, columns, detail::mean_grid(runs, &evaluation::similarity)});
    if (runs[0].config.model != model_kind::moue) continue;
    report::write_heat_map(
        folder / "reuse.svg",
        {"Reuse of experts across the layers of moue", "also at layer", "routed at",
         "Of the experts a token was routed to at one layer, the share it was routed to again at the "
         "other; mean over held-out tokens and " +
             seeds + ".",
         layers, columns, detail::mean_grid(runs, &evaluation::reuse)});
    report::topology_picture picture{
        "Topology of moue",
        "Which physical experts each layer chooses from: " + std::string(name_of(runs[0].config.topology)) + ".",
        {},
        static_cast<int>(physical_experts)};
    const auto topology = routed_topology(runs[0].config);
    for (const auto& row : topology.rows) picture.candidates.emplace_back(row.begin(), row.end());
    report::write_topology(folder / "topology.svg", picture);
  }
}

}  // namespace language_model
