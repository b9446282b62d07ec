// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Writing a safetensors file in pieces.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moue/error.hpp"
#include "moue/io/atomic_file.hpp"
#include "moue/io/checksum.hpp"
#include "moue/io/dtype.hpp"
#include "moue/io/json.hpp"
#include "moue/io/message.hpp"
#include "moue/io/safetensors/header.hpp"

namespace moue::inline v0_1::io {

/// A tensor to be written.
struct tensor_spec {
  std::string name;                  ///< unique in the file
  dtype type = dtype::f32;           ///< of the elements
  std::vector<std::uint64_t> shape;  ///< row-major; no dimension: a scalar
};

namespace detail {

/// Bytes of a tensor. Throws, with `where` as the file's name, if its type has no size or its shape too large a one.
inline std::uint64_t bytes_of(const tensor_spec& tensor, const std::string& where) {
  const auto count = product(tensor.shape);
  const auto size = count && tensor.type != dtype::unknown ? packed_bytes(*count, tensor.type) : std::nullopt;
  moue::detail::require(
      size.has_value(), where,
      [&] {
        return "tensor " + shown(tensor.name) + " of type " + std::string(name_of(tensor.type)) +
               " has a size that is no whole number of bytes, or too large a one";
      },
      "check its type and shape");
  return *size;
}

/// The tensors as the file holds them: from the last type of the list to the first, then by name. The widest come
/// first, so every tensor is aligned to its own elements.
inline std::vector<tensor_entry> place_tensors(std::vector<tensor_spec> specs, const std::string& where) {
  std::sort(specs.begin(), specs.end(),
            [](const auto& a, const auto& b) { return a.type != b.type ? a.type > b.type : a.name < b.name; });
  std::vector<tensor_entry> placed;
  placed.reserve(specs.size());
  std::uint64_t begin = 0;
  for (auto& spec : specs) {
    std::uint64_t end = 0;
    moue::detail::require(
        !__builtin_add_overflow(begin, bytes_of(spec, where), &end) && end <= std::uint64_t{1} << 62, where,
        [] { return "the tensors together are too large for any file"; }, "check their shapes");
    placed.push_back(
        {std::move(spec.name), spec.type, std::string(name_of(spec.type)), std::move(spec.shape), begin, end});
    begin = end;
  }
  return placed;
}

/// Length and text, padded so that the data begins at a multiple of 8.
inline std::string header_text(const std::vector<tensor_entry>& placed, const string_map& metadata,
                               const std::string& where) {
  const auto require_short = [&](std::size_t size) {
    moue::detail::require(
        size <= longest_json, where, [] { return "names and metadata take more than 100 MB"; },
        "the format allows no longer header: split the file");
  };
  std::size_t least = 0;
  for (const auto& [key, value] : metadata) least += key.size() + value.size();
  for (const auto& tensor : placed) least += tensor.name.size();
  require_short(least);

  std::string text = "{";
  const auto add = [&](const std::string& name, const std::string& value) {
    text += (text.size() > 1 ? "," : "") + nlohmann::json(name).dump() + ":" + value;
  };
  try {
    if (!metadata.empty()) add(std::string(metadata_key), nlohmann::json(metadata).dump());
    for (const auto& tensor : placed)
      add(tensor.name, "{\"dtype\":\"" + tensor.type_name + "\",\"shape\":" + nlohmann::json(tensor.shape).dump() +
                           ",\"data_offsets\":[" + std::to_string(tensor.begin) + "," + std::to_string(tensor.end) +
                           "]}");
  } catch (const nlohmann::json::exception&) {
    throw error(where, "a name or a value of the metadata is no UTF-8 text", "give them in UTF-8");
  }
  text += "}";
  text.resize((text.size() + 7) / 8 * 8, ' ');
  require_short(text.size());
  std::string length(length_bytes, '\0');
  for (std::size_t i = 0; i < length_bytes; ++i) length[i] = static_cast<char>(text.size() >> (8 * i) & 0xff);
  return length + text;
}

/// Names, each once, and aliases of them. `stored` is sorted.
inline void check_names(const std::vector<std::string_view>& stored, const string_map& aliases,
                        const std::string& where) {
  const auto has = [&](std::string_view name) { return std::binary_search(stored.begin(), stored.end(), name); };
  const auto refuse = [&](const std::string& what) { throw error(where, what, "give every tensor a name of its own"); };
  if (const auto twice = std::adjacent_find(stored.begin(), stored.end()); twice != stored.end())
    refuse("tensor " + shown(*twice) + " is listed twice");
  if (has(metadata_key)) refuse("no tensor can be called '__metadata__'");
  for (const auto& [alias, name] : aliases) {
    if (has(alias)) refuse("alias " + shown(alias) + " is also the name of a tensor");
    if (!has(name)) refuse("alias " + shown(alias) + " leads to " + shown(name) + ", which is no tensor");
  }
}

[[noreturn]] inline void throw_not_listed(const std::string& where, std::string_view name, const string_map& aliases) {
  const auto alias = aliases.find(std::string(name));
  throw error(where,
              alias == aliases.end() ? "no tensor " + shown(name) + " was listed"
                                     : shown(name) + " is an alias of " + shown(alias->second) + " and has no bytes",
              "write the tensors that were listed at the start");
}

/// Which bytes have been written: disjoint runs, merged where they touch, so that writing in order keeps one.
class coverage {
 public:
  void add(std::uint64_t begin, std::uint64_t end) {
    if (begin == end) return;
    auto next = runs_.upper_bound(begin);
    if (next != runs_.begin() && std::prev(next)->second >= begin) {
      --next;
      begin = next->first;
    }
    while (next != runs_.end() && next->first <= end) {
      end = (std::max)(end, next->second);
      next = runs_.erase(next);
    }
    runs_.emplace(begin, end);
  }
  /// The first byte below `size` that is missing.
  std::optional<std::uint64_t> first_gap(std::uint64_t size) const {
    const bool at_start = !runs_.empty() && runs_.begin()->first == 0;
    const auto covered = at_start ? runs_.begin()->second : 0;
    return covered < size ? std::optional(covered) : std::nullopt;
  }

