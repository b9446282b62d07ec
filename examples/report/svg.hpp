// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moue/io/text.hpp"

namespace report {

inline constexpr std::string_view ink = "#1f2328";
inline constexpr std::string_view muted = "#57606a";
inline constexpr std::string_view rule = "#e3e6ea";

/// Text with `decimals` digits after the point, in no locale.
inline std::string fixed(double x, int decimals) {
  std::array<char, 400> text;
  const auto end = std::to_chars(text.data(), text.data() + text.size(), x, std::chars_format::fixed, decimals).ptr;
  return {text.data(), end};
}

/// The same without trailing zeros.
inline std::string number(double x, int decimals = 2) {
  std::string out = fixed(x, decimals);
  if (out.find('.') != std::string::npos) {
    out.erase(out.find_last_not_of('0') + 1);
    if (out.back() == '.') out.pop_back();
  }
  return out == "-0" ? "0" : out;
}

/// Text as XML character data. Control characters, which XML cannot hold, become spaces, bytes that are no UTF-8 U+FFFD.
inline std::string escape_xml(std::string_view text) {
  std::string out;
  for (const char c : moue::io::valid_utf8(text)) switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  return out;
}

/// Width in pixels that `text` takes at most in the fonts a viewer is likely to choose (DejaVu Sans is the widest).
inline double text_width(std::string_view text, double size, bool bold = false) {
  double em = 0;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xc0) == 0x80) continue;  // inside a UTF-8 sequence
    if (std::string_view(" .,:;'|!ijlI()[]-/").find(c) != std::string_view::npos)
      em += 0.4;
    else if (std::string_view("mwMW@%").find(c) != std::string_view::npos)
      em += 0.98;
    else
      em += (c >= 'A' && c <= 'Z') ? 0.73 : 0.63;
  }
  return em * size * (bold ? 1.1 : 1.0);
}

/// `text` broken at spaces into lines of at most `width` pixels; a word that is longer has a line of its own.
inline std::vector<std::string> wrap(std::string_view text, double width, double size, bool bold = false) {
  std::vector<std::string> lines;
  std::string line;
  const auto flush = [&] {
    if (!line.empty()) lines.push_back(std::exchange(line, {}));
  };
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] == ' ' || text[at] == '\n') {
      if (text[at] == '\n') flush();
      ++at;
      continue;
    }
    const auto end = std::min(text.find_first_of(" \n", at), text.size());
    const std::string word(text.substr(at, end - at));
    if (!line.empty() && text_width(line + " " + word, size, bold) > width) flush();
    line += (line.empty() ? "" : " ") + word;
    at = end;
  }
  flush();
  return lines;
}

enum class anchor { start, middle, end };

struct text_style {
  double size = 12;
  std::string_view fill = ink;
  report::anchor anchor = anchor::start;
  bool bold = false;
  double turn = 0;  ///< degrees, clockwise, about the anchor
};

/// Collects the shapes of a picture. Pixels, y downwards; text is placed by its baseline.
class canvas {
 public:
  void rect(double x, double y, double width, double height, std::string_view fill, std::string_view stroke = "none") {
    body_ += "<rect x=\"" + number(x) + "\" y=\"" + number(y) + "\" width=\"" + number(width) + "\" height=\"" +
             number(height) + "\" fill=\"" + std::string(fill) + "\" stroke=\"" + std::string(stroke) + "\"/>\n";
  }

  void line(double x1, double y1, double x2, double y2, std::string_view stroke, double width = 1,
            std::string_view dash = "") {
    path({{x1, y1}, {x2, y2}}, stroke, width, dash);
  }

  void path(const std::vector<std::pair<double, double>>& points, std::string_view stroke, double width,
            std::string_view dash = "") {
    body_ += "<path fill=\"none\" stroke=\"" + std::string(stroke) + "\" stroke-width=\"" + number(width) +
             "\" stroke-linejoin=\"round\"";
    if (!dash.empty()) body_ += " stroke-dasharray=\"" + std::string(dash) + "\"";
    body_ += " d=\"";
    for (std::size_t i = 0; i < points.size(); ++i)
      body_ += (i == 0 ? "M" : " L") + number(points[i].first) + " " + number(points[i].second);
    body_ += "\"/>\n";
  }

  void dot(double x, double y, double radius, std::string_view fill) {
    body_ += "<circle cx=\"" + number(x) + "\" cy=\"" + number(y) + "\" r=\"" + number(radius) + "\" fill=\"" +
             std::string(fill) + "\"/>\n";
  }

  void text(double x, double y, std::string_view content, const text_style& style = {}) {
    constexpr std::array<const char*, 3> anchors{"start", "middle", "end"};
    body_ += "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" font-size=\"" + number(style.size) + "\" fill=\"" +
             std::string(style.fill) + "\" text-anchor=\"" + anchors[static_cast<std::size_t>(style.anchor)] + "\"";
    if (style.bold) body_ += " font-weight=\"bold\"";
    if (style.turn != 0)
      body_ += " transform=\"rotate(" + number(style.turn) + " " + number(x) + " " + number(y) + ")\"";
    body_ += ">" + escape_xml(content) + "</text>\n";
  }

  /// Lines of text from the top edge `y` on; returns the bottom edge.
  double paragraph(double x, double y, double width, std::string_view content, const text_style& style) {
    for (const auto& piece : wrap(content, width, style.size, style.bold)) {
      text(x, y + style.size, piece, style);
      y += 1.35 * style.size;
    }
    return y;
  }

  /// The document. `title` and `description` are for readers who cannot see the picture.
  std::string document(double width, double height, std::string_view title, std::string_view description) const {
    const std::string w = number(std::ceil(width)), h = number(std::ceil(height));
    return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" "
           "width=\"" +
           w + "\" height=\"" + h + "\" viewBox=\"0 0 " + w + " " + h +
           "\" font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\">\n<title>" + escape_xml(title) +
           "</title>\n<desc>" + escape_xml(description) +
           "</desc>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n" + body_ + "</svg>\n";
  }

 private:
  std::string body_;
};

}  // namespace report
