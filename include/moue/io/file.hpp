// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// A file as read-only memory.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <span>
#include <utility>

#include "moue/io/message.hpp"

namespace moue::inline v0_1::io {

namespace detail {

/// Owns a file descriptor.
class descriptor {
 public:
  descriptor() = default;
  explicit descriptor(int number) : number_(number) {}
  descriptor(descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~descriptor() {
    if (number_ >= 0) ::close(number_);
  }

  int get() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }

 private:
  int number_ = -1;
};

static_assert(sizeof(off_t) == 8, "files beyond 4 GiB need 64-bit offsets: compile with _FILE_OFFSET_BITS=64");

}  // namespace detail

/// A regular file mapped into memory, read-only. Pages are read from the disk when they are first touched, so opening
/// costs no memory for the content. The content stays that of the file which was opened, even if another is renamed over
/// it or it is deleted. Whoever shortens the very same file in place makes the system end this process (SIGBUS) at the
/// first touch of a page that is gone; the writers of this library never do.
class mapped_file {
 public:
  /// Throws if `path` is no regular file or cannot be read.
  explicit mapped_file(const std::filesystem::path& path) {
    // Without O_NONBLOCK the open of a pipe would wait for a writer.
    const detail::descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file) detail::throw_errno(path, "cannot be opened");
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) detail::throw_errno(path, "cannot be examined");
    moue::detail::require(
        S_ISREG(status.st_mode), detail::shown(path.native()), [] { return "is not a regular file"; }, "give a file",
        error_kind::file);
    size_ = static_cast<std::size_t>(status.st_size);
    if (size_ == 0) return;  // an empty mapping is an error
    void* const first = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (first == MAP_FAILED) detail::throw_errno(path, "cannot be mapped into memory");
    data_ = static_cast<const std::byte*>(first);
  }
  mapped_file(mapped_file&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  mapped_file& operator=(mapped_file&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~mapped_file() {
    if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
  }

  /// The content, as long as this lives.
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace moue::inline v0_1::io
