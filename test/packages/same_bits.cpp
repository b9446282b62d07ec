// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// What is promised to the bit within one build, whatever its flags: a training pass on 1, 2 and 3 threads, with experts
// that are run again instead of saved, cut into two ranges of layers, put down and picked up, and the outputs of inference.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <memory>
#include <moue/expert/recomputed.hpp>
#include <moue/moue.hpp>
#include <optional>
#include <utility>
#include <vector>

namespace {

constexpr moue::index_t tokens = 601, width = 19;  // several blocks, none of them whole vectors

void append(std::vector<unsigned char>& bytes, moue::matrix_view<const float> values) {
  for (moue::index_t i = 0; i < values.rows; ++i)
    for (const float value : values.row(i)) {
      const auto number = std::bit_cast<std::array<unsigned char, sizeof(float)>>(value);
      bytes.insert(bytes.end(), number.begin(), number.end());
    }
}

auto mixture_of(const auto& expert, const moue::cpu& threads) {
  return moue::mixture{expert, moue::staggered_rotation{.depth = 3, .pool = 6, .window = 4, .stride = 2},
                       moue::universal_router(2), moue::universal_balance{.weight = 0.1}, threads};
}

/// None of them 0, as the weights of what reads the depth state begin.
auto weights_of(const auto& model) {
  auto weights = model.template initialize<float>(3);
  for (moue::index_t i = 0; i < model.layout()->tensors(); ++i)
    for (moue::index_t r = 0; r < weights[i].rows; ++r)
      for (moue::index_t c = 0; c < weights[i].cols; ++c)
        weights[i](r, c) += 0.2f * static_cast<float>(std::sin(static_cast<double>(1 + i + 3 * r + 7 * c)));
  return weights;
}

/// A batch, with the bytes of what passes make of it.
struct batch {
  std::vector<float> data = std::vector<float>(static_cast<std::size_t>(tokens * width));
  std::vector<unsigned char> bytes;

  batch() {
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<float>(std::sin(static_cast<double>(i)));
  }
  moue::matrix_view<float> rows() { return {data.data(), tokens, width}; }
  void keep() { append(bytes, rows()); }
  void keep(const moue::gradients<float>& gradients, moue::index_t tensors) {
    for (moue::index_t i = 0; i < tensors; ++i) append(bytes, gradients[i]);
  }
};

/// Bytes of the outputs, and after training of the input gradients and all gradients. With `put_down` the pass is put
/// down after every layer, and picked up in other memory.
std::vector<unsigned char> bits(const auto& expert, const moue::cpu& threads, moue::mode how, bool put_down = false) {
  const auto model = mixture_of(expert, threads);
  const auto weights = weights_of(model);
  moue::gradients<float> gradients(model.layout());
  const moue::pass_options options{.tokens = tokens, .how = how};
  const auto size = model.template workspace_bytes<float>(options);
  auto scratch = std::make_unique<moue::workspace>(size);
  std::optional pass(model.start(weights, options, *scratch));
  const auto move = [&] {
    if (!put_down) return;
    auto other = std::make_unique<moue::workspace>(size);
    std::copy(scratch->bytes().begin(), scratch->bytes().end(), other->bytes().begin());
    const auto position = pass->position();
    pass.reset();
    scratch = std::move(other);
    pass.emplace(model.resume(weights, options, *scratch, position));
  };
  batch one;
  pass->begin(tokens);
  for (moue::index_t layer = 0; layer < model.layers(); ++layer, move()) pass->forward(layer, one.rows(), one.rows());
  one.keep();
  if (how == moue::mode::inference) return one.bytes;
  pass->arm();
  for (moue::index_t layer = model.layers(); layer-- > 0; move())
    pass->backward(layer, one.rows(), one.rows(), gradients);
  one.keep();
  one.keep(gradients, model.layout()->tensors());
  return one.bytes;
}

void copy(moue::matrix_view<const float> from, moue::matrix_view<float> to) {
  for (moue::index_t i = 0; i < from.rows; ++i) std::copy(from.row(i).begin(), from.row(i).end(), to.row(i).begin());
}

/// The same of two passes, over the layers before `cut` and over the others.
std::vector<unsigned char> bits_of_ranges(const auto& expert, moue::index_t cut) {
  const auto model = mixture_of(expert, moue::cpu{1});
  const auto weights = weights_of(model);
  moue::gradients<float> gradients(model.layout());
  const moue::pass_options before{.tokens = tokens, .count = cut}, behind{.tokens = tokens, .first = cut};
  moue::workspace first(model.template workspace_bytes<float>(before));
  moue::workspace second(model.template workspace_bytes<float>(behind));
  auto front = model.start(weights, before, first), back = model.start(weights, behind, second);
  batch one;
  const auto x = one.rows();
  front.begin(tokens);
  for (moue::index_t layer = 0; layer < cut; ++layer) front.forward(layer, x, x);
  back.begin(tokens);
  copy(front.state_out(), back.state_in());
  for (moue::index_t layer = cut; layer < model.layers(); ++layer) back.forward(layer, x, x);
  one.keep();
  const auto counts = front.counts() + back.counts();
  front.arm(1, counts);
  back.arm(1, counts);
  for (moue::index_t layer = model.layers(); layer-- > cut;) back.backward(layer, x, x, gradients);
  copy(back.dstate_in(), front.dstate_out());
  for (moue::index_t layer = cut; layer-- > 0;) front.backward(layer, x, x, gradients);
  one.keep();
  one.keep(gradients, model.layout()->tensors());
  return one.bytes;
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
  const bool ranges = bits_of_ranges(expert, 1) == plain && bits_of_ranges(expert, 2) == plain;
  const bool put_down = bits(expert, moue::cpu{1}, moue::mode::training, true) == plain &&
                        bits(expert, moue::cpu{1}, moue::mode::inference, true) == inferred;
  std::printf("the same on threads: %d, run again: %d, in inference: %d, in two ranges: %d, put down: %d\n", threads,
              again, inference, ranges, put_down);
  return threads && again && inference && ranges && put_down ? 0 : 1;
}
