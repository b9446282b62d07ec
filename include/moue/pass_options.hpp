// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// What a pass is started with, what a batch brings, and where a pass stands.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "moue/error.hpp"
#include "moue/view.hpp"
#include "moue/visit.hpp"

namespace moue::inline v0_1 {

/// What a pass has to make room for.
struct pass_options {
  index_t tokens = 0;         ///< the most a batch may have
  mode how = mode::training;  ///< whether backward is to follow
  bool router_input = false;  ///< whether routers and experts are given different inputs (see `layer_input`)
  /// Whether the caller leaves the inputs that it gives to `forward` unchanged until `backward`, so that a training
  /// pass need not copy them. Padding must then hold finite numbers, unless the router masks what is not.
  bool external_inputs = false;
  index_t first = 0;    ///< the first layer of the range that the pass runs
  index_t count = -1;   ///< layers of the range; −1: all that follow
  index_t entries = 0;  ///< the most entries of a routing given to `run`, if that is more than the router makes
};

/// How a batch is taken.
struct batch_options {
  bool counts = true;  ///< whether it is counted: false for layers that are run again, which have been counted before
  std::uint64_t step = 0;  ///< of training: what schedules go by; noise differs from step to step
  std::uint64_t seed = 0;  ///< of the noise of stages and losses that make some
  /// Where the batch begins among the tokens of all ranks and micro-batches of the step: noise goes by that.
  index_t first_token = 0;

  /// Whether two batches are taken alike.
  bool operator==(const batch_options&) const = default;
};

/// Where a pass stands: a value, which `to_bytes` turns into what a file can hold. With the bytes of its workspace it is
/// all of a pass, but for what `resume` is given again.
struct pass_position {
  index_t tokens = 0;        ///< rows of the batch
  index_t next = 0;          ///< the layer whose forward is due; in backward, one past the layer whose backward is due
  index_t reached = 0;       ///< one past the last layer that ran
  bool backward = false;     ///< whether backward has begun
  bool halfway = false;      ///< whether a layer has been routed but not run, or run backward but not routed backward
  bool armed = false;        ///< whether the balancing loss sends a gradient back
  bool begun = false;        ///< whether a batch was
  batch_options batch = {};  ///< how it is taken
  std::uint64_t layout = 0;  ///< tells workspaces apart whose buffers lie elsewhere: of other options or mixtures
  std::vector<index_t> entries = {};         ///< [layers of the range, or 1 in inference] of what is to run or ran
  std::vector<std::uint8_t> elsewhere = {};  ///< [layers of the range] 1 where somebody else ran the experts

  /// Whether two passes stand at the same place.
  bool operator==(const pass_position&) const = default;

  /// All of it, to lie in a file beside the workspace's bytes; like these for machines of the same byte order.
  std::vector<std::byte> to_bytes() const {
    std::vector<std::int64_t> numbers{tokens,
                                      next,
                                      reached,
                                      backward,
                                      halfway,
                                      armed,
                                      batch.counts,
                                      begun,
                                      static_cast<std::int64_t>(batch.step),
                                      static_cast<std::int64_t>(batch.seed),
                                      batch.first_token,
                                      static_cast<std::int64_t>(layout),
                                      std::ssize(entries),
                                      std::ssize(elsewhere)};
    numbers.insert(numbers.end(), entries.begin(), entries.end());
    numbers.insert(numbers.end(), elsewhere.begin(), elsewhere.end());
    const auto bytes = std::as_bytes(std::span(numbers));
    return {bytes.begin(), bytes.end()};
  }
  /// What `to_bytes` gave; throws if it cannot have. Whether the position fits a pass is for `resume` to say.
  static pass_position from_bytes(std::span<const std::byte> bytes) {
    constexpr std::size_t before_lists = 14;
    std::vector<std::int64_t> numbers(bytes.size() / sizeof(std::int64_t));
    if (!numbers.empty()) std::memcpy(numbers.data(), bytes.data(), numbers.size() * sizeof(std::int64_t));
    const bool whole = bytes.size() % sizeof(std::int64_t) == 0 && numbers.size() >= before_lists;
    const std::int64_t listed = static_cast<std::int64_t>(numbers.size() - (whole ? before_lists : 0));
    const bool flags = whole && std::all_of(numbers.begin() + 3, numbers.begin() + 8,
                                            [](std::int64_t flag) { return flag == 0 || flag == 1; });
    detail::require(
        flags && numbers[12] >= 0 && numbers[12] <= listed && numbers[13] == listed - numbers[12], "pass_position",
        [&] { return std::to_string(bytes.size()) + " bytes were given that are no position"; },
        "give all that to_bytes gave, and nothing else");
    const auto lists = numbers.begin() + static_cast<std::ptrdiff_t>(before_lists);
    pass_position at{.tokens = detail::integer<index_t>(numbers[0]),
                     .next = detail::integer<index_t>(numbers[1]),
                     .reached = detail::integer<index_t>(numbers[2]),
                     .backward = numbers[3] != 0,
                     .halfway = numbers[4] != 0,
                     .armed = numbers[5] != 0,
                     .begun = numbers[7] != 0,
                     .batch = {.counts = numbers[6] != 0,
                               .step = static_cast<std::uint64_t>(numbers[8]),
                               .seed = static_cast<std::uint64_t>(numbers[9]),
                               .first_token = detail::integer<index_t>(numbers[10])},
                     .layout = static_cast<std::uint64_t>(numbers[11])};
    at.entries.assign(lists, lists + numbers[12]);
    for (auto i = lists + numbers[12]; i != numbers.end(); ++i) at.elsewhere.push_back(*i != 0 ? 1 : 0);
    return at;
  }
};

/// A layer's input, where the router reads something else than the experts. Both [tokens, width].
template <class S>
struct layer_input {
  matrix_view<const S> experts = {};  ///< what the experts read
  matrix_view<const S> router = {};   ///< what the router reads
};

/// The gradients of a `layer_input`.
template <class S>
struct layer_gradient {
  matrix_view<S> experts = {};  ///< of what the experts read
  matrix_view<S> router = {};   ///< of what the router read
};

}  // namespace moue::inline v0_1
