// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Row tiles of segments, numbered so that a grid can be sized on the host and a block finds its tile on the device.

#include <cstdint>

#include "moue/backend/cuda/segments.cuh"

namespace moue::inline v0_1::detail::gpu {

inline constexpr int lanes = 32;  // of a warp

/// A numbering of row tiles in which no tile spans two groups. Columns without a tile are few, and blocks there end at
/// once.
///
/// By row, column i is the tile that begins at row i, if one does. By group, group g has the columns from
/// offsets[g] / tile + g: one more than its full tiles could need, and ascending in g without any sum over groups.
struct tile_schedule {
  index_t tile = 1;      ///< rows
  index_t selected = 0;  ///< enough for every division into groups
  bool by_row = true;
};

inline tile_schedule schedule_tiles(const segments& s, index_t tile) {
  if (s.empty()) return {tile, 0, true};
  if (s.offsets == nullptr) return {tile, (s.capacity + tile - 1) / tile, false};
  const index_t by_group = s.capacity / tile + s.groups;
  return s.capacity <= by_group ? tile_schedule{tile, s.capacity, true} : tile_schedule{tile, by_group, false};
}

/// Every group as one tile.
inline tile_schedule schedule_groups(const segments& s) { return schedule_tiles(s, s.capacity > 0 ? s.capacity : 1); }

/// Rows [first, first + rows) of a group; no rows where a column has no tile.
struct tile_place {
  index_t group = 0;
  index_t first = 0;
  int rows = 0;
};

/// Called by whole warps with one column. A look-up among 1024 groups costs two loads one after the other.
__device__ inline tile_place find_tile(const segments& s, const tile_schedule& schedule, index_t column) {
  const auto tile = static_cast<std::uint32_t>(schedule.tile);  // rows fit 32 bits, where a division costs less
  if (s.offsets == nullptr) {
    const index_t first = column * schedule.tile;
    const index_t left = s.capacity - first;
    return {0, first, static_cast<int>(left < schedule.tile ? left : schedule.tile)};
  }
  const auto row_tile = [&](index_t row) { return static_cast<index_t>(static_cast<std::uint32_t>(row) / tile); };
  const auto first_column = [&](index_t g) { return schedule.by_row ? s.offsets[g] : row_tile(s.offsets[g]) + g; };
  index_t group = 0;  // the last group whose first column is not past `column` is one of `candidates` from here on
  const index_t lane = static_cast<index_t>(threadIdx.x) % lanes;
  for (index_t candidates = s.groups; candidates > 1;) {
    const index_t step = (candidates + lanes - 1) / lanes;
    const bool reached = lane * step < candidates && first_column(group + lane * step) <= column;
    const index_t last = __popc(__ballot_sync(~0u, reached)) - 1;
    group += last * step;
    candidates = candidates - last * step < step ? candidates - last * step : step;
  }
  if (s.kinds != nullptr && s.kinds[group] != s.kind) return {};
  const index_t begin = s.offsets[group];
  const index_t end = s.offsets[group + 1];
  const index_t first = schedule.by_row ? column : begin + (column - row_tile(begin) - group) * schedule.tile;
  if (first >= end || (schedule.by_row && static_cast<std::uint32_t>(first - begin) % tile != 0)) return {};
  return {group, first, static_cast<int>(end - first < schedule.tile ? end - first : schedule.tile)};
}

}  // namespace moue::inline v0_1::detail::gpu
