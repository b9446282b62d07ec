// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Assignments that a caller edits between the router and the experts.

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include "pass_laws.hpp"

namespace test {

/// A routing of a caller, with the factors that he gave the router's gates.
struct edited {
  std::vector<moue::index_t> offsets{0};
  std::vector<std::int32_t> experts, columns;
  whole_host::numbers gates, factors;

  void add(std::int32_t expert, double gate, std::int32_t column, double factor = 0) {
    experts.push_back(expert);
    gates.push_back(gate);
    columns.push_back(column);
    factors.push_back(factor);
  }
  moue::routing<double> view() const {
    return {{offsets.data(), std::ssize(offsets)},
            {experts.data(), std::ssize(experts)},
            {gates.data(), std::ssize(gates)},
            {columns.data(), std::ssize(columns)}};
  }
};

/// Per token in turn: the second choice dropped, sent to another expert, halved, split into two entries of one expert;
/// and an expert of the caller's added with a gate of his own, one that the token has already.
inline edited edit(const moue::routing<double>& r) {
  edited e;
  for (moue::index_t t = 0; t < r.tokens(); ++t) {
    for (moue::index_t i = r.offsets[t]; i < r.offsets[t + 1]; ++i) {
      const bool second = i == r.offsets[t] + 1;
      const std::int32_t expert = r.expert[i], column = r.column[i];
      const double gate = r.gate[i];
      if (second && expert >= 0 && t % 4 == 0) {
        e.add(-1, gate, column, 1);
      } else if (second && expert >= 0 && t % 4 == 1) {
        e.add(0, gate, column, 1);
      } else if (second && expert >= 0 && t % 4 == 3) {
        e.add(expert, 0.25 * gate, column, 0.25);
        e.add(expert, 0.75 * gate, column, 0.75);
      } else {
        const double factor = second ? 0.5 : 1;
        e.add(expert, factor * gate, column, factor);
      }
    }
    const std::int32_t first = r.expert[r.offsets[t]];
    e.add(first >= 0 ? first : 0, 0.3, -1);  // also for padding, where it is to run nowhere
    e.offsets.push_back(std::ssize(e.experts));
  }
  return e;
}

/// The loss <output, target> plus the balancing loss with every layer's assignments edited; gradients if asked for.
inline double run_edited(whole_host& host, bool backward) {
  const placed_pass pass(host, {.entries = 60});
  pass->begin(host.tokens, host.inputs(), host.how);
  std::vector<edited> edits;
  for (moue::index_t l = 0; l < host.model.layers(); ++l) {
    const auto x = host.view(host.at(l));
    edits.push_back(edit(pass->route(l, x)));
    whole_host::numbers y(host.input.size());
    pass->run(l, x, edits.back().view(), host.view(y));
    host.leave(l, y);
  }
  double loss = pass->balance();
  const auto& out = host.at(host.model.layers());
  for (std::size_t i = 0; i < out.size(); ++i) loss += out[i] * host.target[i];
  if (!backward) return loss;
  pass->arm();
  for (moue::index_t l = host.model.layers(); l-- > 0;) {
    auto dy = host.enter_backward(l);
    auto& e = edits[static_cast<std::size_t>(l)];
    whole_host::numbers dgates(e.gates.size()), router(dy.size());
    const moue::vector_view<double> dgate{dgates.data(), std::ssize(dgates)};
    pass->run_backward(l, host.view(dy), host.view(dy), dgate, host.gradients);
    for (std::size_t i = 0; i < dgates.size(); ++i) {
      if (e.experts[i] < 0) CHECK(dgates[i] == 0);
      dgates[i] *= e.factors[i];
    }
    pass->route_backward(l, dgate, host.view(router), host.gradients);
    for (std::size_t i = 0; i < dy.size(); ++i) dy[i] += router[i];
    host.leave_backward(dy);
  }
  return loss;
}

}  // namespace test
