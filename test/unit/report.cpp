// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include "../../examples/report/report.hpp"

#include <doctest/doctest.h>

#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

/// A folder of this test's own, gone afterwards.
struct folder {
  std::filesystem::path path;
  explicit folder(const std::string& name) : path(std::filesystem::temp_directory_path() / ("moue_report_" + name)) {
    std::filesystem::remove_all(path);
    std::filesystem::create_directories(path);
  }
  ~folder() { std::filesystem::remove_all(path); }
};

std::string read(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

struct element {
  std::string name, attributes, text;

  double number(const std::string& attribute) const {
    const auto at = attributes.find(" " + attribute + "=\"");
    REQUIRE(at != std::string::npos);
    return std::stod(attributes.substr(at + attribute.size() + 3));
  }
  bool has(const std::string& part) const { return attributes.find(part) != std::string::npos; }
};

/// The elements of a document in the XML that the writers use; fails the test if it is not well formed.
std::vector<element> parse(const std::string& xml) {
  std::vector<element> all;
  std::vector<std::size_t> open;
  const std::string prolog = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
  REQUIRE(xml.substr(0, prolog.size()) == prolog);
  for (std::size_t at = prolog.size(); at < xml.size();) {
    if (xml[at] != '<') {
      const auto end = std::min(xml.find('<', at), xml.size());
      const auto text = xml.substr(at, end - at);
      for (auto amp = text.find('&'); amp != std::string::npos; amp = text.find('&', amp + 1)) {
        const auto entity = text.substr(amp, text.find(';', amp) - amp + 1);
        CHECK((entity == "&amp;" || entity == "&lt;" || entity == "&gt;" || entity == "&quot;"));
      }
      CHECK(std::none_of(text.begin(), text.end(),
                         [](char c) { return c == '>' || (static_cast<unsigned char>(c) < 0x20 && c != '\n'); }));
      if (!open.empty()) all[open.back()].text += text;
      at = end;
      continue;
    }
    const auto end = xml.find('>', at);
    REQUIRE(end != std::string::npos);
    std::string tag = xml.substr(at + 1, end - at - 1);
    at = end + 1;
    CHECK(tag.find('<') == std::string::npos);
    CHECK(std::count(tag.begin(), tag.end(), '"') % 2 == 0);
    if (tag[0] == '/') {
      REQUIRE(!open.empty());
      CHECK(all[open.back()].name == tag.substr(1));
      open.pop_back();
      continue;
    }
    const bool empty = tag.back() == '/';
    if (empty) tag.pop_back();
    const auto name_end = std::min(tag.find(' '), tag.size());
    all.push_back({tag.substr(0, name_end), tag.substr(name_end), ""});
    if (!empty) open.push_back(all.size() - 1);
  }
  CHECK(open.empty());
  REQUIRE(!all.empty());
  CHECK(all[0].name == "svg");
  return all;
}

/// Parses a picture; checks that no number is broken and that texts lie inside, clear of each other.
std::vector<element> parse_picture(const std::filesystem::path& path) {
  const auto text = read(path);
  CHECK(text.find("nan") == std::string::npos);
  CHECK(text.find("inf\"") == std::string::npos);
  const auto all = parse(text);
  struct box {
    double left, right, top, bottom;
    std::string text;
  };
  std::vector<box> boxes;
  for (const auto& e : all) {
    if (e.name != "text") continue;
    std::string plain = e.text;  // an entity is one letter
    for (auto amp = plain.find('&'); amp != std::string::npos; amp = plain.find('&', amp + 1))
      plain.replace(amp, plain.find(';', amp) - amp + 1, "_");
    const double size = e.number("font-size"), width = report::text_width(plain, size, e.has("bold"));
    const double shift = e.has("\"middle\"") ? width / 2 : e.has("\"end\"") ? width : 0;
    const double x = e.number("x"), y = e.number("y");
    if (e.has("rotate"))
      boxes.push_back({x - 0.75 * size, x + 0.1 * size, y - width + shift, y + shift, plain});
    else
      boxes.push_back({x - shift, x - shift + width, y - 0.75 * size, y + 0.1 * size, plain});
  }
  std::string outside, overlapping;
  for (std::size_t i = 0; i < boxes.size(); ++i) {
    const auto& a = boxes[i];
    if (a.left < 0 || a.right > all[0].number("width") || a.top < 0 || a.bottom > all[0].number("height"))
      outside += a.text + "\n";
    for (std::size_t j = 0; j < i; ++j) {
      const auto& b = boxes[j];
      if (a.right > b.left && b.right > a.left && a.bottom > b.top && b.bottom > a.top)
        overlapping += a.text + " | " + b.text + "\n";
    }
  }
  CHECK(outside == "");
  CHECK(overlapping == "");
  return all;
}

bool shows(const std::vector<element>& all, const std::string& text) {
  return std::any_of(all.begin(), all.end(), [&](const auto& e) { return e.name == "text" && e.text == text; });
}

std::ptrdiff_t count(const std::vector<element>& all, const std::string& name, const std::string& part) {
  return std::count_if(all.begin(), all.end(), [&](const auto& e) { return e.name == name && e.has(part); });
}

std::vector<report::curve> falling_curves(int n) {
  std::vector<report::curve> curves;
  for (int k = 0; k < n; ++k) {
    report::curve c{"way " + std::to_string(k) + " <&\"> to connect layers", {}, {}};
    for (int i = 0; i < 50; ++i) c.x.push_back(100 * i), c.y.push_back(1.4 + 0.01 * k + 3 * std::exp(-i / 8.0));
    curves.push_back(c);
  }
  return curves;
}

report::heat_map shares(std::size_t rows, std::size_t columns, bool gaps) {
  report::heat_map map{"Share of tokens & more",
                       "expert",
                       "layer",
                       "A caption that is long enough to need a second "
                       "line when the picture is narrow, as a picture with few columns always is.",
                       {},
                       {},
                       {}};
  for (std::size_t j = 0; j < columns; ++j) map.columns.push_back(std::to_string(j));
  for (std::size_t i = 0; i < rows; ++i) {
    map.rows.push_back("layer " + std::to_string(i));
    map.values.emplace_back();
    for (std::size_t j = 0; j < columns; ++j)
      map.values.back().push_back(gaps && (i + j) % 3 == 0 ? not_a_number
                                                           : 0.2 * static_cast<double>((i * 7 + j * 3) % 11) / 10);
  }
  return map;
}

template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const std::runtime_error& e) {
    return e.what();
  }
  return "nothing was thrown";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("curves are well formed, labelled and free of overlapping text") {
  const folder here("curves");
  const auto path = here.path / "curves.svg";
  for (const int n : {0, 1, 12, 30}) {
    report::write_curves(path, "Loss of several ways to connect layers", "tokens", "nats per byte", falling_curves(n));
    const auto all = parse_picture(path);
    CHECK(shows(all, "tokens"));
    CHECK(count(all, "path", "stroke-width=\"2\"") == 2 * n);  // the curve and the sample at its label
    for (int k = 0; k < n; ++k)
      CHECK(shows(all, "way " + std::to_string(k) + " &lt;&amp;&quot;&gt; to connect layers"));
  }
}

