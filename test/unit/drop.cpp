// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "moue/backend/cpu.hpp"
#include "moue/backend/reference.hpp"
#include "moue/pass.hpp"
#include "moue/policies.hpp"
#include "moue/testing/laws.hpp"
#include "moue/testing/model_laws.hpp"

// Entries that a selection takes back after the gates.

namespace {

using moue::index_t;
using moue::matrix_view;

/// Keeps the first tokens of every expert, its scratch counting them.
template <class C>
struct keep_first {
  matrix_view<const std::int32_t> selected;
  matrix_view<std::int32_t> experts;
  matrix_view<C> queue;
  index_t capacity;
  MOUE_HD void operator()(index_t) const {
    for (index_t j = 0; j < queue.cols; ++j) queue(0, j) = C(0);
    for (index_t i = 0; i < selected.cols; ++i)  // all first choices before any second
      for (index_t t = 0; t < selected.rows; ++t) {
        if (selected(t, i) < 0) continue;
        C& length = queue(0, selected(t, i));
        if (length >= C(capacity)) experts(t, i) = -1;
        length += C(1);
      }
  }
};
struct capped_top_k {
  index_t k, capacity;
  constexpr index_t max_selected(index_t n) const { return std::min(n, k); }
  auto temporaries(moue::router_shape s) const { return std::array{moue::matrix_shape{1, s.candidates}}; }
  template <class C>
  MOUE_HD index_t operator()(moue::vector_view<const C> scores, moue::vector_view<const std::int32_t> candidates,
                             moue::vector_view<std::int32_t> selected) const {
    return moue::top_k{k}(scores, candidates, selected);
  }
  template <class C>
  void drop(const auto& ops, const moue::select_frame<C>&, const matrix_view<const std::int32_t>& selected,
            const matrix_view<const C>&, const matrix_view<std::int32_t>& experts, const auto& temporary) const {
    ops.each_row(1, keep_first<C>{selected, experts, temporary[0], capacity});
  }
};

template <class SelectT, class B = moue::reference>
auto model_with(SelectT select, const B& backend = {}) {
  return moue::mixture{moue::swiglu{.width = 4, .hidden = 3}, moue::shared_pool{.depth = 2, .pool = 3},
                       moue::router{moue::linear_score{.deviation = 1}, select, moue::softmax_of_selected{}},
                       moue::switch_loss{0.5}, backend};
}

constexpr index_t tokens = 8, width = 4;

struct seen {
  std::vector<double> y, gates;
  std::vector<std::int32_t> experts;
  moue::routing_counts<double> counts;
  double balance;
};
seen run(const auto& model) {
  const auto weights = model.template initialize<double>(3);
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.template workspace_bytes<double>(options));
  auto pass = model.start(weights, options, scratch);
  std::vector<double> x(tokens * width);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(double(i * i));
  const std::vector<std::uint8_t> valid{1, 1, 1, 0, 1, 1, 1, 1};
  seen result;
  result.y.resize(x.size());
  pass.begin(tokens, {.valid = {valid.data(), tokens}});
  for (index_t l = 0; l < model.layers(); ++l) {
    pass.forward(l, {x.data(), tokens, width}, {result.y.data(), tokens, width});
    const auto r = pass.assignments(l);
    result.experts.insert(result.experts.end(), r.expert.begin(), r.expert.end());
    result.gates.insert(result.gates.end(), r.gate.begin(), r.gate.end());
  }
  result.counts = pass.counts();
  result.balance = pass.balance();
  return result;
}

}  // namespace

TEST_CASE("a dropped entry loses its expert and keeps its gate") {
  const auto all = run(model_with(moue::top_k{2})), some = run(model_with(capped_top_k{2, 4}));
  CHECK(some.gates == all.gates);
  CHECK(some.counts.demand == all.counts.demand);
  CHECK(some.counts.load != all.counts.load);
  for (std::size_t i = 0; i < some.counts.load.size(); ++i)
    CHECK(some.counts.load[i] == std::min<std::int64_t>(4, all.counts.demand[i]));
  CHECK(some.counts.rows == some.counts.load);
  CHECK(some.balance == all.balance);
  CHECK(some.y != all.y);
  index_t dropped = 0;
  for (std::size_t i = 0; i < some.experts.size(); ++i) {
    CHECK((some.experts[i] == all.experts[i] || some.experts[i] == -1));
    dropped += some.experts[i] != all.experts[i];
  }
  CHECK(dropped > 0);

  const auto threads = run(model_with(capped_top_k{2, 4}, moue::cpu{3}));
  CHECK(threads.experts == some.experts);
  CHECK(threads.counts.load == some.counts.load);
  CHECK(run(model_with(capped_top_k{2, 8})).y == all.y);
}

TEST_CASE("gradients beside dropped entries are right") {
  const auto report = moue::testing::check_gradients(model_with(capped_top_k{2, 2}));
  CHECK_MESSAGE(bool(report), report.summary());
}
