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
#include "expert_outputs.hpp"

namespace inspect {

namespace io = moue::io;

/// Draws the similarity of experts, or, where they are too many to tell apart, of layers.
inline void draw_similarity(const io::moe_checkpoint& source, const std::filesystem::path& path, moue::index_t probes,
                            moue::index_t per_layer) {
  constexpr moue::index_t most_cells = 128;
  const auto& d = source.description();
  std::vector<std::pair<moue::index_t, moue::index_t>> chosen;
  const moue::index_t taken = std::min(per_layer, d.experts);
  for (moue::index_t layer = 0; layer < d.layers(); ++layer)
    for (moue::index_t i = 0; i < taken; ++i) chosen.emplace_back(layer, i * d.experts / taken);
  const auto count = std::ssize(chosen);
  const auto [similarity, tokens] = similarity_of(source, chosen, probes);

  report::heat_map map;
  map.title = "Similarity of experts, " + source.path().filename().string();
  map.caption =
      "Mean cosine between the outputs of two experts for the same " + std::to_string(tokens) +
      " standard normal inputs. 1: the same up to scale; 0: nothing in common. Real inputs of the layers would "
      "say more than random ones.";
  if (count <= most_cells) {
    map.x_label = map.y_label = "layer.expert";
    for (const auto& [layer, e] : chosen)
      map.rows.push_back(std::to_string(d.model_layers[static_cast<std::size_t>(layer)]) + "." + std::to_string(e));
    for (moue::index_t a = 0; a < count; ++a) {
      map.values.emplace_back();
      for (moue::index_t b = 0; b < count; ++b) map.values.back().push_back(similarity(a, b));
    }
  } else {
    map.x_label = map.y_label = "layer";
    map.caption +=
        " For each expert of the row's layer its best match among the other experts of the column's, averaged.";
    for (const auto layer : d.model_layers) map.rows.push_back(std::to_string(layer));
    for (moue::index_t a = 0; a < d.layers(); ++a) {
      map.values.emplace_back();
      for (moue::index_t b = 0; b < d.layers(); ++b) {
        double sum = 0;
        for (moue::index_t i = a * taken; i < (a + 1) * taken; ++i) {
          double best = -1;
          for (moue::index_t j = b * taken; j < (b + 1) * taken; ++j)
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
