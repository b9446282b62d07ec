// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// A checkpoint: every tensor of a model, in one file or in many.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "moue/error.hpp"
#include "moue/io/dtype.hpp"
#include "moue/io/elements.hpp"
#include "moue/io/file.hpp"
#include "moue/io/json.hpp"
#include "moue/io/json_literals.hpp"
#include "moue/io/message.hpp"
#include "moue/io/safetensors.hpp"
#include "moue/io/safetensors/header.hpp"
#include "moue/io/shard_index.hpp"

namespace moue::inline v0_1::io {

/// A `.safetensors` file, a `model.safetensors.index.json` with its shards, or a folder that holds either. Memory-mapped:
/// opening reads the headers alone. Move-only; spans and entries stay valid until it is destroyed, also after a move.
/// Const members may be called from many threads.
class checkpoint {
 public:
  /// Of several files the index decides: a tensor is read from the file that it names, and tensors that it does not name
  /// are no part of the checkpoint. Throws if a file is missing or broken, the index maps a tensor to a shard that does not
  /// hold it or that lies outside the folder, or an alias leads nowhere.
  explicit checkpoint(const std::filesystem::path& path) : path_(resolve(path)) {
    if (path_.extension() == ".json") {
      open_shards(detail::read_index(path_));
    } else {
      files_.emplace_back(path_);
      for (const auto& entry : files_[0].tensors()) tensors_.push_back({entry.name, &entry, 0});
    }
    collect_metadata();
    collect_aliases();
    read_config();
  }

