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
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "moue/error.hpp"
#include "moue/io/file.hpp"
#include "moue/io/message.hpp"

namespace moue::inline v0_1::io {

namespace detail {

/// Opens `path` for writing, made if need be, and keeps other writers from doing so until it is closed; what it holds
/// stays. `wanted` is what errors name.
inline descriptor open_locked(const std::filesystem::path& path, const std::filesystem::path& wanted) {
  while (true) {
    descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666));
    if (!file) throw_errno(wanted, "cannot be written");
    // Where the file system knows no locks, writers of one path have to agree by themselves.
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
      throw error(shown(wanted.native()), "is being written by another process or writer",
                  "wait until it has ended, or choose another path", error_kind::file);
    // Its former owner may have renamed it away between the opening and the lock: then it is no longer ours to change.
    struct stat opened {
    }, present{};
    if (::fstat(file.get(), &opened) != 0 || ::lstat(path.c_str(), &present) != 0 || opened.st_ino != present.st_ino ||
        opened.st_dev != present.st_dev)
      continue;
    moue::detail::require(
        S_ISREG(opened.st_mode), shown(path.native()), [] { return "is not a regular file"; }, "remove it",
        error_kind::file);
    return file;
  }
}

/// Makes what was renamed or removed in `folder` durable. Not every folder can be opened and not every file system
/// flushes folders: then the system decides when. False, with `errno` set, if it should have worked.
inline bool sync_folder(const std::filesystem::path& folder) {
  const descriptor file(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return !file || ::fsync(file.get()) == 0 || errno == EINVAL || errno == ENOTSUP;
}

}  // namespace detail

/// The one way in which files are written here. Writes to the sibling `<path>.moue-part` and renames it over `path` in
/// `commit`. Whatever happens before, up to loss of power, `path` is what it was; from `commit` on it is the new content,
/// all of it on the disk. `path` must be free or a regular file: devices, pipes and symbolic links are refused, since
/// renaming would destroy them. A process that is killed leaves the sibling behind, and the next write to `path` takes it
/// over. Two writers of one path exclude each other, where the file system has locks. A program that may run under a
/// limit on the size of files must ignore SIGXFSZ, or that signal ends it before an error can be told. Move-only.
class atomic_file {
 public:
  /// Throws, and has changed nothing, if `path` could not be replaced.
  explicit atomic_file(const std::filesystem::path& path)
      : path_(std::filesystem::absolute(path)), part_(path_.native() + ".moue-part") {
    struct stat old {};
    const bool exists = ::lstat(path_.c_str(), &old) == 0;
    const auto refuse = [&](const char* what, const char* fix) {
      throw error(detail::shown(path.native()), what, fix, error_kind::file);
    };
    if (!path_.has_filename()) refuse("names no file", "give the path of a file");
    if (exists && S_ISLNK(old.st_mode)) refuse("is a symbolic link", "give the path that it leads to, or remove it");
    if (exists && !S_ISREG(old.st_mode)) refuse("is not a regular file", "give the path of a file");
    file_ = detail::open_locked(part_, path_);
    resize(0);
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

  /// The path that the file is to have.
  const std::filesystem::path& path() const { return path_; }

  /// Sets the size, so that a limit on it is met now and not at the end. What is never written reads as zeros.
  void resize(std::uint64_t size) {
    require_open();
    if (::ftruncate(file_.get(), static_cast<off_t>(size)) != 0) detail::throw_errno(path_, "cannot be written");
  }

  /// Writes `bytes` from `offset` on. Throws if the system does not take them.
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

  /// Reads back what has been written: bytes [offset, offset + bytes.size()), which must lie within the size.
  void read(std::uint64_t offset, std::span<std::byte> bytes) const {
    require_open();
    while (!bytes.empty()) {
      const auto count = ::pread(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (count < 0 && errno == EINTR) continue;
      if (count == 0) errno = EIO;  // somebody has cut the file short
      if (count <= 0) detail::throw_errno(path_, "cannot be read back");
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
    if (!detail::sync_folder(path_.parent_path()))
      detail::throw_errno(path_, "is in place, but its folder cannot be forced to the disk");
  }

 private:
  void require_open() const {
    moue::detail::require(
        static_cast<bool>(file_), detail::shown(path_.native()), [] { return "has been committed already"; },
        "begin a new writer");
  }

  std::filesystem::path path_;
  std::filesystem::path part_;
  detail::descriptor file_;
};

/// Puts `content` at `path`, whole or not at all; see `atomic_file`.
inline void replace_file(const std::filesystem::path& path, std::span<const std::byte> content) {
  atomic_file file(path);
  file.write(0, content);
  file.commit();
}
inline void replace_file(const std::filesystem::path& path, std::string_view content) {
  replace_file(path, std::as_bytes(std::span(content)));
}

}  // namespace moue::inline v0_1::io
