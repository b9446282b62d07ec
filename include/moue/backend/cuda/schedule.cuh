// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Row tiles of segments, numbered so that a grid can be sized on the host and a block finds its tile on the device.

#include <cstdint>

#include "moue/backend/cuda/segments.cuh"

namespace moue::detail::gpu {

inline constexpr int lanes = 32;  // of a warp

/// A numbering of row tiles in which no tile spans two groups. Slots without a tile are few, and blocks there end at
/// once.
///
/// By row, slot i is the tile that begins at row i, if one does. By group, group g has the slots from
/// offsets[g] / tile + g: one more than its full tiles could need, and ascending in g without any sum over groups.
struct tile_schedule {
  index tile = 1;   ///< rows
  index slots = 0;  ///< enough for every division into groups
  bool by_row = true;
};

inline tile_schedule schedule_tiles(const segments& s, index tile) {
  if (s.empty()) return {tile, 0, true};
  if (s.offsets == nullptr) return {tile, (s.capacity + tile - 1) / tile, false};
  const index by_group = s.capacity / tile + s.groups;
  return s.capacity <= by_group ? tile_schedule{tile, s.capacity, true} : tile_schedule{tile, by_group, false};
}

/// Every group as one tile.
inline tile_schedule schedule_groups(const segments& s) { return schedule_tiles(s, s.capacity > 0 ? s.capacity : 1); }

/// Rows [first, first + rows) of a group; no rows where a slot has no tile.
struct tile_place {
  index group = 0;
  index first = 0;
  int rows = 0;
};

/// Called by whole warps with one slot. A look-up among 1024 groups costs two loads one after the other.
__device__ inline tile_place find_tile(const segments& s, const tile_schedule& schedule, index slot) {
  const auto tile = static_cast<std::uint32_t>(schedule.tile);  // rows fit 32 bits, where a division costs less
  if (s.offsets == nullptr) {
    const index first = slot * schedule.tile;
    const index left = s.capacity - first;
    return {0, first, static_cast<int>(left < schedule.tile ? left : schedule.tile)};
  }
  const auto row_tile = [&](index row) { return static_cast<index>(static_cast<std::uint32_t>(row) / tile); };
  const auto first_slot = [&](index g) { return schedule.by_row ? s.offsets[g] : row_tile(s.offsets[g]) + g; };
  index group = 0;  // the last group whose first slot is not past `slot` is one of `candidates` from here on
  const index lane = static_cast<index>(threadIdx.x) % lanes;
  for (index candidates = s.groups; candidates > 1;) {
    const index step = (candidates + lanes - 1) / lanes;
    const bool reached = lane * step < candidates && first_slot(group + lane * step) <= slot;
    const index last = __popc(__ballot_sync(~0u, reached)) - 1;
    group += last * step;
    candidates = candidates - last * step < step ? candidates - last * step : step;
  }
  if (s.kinds != nullptr && s.kinds[group] != s.kind) return {};
  const index begin = s.offsets[group];
  const index end = s.offsets[group + 1];
  const index first = schedule.by_row ? slot : begin + (slot - row_tile(begin) - group) * schedule.tile;
  if (first >= end || (schedule.by_row && static_cast<std::uint32_t>(first - begin) % tile != 0)) return {};
  return {group, first, static_cast<int>(end - first < schedule.tile ? end - first : schedule.tile)};
}

}  // namespace moue::detail::gpu
