// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What stands before the numbers of a GGUF file: keys with values, then names, shapes and types of tensors.

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
#include <type_traits>
#include <utility>
#include <vector>

#include "moue/error.hpp"
#include "moue/io/gguf/blocks.hpp"
#include "moue/io/message.hpp"

namespace moue::inline v0_1::io {

/// The types of values, numbered as in files.
enum class gguf_kind : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, text, list, u64, i64, f64 };

/// A value of a key: its bytes in the file, and for a list of numbers the kind and number of elements. Lists of texts
/// and of lists are passed over: their bytes are empty.
struct gguf_value {
  gguf_kind kind = gguf_kind::u8;         ///< of the value
  gguf_kind element = gguf_kind::u8;      ///< of a list
  std::uint64_t count = 0;                ///< of a list
  std::span<const std::byte> bytes = {};  ///< in the file
};

/// One tensor of a file.
struct gguf_tensor {
  std::string name;                  ///< as in the file
  const gguf_type* type = nullptr;   ///< null: newer than the table
  std::uint32_t type_id = 0;         ///< as in the file, also where `type` is null
  std::vector<std::uint64_t> shape;  ///< row-major, the slowest axis first: the other way round than in the file
  std::uint64_t begin = 0;           ///< in the file
  std::uint64_t bytes = 0;           ///< 0 if the type is not known
};

/// What a file says before its tensors.
struct gguf_header {
  std::uint32_t version = 0;                              ///< of the format
  std::map<std::string, gguf_value, std::less<>> values;  ///< by key
  std::vector<gguf_tensor> tensors;                       ///< by name
};

namespace detail {

/// Bytes of a number kind; 0 for texts, lists and kinds that do not exist.
constexpr std::size_t size_of(gguf_kind kind) {
  constexpr std::size_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  const auto at = static_cast<std::size_t>(kind);
  return at < std::size(sizes) ? sizes[at] : 0;
}

/// The number that these bytes of a kind hold, if they are one that `double` holds.
inline std::optional<double> number_in(gguf_kind kind, std::span<const std::byte> bytes) {
  const auto as = [&]<class T>(T value) -> std::optional<double> {
    std::memcpy(&value, bytes.data(), sizeof value);
    const auto result = static_cast<double>(value);
    if constexpr (std::is_integral_v<T>)
      if (!fits<double>(value)) return {};
    return result;
  };
  switch (kind) {
    case gguf_kind::u8:
    case gguf_kind::boolean:
      return as(std::uint8_t{});
    case gguf_kind::i8:
      return as(std::int8_t{});
    case gguf_kind::u16:
      return as(std::uint16_t{});
    case gguf_kind::i16:
      return as(std::int16_t{});
    case gguf_kind::u32:
      return as(std::uint32_t{});
    case gguf_kind::i32:
      return as(std::int32_t{});
    case gguf_kind::f32:
      return as(float{});
    case gguf_kind::u64:
      return as(std::uint64_t{});
    case gguf_kind::i64:
      return as(std::int64_t{});
    case gguf_kind::f64:
      return as(double{});
    case gguf_kind::text:
    case gguf_kind::list:
      break;
  }
  return {};
}

class gguf_parser {
 public:
  gguf_parser(std::span<const std::byte> file, std::string where) : file_(file), where_(std::move(where)) {}

  gguf_header run() {
    gguf_header header;
    const auto magic = take(4);
    if (std::memcmp(magic.data(), "GGUF", 4) != 0) fail("is no GGUF file", "give another");
    header.version = number<std::uint32_t>();
    if (header.version != 2 && header.version != 3)
      fail("is of version " + std::to_string(header.version) + " of the format",
           "convert it to version 2 or 3, in little endian");
    const auto tensors = number<std::uint64_t>(), keys = number<std::uint64_t>();
    for (std::uint64_t i = 0; i < keys; ++i) {
      const auto name = text(longest_name);
      const auto [at, fresh] = header.values.try_emplace(std::string(name));
      if (!fresh) fail("has the key " + shown(name) + " twice", fix);
      at->second = value(number<gguf_kind>(), 0);
    }
    for (std::uint64_t i = 0; i < tensors; ++i) header.tensors.push_back(tensor());
    place(header);
    return header;
  }

 private:
  static constexpr const char* fix = "get the file again";
  static constexpr std::size_t longest_name = 65535;
  static constexpr int deepest_list = 8;

  [[noreturn]] void fail(const std::string& what, const std::string& how) const {
    throw error(where_, what, how, error_kind::content);
  }

