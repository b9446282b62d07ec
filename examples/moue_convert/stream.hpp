// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Copying tensors from file to file in pieces, so that memory does not grow with their size.

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../program/status_line.hpp"
#include "moue/io/sharded.hpp"

namespace converting {

namespace io = moue::io;

/// Says on standard error how far a long copy has come, if a person is watching.
class progress {
 public:
  explicit progress(std::uint64_t total) : total_(total) {}

  void add(std::uint64_t bytes) {
    done_ += bytes;
    const auto percent = static_cast<int>(100 * static_cast<double>(done_) / static_cast<double>(total_));
    if (total_ < 200'000'000 || percent == percent_) return;
    percent_ = percent;
    char text[80];
    std::snprintf(text, sizeof text, "copying: %3d %%, %.1f of %.1f GB", percent, static_cast<double>(done_) / 1e9,
                  static_cast<double>(total_) / 1e9);
    line_.show(text);
  }

 private:
  std::uint64_t total_, done_ = 0;
  int percent_ = -1;
  program::status_line line_{stderr};
};

/// "13.4 GB", "0.019 MB".
inline std::string size_text(std::uint64_t bytes) {
  char text[32];
  const bool large = bytes >= 1'000'000'000;
  std::snprintf(text, sizeof text, large ? "%.1f GB" : "%.3f MB", static_cast<double>(bytes) / (large ? 1e9 : 1e6));
  return text;
}

namespace detail {

/// Lets the system drop pages of a mapped file that will not be read again.
inline void forget(std::span<const std::byte> bytes) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<std::uintptr_t>(bytes.data()) + page - 1) / page * page;
  const auto end = reinterpret_cast<std::uintptr_t>(bytes.data() + bytes.size()) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace detail

/// Writes `bytes`, which lie in a mapped file, to `offset` of tensor `name`.
inline void copy_bytes(std::span<const std::byte> bytes, io::sharded_writer& to, const std::string& name,
                       std::uint64_t offset, progress& shown) {
  constexpr std::size_t piece = 8 << 20;
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    const auto part = bytes.subspan(at, std::min(piece, bytes.size() - at));
    to.write(name, offset + at, part);
    detail::forget(part);
    shown.add(part.size());
  }
}

/// Writes numbers in the type that tensor `name` has.
inline void write_numbers(const std::vector<float>& values, io::dtype type, io::sharded_writer& to,
                          const std::string& name, std::uint64_t offset) {
  const auto put = [&](auto zero) {
    std::vector<decltype(zero)> stored;
    for (const float v : values) stored.emplace_back(v);
    to.write(name, offset, std::as_bytes(std::span(stored)));
  };
  if (type == io::dtype::bf16)
    put(moue::bf16{});
  else if (type == io::dtype::f16)
    put(moue::half{});
  else if (type == io::dtype::f64)
    put(double{});
  else if (type == io::dtype::f32)
    put(float{});
  else
    throw std::runtime_error("routers of type " + std::string(io::name_of(type)) + " cannot be extended");
}

}  // namespace converting
