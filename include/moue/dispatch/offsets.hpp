// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What must hold of a routing's offsets on the host.

#include <string>

#include "moue/error.hpp"
#include "moue/routing.hpp"

namespace moue::detail {

/// Throws unless they ascend from 0 to the number of entries: what must hold before anything is read by them. Linear in
/// tokens.
template <class C>
void check_offsets(const routing<C>& r) {
  require(
      r.tokens() == 0 || (r.offsets.data != nullptr && r.offsets[0] == 0), "routing",
      [&] {
        return r.offsets.data == nullptr ? std::string("the routing's offsets are null")
                                         : "the routing's offsets begin with " + std::to_string(r.offsets[0]);
      },
      "begin with 0");
  for (index_t t = 0; t < r.tokens(); ++t)
    require(
        r.offsets[t] <= r.offsets[t + 1], "routing",
        [&] {
          return "the routing's offsets fall from " + std::to_string(r.offsets[t]) + " to " +
                 std::to_string(r.offsets[t + 1]) + " at token " + std::to_string(t);
        },
        "let offsets ascend: token t owns the entries from offsets[t] up to offsets[t + 1]");
  require(
      r.tokens() == 0 || r.offsets[r.tokens()] == r.entries(), "routing",
      [&] {
        return "the routing's offsets end at " + std::to_string(r.offsets[r.tokens()]) + ", but it has " +
               std::to_string(r.entries()) + " experts";
      },
      "give one expert and one gate per entry, and end the offsets with their number");
}

}  // namespace moue::detail
