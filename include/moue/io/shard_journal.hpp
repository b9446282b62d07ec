// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Whose the shards in a folder are: the old checkpoint's, a killed writer's, or another's.

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "moue/error.hpp"
#include "moue/io/atomic_file.hpp"
#include "moue/io/file.hpp"
#include "moue/io/message.hpp"
#include "moue/io/safetensors/header.hpp"
#include "moue/io/shard_index.hpp"

namespace moue::inline v0_1::io::detail {

inline constexpr std::array<const char*, 2> shard_prefixes{"model-", "model.1-"};

/// The customary name of shard `number` of `count`, from 1 on. There are two sets of names, so that a new checkpoint can
/// be written beside the one it replaces.
inline std::string shard_name(std::size_t set, std::size_t number, std::size_t count) {
  std::array<char, 80> text{};
  std::snprintf(text.data(), text.size(), "%s%05zu-of-%05zu.safetensors", shard_prefixes[set], number, count);
  return text.data();
}

/// Whether `shard_name` may have given the name.
inline bool is_shard_name(std::string_view name) {
  return std::any_of(shard_prefixes.begin(), shard_prefixes.end(), [&](std::string_view prefix) {
    if (!name.starts_with(prefix)) return false;
    std::string rest(name.substr(prefix.size()));
    std::replace_if(
        rest.begin(), rest.end(), [](char c) { return c >= '0' && c <= '9'; }, '#');
    return rest == "#####-of-#####.safetensors";
  });
}

/// The lock of a folder's writer, and its note of what may be left of its work: the names of the new shards and of those
/// that they replace. Whenever no writer is at work, those of them that the index in place does not name are garbage. A
/// writer removes it at its end, and first of all what a killed one has noted. Move-only.
class shard_journal {
 public:
  /// Throws if another writer is at work in `folder`, or it cannot be written.
  explicit shard_journal(const std::filesystem::path& folder) : shard_journal(std::filesystem::absolute(folder), 0) {
    const mapped_file written(path());
    std::istringstream lines{std::string(text_of(written.bytes()))};
    for (std::string line; std::getline(lines, line);) noted_.insert(line);
    settle();
  }
  shard_journal(shard_journal&&) = default;
  shard_journal& operator=(shard_journal&&) = default;
  ~shard_journal() {
    if (!file_) return;
    try {
      settle();
      close();
    } catch (...) {
      if (noted_.empty()) close();  // else the next writer will settle it
    }
  }

  /// Names for `count` shards that no file in the folder has. Throws if both sets of names are taken.
  std::vector<std::string> free_names(std::size_t count) const {
    const auto taken = [&](const std::string& name) { return kept_.contains(name) || exists(name); };
    for (std::size_t set = 0; set < shard_prefixes.size(); ++set) {
      std::vector<std::string> names;
      for (std::size_t shard = 0; shard < count; ++shard) names.push_back(shard_name(set, shard + 1, count));
      if (std::none_of(names.begin(), names.end(), taken)) return names;
    }
    throw error(shown(folder_.native()), "holds files with both sets of names for shards",
                "remove them if nothing needs them, or choose another folder", error_kind::file);
  }

  /// From here on shards called `names` may appear, and files `beside` them. Throws if one of the latter is there without
  /// being of the old checkpoint or of a writer that was killed.
  void begin(const std::vector<std::string>& names, const string_map& beside) {
    std::set<std::string> noted(names.begin(), names.end());
    std::copy_if(kept_.begin(), kept_.end(), std::inserter(noted, noted.end()), is_shard_name);
    for (const auto& file : beside) {
      const auto& name = file.first;
      moue::detail::require(
          has_index_ || noted_.contains(name) || !exists(name), shown(folder_.native()),
          [&] { return "holds a " + shown(name) + " without the checkpoint that it would be part of"; },
          "remove that file, or choose another folder", error_kind::file);
      noted.insert(name);
    }
    noted_ = std::move(noted);
    std::string text;
    for (const auto& name : noted_) text += name + "\n";
    if (::ftruncate(file_.get(), 0) != 0 || !write_all(text) || ::fsync(file_.get()) != 0 || !sync_folder(folder_))
      throw_errno(path(), "cannot be written");
  }

  /// The new index is in place.
  void end() {
    settle();
    close();
  }

 private:
  /// By delegation to it, a constructor that throws is followed by the destructor.
  shard_journal(std::filesystem::path folder, int) : folder_(std::move(folder)), file_(open_locked(path(), folder_)) {}

  std::filesystem::path path() const { return folder_ / "model.safetensors.moue-journal"; }

  bool exists(const std::string& name) const {
    struct stat status {};
    return ::lstat((folder_ / name).c_str(), &status) == 0;
  }

  bool write_all(const std::string& text) const {
    const auto count = ::pwrite(file_.get(), text.data(), text.size(), 0);
    if (count >= 0 && static_cast<std::size_t>(count) < text.size()) errno = ENOSPC;
    return count == static_cast<ssize_t>(text.size());
  }

  /// Removes noted shards that the index in place does not name. What cannot be removed does no harm.
  void settle() {
    read_kept();
    std::error_code ignored;
    for (const auto& name : noted_)
      if (is_shard_name(name) && !kept_.contains(name))
        for (const char* ending : {"", ".moue-part"}) std::filesystem::remove(folder_ / (name + ending), ignored);
  }

  void read_kept() {
    kept_.clear();
    has_index_ = exists(index_name);
    if (!has_index_) return;
    const mapped_file index(folder_ / index_name);
    try {
      for (const auto& [tensor, file] : parse_index(text_of(index.bytes()), "").weight_map) kept_.insert(file);
    } catch (const error&) {  // a broken index keeps no checkpoint whole
    }
  }

  void close() {
    ::unlink(path().c_str());
    file_ = {};
  }

  std::filesystem::path folder_;
  descriptor file_;
  std::set<std::string> noted_;
  std::set<std::string> kept_;  // files of the checkpoint in place
  bool has_index_ = false;
};

}  // namespace moue::inline v0_1::io::detail
