// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <filesystem>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "heat_map.hpp"
#include "moue/io/atomic_file.hpp"
#include "svg.hpp"

namespace report {

struct topology_picture {
  std::string title, caption;
  std::vector<std::vector<int>> candidates;  ///< per layer, the physical experts its router may choose
  int experts = 0;
};

/// Layers as rows, experts as columns, a filled cell where a layer reaches an expert; below, how many layers reach each.
/// Throws std::runtime_error that names the path.
inline void write_topology(const std::filesystem::path& path, const topology_picture& topology) {
  constexpr double margin = 20, size = 11, row_height = 24;
  constexpr std::string_view shared_fill = "#0072b2", single_fill = "#e69f00", empty_fill = "#f3f4f6";
  const auto count = static_cast<std::size_t>(std::max(topology.experts, 0));
  std::vector<int> exposure(count, 0);
  std::vector<std::set<int>> reached;  // a layer that lists an expert twice reaches it once
  for (std::size_t l = 0; l < topology.candidates.size(); ++l) {
    reached.emplace_back(topology.candidates[l].begin(), topology.candidates[l].end());
    for (const int e : reached.back()) {
      if (e < 0 || e >= topology.experts)
        throw std::runtime_error("cannot write '" + path.string() + "': layer " + std::to_string(l) + " lists expert " +
                                 std::to_string(e) + " of " + std::to_string(topology.experts));
      ++exposure[static_cast<std::size_t>(e)];
    }
  }
  const double cell = std::clamp(840 / std::max(static_cast<double>(count), 1.0), 7.0, 30.0);
  const double row_width = text_width("layer " + std::to_string(topology.candidates.size()), size);
  const double left = margin + std::max(row_width, text_width("layers that", size)) + 8;
  const double right = left + static_cast<double>(count) * cell;
  const auto fill_of = [&](std::size_t e) { return exposure[e] > 1 ? shared_fill : single_fill; };
  const std::vector<std::pair<std::string_view, std::string_view>> keys{
      {shared_fill, "expert that several layers share"},
      {single_fill, "expert of one layer"},
      {empty_fill, "not reachable"}};
  const auto key_width = [&](std::string_view text) { return 17 + text_width(text, size) + 10; };
  double keys_width = 0;
  for (const auto& [fill, text] : keys) keys_width += key_width(text);
  const double width = std::max(right, left + keys_width) + margin;

  canvas picture;
  double y = picture.paragraph(margin, margin, width - 2 * margin, topology.title, {.size = 17, .bold = true}) + 10;
  double x = left;
  for (const auto& [fill, text] : keys) {
    picture.rect(x, y, 12, 12, fill);
    picture.text(x + 17, y + 10, text, {.size = size, .fill = muted});
    x += key_width(text);
  }
  y += 26;

  for (std::size_t l = 0; l < reached.size(); ++l, y += row_height) {
    picture.text(left - 8, y + row_height / 2 + 4, "layer " + std::to_string(l),
                 {.size = size, .fill = muted, .anchor = anchor::end});
    for (std::size_t e = 0; e < count; ++e) {
      const bool filled = reached[l].count(static_cast<int>(e)) > 0;
      picture.rect(left + static_cast<double>(e) * cell + 0.75, y + 0.75, cell - 1.5, row_height - 1.5,
                   filled ? fill_of(e) : empty_fill);
    }
  }
  std::vector<std::string> ids;
  for (std::size_t e = 0; e < count; ++e) ids.push_back(std::to_string(e));
  y += 4 + detail::column_labels(picture, ids, left, y + 4, cell);
  picture.text(left + static_cast<double>(count) * cell / 2, y + 14, "physical expert",
               {.size = 13, .anchor = anchor::middle});
  y += 30;

  const int most = count ? *std::max_element(exposure.begin(), exposure.end()) : 0;
  const bool numbers = text_width(std::to_string(most), size) + 1 <= cell;
  constexpr double tallest = 30;
  y += tallest + 14;
  for (std::size_t e = 0; e < count; ++e) {
    const double height = most ? tallest * exposure[e] / most : 0, at = left + static_cast<double>(e) * cell;
    if (height > 0) picture.rect(at + 0.75, y - height, cell - 1.5, height, fill_of(e));
    if (numbers)
      picture.text(at + cell / 2, y - height - 4, std::to_string(exposure[e]),
                   {.size = size, .anchor = anchor::middle});
  }
  picture.line(left, y, right, y, muted);
  picture.text(left - 8, y - tallest / 2 - 3, "layers that", {.size = size, .fill = muted, .anchor = anchor::end});
  picture.text(left - 8, y - tallest / 2 + 11, numbers ? "reach it" : "reach it: 0.." + std::to_string(most),
               {.size = size, .fill = muted, .anchor = anchor::end});
  y += 6;
  if (!topology.caption.empty())
    y = picture.paragraph(margin, y + 10, width - 2 * margin, topology.caption, {.size = 12, .fill = muted});
  moue::io::replace_file(path, picture.document(width, y + margin, topology.title, topology.caption));
}

}  // namespace report
