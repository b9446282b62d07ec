// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Whether the bytes of a checkpoint are still those that were written.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "moue/io/checkpoint.hpp"
#include "moue/io/checksum.hpp"
#include "moue/io/json.hpp"
#include "moue/io/message.hpp"
#include "moue/io/safetensors.hpp"
#include "moue/io/safetensors/header.hpp"

namespace moue::inline v0_1::io {

/// What `verify` found, each tensor once, by its stored name.
struct verification {
  std::uint64_t intact = 0;             ///< tensors whose bytes have the checksum that was recorded
  std::vector<std::string> damaged;     ///< those whose bytes have another
  std::vector<std::string> unrecorded;  ///< those of which the file records none

  /// Whether every tensor was recorded and is intact.
  bool passed() const { return damaged.empty() && unrecorded.empty(); }
};

/// Compares every tensor with the CRC-32C that the writers of this library record in the metadata of each file. Reads all
/// of the data; memory is that of the system's cache. Files of other programs record nothing, and one that was changed by
/// a program which copied the metadata counts as damaged. Throws `moue::error` if the records themselves are broken.
inline verification verify(const checkpoint& from) {
  std::map<const safetensors_file*, string_map> records;
  verification result;
  for (const auto& name : from.names()) {
    if (from.aliases().contains(name)) continue;
    const auto& file = from.file_of(name);
    const auto [place, fresh] = records.try_emplace(&file);
    const auto recorded = file.metadata().find(detail::checksums_key);
    if (fresh && recorded != file.metadata().end())
      place->second = detail::read_string_map(recorded->second,
                                              detail::shown(file.path().native()) + ", the checksums in its metadata");
    const auto expected = place->second.find(name);
    if (expected == place->second.end()) {
      result.unrecorded.push_back(name);
      continue;
    }
    crc32c sum;
    sum.add(from.bytes(name));
    if (detail::checksum_text(sum.value()) == expected->second)
      ++result.intact;
    else
      result.damaged.push_back(name);
  }
  return result;
}

}  // namespace moue::inline v0_1::io
