// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Checkpoints: all of a run in one file, written whole or not at all, and read with suspicion.

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <stdexcept>
#include <string>

#include "contender.hpp"
#include "text.hpp"

namespace language_model {

/// The head of a file; the state of the trainer follows. Numbers have the byte order of the machine that wrote them.
struct checkpoint_header {
  std::array<char, 8> magic{'m', 'o', 'u', 'e', '_', 'l', 'm', '\n'};
  std::uint32_t version = 1;
  std::uint32_t byte_order = 0x01020304;
  run_config config;             // with `step` it also fixes the position in the data
  std::uint64_t text = 0;        // corpus::identity
  std::int64_t step = 0;         // updates made
  std::uint64_t state_size = 0;  // bytes
  std::uint64_t checksum = 0;    // of everything else
};
static_assert(std::is_trivially_copyable_v<checkpoint_header> && sizeof(checkpoint_header) == 96);

namespace detail {

[[noreturn]] inline void refuse_checkpoint(const std::filesystem::path& path, const std::string& why) {
  throw std::runtime_error("checkpoint '" + path.string() + "': " + why);
}

template <class T>
bytes bytes_of(std::span<T> values) {
  const auto* first = reinterpret_cast<const std::uint8_t*>(values.data());
  return {first, first + values.size_bytes()};
}

inline std::uint64_t checksum_of(checkpoint_header header, std::span<const std::uint8_t> state) {
  header.checksum = 0;
  return fingerprint(state, fingerprint(bytes_of(std::span(&header, 1))));
}

/// Writes to a sibling, forces it to the disk and renames it: a reader sees the old file or the new one.
inline void replace_file(const std::filesystem::path& path, std::span<const std::uint8_t> content) {
  const std::filesystem::path sibling = path.string() + ".part" + std::to_string(::getpid());
  const auto fail = [&](const char* what) {
    const std::string why = std::strerror(errno);
    ::unlink(sibling.c_str());
    refuse_checkpoint(path, std::string("it cannot be ") + what + ": " + why);
  };
  const int file = ::open(sibling.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file < 0) fail("written");
  for (std::size_t done = 0; done < content.size();) {
    const ssize_t count = ::write(file, content.data() + done, content.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      ::close(file);
      fail("written");
    }
    done += static_cast<std::size_t>(count);
  }
  const bool synced = ::fsync(file) == 0;
  if (::close(file) != 0 || !synced) fail("written");
  if (::rename(sibling.c_str(), path.c_str()) != 0) fail("put in place");
  const auto parent = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  if (const int folder = ::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); folder >= 0) {
    ::fsync(folder);  // the rename itself
    ::close(folder);
  }
}

}  // namespace detail

/// Throws unless a checkpoint could be written to `path`: better now than after the training. A file that is there already
/// must be a checkpoint, whole or not.
inline void require_writable(const std::filesystem::path& path) {
  const auto parent = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  if (!std::filesystem::is_directory(parent)) detail::refuse_checkpoint(path, "its folder does not exist");
  if (::access(parent.c_str(), W_OK) != 0) detail::refuse_checkpoint(path, "its folder cannot be written to");
  if (!std::filesystem::exists(path)) return;
  auto magic = checkpoint_header{}.magic;
  magic.fill(0);
  if (std::filesystem::is_regular_file(path)) std::ifstream(path, std::ios::binary).read(magic.data(), magic.size());
  if (magic != checkpoint_header{}.magic)
    detail::refuse_checkpoint(path, "it is there already and is not a checkpoint of moue_lm");
}

template <class Trainer>
void save_checkpoint(const std::filesystem::path& path, Trainer& run, std::uint64_t text_identity) {
  bytes state;
  run.visit_state([&](auto values) {
    const auto block = detail::bytes_of(values);
    state.insert(state.end(), block.begin(), block.end());
  });
  checkpoint_header header;
  header.config = run.config();
  header.text = text_identity;
  header.step = run.step();
  header.state_size = state.size();
  header.checksum = detail::checksum_of(header, state);
  auto content = detail::bytes_of(std::span(&header, 1));
  content.insert(content.end(), state.begin(), state.end());
  detail::replace_file(path, content);
}

/// A checkpoint that has been read and found whole.
struct checkpoint {
  std::filesystem::path path;
  checkpoint_header header;
  bytes state;

  /// Throws if the file is not a checkpoint of this program, is of another version, or is not as it was written.
  static checkpoint read(const std::filesystem::path& path) {
    bytes content;
    try {
      if (!std::filesystem::is_regular_file(path)) detail::refuse_checkpoint(path, "there is no such file");
      content = detail::read_file(path);
    } catch (const std::runtime_error&) {
      detail::refuse_checkpoint(path, "it cannot be read");
    }
    checkpoint result{path, {}, {}};
    auto& header = result.header;
    const auto expected = header;
    const auto head = std::min(content.size(), sizeof(header));
    if (head > 0) std::memcpy(static_cast<void*>(&header), content.data(), head);
    if (head < expected.magic.size() || header.magic != expected.magic)
      detail::refuse_checkpoint(path, "it is not a checkpoint of moue_lm");
    if (head < sizeof(header)) detail::refuse_checkpoint(path, "it is truncated");
    if (header.version != expected.version || header.byte_order != expected.byte_order)
      detail::refuse_checkpoint(path, "it was written by another version or kind of machine");
    result.state.assign(content.begin() + sizeof(header), content.end());
    if (result.state.size() != header.state_size)
      detail::refuse_checkpoint(path, result.state.size() < header.state_size ? "it is truncated" : "it is too long");
    if (detail::checksum_of(header, result.state) != header.checksum)
      detail::refuse_checkpoint(path, "it is damaged: its checksum does not match");
    return result;
  }

  /// Puts the state into a trainer built from `header.config`. Throws if it does not fit, and then changes nothing.
  template <class Trainer>
  void restore(Trainer& run) const {
    std::size_t needed = 0;
    run.visit_state([&](auto values) { needed += values.size_bytes(); });
    if (needed != state.size()) detail::refuse_checkpoint(path, "it belongs to a model of another size");
    std::size_t at = 0;
    run.visit_state([&](auto values) {
      if (!values.empty()) std::memcpy(values.data(), state.data() + at, values.size_bytes());
      at += values.size_bytes();
    });
    run.resume_at(header.step);
  }
};

}  // namespace language_model
