// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "axis.hpp"
#include "moue/io/atomic_file.hpp"
#include "svg.hpp"

namespace report {

struct curve {
  std::string label;
  std::vector<double> x, y;  ///< of equal length; a value that is not finite leaves a gap
};

namespace detail {

struct stroke_style {
  std::string_view colour;
  std::string_view dash;
};

/// Okabe and Ito's colours, which colour-blind readers can tell apart, less the yellow that a light ground swallows.
/// After a round of colours the dashes change.
inline stroke_style style_of(std::size_t i) {
  constexpr std::array<std::string_view, 7> colours{"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                    "#e69f00", "#56b4e9", "#000000"};
  constexpr std::array<std::string_view, 3> dashes{"", "7 4", "2 3"};
  return {colours[i % colours.size()], dashes[i / colours.size() % dashes.size()]};
}

/// Moves positions apart to at least `gap`, within [low, high], keeping their order and staying near their wishes.
inline std::vector<double> spread(const std::vector<double>& wishes, double gap, double low, double high) {
  std::vector<std::size_t> order(wishes.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return wishes[a] < wishes[b]; });
  const auto push_down = [&](std::vector<double> at, double least) {
    for (auto i = order.begin(); i != order.end(); least = at[*i++] + gap) at[*i] = std::max(at[*i], least);
    return at;
  };
  const auto push_up = [&](std::vector<double> at, double most) {
    for (auto i = order.rbegin(); i != order.rend(); most = at[*i++] - gap) at[*i] = std::min(at[*i], most);
    return at;
  };
  auto out = push_down(wishes, low);
  const auto other = push_up(wishes, high);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = (out[i] + other[i]) / 2;  // a mean keeps order and gaps
  return push_up(push_down(out, low), high);
}

}  // namespace detail

/// Curves over common axes, each labelled at its right end with its last value. Points above `y_most` are left out, so
/// that a steep beginning does not flatten the rest. Throws std::runtime_error that names the path.
inline void write_curves(const std::filesystem::path& path, std::string_view title, std::string_view x_label,
                         std::string_view y_label, const std::vector<curve>& curves,
                         double y_most = std::numeric_limits<double>::infinity()) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  constexpr double margin = 20, size = 12, label_gap = 17;
  double x_low = infinity, x_high = -infinity, y_low = infinity, y_high = -infinity, label_width = 0;
  const auto finite = [&](const curve& c, std::size_t i) {
    return std::isfinite(c.x[i]) && std::isfinite(c.y[i]) && c.y[i] <= y_most;
  };
  for (const auto& c : curves) {
    if (c.x.size() != c.y.size())
      throw std::runtime_error("cannot write '" + path.string() + "': the curve '" + c.label + "' has " +
                               std::to_string(c.x.size()) + " x and " + std::to_string(c.y.size()) + " y values");
    for (std::size_t i = 0; i < c.x.size(); ++i) {
      if (std::isfinite(c.x[i])) x_low = std::min(x_low, c.x[i]), x_high = std::max(x_high, c.x[i]);
      if (!finite(c, i)) continue;
      y_low = std::min(y_low, c.y[i]), y_high = std::max(y_high, c.y[i]);
    }
    label_width = std::max(label_width, text_width(c.label, size));
  }
  auto horizontal = axis::around(x_low, x_high, 7);
  const auto vertical = axis::around(y_low, y_high, 6);
  if (x_low < x_high) horizontal.low = x_low, horizontal.high = x_high;  // no dead space before and after a run

