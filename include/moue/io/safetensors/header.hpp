// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The head of a safetensors file: eight bytes of length, then JSON that names every tensor, its type, its shape and its
/// place. Parsed as if the writer meant harm.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moue/error.hpp"
#include "moue/io/dtype.hpp"
#include "moue/io/json.hpp"
#include "moue/io/message.hpp"

namespace moue::inline v0_1::io {

/// One tensor of a file, row-major and packed.
struct tensor_entry {
  std::string name;                  ///< unique in the file
  dtype type = dtype::unknown;       ///< `unknown` if this library does not know it
  std::string type_name;             ///< as in the file, also where `type` is unknown
  std::vector<std::uint64_t> shape;  ///< no dimension: a scalar
  std::uint64_t begin = 0;           ///< bytes [begin, end) of the data buffer
  std::uint64_t end = 0;             ///< past its last byte
};

/// Texts by name.
using string_map = std::map<std::string, std::string>;

/// What a file says before its tensors.
struct safetensors_header {
  std::vector<tensor_entry> tensors;  ///< by name
  string_map metadata;                ///< the entry `__metadata__`
  std::uint64_t data_begin = 0;       ///< where the data buffer begins in the file
};

namespace detail {

inline constexpr std::string_view metadata_key = "__metadata__";
/// The metadata entry under which names that share another's tensor are kept, as a JSON object {alias: name}.
inline constexpr const char* aliases_key = "moue.aliases";
/// The entry under which the CRC-32C of every tensor's bytes is kept, as a JSON object {name: eight hexadecimal digits}.
inline constexpr const char* checksums_key = "moue.checksums";
inline constexpr std::size_t length_bytes = 8;

/// A checksum as it stands in metadata: of one length, so that a header can be laid out before the sums are known.
inline std::string checksum_text(std::uint32_t value) {
  std::string text(8, '0');
  for (auto at = text.rbegin(); at != text.rend(); ++at, value >>= 4) *at = "0123456789abcdef"[value & 15];
  return text;
}

/// The number of elements, or nothing if it does not fit into 64 bits.
inline std::optional<std::uint64_t> product(std::span<const std::uint64_t> shape) {
  std::uint64_t count = 1;
  for (const auto size : shape)
    if (__builtin_mul_overflow(count, size, &count)) return std::nullopt;
  return count;
}

/// Bytes of `count` elements, or nothing if that is no whole number of bytes or does not fit into 64 bits.
inline std::optional<std::uint64_t> packed_bytes(std::uint64_t count, dtype type) {
  std::uint64_t bits = 0;
  if (__builtin_mul_overflow(count, static_cast<std::uint64_t>(bits_of(type)), &bits) || bits % 8 != 0)
    return std::nullopt;
  return bits / 8;
}

/// Collects the entries. What they say about sizes is checked afterwards.
class header_events : public json_events {
 public:
  using json_events::json_events;
  std::vector<tensor_entry> tensors;
  string_map metadata;

  bool null() {
    if (place_ != place::metadata) unexpected("null");
    place_ = place::names;  // the format's own package reads it as no metadata
    return true;
  }
  bool start_object(std::size_t) {
    switch (place_) {
      case place::start:
        place_ = place::names;
        return true;
      case place::tensor:
        place_ = place::fields;
        return true;
      case place::metadata:
        place_ = place::metadata_keys;
        return true;
      default:
        unexpected("an object");
    }
  }
  bool key(std::string& text) {
    if (place_ == place::names) {
      if (text == metadata_key) {
        if (std::exchange(has_metadata_, true)) refuse("'__metadata__' occurs twice");
        place_ = place::metadata;
      } else {
        tensors.emplace_back().name = std::move(text);
        seen_ = {};
        place_ = place::tensor;
      }
    } else if (place_ == place::metadata_keys) {
      const auto [position, fresh] = metadata.try_emplace(text);
      if (!fresh) refuse("the key " + shown(text) + " occurs twice in '__metadata__'");
      value_ = &position->second;
      place_ = place::metadata_text;
    } else {
      open_field(text);
    }
    return true;
  }
  bool string(std::string& text) {
    if (place_ == place::type) {
      tensors.back().type = dtype_called(text);
      tensors.back().type_name = std::move(text);
      place_ = place::fields;
    } else if (place_ == place::metadata_text) {
      *value_ = std::move(text);
      place_ = place::metadata_keys;
    } else {
      unexpected("a string");
    }
    return true;
  }
  bool start_array(std::size_t) {
    switch (place_) {
      case place::shape:
        place_ = place::sizes;
        return true;
      case place::range:
        place_ = place::offsets;
        return true;
      default:
        unexpected("a list");
    }
  }
  bool number_unsigned(std::uint64_t number) {
    if (place_ == place::sizes) {
      tensors.back().shape.push_back(number);
    } else if (place_ == place::offsets && offsets_ < 2) {
      (offsets_++ == 0 ? tensors.back().begin : tensors.back().end) = number;
    } else {
      unexpected("a number");
    }
    return true;
  }
  bool end_array() {
    if (place_ == place::offsets && offsets_ != 2)
      refuse("tensor " + shown(tensors.back().name) + ": data_offsets needs two numbers");
    place_ = place::fields;
    return true;
  }
  bool end_object() {
    if (place_ == place::fields && !(seen_.type && seen_.shape && seen_.offsets))
      refuse("tensor " + shown(tensors.back().name) + " lacks dtype, shape or data_offsets");
    place_ = place_ == place::names ? place::end : place::names;
    return true;
  }

