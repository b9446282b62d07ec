// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Where the numbers of a recognised mixture stand in its tensors.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "moue/io/layouts/description.hpp"

/// Aborts unless each number of a layer's small tensors belongs to one element of one matrix, whether these are transposed,
/// flat or interleaved; of tensors with entries that nobody reads, to no more than one.
inline void check_positions(const moue::io::moe_description& d, moue::index_t layer) {
  constexpr std::uint64_t most = 1 << 12;
  std::uint64_t left = 1 << 15;  // numbers to look at, so that inputs stay quick
  std::map<std::string, std::vector<char>> owners;
  for (const auto part : moue::io::moe_parts) {
    if (!d.has(part) || part == moue::io::moe_part::input_gate || d.copied(part)) continue;  // another part's numbers
    for (moue::index_t e = 0; e < (d.per_expert(part) ? d.experts : 1); ++e) {
      const auto s = d.slice(layer, part, e);
      std::uint64_t count = 1;
      for (const auto size : s.shape) count = size > most ? most + 1 : count > most ? count : count * size;
      if (count > most || count > left) break;
      auto& owner = owners[s.tensor];
      if (owner.empty()) left -= count;
      owner.resize(static_cast<std::size_t>(count));
      for (moue::index_t r = 0; r < s.rows; ++r)
        for (moue::index_t c = 0; c < s.cols; ++c) {
          const auto at = s.first + static_cast<std::uint64_t>(s.position(r, c));
          if (at >= count || owner[static_cast<std::size_t>(at)]++ != 0) std::abort();
        }
    }
  }
  for (const auto& [name, owner] : owners)
    for (const char count : owner)
      if (count == 0 && !d.layout.experts.unused_gates) std::abort();
}
