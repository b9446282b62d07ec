// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Checkpoints: all of a run in one file, written whole or not at all, and read with suspicion.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>

#include "contender.hpp"
#include "moue/io/atomic_file.hpp"
#include "moue/io/file.hpp"
#include "moue/io/message.hpp"
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
  throw std::runtime_error("checkpoint " + moue::io::detail::shown(path.native()) + ": " + why);
}

template <class Kind>
bool is_known(Kind kind) {
  return static_cast<std::size_t>(kind) < names_of<Kind>::all.size();
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

}  // namespace detail

/// Throws unless a checkpoint could be written to `path`: better now than after the training. A file that is there already
/// must be a checkpoint, whole or not.
inline void require_writable(const std::filesystem::path& path) {
  const moue::io::atomic_file trial(path);
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return;
  const moue::io::mapped_file file(path);
  const auto magic = checkpoint_header{}.magic;
  const auto head = std::as_bytes(std::span(magic));
  const auto there = file.bytes().first(std::min(head.size(), file.bytes().size()));
  if (!std::ranges::equal(head, there))
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
  moue::io::replace_file(path, std::as_bytes(std::span(content)));
}

/// A checkpoint that has been read and found whole.
struct checkpoint {
  std::filesystem::path path;
  checkpoint_header header;
  bytes state;

  /// Throws if the file is not a checkpoint of this program, is of another version, or is not as it was written.
  static checkpoint read(const std::filesystem::path& path) {
    const moue::io::mapped_file file(path);
    const auto content = file.bytes();
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
    const auto size = content.size() - sizeof(header);
    if (size != header.state_size)
      detail::refuse_checkpoint(path, size < header.state_size ? "it is truncated" : "it is too long");
    const auto* state = reinterpret_cast<const std::uint8_t*>(content.data()) + sizeof(header);
    if (detail::checksum_of(header, {state, size}) != header.checksum)
      detail::refuse_checkpoint(path, "it is damaged: its checksum does not match");
    if (!detail::is_known(header.config.model) || !detail::is_known(header.config.topology) ||
        !detail::is_known(header.config.router) || header.step < 0 || header.step > header.config.steps)
      detail::refuse_checkpoint(path, "it describes no run that this program can make");
    result.state.assign(state, state + size);
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