  // A hundredth of a step is about what an eye could read off the axis.
  const int decimals = std::clamp(2 - static_cast<int>(std::floor(std::log10(vertical.step))), 0, 9);
  double tick_width = 0, last_width = 0;
  for (const double t : vertical.ticks()) tick_width = std::max(tick_width, text_width(vertical.label(t), size));
  const double left = margin + (y_label.empty() ? 0 : 22) + tick_width + 8;
  const double plot_width = 620;
  const double right = left + plot_width;
  std::vector<std::string> lasts;
  for (const auto& c : curves) {
    std::string last;
    for (std::size_t i = c.x.size(); i-- > 0 && last.empty();)
      if (finite(c, i)) last = fixed(c.y[i], decimals);
    last_width = std::max(last_width, text_width(last, size));
    lasts.push_back(std::move(last));
  }
  const double width = right + 16 + 26 + last_width + 8 + label_width + margin;

  canvas picture;
  const double top = picture.paragraph(margin, margin, width - 2 * margin, title, {.size = 17, .bold = true}) + 14;
  const double plot_height = std::max(360.0, label_gap * static_cast<double>(curves.size()));
  const double bottom = top + plot_height;
  const auto px = [&](double x) { return left + horizontal.place(x) * plot_width; };
  const auto py = [&](double y) { return bottom - vertical.place(y) * plot_height; };

  for (const double t : vertical.ticks()) {
    picture.line(left, py(t), right, py(t), rule);
    picture.text(left - 8, py(t) + 4, vertical.label(t), {.size = size, .fill = muted, .anchor = anchor::end});
  }
  picture.line(left, bottom, right, bottom, muted);
  for (const double t : horizontal.ticks()) {
    if (px(t) < left - 0.5 || px(t) > right + 0.5) continue;
    picture.line(px(t), bottom, px(t), bottom + 5, muted);
    picture.text(px(t), bottom + 19, horizontal.label(t), {.size = size, .fill = muted, .anchor = anchor::middle});
  }
  picture.text((left + right) / 2, bottom + 42, x_label, {.size = 13, .anchor = anchor::middle});
  picture.text(margin + 11, (top + bottom) / 2, y_label, {.size = 13, .anchor = anchor::middle, .turn = -90});
  if (!(y_low <= y_high))
    picture.text((left + right) / 2, (top + bottom) / 2 - 8, "no finite values",
                 {.fill = muted, .anchor = anchor::middle});

  std::vector<std::pair<double, double>> ends;
  std::vector<double> wishes;
  for (std::size_t k = 0; k < curves.size(); ++k) {
    const auto& c = curves[k];
    const auto style = detail::style_of(k);
    std::vector<std::pair<double, double>> run;
    std::pair<double, double> end{right, bottom};
    const auto flush = [&] {
      if (run.size() == 1) picture.dot(run[0].first, run[0].second, 3, style.colour);
      if (run.size() > 1) picture.path(run, style.colour, 2, style.dash);
      run.clear();
    };
    for (std::size_t i = 0; i < c.x.size(); ++i) {
      if (!finite(c, i)) {
        flush();
        continue;
      }
      end = {px(c.x[i]), py(c.y[i])};
      // A point that lies within a third of a pixel of the last one would only make the file larger.
      if (run.empty() || std::hypot(end.first - run.back().first, end.second - run.back().second) > 0.33)
        run.push_back(end);
    }
    flush();
    ends.push_back(end);
    wishes.push_back(end.second);
  }
  const auto places = detail::spread(wishes, label_gap, top, bottom);
  for (std::size_t k = 0; k < curves.size(); ++k) {
    const auto style = detail::style_of(k);
    const double x = right + 16;
    const bool early = ends[k].first < right - 10;
    picture.line(ends[k].first + 2, ends[k].second, x, places[k], style.colour, 0.7, early ? "1 3" : "");
    picture.line(x, places[k], x + 20, places[k], style.colour, 2, style.dash);
    picture.text(x + 26 + last_width, places[k] + 4, lasts[k], {.size = size, .fill = muted, .anchor = anchor::end});
    picture.text(x + 26 + last_width + 8, places[k] + 4, curves[k].label, {.size = size});
  }
  moue::io::replace_file(path, picture.document(width, bottom + 42 + margin, title,
                                                std::string(y_label) + " over " + std::string(x_label)));
}

}  // namespace report
