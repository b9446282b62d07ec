// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Writing a checkpoint that is split over several files.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
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
#include "moue/io/safetensors/writer.hpp"
#include "moue/io/shard_index.hpp"

namespace moue::io {

/// Splits tensors over files of at most `most` bytes of data each, in the order given; a tensor that is larger has a file
/// of its own. At least one file.
inline std::vector<std::vector<tensor_spec>> split_tensors(std::vector<tensor_spec> specs, std::uint64_t most) {
  std::vector<std::vector<tensor_spec>> shards(1);
  std::uint64_t used = 0;
  for (auto& spec : specs) {
    const auto size = detail::bytes_of(spec, "splitting a checkpoint");
    if (!shards.back().empty() && (size > most || used > most - size)) {
      shards.emplace_back();
      used = 0;
    }
    used += size;
    shards.back().push_back(std::move(spec));
  }
  return shards;
}

namespace detail {

inline constexpr std::array<const char*, 2> shard_prefixes{"model-", "model.1-"};

/// The customary name of shard `number` of `count`, from 1 on. There are two sets of names, so that a new checkpoint can
/// be written beside the one it replaces.
inline std::string shard_name(std::size_t set, std::size_t number, std::size_t count) {
  std::array<char, 80> text{};
  std::snprintf(text.data(), text.size(), "%s%05zu-of-%05zu.safetensors", shard_prefixes[set], number, count);
  return text.data();
}

/// Whether `shard_name` may have given the name, or `atomic_file` that of an unfinished one.
inline bool is_shard_name(std::string_view name) {
  for (const std::string_view prefix : shard_prefixes) {
    if (!name.starts_with(prefix)) continue;
    std::string rest(name.substr(prefix.size()));
    std::replace_if(
        rest.begin(), rest.end(), [](char c) { return c >= '0' && c <= '9'; }, '#');
    return rest == "#####-of-#####.safetensors" || rest == "#####-of-#####.safetensors.moue-part";
  }
  return false;
}

}  // namespace detail

/// Writes a checkpoint as files of limited size and an index, as `safetensors_writer` writes one file. The folder's old
/// checkpoint is replaced at one instant, when the new index is renamed over the old: new files never take a name that
/// the old index uses, so a process killed at any moment leaves one of the two whole. What it leaves besides, and the
/// files of the replaced checkpoint, are removed by the end of the next `commit`: all files in the folder that are named
/// like shards (`model-00001-of-00002.safetensors`, or `model.1-...`) and are not in the new index. A reader that read
/// the old index and has not opened its files yet then finds them missing; one that has, keeps them.
/// Every shard is an open file while the writer lives. Move-only.
class sharded_writer {
 public:
  /// `most`: bytes of data in one file. `metadata` is written to every file. Throws, and has changed nothing, if names
  /// clash, the folder could not be written, or it holds a `model.safetensors`, which other readers would prefer.
  explicit sharded_writer(const std::filesystem::path& folder, std::vector<tensor_spec> specs, std::uint64_t most,
                          const string_map& metadata = {}, string_map aliases = {})
      : where_(detail::shown(folder.native())), aliases_(std::move(aliases)), index_(index_path(folder, where_)) {
    auto split = split_tensors(std::move(specs), most);
    names_.resize(split.size());
    std::vector<std::string_view> listed;
    for (std::size_t shard = 0; shard < split.size(); ++shard)
      for (const auto& spec : split[shard]) {
        total_ += detail::bytes_of(spec, where_);
        shards_of_.emplace(spec.name, shard);
      }
    for (const auto& [name, shard] : shards_of_) listed.push_back(name);
    detail::check_names(listed, aliases_, where_);

    std::vector<string_map> local(split.size());
    for (const auto& [alias, name] : aliases_) local[shards_of_.find(name)->second].emplace(alias, name);
    name_shards();
    for (std::size_t shard = 0; shard < split.size(); ++shard)
      writers_.emplace_back(index_.path().parent_path() / names_[shard], std::move(split[shard]), metadata,
                            local[shard]);
  }

  void write(std::string_view name, std::uint64_t offset, std::span<const std::byte> bytes) {
    const auto place = shards_of_.find(name);
    if (place == shards_of_.end()) detail::throw_not_listed(where_, name, aliases_);
    writers_[place->second].write(name, offset, bytes);
  }

  /// Puts the checkpoint in place. Throws if a tensor lacks bytes, and then has changed nothing.
  void commit() {
    for (const auto& writer : writers_) writer.require_complete();
    for (auto& writer : writers_) writer.commit();

    auto map = nlohmann::json::object();
    for (const auto& [tensor, shard] : shards_of_) map[tensor] = names_[shard];
    const auto text =
        nlohmann::json{{"metadata", {{"total_size", total_}}}, {"weight_map", std::move(map)}}.dump(2) + "\n";
    index_.write(0, std::as_bytes(std::span(text)));
    index_.commit();
    remove_leftovers();
  }

  /// The names of the files, in the order of the split, relative to the folder.
  const std::vector<std::string>& files() const { return names_; }

 private:
  static std::filesystem::path index_path(const std::filesystem::path& folder, const std::string& where) {
    std::error_code ignored;  // what cannot be examined cannot be written either, and that is reported
    moue::detail::require(
        std::filesystem::is_directory(folder, ignored), where, [] { return "is no folder"; }, "make it first");
    moue::detail::require(
        !std::filesystem::exists(folder / detail::single_name, ignored), where,
        [] { return std::string("holds a ") + detail::single_name + ", which readers would take instead"; },
        "remove that file, or choose another folder");
    return folder / detail::index_name;
  }

  void name_shards() {
    std::set<std::string> taken;
    std::error_code ignored;
    if (std::filesystem::exists(index_.path(), ignored)) {
      const mapped_file old(index_.path());
      try {
        for (const auto& [tensor, file] : parse_index(detail::text_of(old.bytes()), where_).weight_map)
          taken.insert(file);
      } catch (const error&) {
        taken.clear();  // a broken index keeps no checkpoint whole
      }
    }
    for (std::size_t set = detail::shard_prefixes.size(); set-- > 0;) {
      std::vector<std::string> names;
      for (std::size_t shard = 0; shard < names_.size(); ++shard)
        names.push_back(detail::shard_name(set, shard + 1, names_.size()));
      if (std::none_of(names.begin(), names.end(), [&](const auto& name) { return taken.contains(name); }))
        names_ = std::move(names);
    }
    moue::detail::require(
        !names_.front().empty(), where_, [] { return "holds an index that uses both sets of names for shards"; },
        "remove that checkpoint, or choose another folder");
  }

  void remove_leftovers() const {
    std::error_code ignored;  // what cannot be removed does no harm
    std::filesystem::directory_iterator file(index_.path().parent_path(), ignored);
    for (; !ignored && file != std::filesystem::directory_iterator(); file.increment(ignored)) {
      const auto name = file->path().filename().string();
      std::error_code saved;
      if (detail::is_shard_name(name) && std::find(names_.begin(), names_.end(), name) == names_.end())
        std::filesystem::remove(file->path(), saved);
    }
  }

  std::string where_;
  string_map aliases_;
  atomic_file index_;  // also the lock: one writer per folder
  std::vector<std::string> names_;
  std::multimap<std::string, std::size_t, std::less<>> shards_of_;  // tensor -> shard
  std::vector<safetensors_writer> writers_;
  std::uint64_t total_ = 0;
};

}  // namespace moue::io
