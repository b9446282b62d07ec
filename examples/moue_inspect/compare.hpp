// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// How two files of one format differ, tensor by tensor.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "moue/io/checkpoint.hpp"
#include "moue/io/gguf.hpp"
#include "moue/io/message.hpp"
#include "summary.hpp"

namespace inspect {

namespace io = moue::io;

/// The largest difference between numbers of two places, and the largest number of the first.
struct distance {
  double difference = 0, largest = 0;

  void add(double x, double y) {
    const double apart = std::abs(x - y);
    if (x != y && !(apart <= difference) && !std::isnan(difference)) difference = apart;  // NaN counts
    largest = std::max(largest, std::abs(x));
  }
  std::string text() const {
    char text[96];
    std::snprintf(text, sizeof text, "by up to %.3g, of numbers up to %.3g", difference, largest);
    return text;
  }
};

namespace detail {

/// A GGUF file by the words of a checkpoint.
class gguf_tensors {
 public:
  explicit gguf_tensors(const std::filesystem::path& path) : file_(path) {}

  const std::filesystem::path& path() const { return file_.path(); }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& tensor : file_.tensors()) found.push_back(tensor.name);
    return found;
  }
  bool contains(const std::string& name) const { return file_.find(name) != nullptr; }
  auto shape(const std::string& name) const { return file_.find(name)->shape; }
  std::string type_name(const std::string& name) const { return inspect::detail::type_text(*file_.find(name)); }
  bool has_numbers(const std::string& name) const {
    const auto* type = file_.find(name)->type;
    return type != nullptr && type->decoded;
  }
  auto bytes(const std::string& name) const { return file_.bytes(name); }
  void read(const std::string& name, std::uint64_t first, std::span<double> out) const { file_.read(name, first, out); }

 private:
  io::gguf_file file_;
};

class checkpoint_tensors {
 public:
  explicit checkpoint_tensors(const std::filesystem::path& path) : files_(path) {}

  const std::filesystem::path& path() const { return files_.path(); }
  std::vector<std::string> names() const { return files_.names(); }
  bool contains(const std::string& name) const { return files_.contains(name); }
  auto shape(const std::string& name) const { return files_.entry(name).shape; }
  std::string type_name(const std::string& name) const { return files_.entry(name).type_name; }
  bool has_numbers(const std::string& name) const { return io::is_number(files_.entry(name).type); }
  auto bytes(const std::string& name) const { return files_.bytes(name); }
  void read(const std::string& name, std::uint64_t first, std::span<double> out) const {
    files_.read<double>(name, first, out);
  }

 private:
  io::checkpoint files_;
};

/// Of two tensors of one shape; piece by piece.
template <class Tensors>
distance distance_of(const Tensors& a, const Tensors& b, const std::string& name) {
  constexpr std::uint64_t piece = 1 << 16;
  const auto count = elements(a.shape(name));
  std::vector<double> x, y;
  distance found;
  for (std::uint64_t first = 0; first < count; first += piece) {
    x.resize(static_cast<std::size_t>(std::min(piece, count - first)));
    y.resize(x.size());
    a.read(name, first, std::span(x));
    b.read(name, first, std::span(y));
    for (std::size_t i = 0; i < x.size(); ++i) found.add(x[i], y[i]);
  }
  return found;
}

inline bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

}  // namespace detail

/// Prints a line for every tensor that is not the same in both, and what they have in common; `without` are passed over.
/// Returns whether all are.
template <class Tensors>
bool print_comparison(const Tensors& a, const Tensors& b, const std::set<std::string>& without = {}) {
  auto in_first = a.names(), in_second = b.names();
  for (auto* names : {&in_first, &in_second})
    std::erase_if(*names, [&](const std::string& name) { return without.contains(name); });
  std::size_t same = 0, different = 0;
  const auto line = [&](const std::string& name, const std::string& what) {
    ++different;
    std::printf("  %s %s\n", io::detail::shown(name).c_str(), io::printable(what).c_str());
  };
  if (without.empty())
    detail::line("compared", io::detail::shown(a.path().native()) + " with " + io::detail::shown(b.path().native()));
  for (const auto& name : in_first) {
    if (!b.contains(name)) {
      line(name, "only in the first");
      continue;
    }
    const auto x = a.type_name(name), y = b.type_name(name);
    if (a.shape(name) != b.shape(name))
      line(name, detail::shape_text(a.shape(name)) + " and " + detail::shape_text(b.shape(name)));
    else if (x == y && detail::same_bytes(a.bytes(name), b.bytes(name)))
      ++same;
    else if (!a.has_numbers(name) || !b.has_numbers(name))
      line(name, x + " and " + y + ", other bytes");
    else
      line(name,
           (x == y ? std::string() : x + " and " + y + ", ") + "differs " + detail::distance_of(a, b, name).text());
  }
  for (const auto& name : in_second)
    if (!a.contains(name)) line(name, "only in the second");
  detail::line("the same", std::to_string(same) + (without.empty() ? "" : " other") + " tensors; " +
                               std::to_string(different) + " are not");
  return different == 0;
}

}  // namespace inspect
