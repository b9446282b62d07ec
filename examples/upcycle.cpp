// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A dense feed-forward block becomes a mixture of small experts with a shared one, and computes what it did.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <moue/convert.hpp>
#include <moue/moue.hpp>
#include <vector>

constexpr moue::index_t tokens = 32, width = 16;

template <class MixtureT>
std::vector<float> run(const MixtureT& model, const moue::parameters<float>& weights) {
  const moue::pass_options options{.tokens = tokens, .how = moue::mode::inference};
  moue::workspace scratch(model.template workspace_bytes<float>(options));
  auto pass = model.start(weights, options, scratch);
  std::vector<float> x(tokens * width);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i * i % 307));
  pass.begin(tokens);
  pass.forward(0, {x.data(), tokens, width}, {x.data(), tokens, width});
  return x;
}

int main() {
  // The dense block: one expert that every token takes with gate 1.
  const moue::mixture dense{moue::swiglu{.width = width, .hidden = 72}, moue::shared_pool{.depth = 1, .pool = 1},
                            moue::linear_router(1)};
  const auto block = dense.initialize<float>(3);

  // One shared expert takes 8 of the 72 hidden units. The other 64 are cut into 8 parts, and of those there are 4 copies:
  // 32 routed experts, of which a token takes 8.
  const moue::mixture model{moue::swiglu{.width = width, .hidden = 8},
                            moue::always_on{moue::shared_pool{.depth = 1, .pool = 32}, 1}, moue::linear_router(8)};
  auto weights = model.initialize<float>(4);
  const auto made = moue::convert::upcycle_layer(moue::convert::expert_ffn(block, 0), model.connections(), 0, weights);
  const auto rows = weights["layers.0.router.weight"];
  moue::convert::repeat_rows<float>(rows.row_block(0, made.copies), made.parts, rows);

  const auto expected = run(dense, block), got = run(model, weights);
  float worst = 0, largest = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    worst = std::max(worst, std::abs(got[i] - expected[i]));
    largest = std::max(largest, std::abs(expected[i]));
  }
  std::printf("%td copies of %td parts\n", made.copies, made.parts);
  std::printf("the same output to 5 digits: %s\n", worst < 1e-5f * largest ? "yes" : "no");
}
