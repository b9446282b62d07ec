// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// An executor on its own, with ids and gates from the caller, and the same computed token by token.

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "moue/executor.hpp"
#include "moue/expert/activation.hpp"
#include "moue/expert/mlp.hpp"

namespace test {

/// Assignments that own their arrays.
struct assignments {
  std::vector<moue::index_t> offsets{0};
  std::vector<std::int32_t> expert;
  std::vector<double> gate;

  moue::index_t tokens() const { return std::ssize(offsets) - 1; }
  void add(std::int32_t e, double g) {
    expert.push_back(e);
    gate.push_back(g);
  }
  void end_token() { offsets.push_back(std::ssize(expert)); }
  moue::routing<double> view() const {
    return {
        {offsets.data(), std::ssize(offsets)}, {expert.data(), std::ssize(expert)}, {gate.data(), std::ssize(gate)}};
  }
};

struct executor_result {
  std::vector<double> y, dx, dgate;
  moue::gradients<double> gradients;
};

inline std::shared_ptr<const moue::parameter_layout> layout_of(const auto& executor) {
  auto layout = std::make_shared<moue::parameter_layout>();
  executor.describe(*layout);
  return layout;
}

/// Forward and backward of `executor`, with x and dy [tokens, width].
inline executor_result run_executor(const auto& executor, const moue::parameters<double>& weights,
                                    const assignments& given, const std::vector<double>& x,
                                    const std::vector<double>& dy) {
  const moue::index_t tokens = given.tokens(), entries = std::ssize(given.expert), width = executor.width();
  const auto carve = [&](moue::arena& memory) {
    return std::pair{executor.template take_record<double>(memory, tokens, entries),
                     executor.template take_scratch<double>(memory, entries, true)};
  };
  moue::arena counter;
  carve(counter);
  moue::workspace scratch(counter.bytes());
  moue::arena memory(scratch.bytes());
  auto [record, temporary] = carve(memory);
  executor_result result{std::vector<double>(x.size(), -7), std::vector<double>(x.size(), -7),
                         std::vector<double>(given.gate.size(), -7), moue::gradients<double>(weights.shared_layout())};
  const auto view = [&](auto& v) { return moue::matrix_view(v.data(), tokens, width); };
  executor.forward(given.view(), weights, view(x), view(result.y), record, temporary);
  executor.backward(given.view(), weights, view(x), view(dy), view(result.dx),
                    moue::vector_view<double>{result.dgate.data(), entries}, result.gradients, record, temporary);
  return result;
}

/// The same for `moue::mlp<moue::silu>` without biases, by the definition.
inline executor_result run_naively(const moue::parameters<double>& weights, moue::index_t width,
                                   const assignments& given, const std::vector<double>& x,
                                   const std::vector<double>& dy) {
  executor_result result{std::vector<double>(x.size(), 0), std::vector<double>(x.size(), 0),
                         std::vector<double>(given.gate.size(), 0), moue::gradients<double>(weights.shared_layout())};
  for (moue::index_t t = 0; t < given.tokens(); ++t)
    for (moue::index_t i = given.offsets[static_cast<std::size_t>(t)];
         i < given.offsets[static_cast<std::size_t>(t) + 1]; ++i) {
      const auto entry = static_cast<std::size_t>(i);
      if (given.expert[entry] < 0) continue;
      const std::string prefix = "experts." + std::to_string(given.expert[entry]);
      const auto up = weights[prefix + ".up"], down = weights[prefix + ".down"];
      const auto dup = result.gradients[prefix + ".up"], ddown = result.gradients[prefix + ".down"];
      const double* in = &x[static_cast<std::size_t>(t * width)];
      const double* dout = &dy[static_cast<std::size_t>(t * width)];
      const double gate = given.gate[entry];
      for (const char* own : {".up", ".down"}) result.gradients.set_live(weights.layout().find(prefix + own));
      for (moue::index_t h = 0; h < up.rows; ++h) {
        double pre = 0, dh = 0;
        for (moue::index_t j = 0; j < width; ++j) pre += up(h, j) * in[j];
        const double sigma = 1 / (1 + std::exp(-pre)), value = pre * sigma;
        for (moue::index_t j = 0; j < width; ++j) {
          result.y[static_cast<std::size_t>(t * width + j)] += gate * down(j, h) * value;
          dh += down(j, h) * dout[j];
          ddown(j, h) += gate * dout[j] * value;
        }
        result.dgate[entry] += dh * value;
        const double dpre = gate * dh * sigma * (1 + pre * (1 - sigma));
        for (moue::index_t j = 0; j < width; ++j) {
          dup(h, j) += dpre * in[j];
          result.dx[static_cast<std::size_t>(t * width + j)] += dpre * up(h, j);
        }
      }
    }
  return result;
}

}  // namespace test
