// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What belongs to the expert inside another, which declares its own arrays behind those of the inner one.

#include <cstddef>

#include "moue/arrays.hpp"
#include "moue/expert.hpp"

namespace moue::inline v0_1::detail {

/// Where the outer expert's own entries begin, and the inner one's share of each array.
template <class ExpertT>
struct inner_expert {
  static constexpr std::size_t own = parameter_count<ExpertT>;
  static constexpr std::size_t own_saved = saved_count<ExpertT>;
  static constexpr std::size_t own_temporary = temporary_count<ExpertT>;

  static auto parameters_of(const auto& p) { return sub_array<0, own>(p); }
  static auto saved_of(const auto& saved) { return sub_array<0, own_saved>(saved); }
  static auto temporaries_of(const auto& temporary) { return sub_array<0, own_temporary>(temporary); }
};

}  // namespace moue::inline v0_1::detail
