// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Writing a checkpoint that is split over several files.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "moue/error.hpp"
#include "moue/io/atomic_file.hpp"
#include "moue/io/message.hpp"
#include "moue/io/safetensors/header.hpp"
#include "moue/io/safetensors/writer.hpp"
#include "moue/io/shard_index.hpp"
#include "moue/io/shard_journal.hpp"

namespace moue::inline v0_1::io {

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

/// Writes a checkpoint as files of limited size and an index, as `safetensors_writer` writes one file. The folder's old
/// checkpoint is replaced at one instant, when the new index is renamed over the old: new files never take a name that
/// the old index uses, so a process killed at any moment leaves one of the two whole. Of what is in the folder, the shards
/// of the replaced checkpoint are removed afterwards, and nothing else: files that are named like shards
/// (`model-00001-of-00002.safetensors`, or `model.1-...`) and belong to no index here are another's, and are neither
/// overwritten nor removed. What a killed writer leaves is noted in `model.safetensors.moue-journal`, by which the next
/// writer removes it. A reader that read the old index and has not opened its files yet then finds them missing; one that
/// has, keeps them. Every shard is an open file while the writer lives. Move-only.
class sharded_writer {
 public:
  /// `most`: bytes of data in one file. `metadata` is written to every file. `beside`: texts of files that belong to the
  /// checkpoint, such as {"config.json", ...}; they are put in place just before the index. Throws, and has changed
  /// nothing, if names clash, the folder could not be written, it holds a `model.safetensors`, which other readers would
  /// prefer, or one of the files beside without a checkpoint that it would be part of.
  explicit sharded_writer(const std::filesystem::path& folder, std::vector<tensor_spec> specs, std::uint64_t most,
                          const string_map& metadata = {}, string_map aliases = {}, const string_map& beside = {})
      : where_(detail::shown(folder.native())),
        aliases_(std::move(aliases)),
        journal_(checked(folder, where_)),
        index_(folder / detail::index_name) {
    auto split = split_tensors(std::move(specs), most);
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
    names_ = journal_.free_names(split.size());
    journal_.begin(names_, beside);
    const auto& parent = index_.path().parent_path();
    for (std::size_t shard = 0; shard < split.size(); ++shard)
      writers_.emplace_back(parent / names_[shard], std::move(split[shard]), metadata, local[shard]);
    for (const auto& [name, text] : beside) {
      beside_.emplace_back(parent / name);
      beside_.back().write(0, std::as_bytes(std::span(text)));
    }
  }

  /// Writes bytes [offset, offset + bytes.size()) of a tensor, into the file that it belongs to.
  void write(std::string_view name, std::uint64_t offset, std::span<const std::byte> bytes) {
    const auto place = shards_of_.find(name);
    if (place == shards_of_.end()) detail::throw_not_listed(where_, name, aliases_);
    writers_[place->second].write(name, offset, bytes);
  }

  /// Puts the checkpoint in place. Throws if a tensor lacks bytes, and then has changed nothing.
  void commit() {
    for (const auto& writer : writers_) writer.require_complete();
    for (auto& writer : writers_) writer.commit();
    for (auto& file : beside_) file.commit();

    auto map = nlohmann::json::object();
    for (const auto& [tensor, shard] : shards_of_) map[tensor] = names_[shard];
    const auto text =
        nlohmann::json{{"metadata", {{"total_size", total_}}}, {"weight_map", std::move(map)}}.dump(2) + "\n";
    index_.write(0, std::as_bytes(std::span(text)));
    index_.commit();
    journal_.end();
  }

  /// The names of the files, in the order of the split, relative to the folder.
  const std::vector<std::string>& files() const { return names_; }

 private:
  static const std::filesystem::path& checked(const std::filesystem::path& folder, const std::string& where) {
    std::error_code ignored;  // what cannot be examined cannot be written either, and that is reported
    moue::detail::require(
        std::filesystem::is_directory(folder, ignored), where, [] { return "is no folder"; }, "make it first",
        error_kind::file);
    moue::detail::require(
        !std::filesystem::exists(folder / detail::single_name, ignored), where,
        [] { return std::string("holds a ") + detail::single_name + ", which readers would take instead"; },
        "remove that file, or choose another folder", error_kind::file);
    return folder;
  }

  std::string where_;
  string_map aliases_;
  detail::shard_journal journal_;  // also the lock: one writer per folder
  atomic_file index_;
  std::vector<std::string> names_;
  std::multimap<std::string, std::size_t, std::less<>> shards_of_;  // tensor -> shard
  std::vector<safetensors_writer> writers_;
  std::vector<atomic_file> beside_;
  std::uint64_t total_ = 0;
};

}  // namespace moue::inline v0_1::io
