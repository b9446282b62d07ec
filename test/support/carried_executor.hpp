// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// An executor on its own on a backend with memory of its own.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "carried.hpp"
#include "executor_run.hpp"

namespace test {

struct carried_result : executor_result {
  moue::index_t refused = 0;  // entries with an id out of range
};

/// As `run_executor`, with weights and batch carried there and the results back. Memory is for `spare` more tokens and
/// entries than there are.
inline carried_result run_carried(const auto& executor, const moue::parameters<double>& weights,
                                  const assignments& given, const std::vector<double>& x, const std::vector<double>& dy,
                                  moue::index_t spare = 3) {
  const moue::index_t tokens = given.tokens(), entries = std::ssize(given.expert), width = executor.width();
  const auto& backend = executor.backend();
  carrier there(backend);
  const auto& layout = weights.layout();
  const auto tensors = [&] {
    std::vector<double*> result;
    for (const auto& info : layout) result.push_back(there.template make<double>(info.size()));
    return result;
  };
  const auto sent = [&]<class T>(const std::vector<T>& from) {
    T* const to = there.template make<T>(std::ssize(from));
    there.send(from.data(), to, std::ssize(from));
    return to;
  };
  moue::parameters<double> own(weights.shared_layout(), tensors());
  carried_result result{{std::vector<double>(x.size()), std::vector<double>(x.size()),
                         std::vector<double>(given.gate.size()), moue::gradients<double>(weights.shared_layout())}};
  moue::gradients<double> gradients(weights.shared_layout(), tensors(),
                                    sent(std::vector<std::uint8_t>(static_cast<std::size_t>(layout.tensors()))));
  for (moue::index_t i = 0; i < layout.tensors(); ++i) {
    there.send(weights[i].data, own[i].data, layout[i].size());
    if (gradients.wanted(i)) there.send(result.gradients[i].data, gradients[i].data, layout[i].size());
  }
  const auto bytes = executor.template workspace_bytes<double>(tokens + spare, entries + spare);
  moue::workspace scratch(std::span(there.template make<std::byte>(static_cast<moue::index_t>(bytes)), bytes));
  auto memory = executor.template carve<double>(scratch, tokens + spare, entries + spare);
  const moue::routing<double> r{
      {sent(given.offsets), tokens + 1}, {sent(given.expert), entries}, {sent(given.gate), entries}};
  const moue::matrix_view<const double> in(sent(x), tokens, width), dout(sent(dy), tokens, width);
  const moue::matrix_view<double> y(there.template make<double>(tokens * width), tokens, width);
  const moue::matrix_view<double> dx(there.template make<double>(tokens * width), tokens, width);
  const moue::vector_view<double> dgate{there.template make<double>(entries), entries};
  executor.forward(r, own, in, y, memory);
  executor.backward(r, own, in, dout, dx, dgate, gradients, memory);
  there.fetch(y.data, result.y.data(), tokens * width);
  there.fetch(dx.data, result.dx.data(), tokens * width);
  there.fetch(dgate.data, result.dgate.data(), entries);
  for (moue::index_t i = 0; i < layout.tensors(); ++i)
    if (gradients.wanted(i)) there.fetch(gradients[i].data, result.gradients[i].data, layout[i].size());
  there.fetch(gradients.marks().data, result.gradients.marks().data, layout.tensors());
  if constexpr (requires { backend.refused_entries(memory.record.plan); })
    result.refused = backend.refused_entries(memory.record.plan);
  return result;
}

}  // namespace test