 private:
  std::map<std::uint64_t, std::uint64_t> runs_;  // begin -> end
};

}  // namespace detail

/// Writes a file of tensors whose names, types and shapes are known from the start; their bytes come in any order and in
/// pieces of any size, so memory does not grow with the file. The file appears with `commit`; see `atomic_file` for what
/// happens to the old one. The same specs, metadata and bytes give the same file, whatever the order. The metadata also
/// says `"format": "pt"`, unless it has a format, and a checksum of every tensor (moue/io/verify.hpp); for that, tensors
/// whose pieces do not come in order are read once more at the end.
class safetensors_writer {
 public:
  /// `aliases` maps further names to tensors in `specs`; they are recorded in the metadata and `checkpoint` resolves
  /// them. Throws, and has changed nothing, if names clash, a size overflows, or the file could not be written.
  explicit safetensors_writer(const std::filesystem::path& path, std::vector<tensor_spec> specs,
                              string_map metadata = {}, string_map aliases = {})
      : where_(detail::shown(path.native())),
        aliases_(std::move(aliases)),
        metadata_(std::move(metadata)),
        tensors_(detail::place_tensors(std::move(specs), where_)),
        sums_(tensors_.size()),
        file_(path) {
    std::vector<std::string_view> names;
    for (const auto& tensor : tensors_) names.push_back(tensor.name);
    std::sort(names.begin(), names.end());
    detail::check_names(names, aliases_, where_);
    for (const auto* key : {detail::aliases_key, detail::checksums_key})
      moue::detail::require(
          !metadata_.contains(key), where_,
          [&] { return "the metadata has a key '" + std::string(key) + "', which is the library's own"; },
          "leave it out: aliases are handed over as such, checksums are made by the writer");
    for (std::size_t i = 0; i < tensors_.size(); ++i) numbers_.emplace(tensors_[i].name, i);

    metadata_.emplace("format", "pt");  // without one, transformers takes the file for a foreign one
    if (!aliases_.empty()) metadata_.emplace(detail::aliases_key, text_of(aliases_));
    data_begin_ = head().size();
    file_.resize(data_begin_ + data_size());
  }

