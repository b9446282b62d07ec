// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Loads from even to absurd. W0 to W7 carry the names of NVIDIA/Megatron-LM pull request 7488 to one device: where it
// means the experts of a rank, a quarter of the ids stands for one, and ragged sources become lists of 0, 1 or 2 ids. A
// token's ids are distinct throughout.

#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "executor_run.hpp"
#include "stack.hpp"

namespace test::loads {

inline constexpr moue::index_t experts = 16, chosen = 2;

struct load {
  std::string name;
  std::function<double(moue::index_t token, moue::index_t expert)> weight;  // a token draws experts in proportion to it
  bool ragged = false;
};

inline bool in_turn(moue::index_t t, moue::index_t e) { return e / chosen == t % (experts / chosen); }

inline const std::vector<load> all{
    {"W0 balanced", [](auto t, auto e) { return in_turn(t, e) ? 1 : 0; }},
    {"W1 hot expert set", [](auto, auto e) { return e < 3 ? 20 : 1; }},
    {"W2 hot rank", [](auto, auto e) { return e / 4 == 1 ? 20 : 1; }},
    {"W3 spread hot experts", [](auto, auto e) { return e % 4 == 0 ? 20 : 1; }},
    {"W4 source ragged", [](auto, auto) { return 1; }, true},
    {"W5 zero expert rank", [](auto, auto e) { return e / 4 == 2 ? 0 : 1; }},
    {"W6 rotating hotspot", [](auto t, auto e) { return e == t / 16 % experts ? 50 : 1; }},
    {"W7 burst", [](auto t, auto e) { return t % 64 >= 40    ? (e == 3 || e == 11 ? 1 : 0)
                                             : in_turn(t, e) ? 1
                                                             : 0; }},
    {"zipf", [](auto, auto e) { return 1 / static_cast<double>(e + 1); }},
    {"all to one pair", [](auto, auto e) { return e == 0 || e == 9 ? 1 : 0; }},
    {"one empty", [](auto, auto e) { return e == experts - 1 ? 0 : 1; }},
    {"half empty", [](auto, auto e) { return e < experts / 2 ? 1 : 0; }},
    {"alternating", [](auto t, auto e) { return t % 2 == e % 2 ? 1 : 0; }},
};

inline assignments assign(const load& kind, moue::index_t tokens) {
  std::mt19937_64 random(tokens);
  assignments result;
  for (moue::index_t t = 0; t < tokens; ++t) {
    std::vector<double> weight(experts);
    for (moue::index_t e = 0; e < experts; ++e) weight[static_cast<std::size_t>(e)] = kind.weight(t, e);
    for (moue::index_t i = 0; i < (kind.ragged ? t % (chosen + 1) : chosen); ++i) {
      double left = std::accumulate(weight.begin(), weight.end(), 0.0) * static_cast<double>(random() >> 11) * 0x1p-53;
      std::size_t e = 0;
      while (weight[e] == 0 || (left -= weight[e]) > 0) ++e;
      weight[e] = 0;
      result.add(static_cast<std::int32_t>(e), noise(9, std::ssize(result.gate)));
    }
    result.end_token();
  }
  return result;
}

}  // namespace test::loads
