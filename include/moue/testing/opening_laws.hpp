// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The laws of opening schedules.

#include <cmath>
#include <string>
#include <vector>

#include "moue/convert/schedule.hpp"
#include "moue/testing/report.hpp"

namespace moue::inline v0_1::testing {

/// Checks that a schedule is one, for a layer that gains `count` candidates, at every step up to a few past the last:
/// biases are numbers, the number of open connections never falls, nor does the bias of one that stays open, and every
/// connection ends as stated. O(steps count) calls.
template <convert::OpeningSchedule ScheduleT>
law_report check_opening_laws(const ScheduleT& schedule, index_t count = 7, index_t layer = 1) {
  law_report report("opening schedule");
  constexpr double closed = convert::closed;
  const index_t last = schedule.last_step();
  std::vector<double> before(static_cast<std::size_t>(count), closed);
  index_t open_before = 0;
  for (index_t step = 0; step <= last + 3; ++step) {
    const auto at = [&](index_t rank) {
      return "at step " + std::to_string(step) + " the connection of rank " + std::to_string(rank);
    };
    index_t open = 0;
    for (index_t rank = 0; rank < count; ++rank) {
      const convert::connection c{layer, rank, count};
      const double bias = schedule(step, c);
      double& previous = before[static_cast<std::size_t>(rank)];
      report.expect("biases are numbers or closed", std::isfinite(bias) || bias == closed,
                    [&] { return at(rank) + " has bias " + std::to_string(bias); });
      report.expect("the answer depends on the arguments alone", schedule(step, c) == bias,
                    [&] { return at(rank) + " answers twice"; });
      report.expect("a connection that stays open never loses", bias == closed || bias >= previous, [&] {
        return at(rank) + " falls from " + std::to_string(previous) + " to " + std::to_string(bias);
      });
      report.expect("every connection ends as stated", step < last || bias == schedule.end(), [&] {
        return at(rank) + " has bias " + std::to_string(bias) + ", not " + std::to_string(schedule.end());
      });
      open += bias == closed ? 0 : 1;
      previous = bias;
    }
    report.expect("the number of open connections never falls", open >= open_before, [&] {
      return "at step " + std::to_string(step) + " it falls from " + std::to_string(open_before) + " to " +
             std::to_string(open);
    });
    open_before = open;
  }
  return report;
}

}  // namespace moue::inline v0_1::testing
