// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// One launch over the elements of all tensors, however many there are, on a backend with memory of its own.

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "moue/parameter.hpp"
#include "moue/view.hpp"
#include "moue/workspace.hpp"

namespace moue::inline v0_1::detail {

/// Neighbouring elements of one tensor. `lanes` threads share a run; each has every `lanes`-th element of it, so that
/// neighbours read neighbours.
struct tensor_run {
  static constexpr index_t lanes = 256, depth = 8, most = lanes * depth;

  index_t first = 0;  ///< element of the tensor
  std::int32_t tensor = 0;
  std::int32_t count = 0;

  template <class F>
  MOUE_HD void each(index_t lane, const F& f) const {
    for (index_t at = lane; at < most; at += lanes)
      if (at < count) f(first + at);
  }
};

/// The runs of all tensors of a layout, in order.
inline index_t count_runs(const parameter_layout& layout) {
  index_t count = 0;
  for (const auto& info : layout) count += (info.size() + tensor_run::most - 1) / tensor_run::most;
  return count;
}
inline std::vector<tensor_run> list_runs(const parameter_layout& layout) {
  std::vector<tensor_run> runs;
  runs.reserve(static_cast<std::size_t>(count_runs(layout)));
  for (index_t i = 0; i < layout.tensors(); ++i)
    for (index_t first = 0; first < layout[i].size(); first += tensor_run::most)
      runs.push_back({first, static_cast<std::int32_t>(i),
                      static_cast<std::int32_t>((std::min)(tensor_run::most, layout[i].size() - first))});
  return runs;
}

/// f.of(tensor) is false where there is nothing to do, else it is called with every element of the tensor.
template <class F>
struct sweep_run {
  F f;
  vector_view<const tensor_run> runs;
  MOUE_HD void operator()(index_t i, index_t lane) const {
    const tensor_run run = runs[i];
    const auto part = f.of(run.tensor);
    if (part) run.each(lane, part);
  }
};

template <class Ops, class F>
void sweep(const Ops& ops, vector_view<const tensor_run> runs, const F& f) {
  ops.each_element(runs.size, tensor_run::lanes, sweep_run<F>{f, runs});
}

/// Memory for every tensor of a layout; null while `memory` only counts.
template <class C>
std::vector<C*> take_tensors(arena& memory, const parameter_layout& layout, std::string_view purpose) {
  std::vector<C*> result;
  for (const auto& info : layout) result.push_back(memory.take<C>(info.size(), purpose).data);
  return result;
}

}  // namespace moue::inline v0_1::detail
