// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The ways of converting a plain mixture of experts that `moue_lm convert-study` compares.

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "../report/svg.hpp"
#include "contender.hpp"
#include "moue/convert.hpp"
#include "recipe.hpp"

namespace language_model {

enum class universal_kind : std::uint32_t { all, most_used, most_similar };
enum class rows_kind : std::uint32_t { zero, mean, home, fresh };
enum class schedule_kind : std::uint32_t { open, annealed, growing, sampled, faded, closed };
enum class moments_kind : std::uint32_t { carry, reset };
enum class anchor_kind : std::uint32_t { none, moue };

template <>
struct names_of<universal_kind> {
  static constexpr std::array<std::string_view, 3> all{"all", "most_used", "most_similar"};
};
template <>
struct names_of<rows_kind> {
  static constexpr std::array<std::string_view, 4> all{"zero", "mean", "home", "fresh"};
};
template <>
struct names_of<schedule_kind> {
  static constexpr std::array<std::string_view, 6> all{"open", "annealed", "growing", "sampled", "faded", "closed"};
};
template <>
struct names_of<moments_kind> {
  static constexpr std::array<std::string_view, 2> all{"carry", "reset"};
};
template <>
struct names_of<anchor_kind> {
  static constexpr std::array<std::string_view, 2> all{"none", "moue"};
};

/// How training goes on in the middle of a run, converted or not.
struct continuation {
  rate_restart restart;
  moments_kind moments = moments_kind::carry;  ///< whether the optimiser remembers what it did before
};

/// How a plain mixture of experts is converted.
struct conversion {
  topology_kind topology = topology_kind::shared_pool;  ///< over the universal experts
  universal_kind universal = universal_kind::all;
  moue::index_t per_layer = 2;  ///< experts of every layer that become universal, unless all do
  rows_kind rows = rows_kind::zero;
  double scale = 1;  ///< of the foreign rows
  schedule_kind schedule = schedule_kind::open;
  double end = -1;                 ///< the last opening bias
  moue::index_t opening = 60;      ///< steps from the first opening to the last bias
  double weight = balance_weight;  ///< of the balancing loss
};

/// The settings that served best in the search that docs/convert-study.md reports.
inline constexpr conversion tuned_conversion;
inline constexpr double tuned_restart = 0;
inline constexpr double tuned_control_restart = 0;

/// One of the schedules of moue/convert/schedule.hpp, chosen at run time. Steps count from the conversion.
class opening_schedule {
 public:
  explicit opening_schedule(const conversion& how) : schedule_(pick(how)) {}

  double operator()(moue::index_t step, const moue::convert::connection& c) const {
    return std::visit([&](const auto& schedule) { return schedule(step, c); }, schedule_);
  }
  moue::index_t last_step() const {
    return std::visit([](const auto& schedule) { return schedule.last_step(); }, schedule_);
  }
  double end() const {
    return std::visit([](const auto& schedule) { return schedule.end(); }, schedule_);
  }

 private:
  using any = std::variant<moue::convert::annealed_opening, moue::convert::growing_pool, moue::convert::faded_opening>;

  static any pick(const conversion& how) {
    using namespace moue::convert;
    constexpr double from = -8;
    switch (how.schedule) {
      case schedule_kind::annealed:
        return annealed_opening{0, how.opening, std::min(from, how.end), how.end};
      case schedule_kind::growing:
        return growing_pool{0, how.opening, how.end};
      case schedule_kind::sampled:
        return growing_pool{0, how.opening, how.end, growth::sampled};
      case schedule_kind::faded:
        return faded_opening{0, how.opening, how.end};
      case schedule_kind::closed:
        return annealed_opening{.first = std::numeric_limits<moue::index_t>::max(), .to = closed};
      case schedule_kind::open:
        break;
    }
    return annealed_opening{0, 0, how.end, how.end};
  }

  any schedule_;
};

/// Calls `f` with the row policy that `how` names.
template <class F>
void with_rows(const conversion& how, F&& f) {
  switch (how.rows) {
    case rows_kind::zero:
      return f(moue::convert::zero_rows{});
    case rows_kind::mean:
      return f(moue::convert::mean_row{how.scale});
    case rows_kind::home:
      return f(moue::convert::home_row{how.scale});
    case rows_kind::fresh:
      return f(moue::convert::fresh_rows{});
  }
}

/// A continuation of the source that is trained beside others.
struct arm {
  enum class kind { control, nudged, converted };
  kind what = kind::control;
  continuation next;
  conversion how;  ///< if converted
};

using settings = std::vector<std::pair<std::string, std::string>>;

/// What there is to tell about an arm, by name.
inline settings settings_of(const arm& a) {
  settings all{{"restart", report::number(a.next.restart.factor)}};
  if (a.next.restart.factor != 0) all.emplace_back("rewarm", std::to_string(a.next.restart.warm_up));
  all.emplace_back("moments", name_of(a.next.moments));
  if (a.what != arm::kind::converted) return all;
  all.emplace_back("topology", name_of(a.how.topology));
  all.emplace_back("universal", name_of(a.how.universal));
  if (a.how.universal != universal_kind::all) all.emplace_back("count", std::to_string(a.how.per_layer));
  all.emplace_back("rows", name_of(a.how.rows));
  if (a.how.rows == rows_kind::mean || a.how.rows == rows_kind::home)
    all.emplace_back("scale", report::number(a.how.scale, 3));
  all.emplace_back("schedule", name_of(a.how.schedule));
  if (a.how.schedule != schedule_kind::closed) all.emplace_back("end", report::number(a.how.end, 3));
  if (a.how.schedule != schedule_kind::closed && a.how.schedule != schedule_kind::open)
    all.emplace_back("opening", std::to_string(a.how.opening));
  all.emplace_back("balance", report::number(a.how.weight, 4));
  return all;
}

/// A name for each arm: what it is, and those of its settings in which arms of its kind differ.
inline std::vector<std::string> names_of_arms(const std::vector<arm>& arms) {
  constexpr std::array<std::string_view, 3> kinds{"moe", "moe, nudged", "converted"};
  std::vector<std::string> names;
  for (const auto& a : arms) {
    std::string name(kinds[static_cast<std::size_t>(a.what)]);
    for (const auto& setting : settings_of(a)) {
      bool common = true;
      for (const auto& other : arms) {
        const auto theirs = settings_of(other);
        common = common && (other.what != a.what || std::find(theirs.begin(), theirs.end(), setting) != theirs.end());
      }
      if (!common) name += " " + setting.first + "=" + setting.second;
    }
    names.push_back(std::move(name));
  }
  return names;
}

}  // namespace language_model
