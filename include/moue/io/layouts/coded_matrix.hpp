// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// From the tensors that hold a matrix in codes to what decodes it.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "moue/io/layouts/coded.hpp"
#include "moue/io/layouts/description.hpp"
#include "moue/io/schemes.hpp"

namespace moue::inline v0_1::io::detail {

/// What slice `s` has of the tensors `t`. `find` gives a tensor's entry and `bytes` all of its bytes, by name; the scale
/// of the whole is the caller's business.
template <class Find, class Bytes>
coded_matrix coded_matrix_of(const moe_slice& s, const coded_tensors& t, const Find& find, const Bytes& bytes) {
  const auto stored = static_cast<std::uint64_t>(s.line()) * static_cast<std::uint64_t>(s.lines());
  const std::uint64_t experts = s.shape.size() == 3 ? s.shape[0] : 1, expert = stored == 0 ? 0 : s.first / stored;
  const auto part = [&](const std::string& name) {
    const std::span<const std::byte> all = name.empty() ? std::span<const std::byte>() : bytes(name);
    return all.subspan(all.size() / experts * expert, all.size() / experts);
  };
  return {.how = t.how->how,
          .rows = s.lines(),
          .cols = s.line(),
          .type = find(t.codes)->type,
          .bits = t.bits,
          .codes = part(t.codes),
          .tile = t.tile,
          .scales = {find(t.scales)->type, part(t.scales)},
          .zeros = part(t.zeros),
          .zero = t.zero,
          .groups = part(t.groups),
          .whole_divides = t.how->whole_divides};
}

}  // namespace moue::inline v0_1::io::detail