  std::span<const std::byte> take(std::uint64_t count) {
    if (count > file_.size() - at_) fail("ends within its header", fix);
    const auto size = moue::detail::integer<std::size_t>(count);
    const auto bytes = file_.subspan(at_, size);
    at_ += size;
    return bytes;
  }
  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string_view text(std::uint64_t longest) {
    const auto size = number<std::uint64_t>();
    if (size > longest) fail("has a name of " + std::to_string(size) + " bytes", fix);
    const auto bytes = take(size);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  gguf_value value(gguf_kind kind, int depth) {
    gguf_value result{.kind = kind};
    if (kind == gguf_kind::text) {
      result.bytes = take(number<std::uint64_t>());
    } else if (kind == gguf_kind::list) {
      if (depth == deepest_list) fail("nests more than " + std::to_string(deepest_list) + " lists", fix);
      result.element = number<gguf_kind>();
      result.count = number<std::uint64_t>();
      if (const auto size = size_of(result.element); size > 0) {
        if (result.count > file_.size() / size) fail("ends within its header", fix);
        result.bytes = take(result.count * size);
      } else {
        for (std::uint64_t i = 0; i < result.count; ++i) value(result.element, depth + 1);
      }
    } else {
      const auto size = size_of(kind);
      if (size == 0) fail("has a value of the unknown kind " + std::to_string(static_cast<std::uint32_t>(kind)), fix);
      result.bytes = take(size);
    }
    return result;
  }

  gguf_tensor tensor() {
    gguf_tensor result;
    result.name = std::string(text(longest_name));
    const auto axes = number<std::uint32_t>();
    if (axes > 8) fail("tensor " + shown(result.name) + " has " + std::to_string(axes) + " axes", fix);
    std::uint64_t count = 1;
    for (std::uint32_t i = 0; i < axes; ++i) {
      result.shape.push_back(number<std::uint64_t>());
      const auto size = result.shape.back();
      if (size != 0 && count > (std::uint64_t{1} << 62) / size)
        fail("tensor " + shown(result.name) + " is larger than any file", fix);
      count *= size;
    }
    result.type_id = number<std::uint32_t>();
    result.type = gguf_type_of(result.type_id);
    result.begin = number<std::uint64_t>();
    if (result.type) {
      const auto block = static_cast<std::uint64_t>(result.type->numbers);
      if ((result.shape.empty() ? 1 : result.shape[0]) % block != 0)
        fail("tensor " + shown(result.name) + " has rows that are no whole blocks of type " +
                 std::string(result.type->name),
             fix);
      result.bytes = count / block * static_cast<std::uint64_t>(result.type->bytes);
    }
    std::reverse(result.shape.begin(), result.shape.end());
    return result;
  }

  /// Makes offsets count from the file's begin, and sorts.
  void place(gguf_header& header) {
    std::uint64_t alignment = 32;
    if (const auto at = header.values.find("general.alignment"); at != header.values.end()) {
      if (at->second.kind != gguf_kind::u32) fail("has an alignment that is no 32-bit number", fix);
      std::uint32_t given = 0;
      std::memcpy(&given, at->second.bytes.data(), sizeof given);
      alignment = given;
    }
    if (alignment == 0 || (alignment & (alignment - 1)) != 0)
      fail("has the alignment " + std::to_string(alignment) + ", which is no power of two", fix);
    const auto data = (moue::detail::integer<std::uint64_t>(at_) + alignment - 1) / alignment * alignment;
    for (auto& one : header.tensors) {
      const std::uint64_t size = file_.size();
      if (one.begin % alignment != 0 || data > size || one.begin > size - data || one.bytes > size - data - one.begin)
        fail("does not hold all of tensor " + shown(one.name), fix);
      one.begin += data;
    }
    std::sort(header.tensors.begin(), header.tensors.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    const auto twice = std::adjacent_find(header.tensors.begin(), header.tensors.end(),
                                          [](const auto& a, const auto& b) { return a.name == b.name; });
    if (twice != header.tensors.end()) fail("has tensor " + shown(twice->name) + " twice", fix);
  }

  std::span<const std::byte> file_;
  std::string where_;
  std::size_t at_ = 0;
};

}  // namespace detail

/// Reads the header of a whole file's bytes, to which values refer. `where` names it in errors. Throws if it is broken, a
/// tensor does not lie within the file, or a name occurs twice. Memory: what the names and shapes take.
inline gguf_header parse_gguf(std::span<const std::byte> file, const std::string& where) {
  return detail::gguf_parser(file, where).run();
}

}  // namespace moue::inline v0_1::io
