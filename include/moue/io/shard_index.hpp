// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The index of a checkpoint that is split over several files.

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "moue/io/file.hpp"
#include "moue/io/json.hpp"
#include "moue/io/message.hpp"
#include "moue/io/safetensors/header.hpp"

namespace moue::inline v0_1::io {

/// What `model.safetensors.index.json` says.
struct shard_index {
  string_map weight_map;  ///< tensor -> file name, relative to the index, in its shortest spelling
  /// The plain values among "metadata", as text. Its "total_size" is what some tool said once: advice at best.
  string_map metadata;
};

namespace detail {

inline constexpr const char* single_name = "model.safetensors";
inline constexpr const char* index_name = "model.safetensors.index.json";

/// Takes the two tables and steps over whatever else stands in the file: indices carry all kinds of keys.
class index_events : public json_events {
 public:
  using json_events::json_events;
  shard_index index;
  bool mapped = false;

  bool null() { return plain("null"); }
  bool boolean(bool value) { return plain(value ? "true" : "false"); }
  bool number_integer(nlohmann::json::number_integer_t value) { return plain(std::to_string(value)); }
  bool number_unsigned(nlohmann::json::number_unsigned_t value) { return plain(std::to_string(value)); }
  bool number_float(nlohmann::json::number_float_t, const std::string& digits) { return plain(digits); }
  bool string(std::string& text) {
    if (in_map()) {
      const auto [place, fresh] = index.weight_map.try_emplace(key_, std::move(text));
      if (!fresh) refuse("tensor " + shown(key_) + " occurs twice");
      return true;
    }
    return plain(std::move(text));
  }
  bool key(std::string& text) {
    if (depth_ == 1) table_ = text;
    if (depth_ == 2) key_ = std::move(text);
    return true;
  }
  bool start_object(std::size_t) {
    if (depth_ == 1 && table_ == "weight_map" && std::exchange(mapped, true)) refuse("'weight_map' occurs twice");
    return open();
  }
  bool start_array(std::size_t) {
    if (depth_ == 0 || (depth_ == 1 && table_ == "weight_map")) unexpected("a list");
    return open();
  }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

 private:
  bool in_map() const { return depth_ == 2 && table_ == "weight_map"; }
  bool plain(std::string text) {
    if (depth_ == 0 || (depth_ == 1 && table_ == "weight_map")) unexpected("a plain value");
    if (in_map()) refuse("tensor " + shown(key_) + " is mapped to something that is no file name");
    if (depth_ == 2 && table_ == "metadata" && !key_.empty()) index.metadata.insert_or_assign(key_, std::move(text));
    return true;
  }
  bool open() {
    if (in_map()) refuse("tensor " + shown(key_) + " is mapped to something that is no file name");
    key_.clear();
    ++depth_;
    return true;
  }
  bool close() {
    --depth_;
    return true;
  }

  std::size_t depth_ = 0;
  std::string table_;
  std::string key_;
};

/// The file below the folder that `name` is relative to, in the shortest spelling ("./a//b" is "a/b"), judged by its
/// letters alone. Empty if it may lie elsewhere.
inline std::string inside_folder(std::string_view name) {
  const std::filesystem::path path(name);
  const auto shortest = path.lexically_normal();
  if (name.find('\0') != std::string_view::npos || path.is_absolute() || !shortest.has_filename() || shortest == ".")
    return {};
  for (const auto& part : path)
    if (part == "..") return {};
  return shortest.string();
}

}  // namespace detail

/// Parses the text of an index. Throws `moue::error`, with `where` as the name of the file, if it has no "weight_map", if
/// a tensor occurs twice, or if a file is named that may lie outside the folder. A pure function; memory is bounded by a
/// small multiple of the text, nesting costs one bit per level.
inline shard_index parse_index(std::string_view text, const std::string& where) {
  detail::index_events events(where);
  if (text.size() > detail::longest_json)
    throw error(where, "has more than 100 MB", "check that it is the index and not a tensor file", error_kind::content);
  detail::read_json(text, events);
  if (!events.mapped)
    throw error(where, "has no 'weight_map'", "check that it is the index of a checkpoint", error_kind::content);
  for (auto& [tensor, file] : events.index.weight_map) {
    auto inside = detail::inside_folder(file);
    if (inside.empty())
      throw error(where, "maps tensor " + detail::shown(tensor) + " to " + detail::shown(file) + ", outside its folder",
                  "do not trust this checkpoint; an index names files beside it", error_kind::content);
    file = std::move(inside);
  }
  return std::move(events.index);
}

namespace detail {

inline std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline shard_index read_index(const std::filesystem::path& path) {
  const mapped_file file(path);
  return parse_index(text_of(file.bytes()), shown(path.native()));
}

}  // namespace detail

}  // namespace moue::inline v0_1::io
