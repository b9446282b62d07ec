// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// One pool of several kinds: wide and narrow SwiGLU experts, one that copies its input and one that does nothing.

#include <cmath>
#include <cstdio>
#include <moue/analysis/load.hpp>
#include <moue/moue.hpp>
#include <vector>

int main() {
  const moue::index_t width = 8, tokens = 48;
  // Of every six experts, two are wide, two narrow, one copies, one gives zero.
  const auto kind_of = [](moue::index_t expert) -> moue::index_t {
    return expert % 6 < 4 ? expert % 2 : expert % 6 - 2;
  };
  const moue::expert_pool pool{kind_of, moue::swiglu{.width = width, .hidden = 32},
                               moue::swiglu{.width = width, .hidden = 8}, moue::copy_expert{.width = width},
                               moue::zero_expert{.width = width}};
  const moue::mixture model{pool, moue::staggered_rotation{.depth = 4, .pool = 12, .window = 8, .stride = 3},
                            moue::normalised_router(2), moue::universal_balance{}};
  const auto weights = model.initialize<float>(5);
  moue::gradients<float> gradients(model.layout());
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.workspace_bytes<float>(options));
  auto pass = model.start(weights, options, scratch);

  std::vector<float> data(tokens * width);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = std::sin(static_cast<float>(i * i % 97));
  const moue::matrix_view<float> x{data.data(), tokens, width};
  pass.begin(tokens);
  for (moue::index_t layer = 0; layer < model.layers(); ++layer) pass.forward(layer, x, x);
  pass.arm();
  for (moue::index_t layer = model.layers(); layer-- > 0;) pass.backward(layer, x, x, gradients);

  for (moue::index_t e = 0; e < 6; ++e) {
    moue::index_t elements = 0;
    for (const auto& tensor : *model.layout()) elements += tensor.expert == e ? tensor.size() : 0;
    std::printf("expert %td: %td parameters\n", e, elements);
  }
  const auto report = moue::summarise_load(pass.statistics());
  std::printf("experts that nobody chose: %zu\n", report.dead.size());
}
