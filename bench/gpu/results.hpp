// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Measured figures as lines of text, one each: programs append them to a file, table.cpp reads them.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <istream>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace bench {

inline constexpr double not_measured = std::numeric_limits<double>::quiet_NaN();

/// One implementation of one scope at one size.
struct result {
  std::string chip = {}, type = {}, shape = {};
  long experts = 0, tokens = 0;
  std::string scope = {}, implementation = {};
  double eager_us = not_measured;  // queued call by call
  double graph_us = not_measured;  // replayed as a graph
  double flops = 0;                // that the task needs
  double floor_us = not_measured;
  long launches = 0;  // nodes of the graph, 0 if it could not be captured
  double scratch_bytes = 0;
  double error = not_measured;  // against loops in double; `tolerance` or above: the figure does not count
  double tolerance = 0;

  bool counts() const { return error < tolerance; }
  double best_us() const { return std::isnan(graph_us) ? eager_us : std::min(eager_us, graph_us); }
};

inline constexpr const char* result_columns =
    "chip\ttype\tshape\texperts\ttokens\tscope\timplementation\teager_us\tgraph_us\tflops\tfloor_us\tlaunches\t"
    "scratch_bytes\terror\ttolerance";

inline std::string to_line(const result& r) {
  std::ostringstream out;
  out.precision(9);
  out << r.chip << '\t' << r.type << '\t' << r.shape << '\t' << r.experts << '\t' << r.tokens << '\t' << r.scope << '\t'
      << r.implementation << '\t' << r.eager_us << '\t' << r.graph_us << '\t' << r.flops << '\t' << r.floor_us << '\t'
      << r.launches << '\t' << r.scratch_bytes << '\t' << r.error << '\t' << r.tolerance;
  return out.str();
}

inline result from_line(const std::string& line) {
  std::vector<std::string> fields;
  std::istringstream in(line);
  for (std::string field; std::getline(in, field, '\t');) fields.push_back(field);
  if (fields.size() != 15) throw std::runtime_error("not a line of results: " + line);
  const auto number = [&](std::size_t i) { return std::stod(fields[i]); };
  const auto count = [&](std::size_t i) { return std::stol(fields[i]); };
  return {fields[0], fields[1], fields[2],  count(3),  count(4),   fields[5],  fields[6], number(7),
          number(8), number(9), number(10), count(11), number(12), number(13), number(14)};
}

// How lines begin that say why there is no figure: the device is too small, or something went wrong.
inline constexpr const char* left_out = "# left out: ";
inline constexpr const char* failed = "# failed: ";

struct result_file {
  std::vector<result> results;
  std::vector<std::string> left_out, failed;
};

/// What is in a file; its heading and other lines with # are skipped.
inline result_file read_results(std::istream& in) {
  result_file file;
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(left_out))
      file.left_out.push_back(line.substr(2));
    else if (line.starts_with(failed))
      file.failed.push_back(line.substr(2));
    else if (!line.empty() && line[0] != '#' && !line.starts_with("chip\t"))
      file.results.push_back(from_line(line));
  return file;
}

inline void append_line(const std::string& path, const std::string& line) {
  std::ofstream out(path, std::ios::app);
  out.seekp(0, std::ios::end);
  if (out.tellp() == 0) out << result_columns << '\n';
  out << line << '\n';
  if (!out.flush()) throw std::runtime_error("cannot write " + path);
}

}  // namespace bench