  /// Every name that can be read, aliases among them, sorted.
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& tensor : tensors_) result.emplace_back(tensor.name);
    return result;
  }
  /// Whether there is a tensor, or an alias, called `name`.
  bool contains(std::string_view name) const { return find(name) != nullptr; }
  /// The entry of the tensor called `name`; of an alias, the entry of the tensor it shares. Throws if there is none.
  const tensor_entry& entry(std::string_view name) const& { return *at(name).entry; }
  const tensor_entry& entry(std::string_view name) const&& = delete;
  /// May begin at any address: load elements with `memcpy`.
  std::span<const std::byte> bytes(std::string_view name) const& {
    const auto& tensor = at(name);
    return files_[tensor.file].bytes(*tensor.entry);
  }
  std::span<const std::byte> bytes(std::string_view name) const&& = delete;

  /// The file that holds it.
  const safetensors_file& file_of(std::string_view name) const& { return files_[at(name).file]; }
  const safetensors_file& file_of(std::string_view name) const&& = delete;

  /// Elements [first, first + out.size()) of the row-major tensor. `T`: `double`, `float`, `bf16` or `half`. Widening is
  /// exact, narrowing rounds to the nearest with ties to even; integers must be exact in `T`. fp8 is read unscaled.
  /// Throws for types that hold no numbers (`is_number`) and for elements beyond the end, naming the tensor.
  template <class T>
  void read(std::string_view name, std::uint64_t first, std::span<T> out) const {
    const auto& tensor = at(name);
    const auto refuse = [&](const std::string& what, std::string_view fix) {
      throw error(detail::shown(files_[tensor.file].path().native()), "tensor " + detail::shown(name) + " " + what, fix,
                  error_kind::content);
    };
    const auto type = tensor.entry->type;
    if (!is_number(type))
      refuse("has type " + detail::shown(tensor.entry->type_name) + ", which holds no numbers that can be converted",
             "take its bytes");
    const auto width = static_cast<std::uint64_t>(bits_of(type) / 8);
    const auto count = (tensor.entry->end - tensor.entry->begin) / width;
    if (first > count || out.size() > count - first)
      refuse("has " + std::to_string(count) + " elements; " + std::to_string(out.size()) + " from " +
                 std::to_string(first) + " on were asked for",
             "check its shape");
    const auto* from = files_[tensor.file].bytes(*tensor.entry).data();
    const auto done = convert_elements(type, from + first * width, out);
    if (done != out.size())
      refuse("holds an integer at element " + std::to_string(first + done) + " that " +
                 std::string(name_of(dtype_of<T>())) + " cannot hold",
             "read it as a wider type, or take its bytes");
  }
  /// All of it.
  template <class T>
  std::vector<T> read(std::string_view name) const {
    std::vector<T> values(detail::as_size(elements(name)));
    read<T>(name, 0, values);
    return values;
  }
  /// The number of elements, the product of the shape.
  std::uint64_t elements(std::string_view name) const { return *detail::product(entry(name).shape); }

  /// Names that share the tensor of another, and that other's name.
  const string_map& aliases() const& { return aliases_; }
  string_map aliases() && { return std::move(aliases_); }
  /// The metadata of the index and of all files together; where they differ, the index counts, then the first file.
  /// Without what this library keeps there itself, and without the index's "total_size".
  const string_map& metadata() const& { return metadata_; }
  string_map metadata() && { return std::move(metadata_); }
  /// The file or index that was opened.
  const std::filesystem::path& path() const& { return path_; }
  std::filesystem::path path() && { return std::move(path_); }
  /// The files that hold the tensors.
  std::vector<std::filesystem::path> files() const {
    std::vector<std::filesystem::path> result;
    for (const auto& file : files_) result.push_back(file.path());
    return result;
  }
  /// The `config.json` beside it, if there is one; NaN and infinities are texts (`json_literals.hpp`). Throws if that is
  /// no JSON, or cannot be read.
  const std::optional<nlohmann::json>& config() const {
    if (config_problem_) throw error(*config_problem_);
    return config_;
  }

 private:
  struct located {
    std::string_view name;
    const tensor_entry* entry;
    std::size_t file;
  };

  static std::filesystem::path resolve(const std::filesystem::path& path) {
    std::error_code ignored;  // what cannot be examined cannot be opened either, and that is reported
    if (!std::filesystem::is_directory(path, ignored)) return path;
    const auto single = path / detail::single_name, index = path / detail::index_name;
    const bool has_single = std::filesystem::exists(single, ignored),
               has_index = std::filesystem::exists(index, ignored);
    if (has_single && has_index)
      throw error(detail::shown(path.native()),
                  std::string("holds both ") + detail::single_name + " and " + detail::index_name,
                  "name the one that is meant", error_kind::file);
    if (!has_single && !has_index)
      throw error(detail::shown(path.native()),
                  std::string("holds neither ") + detail::single_name + " nor " + detail::index_name,
                  "name the file itself", error_kind::file);
    return has_single ? single : index;
  }

  void open_shards(shard_index index) {
    std::map<std::string, std::size_t> numbers;
    for (const auto& [tensor, file] : index.weight_map)
      if (numbers.try_emplace(file, files_.size()).second) files_.emplace_back(path_.parent_path() / file);
    for (const auto& [tensor, file] : index.weight_map) {
      const auto number = numbers.at(file);
      const auto* entry = files_[number].find(tensor);
      if (!entry)
        throw error(detail::shown(path_.native()),
                    "maps tensor " + detail::shown(tensor) + " to " + detail::shown(file) + ", which does not hold it",
                    "get the index and that file again: they are not of one checkpoint", error_kind::content);
      tensors_.push_back({entry->name, entry, number});
    }
    metadata_ = std::move(index.metadata);
    metadata_.erase("total_size");
  }

  void collect_metadata() {
    for (const auto& file : files_) metadata_.insert(file.metadata().begin(), file.metadata().end());
    for (const auto* key : {detail::aliases_key, detail::checksums_key}) metadata_.erase(key);
  }

  void collect_aliases() {
    std::vector<located> resolved;
    for (const auto& file : files_) {
      const auto recorded = file.metadata().find(detail::aliases_key);
      if (recorded == file.metadata().end()) continue;
      const auto where = detail::shown(file.path().native()) + ", the aliases in its metadata";
      for (auto& [alias, name] : detail::read_string_map(recorded->second, where)) {
        const auto* tensor = find(name);
        if (!tensor && file.find(name)) continue;  // of a tensor that the index leaves out
        if (!tensor || find(alias))
          throw error(detail::shown(path_.native()),
                      "alias " + detail::shown(alias) +
                          (tensor ? " is also the name of a tensor"
                                  : " leads to " + detail::shown(name) + ", which is no tensor"),
                      "get the file again: its metadata does not belong to it", error_kind::content);
        const auto [place, fresh] = aliases_.emplace(alias, name);
        if (fresh) resolved.push_back({place->first, tensor->entry, tensor->file});
      }
    }
    tensors_.insert(tensors_.end(), resolved.begin(), resolved.end());
    std::sort(tensors_.begin(), tensors_.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  }

  void read_config() {
    const auto path = path_.parent_path() / "config.json";
    std::error_code ignored;
    if (!std::filesystem::exists(path, ignored)) return;
    try {
      const mapped_file file(path);
      const auto text = detail::text_of(file.bytes());
      // What is too long is refused before it is copied.
      const auto quoted = text.size() > detail::longest_json ? std::string() : detail::with_quoted_literals(text);
      config_ = detail::read_tree(quoted.empty() ? text : std::string_view(quoted), detail::shown(path.native()));
    } catch (const error& problem) {
      config_problem_ = problem;
    }
  }

  const located* find(std::string_view name) const {
    const auto place = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                        [](const located& tensor, std::string_view key) { return tensor.name < key; });
    return place != tensors_.end() && place->name == name ? &*place : nullptr;
  }
  const located& at(std::string_view name) const {
    const auto* tensor = find(name);
    if (!tensor)
      throw error(detail::shown(path_.native()), "has no tensor called " + detail::shown(name),
                  tensors_.empty() ? std::string("it has no tensors")
                                   : "its names look like " + detail::shown(tensors_.front().name) + " and " +
                                         detail::shown(tensors_.back().name),
                  error_kind::content);
    return *tensor;
  }

  std::filesystem::path path_;
  std::vector<safetensors_file> files_;
  std::vector<located> tensors_;  // by name; the names live in the entries and in the keys of aliases_
  string_map aliases_;
  string_map metadata_;
  std::optional<nlohmann::json> config_;
  std::optional<error> config_problem_;
};

}  // namespace moue::inline v0_1::io
