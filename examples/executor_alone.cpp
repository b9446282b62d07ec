// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// The experts without a router: ids and gates come from the caller, as a ragged list.

#include <cmath>
#include <cstdio>
#include <moue/backend/cpu.hpp>
#include <moue/executor.hpp>
#include <moue/expert/gated_mlp.hpp>
#include <vector>

int main() {
  const moue::index_t tokens = 4, width = 6, experts = 3;
  const moue::executor run{moue::swiglu{.width = width, .hidden = 8}, experts, moue::cpu{}};
  moue::parameters<float> weights(run.layout());
  moue::initialize(weights, 3);
  moue::gradients<float> gradients(run.layout());

  // Token 0 goes to experts 2 and 0, token 1 nowhere, token 2 to expert 0, token 3 to experts 0 and 2.
  const std::vector<moue::index_t> offsets{0, 2, 2, 4, 6};
  const std::vector<std::int32_t> ids{2, 0, 0, -1, 0, 2};
  const std::vector<float> gates{0.7f, 0.3f, 1.0f, 0.0f, 0.5f, 0.5f};
  const moue::routing<float> given{{offsets.data(), tokens + 1}, {ids.data(), 6}, {gates.data(), 6}};

  moue::workspace block(run.workspace_bytes<float>(tokens, given.entries()));
  auto memory = run.carve<float>(block, tokens, given.entries());

  std::vector<float> x(tokens * width), y(x.size()), dx(x.size()), dgates(6);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::cos(static_cast<float>(i));
  const moue::matrix_view<const float> in{x.data(), tokens, width};
  const moue::matrix_view<float> out{y.data(), tokens, width};
  run.forward(given, weights, in, out, memory);
  // The output serves as its own gradient: that of |y|² / 2.
  run.backward(given, weights, in, out, moue::matrix_view<float>{dx.data(), tokens, width},
               moue::vector_view<float>{dgates.data(), 6}, gradients, memory);

  bool silent = true;
  for (const float v : out.row(1)) silent = silent && v == 0;
  std::printf("a token without assignments gets zeros: %s\n", silent ? "yes" : "no");
  std::printf("an empty entry has no gate gradient: %s\n", dgates[3] == 0 ? "yes" : "no");
  for (moue::index_t e = 0; e < experts; ++e)
    std::printf("expert %td: %td rows, %s\n", e, memory.record.plan.expert_rows(e),
                gradients.touched(e) ? "touched" : "untouched");
}
