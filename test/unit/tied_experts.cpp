// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// An expert that several layers share gets the sum of the gradients that private copies of it would get.

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "compositions.hpp"
#include "stack.hpp"

namespace {

constexpr moue::index_t layers = 3, pool = 10;  // a multiple of the number of kinds of every composition

/// Calls f(view in the shared model, view in the model of copies) for all that belongs together: a tensor of the shared
/// model, or each copy's tensor or row of keys.
void each_pair(const moue::parameter_layout& shared, const auto& f) {
  for (moue::index_t i = 0; i < shared.tensors(); ++i) {
    const auto& info = shared[i];
    const std::string& name = info.name;
    if (info.expert >= 0) {
      const std::string own = name.substr(name.rfind('.'));
      for (moue::index_t l = 0; l < layers; ++l)
        f(name, "experts." + std::to_string(l * pool + info.expert) + own, moue::index_t{0}, info.rows);
    } else if (name.ends_with("key")) {
      for (moue::index_t l = 0; l < layers; ++l) f(name, name, l * pool, pool);
    } else {
      f(name, name, moue::index_t{0}, info.rows);
    }
  }
}

template <class Backend>
void check(Backend backend) {
  for (const auto* name :
       {"linear_bias", "linear_trajectory", "keyed_trajectory", "query", "mixed_pool", "uneven_widths"}) {
    CAPTURE(name);
    test::recipe r;
    r.switch_weight = r.universal_weight = 0;  // sharing changes what the universal loss asks for
    r.ring = {.depth = layers, .pool = pool, .window = pool, .stride = 0, .local = 0};
    const auto shared = test::compose(name, r, backend);
    r.ring = {.depth = layers, .pool = 0, .window = 0, .stride = 0, .local = pool};
    const auto copies = test::compose(name, r, backend);

    const auto weights = test::random_weights(*shared, 8);
    moue::parameters<double> tied(copies->layout());
    each_pair(*shared->layout(),
              [&](const std::string& from, const std::string& to, moue::index_t row, moue::index_t rows) {
                const auto values = weights[from];
                const auto block = tied[to].row_block(row, rows);
                for (moue::index_t i = 0; i < rows && !values.empty(); ++i)
                  for (moue::index_t j = 0; j < values.cols; ++j) block(i, j) = values(i, j);
              });
    const auto input = test::random_input(*shared, 29, 9);
    const auto result = test::run_stack(*shared, weights, input);
    const auto apart = test::run_stack(*copies, tied, input);

    CHECK(test::same_bits(result.output, apart.output));  // experts are combined in the same order
    CHECK(test::same_bits(result.dx, apart.dx));
    moue::gradients<double> sum(shared->layout());
    each_pair(*shared->layout(),
              [&](const std::string& to, const std::string& from, moue::index_t row, moue::index_t rows) {
                const auto values = apart.gradients[from].row_block(row, rows);
                for (moue::index_t i = 0; i < rows && !values.empty(); ++i)
                  for (moue::index_t j = 0; j < values.cols; ++j) sum[to](i, j) += values(i, j);
              });
    CHECK(test::distance(result.gradients, sum) < 1e-13);  // one sum over 87 rows instead of three
    moue::index_t shared_by_several = 0;
    for (moue::index_t e = 0; e < pool; ++e) {
      moue::index_t users = 0;
      for (moue::index_t l = 0; l < layers; ++l) users += apart.gradients.touched(l * pool + e) ? 1 : 0;
      CHECK(result.gradients.touched(e) == (users > 0));
      shared_by_several += users > 1 ? 1 : 0;
    }
    CHECK(shared_by_several >=
          (std::string_view(name) == "mixed_pool" ? 3 : 5));  // of two kinds in five nobody has tensors
  }
}

}  // namespace

TEST_CASE("shared experts get the sum of their copies' gradients on the reference backend") {
  check(moue::reference{});
}

TEST_CASE("shared experts get the sum of their copies' gradients on the CPU backend") { check(moue::cpu{}); }
