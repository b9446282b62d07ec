// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// How two checkpoints differ, tensor by tensor.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

#include "moue/io/checkpoint.hpp"
#include "moue/io/message.hpp"
#include "summary.hpp"

namespace inspect {

namespace io = moue::io;

namespace detail {

/// The largest difference between two tensors of one size, and the largest number of the first; piece by piece.
struct distance {
  double difference = 0, largest = 0;
};
inline distance distance_of(const io::checkpoint& a, const io::checkpoint& b, const std::string& name) {
  constexpr std::uint64_t piece = 1 << 16;
  const auto count = a.elements(name);
  std::vector<double> x, y;
  distance found;
  for (std::uint64_t first = 0; first < count; first += piece) {
    x.resize(static_cast<std::size_t>(std::min(piece, count - first)));
    y.resize(x.size());
    a.read<double>(name, first, std::span(x));
    b.read<double>(name, first, std::span(y));
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double apart = std::abs(x[i] - y[i]);
      if (!(apart <= found.difference)) found.difference = x[i] == y[i] ? found.difference : apart;  // NaN counts
      found.largest = std::max(found.largest, std::abs(x[i]));
    }
  }
  return found;
}

inline bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

}  // namespace detail

/// Prints a line for every tensor that is not the same in both, and what they have in common. Returns whether all are.
inline bool print_comparison(const io::checkpoint& a, const io::checkpoint& b) {
  const auto in_first = a.names(), in_second = b.names();
  std::size_t same = 0, different = 0;
  const auto line = [&](const std::string& name, const std::string& what) {
    ++different;
    std::printf("  %s %s\n", io::detail::shown(name).c_str(), io::printable(what).c_str());
  };
  detail::line("compared", io::detail::shown(a.path().native()) + " with " + io::detail::shown(b.path().native()));
  for (const auto& name : in_first) {
    if (!b.contains(name)) {
      line(name, "only in the first");
      continue;
    }
    const auto &x = a.entry(name), &y = b.entry(name);
    if (x.shape != y.shape) {
      line(name, detail::shape_text(x) + " and " + detail::shape_text(y));
    } else if (x.type_name == y.type_name && detail::same_bytes(a.bytes(name), b.bytes(name))) {
      ++same;
    } else if (!io::is_number(x.type) || !io::is_number(y.type)) {
      line(name, x.type_name + " and " + y.type_name + ", other bytes");
    } else {
      const auto found = detail::distance_of(a, b, name);
      char text[96];
      std::snprintf(text, sizeof text, "differs by up to %.3g, of numbers up to %.3g", found.difference, found.largest);
      const bool types = x.type_name != y.type_name;
      line(name, (types ? x.type_name + " and " + y.type_name + ", " : std::string()) + text);
    }
  }
  for (const auto& name : in_second)
    if (!a.contains(name)) line(name, "only in the second");
  detail::line("the same", std::to_string(same) + " tensors; " + std::to_string(different) + " are not");
  return different == 0;
}

}  // namespace inspect
