// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The options that only `moue_lm convert-study` has, and the arms they describe.

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "convert_settings.hpp"
#include "option_values.hpp"

namespace language_model {

/// Every combination of these values is one arm of the study.
struct study_options {
  std::vector<topology_kind> topology{tuned_conversion.topology};
  std::vector<universal_kind> universal{tuned_conversion.universal};
  std::vector<std::int64_t> per_layer{tuned_conversion.per_layer};
  std::vector<rows_kind> rows{tuned_conversion.rows};
  std::vector<double> scale{tuned_conversion.scale};
  std::vector<schedule_kind> schedule{tuned_conversion.schedule};
  std::vector<double> end{tuned_conversion.end};
  std::vector<std::int64_t> opening;  ///< empty: a tenth of all steps
  std::vector<double> weight{tuned_conversion.weight};
  std::vector<double> restart{tuned_restart};
  std::vector<moments_kind> moments{moments_kind::carry};
  std::vector<double> control_restart{tuned_control_restart};
  std::vector<moments_kind> control_moments{moments_kind::carry};
  std::optional<std::int64_t> rewarm;  ///< default: a thirtieth of all steps
  std::optional<std::int64_t> at;      ///< default: half of all steps
  anchor_kind anchor = anchor_kind::moue;
};

namespace detail {

struct study_flag {
  std::string_view name;
  void (*set)(study_options&, std::string_view flag, std::string_view value);
};

template <class Kind>
std::vector<Kind> kinds_in(std::string_view flag, std::string_view values) {
  return list_in(flag, values, kind_in<Kind>);
}
inline std::vector<double> numbers_in(std::string_view flag, std::string_view values, double least, double most) {
  return list_in(flag, values, [&](auto f, auto v) { return number_in<double>(f, v, least, most); });
}
inline std::vector<std::int64_t> counts_in(std::string_view flag, std::string_view values, std::int64_t least,
                                           std::int64_t most) {
  return list_in(flag, values, [&](auto f, auto v) { return number_in<std::int64_t>(f, v, least, most); });
}

inline constexpr study_flag study_flags[] = {
    {"--topology", [](auto& o, auto f, auto v) { o.topology = kinds_in<topology_kind>(f, v); }},
    {"--universal", [](auto& o, auto f, auto v) { o.universal = kinds_in<universal_kind>(f, v); }},
    {"--per-layer", [](auto& o, auto f, auto v) { o.per_layer = counts_in(f, v, 1, physical_experts / model_depth); }},
    {"--rows", [](auto& o, auto f, auto v) { o.rows = kinds_in<rows_kind>(f, v); }},
    {"--scale", [](auto& o, auto f, auto v) { o.scale = numbers_in(f, v, -10, 10); }},
    {"--schedule", [](auto& o, auto f, auto v) { o.schedule = kinds_in<schedule_kind>(f, v); }},
    {"--end", [](auto& o, auto f, auto v) { o.end = numbers_in(f, v, -100, 100); }},
    {"--opening", [](auto& o, auto f, auto v) { o.opening = counts_in(f, v, 0, most_steps); }},
    {"--balance", [](auto& o, auto f, auto v) { o.weight = numbers_in(f, v, 0, 1); }},
    {"--restart", [](auto& o, auto f, auto v) { o.restart = numbers_in(f, v, 0, 10); }},
    {"--moments", [](auto& o, auto f, auto v) { o.moments = kinds_in<moments_kind>(f, v); }},
    {"--control-restart", [](auto& o, auto f, auto v) { o.control_restart = numbers_in(f, v, 0, 10); }},
    {"--control-moments", [](auto& o, auto f, auto v) { o.control_moments = kinds_in<moments_kind>(f, v); }},
    {"--rewarm", [](auto& o, auto f, auto v) { o.rewarm = number_in<std::int64_t>(f, v, 0, most_steps); }},
    {"--at", [](auto& o, auto f, auto v) { o.at = number_in<std::int64_t>(f, v, 0, most_steps); }},
    {"--anchor", [](auto& o, auto f, auto v) { o.anchor = kind_in<anchor_kind>(f, v); }},
};

/// The option called `name`, or null.
inline const study_flag* find_study_flag(std::string_view name) {
  const auto* found = std::ranges::find(study_flags, name, &study_flag::name);
  return found == std::end(study_flags) ? nullptr : found;
}

/// Gives every arm so far each of `values` in turn, by `set(arm, value)`.
template <class T, class F>
void multiply(std::vector<arm>& arms, const std::vector<T>& values, const F& set) {
  std::vector<arm> result;
  for (const auto& before : arms)
    for (const auto& value : values) {
      result.push_back(before);
      set(result.back(), value);
    }
  arms = std::move(result);
}

}  // namespace detail

/// The controls, one more run of the first of them from weights that were nudged, and the conversions.
inline std::vector<arm> arms_of(const study_options& o, moue::index_t steps) {
  using detail::multiply;
  const auto restart = [&](arm& a, double factor) {
    a.next.restart = {factor, o.rewarm.value_or(std::max<moue::index_t>(1, steps / 30))};
  };
  const auto moments = [](arm& a, moments_kind value) { a.next.moments = value; };
  std::vector<arm> arms(1);
  multiply(arms, o.control_restart, restart);
  multiply(arms, o.control_moments, moments);
  arms.push_back(arms.front());
  arms.back().what = arm::kind::nudged;

  std::vector<arm> converted(1);
  converted[0].what = arm::kind::converted;
  multiply(converted, o.topology, [](arm& a, auto value) { a.how.topology = value; });
  multiply(converted, o.universal, [](arm& a, auto value) { a.how.universal = value; });
  multiply(converted, o.per_layer, [](arm& a, auto value) { a.how.per_layer = value; });
  multiply(converted, o.rows, [](arm& a, auto value) { a.how.rows = value; });
  multiply(converted, o.scale, [](arm& a, auto value) { a.how.scale = value; });
  multiply(converted, o.schedule, [](arm& a, auto value) { a.how.schedule = value; });
  multiply(converted, o.end, [](arm& a, auto value) { a.how.end = value; });
  multiply(converted, o.opening.empty() ? std::vector<std::int64_t>{steps / 10} : o.opening,
           [](arm& a, auto value) { a.how.opening = value; });
  multiply(converted, o.weight, [](arm& a, auto value) { a.how.weight = value; });
  multiply(converted, o.restart, restart);
  multiply(converted, o.moments, moments);
  for (const auto& a : converted) {  // settings that an arm does not read would only repeat it
    const bool repeated = std::ranges::any_of(
        arms, [&](const arm& other) { return other.what == a.what && settings_of(other) == settings_of(a); });
    if (!repeated) arms.push_back(a);
  }
  return arms;
}

}  // namespace language_model
