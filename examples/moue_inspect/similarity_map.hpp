// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The picture of how alike experts are.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "../report/report.hpp"
#include "moue/analysis/similarity.hpp"
#include "moue/backend/cpu.hpp"
#include "moue/expert/gated_mlp.hpp"
#include "moue/io/layouts/moe_checkpoint.hpp"

namespace inspect {

namespace io = moue::io;

namespace detail {

/// Outputs of the chosen experts, one after the other: [experts, tokens · width]. One expert is in memory at a time.
template <class ExpertT>
std::vector<float> outputs_of(const io::moe_checkpoint& source, const ExpertT& expert,
                              const std::vector<std::pair<moue::index, moue::index>>& chosen, moue::index tokens) {
  const moue::executor one{expert, 1, moue::cpu{}};
  moue::parameters<float> weights(one.layout());
  std::vector<float> probes(static_cast<std::size_t>(tokens * expert.width)), result;
  for (std::size_t i = 0; i < probes.size(); ++i)
    probes[i] = static_cast<float>(moue::detail::normal_at(2026, static_cast<std::uint64_t>(i)));
  constexpr std::pair<const char*, io::moe_part> parts[] = {
      {"gate", io::moe_part::gate},       {"up", io::moe_part::up},
      {"down", io::moe_part::down},       {"gate_bias", io::moe_part::gate_bias},
      {"up_bias", io::moe_part::up_bias}, {"down_bias", io::moe_part::down_bias}};
  for (const auto& [layer, e] : chosen) {
    for (const auto& [name, part] : parts) {
      if (!source.description().has(part)) continue;
      const auto to = weights[std::string("experts.0.") + name];
      source.read(layer, part, e, std::span<float>(to.data, static_cast<std::size_t>(to.rows * to.cols)));
    }
    const auto out =
        moue::probe_outputs(one, weights, moue::matrix_view<const float>{probes.data(), tokens, expert.width});
    result.insert(result.end(), out.begin(), out.end());
  }
  return result;
}

}  // namespace detail

/// Draws the similarity of experts, or, where they are too many to tell apart, of layers.
inline void draw_similarity(const io::moe_checkpoint& source, const std::filesystem::path& path, moue::index probes,
                            moue::index per_layer) {
  constexpr moue::index most_cells = 128;
  constexpr double most_bytes = 1e9;
  const auto& d = source.description();
  std::vector<std::pair<moue::index, moue::index>> chosen;
  const moue::index taken = std::min(per_layer, d.experts);
  for (moue::index layer = 0; layer < d.layers(); ++layer)
    for (moue::index i = 0; i < taken; ++i) chosen.emplace_back(layer, i * d.experts / taken);
  const double bytes_a_probe = 4.0 * static_cast<double>(d.width) * static_cast<double>(chosen.size());
  const auto tokens = std::max<moue::index>(2, std::min(probes, static_cast<moue::index>(most_bytes / bytes_a_probe)));
  const auto outputs =
      d.family.clamped_swiglu
          ? detail::outputs_of(source, moue::gated_mlp<moue::clamped_swiglu, true>{d.width, d.hidden}, chosen, tokens)
          : detail::outputs_of(source, moue::swiglu{d.width, d.hidden}, chosen, tokens);
  const auto count = std::ssize(chosen);
  const auto similarity = moue::output_similarity(
      moue::cpu{}, moue::matrix_view<const float>{outputs.data(), count, tokens * d.width}, tokens);

  report::heat_map map;
  map.title = "Similarity of experts, " + source.files().path().filename().string();
  map.caption =
      "Mean cosine between the outputs of two experts for the same " + std::to_string(tokens) +
      " standard normal inputs. 1: the same up to scale; 0: nothing in common. Real inputs of the layers would "
      "say more than random ones.";
  if (count <= most_cells) {
    map.x_label = map.y_label = "layer.expert";
    for (const auto& [layer, e] : chosen)
      map.rows.push_back(std::to_string(d.model_layers[static_cast<std::size_t>(layer)]) + "." + std::to_string(e));
    for (moue::index a = 0; a < count; ++a) {
      map.values.emplace_back();
      for (moue::index b = 0; b < count; ++b) map.values.back().push_back(similarity(a, b));
    }
  } else {
    map.x_label = map.y_label = "layer";
    map.caption +=
        " For each expert of the row's layer its best match among the other experts of the column's, averaged.";
    for (const auto layer : d.model_layers) map.rows.push_back(std::to_string(layer));
    for (moue::index a = 0; a < d.layers(); ++a) {
      map.values.emplace_back();
      for (moue::index b = 0; b < d.layers(); ++b) {
        double sum = 0;
        for (moue::index i = a * taken; i < (a + 1) * taken; ++i) {
          double best = -1;
          for (moue::index j = b * taken; j < (b + 1) * taken; ++j)
            if (i != j && similarity(i, j) > best) best = similarity(i, j);
          sum += best / static_cast<double>(taken);
        }
        map.values.back().push_back(taken == 1 && a == b ? std::numeric_limits<double>::quiet_NaN() : sum);
      }
    }
  }
  map.columns = map.rows;
  report::write_heat_map(path, map);
}

}  // namespace inspect
