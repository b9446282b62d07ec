// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Scratch memory that belongs to the caller, and the cursor that hands it out.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "moue/error.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {

/// A block of scratch bytes, owned or in external memory, which the caller provides. Sizes come from
/// `mixture::workspace_bytes`; the library allocates nothing else while a pass runs. Movable, not copyable. An external
/// block may start anywhere: `bytes` begins at its first multiple of 64 (up to 63 bytes are lost, which
/// `workspace_bytes` already counts). What lies in `bytes` is laid out relative to its start and holds no addresses, so
/// that it may be copied to the `bytes` of another workspace.
class workspace {
 public:
  static constexpr std::size_t alignment = 64;  ///< bytes; where `bytes` and every piece of an `arena` begin

  /// Owned, uninitialised.
  explicit workspace(std::size_t bytes)
      : owned_(new std::byte[bytes + alignment]), bytes_(aligned({owned_.get(), bytes + alignment}).first(bytes)) {}
  /// External `memory`; it must outlive every pass that uses the workspace.
  explicit workspace(std::span<std::byte> memory) : bytes_(aligned(memory)) {}

  /// From the first aligned byte on.
  std::span<std::byte> bytes() const { return bytes_; }
  /// Whether the memory is its own.
  bool owned() const { return owned_ != nullptr; }

 private:
  static std::span<std::byte> aligned(std::span<std::byte> memory) {
    const std::size_t past = reinterpret_cast<std::uintptr_t>(memory.data()) % alignment;
    const std::size_t lost = past == 0 ? 0 : alignment - past;
    return memory.subspan(lost < memory.size() ? lost : memory.size());
  }

  std::unique_ptr<std::byte[]> owned_;
  std::span<std::byte> bytes_;
};

/// Hands out aligned pieces of a workspace in order. Without memory it only counts, so one piece of code both sizes and
/// carves a layout.
class arena {
 public:
  arena() = default;
  /// `memory` starts at a multiple of `workspace::alignment`, as `workspace::bytes` does.
  explicit arena(std::span<std::byte> memory) : begin_(memory.data()), capacity_(memory.size()), counting_(false) {}

  /// `count` default-valued-if-trivial elements of `T`, uninitialised. `purpose` names the buffer in errors.
  template <class T>
  vector_view<T> take(index_t count, std::string_view purpose) {
    static_assert(std::is_trivially_copyable_v<T>);
    constexpr auto largest = (std::numeric_limits<std::size_t>::max)() / 2;
    detail::require(
        count >= 0 && static_cast<std::size_t>(count) <= (largest - used_) / sizeof(T), "workspace",
        [&] { return std::string("the size of '") + std::string(purpose) + "' overflows"; },
        "use fewer tokens per pass");
    const std::size_t start = (used_ + workspace::alignment - 1) / workspace::alignment * workspace::alignment;
    used_ = start + static_cast<std::size_t>(count) * sizeof(T);
    if (counting_) return {nullptr, count};
    detail::require(
        used_ <= capacity_, "workspace",
        [&] {
          return "'" + std::string(purpose) + "' needs " + std::to_string(used_) + " bytes in all, but " +
                 std::to_string(capacity_) + " were given";
        },
        "size it with mixture::workspace_bytes for the same tokens and mode", error_kind::memory);
    return {reinterpret_cast<T*>(begin_ + start), count};
  }

  /// The same as a matrix whose rows follow each other without a gap.
  template <class T>
  matrix_view<T> take(index_t rows, index_t cols, std::string_view purpose) {
    detail::require(
        cols == 0 || rows <= (std::numeric_limits<index_t>::max)() / (cols > 0 ? cols : 1), "workspace",
        [&] { return std::string("the size of '") + std::string(purpose) + "' overflows"; },
        "use fewer tokens per pass");
    return {take<T>(rows * cols, purpose).data, rows, cols};
  }

  /// Whether it has no memory and only counts.
  bool counting() const { return counting_; }
  /// Bytes handed out so far, with one alignment's slack for memory that starts anywhere.
  std::size_t bytes() const { return used_ + workspace::alignment; }

 private:
  std::byte* begin_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t used_ = 0;
  bool counting_ = true;
};

}  // namespace moue::inline v0_1
