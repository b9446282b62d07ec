// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// One safetensors file, open for reading.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moue/error.hpp"
#include "moue/io/dtype.hpp"
#include "moue/io/file.hpp"
#include "moue/io/message.hpp"
#include "moue/io/safetensors/header.hpp"

namespace moue::inline v0_1::io {

/// A safetensors file mapped into memory: opening reads and checks the header, tensors are read when they are touched.
/// Spans stay valid until the object is destroyed, also after a move. Const members may be called from many threads.
class safetensors_file {
 public:
  /// Throws `moue::error` unless the file is all that the format demands; see `parse_header`.
  explicit safetensors_file(const std::filesystem::path& path)
      : path_(path),
        map_(path),
        header_(parse_header(map_.bytes(), map_.bytes().size(), detail::shown(path.native()))) {}

  /// By name.
  const std::vector<tensor_entry>& tensors() const& { return header_.tensors; }
  std::vector<tensor_entry> tensors() && { return std::move(header_.tensors); }
  /// Null if there is none. Logarithmic in the number of tensors.
  const tensor_entry* find(std::string_view name) const& {
    const auto place =
        std::lower_bound(tensors().begin(), tensors().end(), name,
                         [](const tensor_entry& entry, std::string_view key) { return entry.name < key; });
    return place != tensors().end() && place->name == name ? &*place : nullptr;
  }
  const tensor_entry* find(std::string_view name) const&& = delete;
  /// The bytes of one of `tensors()`. They may begin at any address: load elements with `memcpy`.
  std::span<const std::byte> bytes(const tensor_entry& entry) const& {
    const auto data = map_.bytes().subspan(detail::as_size(header_.data_begin));
    moue::detail::require(
        entry.begin <= entry.end && entry.end <= data.size(), detail::shown(path_.native()),
        [&] { return "tensor " + detail::shown(entry.name) + " is not of this file"; }, "ask the file it came from");
    return data.subspan(detail::as_size(entry.begin), detail::as_size(entry.end - entry.begin));
  }
  std::span<const std::byte> bytes(const tensor_entry& entry) const&& = delete;
  /// The entry `__metadata__`.
  const string_map& metadata() const& { return header_.metadata; }
  string_map metadata() && { return std::move(header_.metadata); }
  /// The path that it was opened by.
  const std::filesystem::path& path() const& { return path_; }
  std::filesystem::path path() && { return std::move(path_); }

 private:
  std::filesystem::path path_;
  mapped_file map_;
  safetensors_header header_;
};

}  // namespace moue::inline v0_1::io