TEST_CASE("a curve breaks where it has no value, and may be cut off at the top") {
  const folder here("gaps");
  const auto path = here.path / "curves.svg";
  const auto strokes = [&] { return count(parse_picture(path), "path", "stroke-width=\"2\"") - 1; };
  report::write_curves(path, "t", "x", "y", {{"a", {0, 1, 2, 3, 4}, {9, 1, not_a_number, 1, 2}}});
  CHECK(strokes() == 2);
  report::write_curves(path, "t", "x", "y", {{"a", {0, 1, 2, 3, 4}, {9, 1, 2, 1, 2}}}, 3);
  CHECK(strokes() == 1);
  CHECK_FALSE(shows(parse_picture(path), "10"));  // what the axis of 9 ends at
  report::write_curves(path, "t", "x", "y", {{"a", {0}, {5}}, {"b", {0}, {infinity}}});
  CHECK(count(parse_picture(path), "circle", "") == 1);
  CHECK(contains(message_of([&] { report::write_curves(path, "t", "x", "y", {{"a", {0, 1}, {5}}}); }), path.string()));
}

TEST_CASE("axes have round ticks that cover the values") {
  const auto labels = [](double low, double high) {
    const auto axis = report::axis::around(low, high, 5);
    CHECK(axis.low <= low);
    CHECK(axis.high >= high);
    std::vector<std::string> out;
    for (const double t : axis.ticks()) out.push_back(axis.label(t));
    return out;
  };
  using list = std::vector<std::string>;
  CHECK(labels(0, 1) == list{"0.0", "0.2", "0.4", "0.6", "0.8", "1.0"});
  CHECK(labels(-3, 40) == list{"-10", "0", "10", "20", "30", "40"});
  CHECK(labels(0, 48000) == list{"0", "10,000", "20,000", "30,000", "40,000", "50,000"});
  CHECK(labels(-120000, -20000) == list{"-120,000", "-100,000", "-80,000", "-60,000", "-40,000", "-20,000"});
  CHECK(labels(0, 4e-6) == list{"0", "1e-06", "2e-06", "3e-06", "4e-06"});
  CHECK(labels(7, 7).size() > 2);
  CHECK(labels(0, 0).size() > 2);
}

