// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "moue/analysis/trace.hpp"
#include "moue/analysis/usage.hpp"
#include "moue/backend/cpu.hpp"
#include "moue/moue.hpp"

// What routing did as values that outlive a pass.

namespace {

using moue::index_t;

constexpr index_t tokens = 7, width = 4, pool = 5;

/// A pass over two layers whose experts' outputs are shown.
struct traced {
  moue::mixture<moue::swiglu, moue::always_on<moue::shared_pool>, decltype(moue::linear_router(2)),
                moue::sum_of_losses<moue::switch_loss, moue::show_outputs>, moue::cpu>
      model{moue::swiglu{.width = width, .hidden = 3}, moue::always_on{moue::shared_pool{.depth = 2, .pool = pool}, 1},
            moue::linear_router(2), moue::sum_of_losses{moue::switch_loss{1}, moue::show_outputs{}}, moue::cpu{2}};
  moue::parameters<double> weights = model.initialize<double>(3);
  moue::pass_options options{.tokens = tokens};
  moue::workspace scratch{model.workspace_bytes<double>(options)};
  moue::pass<decltype(model), double> pass = model.start(weights, options, scratch);
  std::vector<std::uint8_t> valid{1, 1, 0, 1, 1, 1, 1};

  explicit traced(double phase) {
    std::vector<double> x(tokens * width);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(phase + static_cast<double>(i * i % 31));
    const moue::matrix_view<double> rows{x.data(), tokens, width};
    pass.begin(tokens, {.valid = {valid.data(), tokens}});
    for (index_t l = 0; l < 2; ++l) pass.forward(l, rows, rows);
  }
};

}  // namespace

TEST_CASE("a trace holds the assignments of batches one after another, and says them in JSON and CSV") {
  traced first(0), second(1);
  moue::routing_trace trace, other;
  for (index_t l = 0; l < 2; ++l) {
    trace.record(first.pass, l);
    other.record(second.pass, l);
  }
  const auto one = trace;
  trace += other;
  CHECK(trace.layers.size() == 2);
  CHECK(trace.layers[1].tokens() == 2 * tokens);
  const auto made = second.pass.assignments(1);
  for (index_t t = 0; t < tokens; ++t)
    for (index_t i = made.offsets[t], at = trace.layers[1].offsets[static_cast<std::size_t>(tokens + t)];
         i < made.offsets[t + 1]; ++i, ++at) {
      CHECK(trace.layers[1].experts[static_cast<std::size_t>(at)] == made.expert[i]);
      CHECK(trace.layers[1].gates[static_cast<std::size_t>(at)] == made.gate[i]);
    }
  auto twice = one;
  twice += twice;
  CHECK(twice.layers[0].tokens() == 2 * tokens);

  const auto json = nlohmann::json::parse(to_json(trace));
  for (std::size_t l = 0; l < 2; ++l) {
    CHECK(json["layers"][l]["offsets"].get<std::vector<index_t>>() == trace.layers[l].offsets);
    CHECK(json["layers"][l]["experts"].get<std::vector<std::int32_t>>() == trace.layers[l].experts);
    CHECK(json["layers"][l]["gates"].get<std::vector<double>>() == trace.layers[l].gates);
  }
  std::istringstream lines(to_csv(trace));
  std::string line;
  std::size_t count = 0;
  std::getline(lines, line);
  CHECK(line == "layer,token,expert,gate");
  while (std::getline(lines, line)) ++count;
  CHECK(count == trace.layers[0].experts.size() + trace.layers[1].experts.size());
  moue::routing_trace broken;
  broken.layers.push_back({{0, 1}, {2}, {std::nan("")}});
  CHECK(nlohmann::json::parse(to_json(broken))["layers"][0]["gates"][0].is_null());
  CHECK_THROWS_AS(broken.record(-1, made), moue::error);
}

TEST_CASE("usage counts tokens, gates, outputs and what ran together") {
  traced run(0);
  moue::expert_usage usage(2, run.model.experts()), from_trace(2, run.model.experts());
  moue::routing_trace trace;
  for (index_t l = 0; l < 2; ++l) {
    usage.add(run.pass, l);
    trace.record(run.pass, l);
  }
  from_trace.add(trace);
  CHECK(from_trace.load == usage.load);
  CHECK(from_trace.together == usage.together);
  CHECK(from_trace.gate_mass == usage.gate_mass);
  for (index_t l = 0; l < 2; ++l) {
    CHECK(usage.tokens[static_cast<std::size_t>(l)] == tokens - 1);
    const auto made = run.pass.assignments(l);
    for (index_t e = 0; e < usage.experts; ++e) {
      std::int64_t load = 0;
      double gates = 0, outputs = 0;
      for (index_t t = 0; t < tokens; ++t)
        for (index_t i = made.offsets[t]; i < made.offsets[t + 1]; ++i)
          if (made.expert[i] == e) {
            ++load;
            gates += made.gate[i];
            double square = 0;
            for (index_t row = 0; row < run.pass.plan(l).rows(); ++row)
              if (run.pass.plan(l).row_entry[row] == i)
                for (const double y : run.pass.outputs(l).row(row)) square += y * y;
            outputs += made.gate[i] * std::sqrt(square);
          }
      CHECK(usage.load[usage.at(l, e)] == load);
      CHECK(usage.gate_mass[usage.at(l, e)] == doctest::Approx(gates).epsilon(1e-14));
      CHECK(usage.output_mass[usage.at(l, e)] == doctest::Approx(outputs).epsilon(1e-13));
    }
  }
  for (index_t e = 0; e < usage.experts; ++e) {
    const auto at = [&](index_t a, index_t b) {
      return usage.together[static_cast<std::size_t>(a * usage.experts + b)];
    };
    CHECK(at(e, e) == usage.load[usage.at(0, e)] + usage.load[usage.at(1, e)]);
    for (index_t b = 0; b < usage.experts; ++b) CHECK(at(e, b) == at(b, e));
  }
  auto sum = usage;
  sum += usage;
  CHECK(sum.load[0] == 2 * usage.load[0]);
  CHECK((moue::expert_usage{} += usage) == usage);
  CHECK_THROWS_WITH_AS(sum += moue::expert_usage(1, 2), doctest::Contains("usage of 1 layers and 2 experts"),
                       moue::error);
  CHECK_THROWS_AS(moue::expert_usage(1, 2).add(trace), moue::error);
  const auto json = nlohmann::json::parse(to_json(usage));
  CHECK(json["load"].get<std::vector<std::int64_t>>() == usage.load);
  CHECK(json["output_mass"].get<std::vector<double>>() == usage.output_mass);
  CHECK(
      to_csv(usage).starts_with("layer,expert,load,gate_mass,output_mass\n0,0," + std::to_string(usage.load[0]) + ','));
}
