// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The text: read from a file or folder, divided into training and held-out parts, cut into batches.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "embedding.hpp"
#include "moue/io/file.hpp"
#include "moue/io/message.hpp"

namespace language_model {

using bytes = std::vector<std::uint8_t>;

/// FNV-1a, continued from `hash`.
inline std::uint64_t fingerprint(std::span<const std::uint8_t> data, std::uint64_t hash = 0xcbf29ce484222325ull) {
  for (const std::uint8_t byte : data) hash = (hash ^ byte) * 0x100000001b3ull;
  return hash;
}

struct corpus {
  bytes training;
  bytes held_out;
  std::string description;  ///< for people: what it is and how it was divided

  std::uint64_t identity() const { return fingerprint(held_out, fingerprint(training)); }
};

namespace detail {

namespace fs = std::filesystem;

inline constexpr std::size_t largest_text = 4u << 20;
inline constexpr unsigned held_out_percent = 8;

[[noreturn]] inline void refuse(const fs::path& path, const std::string& why) {
  throw std::runtime_error("text " + moue::io::detail::shown(path.native()) + ": " + why);
}

/// The first `most` bytes of a file, of whatever kind, or all if it has fewer. What lies behind them is not touched.
inline bytes read_file(const fs::path& path, std::size_t most) {
  const auto fail = [&] { refuse(path, "it cannot be read: " + std::system_category().message(errno)); };
  const moue::io::detail::descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) fail();
  bytes content;
  std::array<std::uint8_t, 1 << 16> piece;
  while (content.size() < most) {
    const auto count = ::read(file.get(), piece.data(), std::min(piece.size(), most - content.size()));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail();
    if (count == 0) break;
    content.insert(content.end(), piece.begin(), piece.begin() + count);
  }
  return content;
}

inline std::string size_text(std::size_t size) { return std::to_string(size / 1024) + " KiB"; }

/// Whether the file called `name`, relative to its folder, is held out: a property of the name alone, so that a folder
/// that grows never moves a file from one side to the other.
inline bool held_out_by_name(const std::string& name) {
  const std::span characters(reinterpret_cast<const std::uint8_t*>(name.data()), name.size());
  std::uint64_t hash = fingerprint(characters);
  hash ^= hash >> 32;  // FNV's high bits are the better mixed ones
  return hash % 100 < held_out_percent;
}

inline void hold_out_tail(corpus& text) {
  const auto tail = static_cast<std::ptrdiff_t>(text.training.size() * held_out_percent / 100);
  text.held_out.assign(text.training.end() - tail, text.training.end());
  text.training.erase(text.training.end() - tail, text.training.end());
}

inline corpus read_folder(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code problem;
  fs::recursive_directory_iterator walk(folder, problem);
  if (problem) refuse(folder, "it cannot be read: " + problem.message());
  for (; walk != fs::recursive_directory_iterator(); walk.increment(problem)) {
    if (problem) refuse(folder, "it cannot be read: " + problem.message());
    if (walk->is_regular_file(problem)) names.push_back(walk->path().lexically_relative(folder).generic_string());
  }
  std::sort(names.begin(), names.end());
  corpus text;
  std::size_t used = 0, held = 0;
  for (const auto& name : names) {
    const auto left = largest_text - text.training.size() - text.held_out.size();
    const bytes content = read_file(folder / name, left + 1);
    if (content.empty() || std::find(content.begin(), content.end(), 0) != content.end()) continue;  // not text
    if (content.size() > left) break;
    const bool out = held_out_by_name(name);
    auto& side = out ? text.held_out : text.training;
    side.insert(side.end(), content.begin(), content.end());
    ++used;
    held += out ? 1 : 0;
  }
  if (used == 0) refuse(folder, "it holds no text");
  const auto total = size_text(text.training.size() + text.held_out.size());
  text.description = moue::io::printable(folder.native()) + " (" + std::to_string(used) + " files, " + total + "; ";
  if (held == 0 || held == used) {
    text.training.insert(text.training.end(), text.held_out.begin(), text.held_out.end());
    hold_out_tail(text);
    text.description += "held out: the last " + size_text(text.held_out.size()) + ")";
  } else {
    text.description += "held out: " + std::to_string(held) + " files, " + size_text(text.held_out.size()) + ")";
  }
  return text;
}

}  // namespace detail

/// Reads at most 4 MiB: of a folder, its files in the order of their names, held out by file (about 8 %, chosen by a
/// hash of the name); of a file, its beginning, whose last 8 % are held out. Throws if a side is too short for windows of
/// `context` tokens.
inline corpus read_text(const std::filesystem::path& path, moue::index_t context) {
  namespace fs = std::filesystem;
  std::error_code problem;
  const auto status = fs::status(path, problem);
  if (!fs::exists(status)) detail::refuse(path, "there is no such file or folder");
  corpus text;
  if (fs::is_directory(status)) {
    text = detail::read_folder(path);
  } else {
    text.training = detail::read_file(path, detail::largest_text);
    const auto total = detail::size_text(text.training.size());
    detail::hold_out_tail(text);
    text.description = moue::io::printable(path.native()) + " (" + total + "; held out: the last " +
                       detail::size_text(text.held_out.size()) + ")";
  }
  const auto least = static_cast<std::size_t>(batch::window(context));
  if (text.training.size() < least || text.held_out.size() < least)
    detail::refuse(path, "it is too short: training and held-out part need " + std::to_string(least) +
                             " bytes each, they have " + std::to_string(text.training.size()) + " and " +
                             std::to_string(text.held_out.size()));
  return text;
}

namespace detail {

/// Windows at the places that `place(i)` gives.
template <class Place>
bytes cut_windows(const bytes& from, moue::index_t context, moue::index_t count, const Place& place) {
  const auto length = batch::window(context);
  bytes result;
  result.reserve(static_cast<std::size_t>(count * length));
  for (moue::index_t i = 0; i < count; ++i) {
    const auto start = from.begin() + place(i);
    result.insert(result.end(), start, start + length);
  }
  return result;
}

}  // namespace detail

/// The windows of training step `step`: they depend on the text, the seed and the step alone, so that every model sees
/// the same data and a resumed run needs no generator state.
inline bytes training_windows(const bytes& text, moue::index_t context, moue::index_t count, std::uint64_t seed,
                              moue::index_t step) {
  std::seed_seq key{seed, seed >> 32, static_cast<std::uint64_t>(step)};
  std::mt19937_64 random(key);
  const auto places = static_cast<std::uint64_t>(static_cast<moue::index_t>(text.size()) - batch::window(context) + 1);
  return detail::cut_windows(text, context, count,
                             [&](moue::index_t) { return static_cast<std::ptrdiff_t>(random() % places); });
}

/// Windows [first, first + count) of `total` spread evenly over the held-out text.
inline bytes held_out_windows(const bytes& text, moue::index_t context, moue::index_t first, moue::index_t count,
                              moue::index_t total) {
  const auto room = static_cast<moue::index_t>(text.size()) - batch::window(context);
  return detail::cut_windows(text, context, count, [&](moue::index_t i) { return room * (first + i) / total; });
}

}  // namespace language_model