 private:
  enum class place {
    start,
    names,
    tensor,
    fields,
    type,
    shape,
    sizes,
    range,
    offsets,
    metadata,
    metadata_keys,
    metadata_text,
    end
  };
  struct fields {
    bool type = false, shape = false, offsets = false;
  };

  void open_field(const std::string& text) {
    const auto open = [&](bool& seen, place next) {
      if (std::exchange(seen, true)) refuse("tensor " + shown(tensors.back().name) + ": " + text + " occurs twice");
      place_ = next;
    };
    offsets_ = 0;
    if (text == "dtype") return open(seen_.type, place::type);
    if (text == "shape") return open(seen_.shape, place::shape);
    if (text == "data_offsets") return open(seen_.offsets, place::range);
    refuse("tensor " + shown(tensors.back().name) + " has a field " + shown(text) + ", which the format has not");
  }

  place place_ = place::start;
  bool has_metadata_ = false;
  fields seen_;
  int offsets_ = 0;
  std::string* value_ = nullptr;
};

/// Every byte of the buffer belongs to one tensor, and every tensor has as many as its type and shape need.
template <class Refuse>
void check_tensors(const std::vector<tensor_entry>& tensors, std::uint64_t buffer, const Refuse& refuse) {
  std::vector<const tensor_entry*> by_place;
  by_place.reserve(tensors.size());
  for (const auto& tensor : tensors) by_place.push_back(&tensor);
  std::sort(by_place.begin(), by_place.end(),
            [](auto* a, auto* b) { return std::pair(a->begin, a->end) < std::pair(b->begin, b->end); });

  std::uint64_t covered = 0;
  for (const auto* tensor : by_place) {
    const auto fail = [&](const std::string& what) { refuse("tensor " + shown(tensor->name) + " " + what); };
    if (tensor->end < tensor->begin) fail("ends before it begins");
    if (tensor->end > buffer)
      fail("ends at byte " + std::to_string(tensor->end) + " of " + std::to_string(buffer) + " in the data");
    if (tensor->begin > covered) fail("leaves a hole before byte " + std::to_string(tensor->begin));
    if (tensor->begin < covered) fail("overlaps another at byte " + std::to_string(tensor->begin));
    covered = tensor->end;

    const auto size = tensor->end - tensor->begin;
    const auto count = product(tensor->shape);
    if (!count) fail("has more elements than 64 bits can count");
    const auto needed = packed_bytes(*count, tensor->type);
    if (!needed) fail("has a size that is no whole number of bytes, or too large a one");
    // Of a type that is not known, one element still takes at least one bit.
    if (tensor->type == dtype::unknown ? (size == 0) != (*count == 0) : size != *needed)
      fail("has " + std::to_string(size) + " bytes, which is not what its type and shape need");
  }
  if (covered != buffer)
    refuse("no tensor covers the last " + std::to_string(buffer - covered) + " of its bytes: it is not as written");
}

}  // namespace detail

/// Parses the head of a file of `file_size` bytes, of which `head` holds at least the first 8 + n, and checks all that
/// the format demands: n at most 100 MB, no key twice, nothing but tensors and string metadata, sizes that fit types and
/// shapes, and a data buffer that the tensors cover without hole, overlap or rest. Throws `moue::error`, with `where` as
/// the name of the file. A pure function. Memory is at most some ten times n, time O(n log n).
inline safetensors_header parse_header(std::span<const std::byte> head, std::uint64_t file_size,
                                       const std::string& where) {
  const auto refuse = [&](const std::string& what) {
    throw error(where, what, "get the file again, or write it with a tool that follows the format",
                error_kind::content);
  };
  if (file_size < detail::length_bytes || head.size() < detail::length_bytes)
    refuse("is too short for a safetensors file");
  std::uint64_t length = 0;
  std::memcpy(&length, head.data(), detail::length_bytes);
  if (length > detail::longest_json)
    refuse("is no safetensors file, or has a header of more than 100 MB (" + std::to_string(length) + " bytes)");
  if (length > file_size - detail::length_bytes || length > head.size() - detail::length_bytes)
    refuse("ends inside its header");
  const std::string_view text(reinterpret_cast<const char*>(head.data()) + detail::length_bytes,
                              detail::as_size(length));
  if (!text.starts_with('{')) refuse("has a header that does not begin with '{'");

  detail::header_events events(where);
  detail::read_json(text, events);
  safetensors_header header{std::move(events.tensors), std::move(events.metadata), detail::length_bytes + length};
  std::sort(header.tensors.begin(), header.tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  const auto twice = std::adjacent_find(header.tensors.begin(), header.tensors.end(),
                                        [](const auto& a, const auto& b) { return a.name == b.name; });
  if (twice != header.tensors.end()) refuse("tensor " + detail::shown(twice->name) + " occurs twice");
  detail::check_tensors(header.tensors, file_size - header.data_begin, refuse);
  return header;
}

}  // namespace moue::inline v0_1::io
