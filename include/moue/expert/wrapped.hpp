// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What experts that wrap another one share: the other's part of what a call gets comes first, their own stands behind it.

#include <cmath>
#include <cstddef>
#include <string_view>

#include "moue/arrays.hpp"
#include "moue/expert.hpp"
#include "moue/parameter.hpp"

namespace moue::inline v0_1::detail {

/// Where the wrapping expert's own parameters, saved matrices and temporaries begin, and those of the wrapped one.
template <class ExpertT>
struct wrapped {
  static constexpr std::size_t parameters = parameter_count<ExpertT>;
  static constexpr std::size_t saved = saved_count<ExpertT>;
  static constexpr std::size_t temporaries = temporary_count<ExpertT>;

  static auto parameters_of(const auto& p) { return sub_array<0, parameters>(p); }
  static auto saved_of(const auto& all) { return sub_array<0, saved>(all); }
  static auto temporaries_of(const auto& all) { return sub_array<0, temporaries>(all); }
};

/// A vector [1, width] whose product with a token is a logit.
inline parameter_spec gate_vector(std::string_view name, index_t width) {
  return {name, 1, width, initializer::normal(1 / std::sqrt(double(width))), scope::expert, true, true};
}

}  // namespace moue::inline v0_1::detail
