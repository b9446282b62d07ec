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
#include <utility>

#include "moue/error.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1 {

namespace detail {

[[noreturn]] inline void refuse_size(std::string_view purpose) {
  throw error("workspace", "the size of '" + std::string(purpose) + "' overflows", "use fewer tokens per pass");
}
/// a · b, two sizes of `purpose`; throws if one is negative or the product too large to count bytes with.
inline index_t checked_product(index_t a, index_t b, std::string_view purpose) {
  constexpr index_t most = (std::numeric_limits<index_t>::max)() / 64;
  if (a < 0 || b < 0 || (b > 0 && a > most / b)) refuse_size(purpose);
  return a * b;
}
[[noreturn]] inline void refuse_workspace(std::size_t needed, std::size_t given) {
  throw error("workspace", std::to_string(needed) + " bytes are needed, but " + std::to_string(given) + " were given",
              "size it with workspace_bytes, for the same tokens and mode", error_kind::memory);
}

}  // namespace detail

/// A block of scratch bytes, owned or in external memory, which the caller provides. Sizes come from
/// `mixture::workspace_bytes`; the library allocates nothing else while a pass runs. Movable, not copyable. An external
/// block may start anywhere: `bytes` begins at its first multiple of 64 (up to 63 bytes are lost, which
/// `workspace_bytes` already counts). What lies in `bytes` is laid out relative to its start and holds no addresses but
/// for lists of a device, which are sent anew, so that it may be copied to the `bytes` of another workspace. Passes that
/// live at the same time need one each: two over one workspace overwrite each other's numbers. Empty once it was moved
/// from.
class workspace {
 public:
  static constexpr std::size_t alignment = 64;  ///< bytes; where `bytes` and every piece of an `arena` begin

  /// Owned, uninitialised.
  explicit workspace(std::size_t bytes)
      : owned_(new std::byte[with_slack(bytes)]), bytes_(aligned({owned_.get(), bytes + alignment}).first(bytes)) {}
  /// External `memory`; it must outlive every pass that uses the workspace.
  explicit workspace(std::span<std::byte> memory) : bytes_(aligned(memory)) {}

  workspace(workspace&& other) noexcept
      : owned_(std::move(other.owned_)), bytes_(std::exchange(other.bytes_, std::span<std::byte>())) {}
  workspace& operator=(workspace&& other) noexcept {
    owned_ = std::move(other.owned_);
    bytes_ = std::exchange(other.bytes_, std::span<std::byte>());
    return *this;
  }

  /// From the first aligned byte on.
  std::span<std::byte> bytes() const& { return bytes_; }
  std::span<std::byte> bytes() const&& = delete;
  /// Whether the memory is its own.
  bool owned() const { return owned_ != nullptr; }

 private:
  static std::size_t with_slack(std::size_t bytes) {
    if (bytes > (std::numeric_limits<std::size_t>::max)() / 2)
      throw error("workspace", "it was asked for " + std::to_string(bytes) + " bytes",
                  "ask for what workspace_bytes says; a negative number is a very large one here");
    return bytes + alignment;
  }
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
    return {static_cast<T*>(reserve(count, sizeof(T), purpose)), count};
  }

  /// The same as a matrix whose rows follow each other without a gap.
  template <class T>
  matrix_view<T> take(index_t rows, index_t cols, std::string_view purpose) {
    return {take<T>(detail::checked_product(rows, cols, purpose), purpose).data, rows, cols};
  }

  /// Whether it has no memory and only counts.
  bool counting() const { return counting_; }
  /// Bytes handed out so far, with one alignment's slack for memory that starts anywhere.
  std::size_t bytes() const { return used_ + workspace::alignment; }
  /// A number that tells what was handed out so far from other buffers or other places. By FNV-1a (Fowler, Noll, Vo).
  std::uint64_t layout() const { return layout_; }

 private:
  /// Null while it only counts.
  void* reserve(index_t count, std::size_t element, std::string_view purpose) {
    constexpr auto largest = (std::numeric_limits<std::size_t>::max)() / 2;
    if (count < 0 || static_cast<std::size_t>(count) > (largest - used_) / element) detail::refuse_size(purpose);
    const std::size_t start = (used_ + workspace::alignment - 1) / workspace::alignment * workspace::alignment;
    used_ = start + static_cast<std::size_t>(count) * element;
    layout_ = (layout_ ^ used_) * 0x100000001b3u;
    layout_ = (layout_ ^ element) * 0x100000001b3u;
    if (counting_) return nullptr;
    if (used_ > capacity_)
      throw error(
          "workspace",
          "'" + std::string(purpose) + "' ends at byte " + std::to_string(used_) + " of " + std::to_string(capacity_),
          "size it with mixture::workspace_bytes for the same tokens and mode", error_kind::memory);
    return begin_ + start;
  }

  std::byte* begin_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t used_ = 0;
  std::uint64_t layout_ = 0xcbf29ce484222325u;
  bool counting_ = true;
};

namespace detail {

/// What `take(arena&)` takes from `block`. If that is too small, takes again to count what it should have been.
template <class F>
auto carve(const workspace& block, const F& take) {
  arena cursor(block.bytes());
  try {
    return take(cursor);
  } catch (const error&) {
    arena counter;
    take(counter);  // throws what has another reason
    if (counter.bytes() > block.bytes().size()) refuse_workspace(counter.bytes(), block.bytes().size());
    throw;
  }
}

}  // namespace detail

}  // namespace moue::inline v0_1
