// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// The plan of a converted checkpoint from any text, for a model with shared experts and one without. The answer is a plan
// that a mixture can be made from, and whose own text gives it again, or a moue::error.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "moue/io/converted.hpp"

namespace {

namespace io = moue::io;

void demand(bool holds) {
  if (!holds) std::abort();
}

io::moe_description three_layers(moue::index_t shared_hidden) {
  io::moe_description d;
  d.family.name = "input";
  d.model_layers = {0, 1, 3};
  d.experts = 4;
  d.width = d.hidden = 8;
  d.shared_hidden = shared_hidden;
  return d;
}

void check(std::string_view text, const io::moe_description& d) {
  const auto plan = io::detail::read_plan(text, d, "input");
  demand(plan.layers() == d.layers() && plan.home == d.experts);
  const moue::index_t all = d.layers() * d.experts;
  for (const auto id : plan.universal) demand(id >= 0 && id < all);
  for (moue::index_t layer = 0; layer < plan.layers(); ++layer)
    for (const auto id : plan.foreign(layer))
      demand(id >= 0 && id < all && id / d.experts != layer);  // a layer's own experts are no foreign ones
  const auto again = io::detail::read_plan(io::text_of(plan), d, "again");
  demand(again.universal == plan.universal && again.topology.rows == plan.topology.rows);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  static const io::moe_description models[] = {three_layers(0), three_layers(8)};
  for (const auto& d : models) try {
      check(text, d);
    } catch (const moue::error&) {
    }
  return 0;
}
