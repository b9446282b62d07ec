// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// What is promised to the bit within one build, whatever its flags: a training pass on 1, 2 and 3 threads, with experts
// that are run again instead of saved, and the outputs of inference.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <moue/expert/recomputed.hpp>
#include <moue/moue.hpp>
#include <vector>

namespace {

constexpr moue::index_t tokens = 601, width = 19;  // several blocks, none of them whole vectors

void append(std::vector<unsigned char>& bytes, moue::matrix_view<float> values) {
  for (moue::index_t i = 0; i < values.rows; ++i)
    for (const float value : values.row(i)) {
      const auto number = std::bit_cast<std::array<unsigned char, sizeof(float)>>(value);
      bytes.insert(bytes.end(), number.begin(), number.end());
    }
}

/// Bytes of the outputs, and after training of the input gradients and all gradients.
std::vector<unsigned char> bits(const auto& expert, const moue::cpu& threads, moue::mode how) {
  const moue::mixture model{expert, moue::staggered_rotation{.depth = 3, .pool = 6, .window = 4, .stride = 2},
                            moue::universal_router(2), moue::universal_balance{.weight = 0.1}, threads};
  const auto weights = model.template initialize<float>(3);
  moue::gradients<float> gradients(model.layout());
  const moue::pass_options options{.tokens = tokens, .how = how};
  moue::workspace scratch(model.template workspace_bytes<float>(options));
  auto pass = model.start(weights, options, scratch);
  std::vector<float> data(static_cast<std::size_t>(tokens * width));
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<float>(std::sin(static_cast<double>(i)));
  const moue::matrix_view<float> x{data.data(), tokens, width};
  std::vector<unsigned char> bytes;
  pass.begin(tokens);
  for (moue::index_t layer = 0; layer < model.layers(); ++layer) pass.forward(layer, x, x);
  append(bytes, x);
  if (how == moue::mode::inference) return bytes;
  pass.arm();
  for (moue::index_t layer = model.layers(); layer-- > 0;) pass.backward(layer, x, x, gradients);
  append(bytes, x);
  for (moue::index_t i = 0; i < model.layout()->tensors(); ++i) append(bytes, gradients[i]);
  return bytes;
}

}  // namespace

int main() {
  const moue::swiglu expert{.width = width, .hidden = 37};
  const auto plain = bits(expert, moue::cpu{1}, moue::mode::training);
  const auto inferred = bits(expert, moue::cpu{2}, moue::mode::inference);
  const bool threads = bits(expert, moue::cpu{2}, moue::mode::training) == plain &&
                       bits(expert, moue::cpu{3}, moue::mode::training) == plain;
  const bool again = bits(moue::recomputed{expert}, moue::cpu{1}, moue::mode::training) == plain;
  const bool inference = std::equal(inferred.begin(), inferred.end(), plain.begin());
  std::printf("the same on threads: %d, run again: %d, in inference: %d\n", threads, again, inference);
  return threads && again && inference ? 0 : 1;
}