  /// Writes bytes [offset, offset + bytes.size()) of a tensor. What is written twice counts as written last.
  void write(std::string_view name, std::uint64_t offset, std::span<const std::byte> bytes) {
    const auto number = number_of(name);
    const auto& tensor = tensors_[number];
    const auto size = tensor.end - tensor.begin;
    moue::detail::require(
        offset <= size && bytes.size() <= size - offset, where_,
        [&] {
          return "tensor " + detail::shown(name) + " has " + std::to_string(size) + " bytes; " +
                 std::to_string(bytes.size()) + " were given for byte " + std::to_string(offset) + " on";
        },
        "check its type and shape");
    auto& running = sums_[number];
    running.in_order = running.in_order && offset == running.next;  // before a write that may fail half-way
    file_.write(data_begin_ + tensor.begin + offset, bytes);
    written_.add(tensor.begin + offset, tensor.begin + offset + bytes.size());
    if (running.in_order) running.sum.add(bytes);
    running.next = offset + bytes.size();
  }

  /// Puts the file in place. Throws if a tensor lacks bytes; it can then be completed, or dropped with the writer.
  void commit() {
    require_complete();
    const auto text = head();
    file_.write(0, std::as_bytes(std::span(text)));
    file_.commit();
  }
  /// Throws, naming the tensor, unless every byte has been written.
  void require_complete() const {
    const auto gap = written_.first_gap(data_size());
    if (!gap) return;
    const auto tensor = std::find_if(tensors_.begin(), tensors_.end(), [&](const auto& t) { return t.end > *gap; });
    throw error(
        where_,
        "tensor " + detail::shown(tensor->name) + " lacks bytes from " + std::to_string(*gap - tensor->begin) + " on",
        "write all of it before the commit");
  }

  /// The path that the file is to have.
  const std::filesystem::path& path() const { return file_.path(); }

 private:
  std::uint64_t data_size() const { return tensors_.empty() ? 0 : tensors_.back().end; }

  bool complete() const { return !written_.first_gap(data_size()); }

  std::string text_of(const string_map& names) const {
    try {
      return nlohmann::json(names).dump();
    } catch (const nlohmann::json::exception&) {
      throw error(where_, "a name is no UTF-8 text", "give names in UTF-8");
    }
  }

  std::size_t number_of(std::string_view name) const {
    const auto place = numbers_.find(name);
    if (place != numbers_.end()) return place->second;
    detail::throw_not_listed(where_, name, aliases_);
  }

  /// The checksum of what has been written so far, for as long as it comes in order.
  struct running_sum {
    crc32c sum;
    std::uint64_t next = 0;
    bool in_order = true;
  };

  std::uint32_t checksum_of(std::size_t number) const {
    if (sums_[number].in_order) return sums_[number].sum.value();
    crc32c sum;
    std::vector<std::byte> piece(1 << 20);
    const auto& tensor = tensors_[number];
    for (auto at = tensor.begin; at < tensor.end; at += piece.size()) {
      piece.resize(static_cast<std::size_t>((std::min<std::uint64_t>)(piece.size(), tensor.end - at)));
      file_.read(data_begin_ + at, piece);
      sum.add(piece);
    }
    return sum.value();
  }

  /// The header with checksums; until all bytes are there they are not right, but as long.
  std::string head() const {
    string_map sums;
    for (std::size_t i = 0; i < tensors_.size(); ++i)
      sums.emplace(tensors_[i].name, detail::checksum_text(complete() ? checksum_of(i) : 0));
    auto metadata = metadata_;
    if (!sums.empty()) metadata.emplace(detail::checksums_key, text_of(sums));
    return detail::header_text(tensors_, metadata, where_);
  }

  std::string where_;
  string_map aliases_;
  string_map metadata_;
  std::vector<tensor_entry> tensors_;  // by place in the file
  std::vector<running_sum> sums_;      // of tensors_
  std::map<std::string_view, std::size_t> numbers_;
  atomic_file file_;
  std::uint64_t data_begin_ = 0;
  detail::coverage written_;
};

}  // namespace moue::inline v0_1::io
