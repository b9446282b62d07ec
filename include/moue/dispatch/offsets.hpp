// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What must hold of a routing on the host.

#include <string>

#include "moue/error.hpp"
#include "moue/view.hpp"

namespace moue::inline v0_1::detail {

[[noreturn]] inline void refuse_routing(index_t experts, index_t gates, bool whole) {
  throw error("executor",
              "the routing has " + std::to_string(experts) + " experts and " + std::to_string(gates) + " gates" +
                  (whole ? "" : ", or no offsets, or an array is null"),
              "give one expert and one gate per entry, and offsets");
}
/// For memory that was taken for fewer.
[[noreturn]] inline void refuse_batch(index_t tokens, index_t entries, index_t most_tokens, index_t most_entries) {
  throw error("executor",
              std::to_string(tokens) + " tokens with " + std::to_string(entries) +
                  " entries were given to memory for " + std::to_string(most_tokens) + " with " +
                  std::to_string(most_entries),
              "take memory for the largest batch", error_kind::memory);
}

/// Throws unless `offsets` ascend from 0 to `entries`: what must hold before anything is read by them. Linear in tokens.
inline void check_offsets(vector_view<const index_t> offsets, index_t entries) {
  if (offsets.size == 0) return;
  index_t broken = offsets.data == nullptr || offsets[0] != 0 ? 0 : -1;
  for (index_t t = 1; broken < 0 && t < offsets.size; ++t)
    if (offsets[t] < offsets[t - 1]) broken = t;
  if (broken < 0 && offsets.size > 1 && offsets[offsets.size - 1] != entries) broken = offsets.size;
  require(
      broken < 0, "routing",
      [&] {
        const auto at = [&](index_t i) { return std::to_string(offsets[i]); };
        if (offsets.data == nullptr) return std::string("its offsets are null");
        if (broken == 0) return "its offsets begin with " + at(0);
        if (broken == offsets.size)
          return "its offsets end at " + at(broken - 1) + ", but it has " + std::to_string(entries) + " experts";
        return "its offsets fall from " + at(broken - 1) + " to " + at(broken) + " at token " +
               std::to_string(broken - 1);
      },
      "let offsets begin with 0, ascend and end at the number of experts and gates: token t owns the entries from "
      "offsets[t] up to offsets[t + 1]");
}

}  // namespace moue::inline v0_1::detail
