// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// GGUF, the format of llama.cpp: reading its keys and its tensors, decoded.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moue/error.hpp"
#include "moue/io/file.hpp"
#include "moue/io/gguf/blocks.hpp"
#include "moue/io/gguf/header.hpp"
#include "moue/io/message.hpp"

namespace moue::inline v0_1::io {

/// A GGUF file of version 2 or 3 mapped into memory: opening reads and checks the header, tensors are read when they are
/// touched. Decoded types: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K, Q6_K and MXFP4. Move-only; const members may be called
/// from many threads.
class gguf_file {
 public:
  /// Throws as `parse_gguf` does.
  explicit gguf_file(const std::filesystem::path& path)
      : path_(path), map_(path), header_(parse_gguf(map_.bytes(), detail::shown(path.native()))) {}

  /// By name.
  const std::vector<gguf_tensor>& tensors() const& { return header_.tensors; }
  const std::vector<gguf_tensor>& tensors() const&& = delete;
  /// Null if there is none.
  const gguf_tensor* find(std::string_view name) const& {
    const auto place = std::lower_bound(tensors().begin(), tensors().end(), name,
                                        [](const gguf_tensor& one, std::string_view key) { return one.name < key; });
    return place != tensors().end() && place->name == name ? &*place : nullptr;
  }
  const gguf_tensor* find(std::string_view name) const&& = delete;

  /// By name. Throws if there is no such tensor, or if its type is not decoded.
  const gguf_tensor& require_decoded(std::string_view name) const {
    const auto* tensor = find(name);
    if (!tensor) refuse(name, "is missing", "check its name");
    if (!tensor->type || !tensor->type->decoded)
      refuse(name,
             "has type " + (tensor->type ? std::string(tensor->type->name) : std::to_string(tensor->type_id)) +
                 ", which is not decoded",
             "convert the file to F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K, Q6_K or MXFP4");
    return *tensor;
  }

  /// Elements [first, first + out.size()) of the row-major tensor. `T`: `double`, `float`, `bf16` or `half`. Each is the
  /// exact value, rounded once, to the nearest with ties to even. Throws for other types, and beyond the end, naming the
  /// tensor.
  template <class T>
  void read(std::string_view name, std::uint64_t first, std::span<T> out) const {
    const auto* tensor = &require_decoded(name);
    const auto& type = *tensor->type;
    const auto block = static_cast<std::uint64_t>(type.numbers), bytes = static_cast<std::uint64_t>(type.bytes);
    const auto count = tensor->bytes / bytes * block;
    if (first > count || out.size() > count - first)
      refuse(name,
             "has " + std::to_string(count) + " elements; " + std::to_string(out.size()) + " from " +
                 std::to_string(first) + " on were asked for",
             "check its shape");
    const auto* data = map_.bytes().data() + tensor->begin;
    // The ends of what is asked for may lie within blocks.
    for (std::size_t done = 0; done < out.size();) {
      const auto at = first + done, within = at % block;
      const auto* from = data + at / block * bytes;
      if (within == 0 && out.size() - done >= block) {
        const auto whole = (out.size() - done) / block * block;
        detail::decode_blocks(type, from, out.subspan(done, whole));
        done += whole;
      } else {
        out[done++] = detail::rounded<T>(detail::number_of_block(type, from, static_cast<index_t>(within)));
      }
    }
  }
  /// A tensor as it stands in the file, of whatever type. Throws if there is no such tensor.
  std::span<const std::byte> bytes(std::string_view name) const& {
    const auto* tensor = find(name);
    if (!tensor) refuse(name, "is missing", "check its name");
    return map_.bytes().subspan(static_cast<std::size_t>(tensor->begin), static_cast<std::size_t>(tensor->bytes));
  }
  void bytes(std::string_view name) const&& = delete;
  /// All elements of a tensor.
  template <class T>
  std::vector<T> read(std::string_view name) const {
    const auto* tensor = find(name);
    const bool known = tensor && tensor->type;
    const auto blocks = known ? static_cast<index_t>(tensor->bytes) / tensor->type->bytes : 0;
    std::vector<T> values(known ? static_cast<std::size_t>(blocks * tensor->type->numbers) : 0);
    read<T>(name, 0, values);
    return values;
  }

  /// The keys and their values, which live as long as the file.
  const std::map<std::string, gguf_value, std::less<>>& values() const& { return header_.values; }
  void values() const&& = delete;
  /// A text; nothing if there is no such key, or if it is something else.
  std::optional<std::string> text(std::string_view key) const {
    const auto at = values().find(key);
    if (at == values().end() || at->second.kind != gguf_kind::text) return {};
    return std::string(reinterpret_cast<const char*>(at->second.bytes.data()), at->second.bytes.size());
  }
  /// A number or truth value, exactly, if `double` holds it; nothing if there is no such key, or if it is something else.
  std::optional<double> number(std::string_view key) const {
    const auto at = values().find(key);
    if (at == values().end()) return {};
    return detail::number_in(at->second.kind, at->second.bytes);
  }

  /// What stands before the tensors' data.
  const gguf_header& header() const& { return header_; }
  void header() const&& = delete;
  /// The path that it was opened by.
  const std::filesystem::path& path() const& { return path_; }
  std::filesystem::path path() && { return std::move(path_); }

 private:
  [[noreturn]] void refuse(std::string_view name, const std::string& what, std::string_view fix) const {
    throw error(detail::shown(path_.native()), "tensor " + detail::shown(name) + " " + what, fix, error_kind::content);
  }

  std::filesystem::path path_;
  mapped_file map_;
  gguf_header header_;
};

}  // namespace moue::inline v0_1::io
