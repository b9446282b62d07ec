// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "axis.hpp"
#include "moue/io/atomic_file.hpp"
#include "svg.hpp"

namespace report {

struct heat_map {
  std::string title, x_label, y_label, caption;
  std::vector<std::string> rows, columns;
  std::vector<std::vector<double>> values;  ///< one list per row; NaN means that there is no such cell
};

namespace detail {

inline constexpr std::string_view gap_fill = "#b6bdc6";

struct colour {
  double red, green, blue;

  std::string text() const {
    constexpr std::string_view hex = "0123456789abcdef";
    std::string out = "#";
    for (const double part : {red, green, blue}) {
      const auto byte = static_cast<std::size_t>(std::lround(part));
      out += hex[byte >> 4];
      out += hex[byte & 15];
    }
    return out;
  }
  bool dark() const { return 0.299 * red + 0.587 * green + 0.114 * blue < 140; }
};

/// Light to dark, readable without colour vision and in grey print (ColorBrewer's YlGnBu less its lightest shade, which
/// would look like an empty cell).
inline colour shade(double place) {
  constexpr std::array<colour, 8> stops{{{237, 248, 177},
                                         {199, 233, 180},
                                         {127, 205, 187},
                                         {65, 182, 196},
                                         {29, 145, 192},
                                         {34, 94, 168},
                                         {37, 52, 148},
                                         {8, 29, 88}}};
  const double at = std::clamp(place, 0.0, 1.0) * (stops.size() - 1);
  const auto i = std::min(static_cast<std::size_t>(at), stops.size() - 2);
  const double t = at - static_cast<double>(i);
  const auto mix = [&](double a, double b) { return a + t * (b - a); };
  const auto &a = stops[i], &b = stops[i + 1];
  return {mix(a.red, b.red), mix(a.green, b.green), mix(a.blue, b.blue)};
}

/// Draws every `k`-th of the labels of cells that are `cell` wide, turned if that lets all be shown. Returns the height.
inline double column_labels(canvas& picture, const std::vector<std::string>& labels, double left, double y,
                            double cell) {
  constexpr double size = 11;
  double widest = 0;
  for (const auto& label : labels) widest = std::max(widest, text_width(label, size));
  const bool level = widest + 4 <= cell, turned = !level && cell >= size + 2;
  const auto every = level || turned ? 1 : static_cast<std::size_t>(std::ceil((widest + 6) / cell));
  for (std::size_t j = 0; j < labels.size(); j += every) {
    const double x = left + (static_cast<double>(j) + 0.5) * cell;
    if (turned)
      picture.text(x + 4, y + 4, labels[j], {.size = size, .fill = muted, .anchor = anchor::end, .turn = -90});
    else
      picture.text(x, y + size + 3, labels[j], {.size = size, .fill = muted, .anchor = anchor::middle});
  }
  return turned ? widest + 8 : size + 8;
}

/// How to print the values so that all fit in `width`: three significant digits of the largest, or two, and if need be
/// .25 for 0.25. Empty if nothing fits.
inline std::function<std::string(double)> cell_text(const std::vector<std::vector<double>>& values, double width,
                                                    double size) {
  double largest = 1e-12;
  for (const auto& row : values)
    for (const double v : row)
      if (std::isfinite(v)) largest = std::max(largest, std::abs(v));
  const int wanted = std::clamp(2 - static_cast<int>(std::floor(std::log10(largest))), 0, 4);
  for (const int decimals : {wanted, std::max(wanted - 1, 0)})
    for (const bool bare : {false, true}) {
      const auto print = [=](double v) {
        std::string text = fixed(v, decimals);
        if (const auto zero = text.find("0."); bare && zero == (text[0] == '-' ? 1u : 0u)) text.erase(zero, 1);
        return text;
      };
      const bool fits = std::all_of(values.begin(), values.end(), [&](const auto& row) {
        return std::all_of(row.begin(), row.end(),
                           [&](double v) { return !std::isfinite(v) || text_width(print(v), size) <= width; });
      });
      if (fits) return print;
    }
  return {};
}

/// The colour scale as a bar with ticks.
inline void scale_bar(canvas& picture, const axis& scale, double x, double top, double height) {
  constexpr int slices = 48;
  for (int i = 0; i < slices; ++i) {
    const double y = top + height * (slices - 1 - i) / slices;
    picture.rect(x, y, 14, height / slices + 0.5, shade((i + 0.5) / slices).text());
  }
  for (const double t : scale.ticks()) {
    const double y = top + height * (1 - scale.place(t));
    picture.line(x + 14, y, x + 18, y, muted);
    picture.text(x + 22, y + 4, scale.label(t), {.size = 11, .fill = muted});
  }
}

}  // namespace detail

/// Coloured cells with their values, where those fit, and the colour scale. Throws std::runtime_error that names the
/// path.
inline void write_heat_map(const std::filesystem::path& path, const heat_map& map) {
  constexpr double margin = 20, size = 11;
  const auto refuse = [&](const std::string& what) {
    throw std::runtime_error("cannot write '" + path.string() + "': " + what);
  };
  if (map.values.size() != map.rows.size())
    refuse(std::to_string(map.rows.size()) + " row labels for " + std::to_string(map.values.size()) + " rows");
  double low = std::numeric_limits<double>::infinity(), high = -low, row_width = 0;
  bool gaps = false;
  for (std::size_t i = 0; i < map.values.size(); ++i) {
    if (map.values[i].size() != map.columns.size())
      refuse(std::to_string(map.columns.size()) + " column labels for " + std::to_string(map.values[i].size()) +
             " values in row '" + map.rows[i] + "'");
    for (const double v : map.values[i])
      if (std::isfinite(v))
        low = std::min(low, v), high = std::max(high, v);
      else
        gaps = true;
    row_width = std::max(row_width, text_width(map.rows[i], size));
  }
  if (low >= 0 && low < 0.3 * high) low = 0;  // the lightest shade then means nothing at all
  const auto scale = axis::around(low, high, 5);

  const auto columns = static_cast<double>(map.columns.size()), rows = static_cast<double>(map.rows.size());
  const double cell = std::clamp(900 / std::max(columns, 1.0), 10.0, 56.0);
  const double row_height = std::clamp(cell, 22.0, 34.0);
  const auto value_text = detail::cell_text(map.values, cell - 3, size - 1);

  const double left = margin + (map.y_label.empty() ? 0 : 22) + row_width + 8;
  const double right = left + columns * cell;
  double tick_width = 0;
  for (const double t : scale.ticks()) tick_width = std::max(tick_width, text_width(scale.label(t), size));
  const double legend_width = std::max(40 + tick_width, gaps ? 24 + text_width("no such cell", size) : 0);
  const double width = std::max(right + 24 + legend_width + margin, 420.0);

  canvas picture;
  const double top = picture.paragraph(margin, margin, width - 2 * margin, map.title, {.size = 17, .bold = true}) + 12;
  const double bottom = top + rows * row_height;
  for (std::size_t i = 0; i < map.rows.size(); ++i) {
    const double y = top + static_cast<double>(i) * row_height;
    picture.text(left - 8, y + row_height / 2 + 4, map.rows[i], {.size = size, .fill = muted, .anchor = anchor::end});
    for (std::size_t j = 0; j < map.columns.size(); ++j) {
      const double v = map.values[i][j], x = left + static_cast<double>(j) * cell;
      if (!std::isfinite(v)) {
        picture.dot(x + cell / 2, y + row_height / 2, 1.2, detail::gap_fill);
        continue;
      }
      const auto colour = detail::shade(scale.place(v));
      picture.rect(x + 0.5, y + 0.5, cell - 1, row_height - 1, colour.text());
      if (value_text)
        picture.text(x + cell / 2, y + row_height / 2 + 4, value_text(v),
                     {.size = size - 1, .fill = colour.dark() ? "#ffffff" : ink, .anchor = anchor::middle});
    }
  }
  double y = bottom + 4 + detail::column_labels(picture, map.columns, left, bottom + 4, cell);
  if (!map.x_label.empty())
    picture.text((left + right) / 2, y + 16, map.x_label, {.size = 13, .anchor = anchor::middle}), y += 22;
  // A label that is longer than the map is high would run into the title.
  const double fits = std::min(13.0, 13 * (bottom - top) / std::max(1.0, text_width(map.y_label, 13)));
  picture.text(margin + 11, (top + bottom) / 2, map.y_label, {.size = fits, .anchor = anchor::middle, .turn = -90});

  const double bar = std::max(bottom - top - (gaps ? 26 : 0), 90.0);
  detail::scale_bar(picture, scale, right + 24, top, bar);
  if (gaps) {
    picture.dot(right + 31, top + bar + 20, 1.6, detail::gap_fill);
    picture.text(right + 46, top + bar + 24, "no such cell", {.size = size, .fill = muted});
  }
  y = std::max(y, top + bar + (gaps ? 30 : 10));
  if (!map.caption.empty())
    y = picture.paragraph(margin, y + 12, width - 2 * margin, map.caption, {.size = 12, .fill = muted});
  moue::io::replace_file(path, picture.document(width, y + margin, map.title, map.caption));
}

}  // namespace report
