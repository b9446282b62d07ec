// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// A file that appears whole or not at all.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <utility>

#include "moue/error.hpp"
#include "moue/io/file.hpp"
#include "moue/io/message.hpp"

namespace moue::io {

/// Writes to the sibling `<path>.moue-part` and renames it over `path` in `commit`. Whatever happens before, up to loss
/// of power, `path` is what it was; from `commit` on it is the new content, all of it on the disk. A process that is
/// killed leaves the sibling behind, and the next write to `path` takes it over. Two writers of one path exclude each
/// other, where the file system has locks. If `path` is a symbolic link, the link is replaced. Move-only.
class atomic_file {
 public:
  /// Throws, and has changed nothing, if `path` could not be replaced.
  explicit atomic_file(const std::filesystem::path& path)
      : path_(std::filesystem::absolute(path)), part_(path_.native() + ".moue-part") {
    struct stat old {};
    const bool exists = ::stat(path_.c_str(), &old) == 0;
    moue::detail::require(
        path_.has_filename() && (!exists || S_ISREG(old.st_mode)), detail::shown(path.native()),
        [&] { return std::string(path_.has_filename() ? "is not a regular file" : "names no file"); },
        "give the path of a file");
    open_locked();
    if (exists) ::fchmod(file_.get(), old.st_mode & 0777);  // as far as the system lets us: a convenience
  }
  atomic_file(atomic_file&& other) noexcept
      : path_(std::move(other.path_)), part_(std::move(other.part_)), file_(std::move(other.file_)) {}
  atomic_file& operator=(atomic_file&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(part_, other.part_);
    std::swap(file_, other.file_);
    return *this;
  }
  ~atomic_file() {
    if (file_) ::unlink(part_.c_str());
  }

  const std::filesystem::path& path() const { return path_; }

  /// Sets the size, so that a limit on it is met now and not at the end. What is never written reads as zeros.
  void resize(std::uint64_t size) {
    require_open();
    if (::ftruncate(file_.get(), static_cast<off_t>(size)) != 0) detail::throw_errno(path_, "cannot be written");
  }

  void write(std::uint64_t offset, std::span<const std::byte> bytes) {
    require_open();
    while (!bytes.empty()) {
      const auto count = ::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) detail::throw_errno(path_, "cannot be written");
      bytes = bytes.subspan(static_cast<std::size_t>(count));
      offset += static_cast<std::uint64_t>(count);
    }
  }

  /// Forces the content to the disk and puts it in place. If that throws, the old file is still there, but for one case:
  /// the text says that the new file is in place when only the last step failed, making the rename itself durable.
  void commit() {
    require_open();
    if (::fsync(file_.get()) != 0) detail::throw_errno(path_, "cannot be forced to the disk");
    if (::rename(part_.c_str(), path_.c_str()) != 0) detail::throw_errno(path_, "cannot be put in place");
    file_ = {};
    const detail::descriptor folder(::open(path_.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    // Not every folder can be opened and not every file system flushes folders: then the system decides when.
    if (folder && ::fsync(folder.get()) != 0 && errno != EINVAL && errno != ENOTSUP)
      detail::throw_errno(path_, "is in place, but its folder cannot be forced to the disk");
  }

 private:
  void open_locked() {
    while (true) {
      file_ = detail::descriptor(::open(part_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666));
      if (!file_) detail::throw_errno(path_, "cannot be written");
      // Where the file system knows no locks, writers of one path have to agree by themselves.
      if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        file_ = {};
        throw error(detail::shown(path_.native()), "is being written by another process or writer",
                    "wait until it has ended, or choose another path");
      }
      // Its former owner may have renamed it away between the opening and the lock: then it is no longer ours to empty.
      struct stat opened {
      }, present{};
      if (::fstat(file_.get(), &opened) == 0 && ::lstat(part_.c_str(), &present) == 0 &&
          opened.st_ino == present.st_ino && opened.st_dev == present.st_dev)
        break;
    }
    resize(0);
  }

  void require_open() const {
    moue::detail::require(
        static_cast<bool>(file_), detail::shown(path_.native()), [] { return "has been committed already"; },
        "begin a new writer");
  }

  std::filesystem::path path_;
  std::filesystem::path part_;
  detail::descriptor file_;
};

}  // namespace moue::io
