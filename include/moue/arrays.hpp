// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The lists that policies declare parameters and scratch in, joined and taken apart by policies made of policies.

#include <array>
#include <cstddef>
#include <utility>

namespace moue::inline v0_1::detail {

/// `Count` elements of `all` from `First`.
template <std::size_t First, std::size_t Count, class T, std::size_t N>
constexpr std::array<T, Count> sub_array(const std::array<T, N>& all) {
  static_assert(First + Count <= N);
  return [&]<std::size_t... Is>(std::index_sequence<Is...>) { return std::array<T, Count>{all[First + Is]...}; }
  (std::make_index_sequence<Count>{});
}

template <class T, std::size_t... N>
constexpr auto join_arrays(const std::array<T, N>&... parts) {
  std::array<T, (N + ... + 0)> all{};
  std::size_t at = 0;
  const auto append = [&](const auto& part) {
    for (const auto& element : part) all[at++] = element;
  };
  (append(parts), ...);
  return all;
}

}  // namespace moue::inline v0_1::detail
