// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A mixture whose layers share experts, made into one with private copies, computes the same bits; gradients of copies
// add up.

#include <doctest/doctest.h>

#include <utility>
#include <vector>

#include "conversion.hpp"
#include "moue/convert/moue_to_moe.hpp"

namespace {

/// Layers that share much, list candidates out of order, and have always-on experts among the ids.
moue::convert::wiring tangled() {
  return {9, {{4, 1, 7, 2}, {2, 0, 4, 5}, {7, 5, 1, 0}, {4, 1, 7, 2}}, {{3}, {3, 8}, {}, {8}}, {0, 1, 2, 0}};
}

/// The rank of the queries is the number of experts, so that a table's shape does not tell whose rows it holds.
auto make_shared(moue::cpu backend) {
  return moue::mixture{
      moue::expert_pool{[](moue::index_t e) { return e % 2; }, moue::swiglu{7, 5}, moue::mlp<moue::gelu, true>{7, 4}},
      tangled(),
      moue::router{moue::score_sum{moue::query_score{9}, moue::trajectory{9}}, moue::top_k{2},
                   moue::softmax_then_select{}}
          .with(moue::biased_logits{}),
      moue::sum_of_losses{moue::switch_loss{0.3}, moue::z_loss{0.2}}, std::move(backend)};
}

}  // namespace

TEST_CASE("copies are numbered layer by layer, in the order of their originals, and columns keep theirs") {
  const auto given = moue::convert::separate(tangled());
  CHECK(given.topology.pool == 5 + 6 + 4 + 5);
  CHECK(given.origin == std::vector<moue::index_t>{1, 2, 3, 4, 7, 0, 2, 3, 4, 5, 8, 0, 1, 5, 7, 1, 2, 4, 7, 8});
  CHECK(given.topology.rows[0] == std::vector<moue::index_t>{3, 0, 4, 1});
  CHECK(given.topology.rows[1] == std::vector<moue::index_t>{6, 5, 8, 9});
  CHECK(given.topology.shared[1] == std::vector<moue::index_t>{7, 10});
  CHECK(given.topology.routers == std::vector<moue::index_t>{0, 1, 2, 0});
}

TEST_CASE("private copies compute the same bits, and their gradients add up to the original's") {
  const auto source = make_shared(moue::cpu{2});
  const auto given = moue::convert::separate(source.topology());
  const auto target = moue::convert::moue_to_moe(source, given);
  const auto a = test::erase<double>(source);
  const auto b = test::erase<double>(target);
  const auto old = test::random_weights<double>(*a, 5);
  moue::parameters<double> weights(target.layout());
  moue::convert::carry_copies(source, old, given, weights);
  for (const moue::index_t tokens : {0, 1, 5, 64}) {
    const auto input = test::random_input<double>(*a, tokens, 3);
    const auto x = test::run_stack<double>(*a, old, input);
    const auto y = test::run_stack<double>(*b, weights, input);
    CHECK(test::same_bits(x.output, y.output));
    CHECK(test::same_bits(x.dx, y.dx));
    CHECK(test::same_bits(x.last_state, y.last_state));
    CHECK(x.balance == y.balance);
    // Sums over layers in another order: some roundings of numbers up to 100.
    constexpr double rounding = 1e-13;
    moue::gradients<double> sum(source.layout());
    const auto& from = target.layout();
    for (moue::index_t e = 0; e < target.experts(); ++e)
      for (moue::index_t i = 0;
           from->expert_first(e) + i < from->tensors() && (*from)[from->expert_first(e) + i].expert == e; ++i)
        for (moue::index_t j = 0;
             y.gradients.wanted(from->expert_first(e) + i) && j < (*from)[from->expert_first(e) + i].size(); ++j)
          sum[source.layout()->expert_first(given.origin[static_cast<std::size_t>(e)]) + i].data[j] +=
              y.gradients[from->expert_first(e) + i].data[j];
    for (moue::index_t i = 0; i < source.layout()->tensors(); ++i) {
      const auto& info = (*source.layout())[i];
      INFO(info.name, ", ", tokens, " tokens");
      if (info.expert >= 0)
        CHECK(test::distance(test::to_vector(std::as_const(sum)[i]), test::to_vector(x.gradients[i])) < rounding);
      else if (info.layer >= 0)
        CHECK(test::same_bits(test::to_vector(x.gradients[i]), test::to_vector(std::as_const(y.gradients)[info.name])));
    }
    for (const auto* name : {"router.trajectory_key", "router.query_key"})
      for (moue::index_t e = 0; e < source.experts(); ++e)
        for (moue::index_t j = 0; j < std::as_const(x.gradients)[name].cols; ++j) {
          double total = 0;
          for (moue::index_t copy = 0; copy < target.experts(); ++copy)
            if (given.origin[static_cast<std::size_t>(copy)] == e) total += std::as_const(y.gradients)[name](copy, j);
          CHECK(std::abs(total - std::as_const(x.gradients)[name](e, j)) < rounding * 100);
        }
    CHECK(test::same_bits(test::to_vector(x.gradients["router.query"]),
                          test::to_vector(std::as_const(y.gradients)["router.query"])));
  }
}

TEST_CASE("weights that do not belong to the separation are refused") {
  const auto source = make_shared({});
  const auto given = moue::convert::separate(source.topology());
  const auto old = source.initialize<double>(1);
  auto wrong = source.initialize<double>(1);
  CHECK_THROWS_AS(moue::convert::carry_copies(source, old, given, wrong), moue::error);
}