TEST_CASE("heat maps are well formed, print what fits and mark what does not exist") {
  const folder here("heat");
  const auto path = here.path / "heat.svg";
  for (const auto& [rows, columns] : {std::pair{6, 24}, {6, 30}, {1, 1}, {2, 96}, {12, 4}})
    for (const bool gaps : {false, true}) {
      const auto map = shares(static_cast<std::size_t>(rows), static_cast<std::size_t>(columns), gaps);
      report::write_heat_map(path, map);
      const auto all = parse_picture(path);
      std::ptrdiff_t missing = 0;
      for (const auto& row : map.values)
        missing += std::count_if(row.begin(), row.end(), [](double v) { return v != v; });
      const std::ptrdiff_t scale_and_ground = 48 + 1;
      CHECK(count(all, "rect", "") == rows * columns - missing + scale_and_ground);
      CHECK(count(all, "circle", "") == (missing ? missing + 1 : 0));
      CHECK(shows(all, "no such cell") == (missing > 0));
      if (columns == 24) CHECK(shows(all, "0.200"));
      if (columns == 30) CHECK(shows(all, ".200"));
    }
}

TEST_CASE("heat maps refuse lists that do not fit") {
  const folder here("heat_bad");
  auto map = shares(3, 4, false);
  map.values[1].pop_back();
  const auto text = message_of([&] { report::write_heat_map(here.path / "heat.svg", map); });
  CHECK(contains(text, "heat.svg"));
  CHECK(contains(text, "4 column labels for 3 values in row 'layer 1'"));
  map.values.pop_back();
  CHECK(contains(message_of([&] { report::write_heat_map(here.path / "heat.svg", map); }), "3 row labels for 2 rows"));
}

TEST_CASE("topologies show what each layer reaches and how often each expert is reached") {
  const folder here("topology");
  const auto path = here.path / "topology.svg";
  report::write_topology(path, {"Who may use what", "A caption.", {{0, 1, 2, 1}, {1, 2, 3}, {2}}, 5});
  const auto all = parse_picture(path);
  const std::ptrdiff_t key = 1;
  CHECK(count(all, "rect", "#0072b2") == 5 + 2 + key);  // experts 1 and 2: cells, bars
  CHECK(count(all, "rect", "#e69f00") == 2 + 2 + key);  // experts 0 and 3
  CHECK(count(all, "rect", "#f3f4f6") == 15 - 7 + key);
  CHECK(shows(all, "layer 2"));
  const auto threes = std::count_if(all.begin(), all.end(), [](const auto& e) { return e.text == "3"; });
  CHECK(threes == 2);  // expert 3, and the layers of expert 2: being listed twice does not count
  for (const int experts : {0, 24, 64, 200}) {
    report::topology_picture picture{"A ring of experts", "", {}, experts};
    for (int l = 0; l < 6; ++l) {
      picture.candidates.emplace_back();
      for (int j = 0; j < experts / 2; ++j) picture.candidates.back().push_back((l * 4 + j) % experts);
    }
    report::write_topology(path, picture);
    parse_picture(path);
  }
  const auto text = message_of([&] { report::write_topology(path, {"", "", {{0}, {5}}, 5}); });
  CHECK(contains(text, path.string()));
  CHECK(contains(text, "layer 1 lists expert 5 of 5"));
}

TEST_CASE("pictures appear whole or not at all, and say why not") {
  const folder here("files");
  const auto write = [](const std::filesystem::path& path, const std::string& title) {
    report::write_topology(path, {title, "", {{0}}, 1});
  };
  write(here.path / "a.txt", "one");
  write(here.path / "a.txt", "two");
  CHECK(contains(read(here.path / "a.txt"), "<title>two</title>"));
  const auto missing = here.path / "no" / "such" / "folder.svg";
  CHECK(contains(message_of([&] { write(missing, "x"); }), missing.string() + "': cannot be written: No such file"));
  const auto blocked = here.path / "blocked";
  std::filesystem::create_directories(blocked / "full");
  CHECK(contains(message_of([&] { write(blocked, "x"); }), blocked.string()));
  REQUIRE(::mkfifo((here.path / "blocked" / "pipe").c_str(), 0600) == 0);  // a real device would be at stake
  CHECK(contains(message_of([&] { write(here.path / "blocked" / "pipe", "x"); }), "pipe': is not a regular file"));
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(here.path))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  CHECK(names == std::vector<std::string>{"a.txt", "blocked"});
}

TEST_CASE("a picture is UTF-8 whatever its labels are") {
  CHECK(report::escape_xml("a\xff"
                           "b<\x1b>") ==
        "a\ufffd"
        "b&lt; &gt;");
  const folder here("utf8");
  report::write_topology(here.path / "t.svg", {"bad \xe2\x82", "", {{0}}, 1});
  CHECK(contains(read(here.path / "t.svg"), "<title>bad \ufffd\ufffd</title>"));
}
