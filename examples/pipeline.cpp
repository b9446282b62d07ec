// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// The depth in pieces, with the bits of the whole: two stages of a pipeline, and blocks that are run again on the way
// back instead of saving their activations.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <moue/moue.hpp>
#include <vector>

namespace {

constexpr moue::index_t tokens = 48, width = 16, depth = 8;

const moue::mixture model{moue::swiglu{.width = width, .hidden = 24},
                          moue::staggered_rotation{.depth = depth, .pool = 8, .window = 4, .stride = 1},
                          moue::universal_router(2, {.rank = 4}), moue::universal_balance{.weight = 0.01},
                          moue::cpu{1}};

struct batch {
  std::vector<float> data;  // [tokens, width] x, then y, then dy = y, then dx: every call works in place
  std::vector<float> y = {};
  moue::gradients<float> gradients{model.layout()};
  float balance = 0;
  std::size_t bytes = 0;  // of workspace, and of what else is saved for backward

  moue::matrix_view<float> view() { return {data.data(), tokens, width}; }
};

void copy(moue::matrix_view<const float> from, moue::matrix_view<float> to) {
  std::copy_n(from.data, to.rows * to.cols, to.data);
}

void whole(const moue::parameters<float>& weights, batch& it) {
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(it.bytes = model.workspace_bytes<float>(options));
  auto pass = model.start(weights, options, scratch);
  pass.begin(tokens);
  for (moue::index_t layer = 0; layer < depth; ++layer) pass.forward(layer, it.view(), it.view());
  it.y = it.data;
  it.balance = pass.balance();
  pass.arm();
  for (moue::index_t layer = depth; layer-- > 0;) pass.backward(layer, it.view(), it.view(), it.gradients);
}

/// What is copied or added up here is sent from device to device in a pipeline.
void two_stages(const moue::parameters<float>& weights, batch& it) {
  const moue::index_t cut = 3;
  const moue::pass_options first{.tokens = tokens, .count = cut}, second{.tokens = tokens, .first = cut};
  moue::workspace first_scratch(model.workspace_bytes<float>(first)),
      second_scratch(model.workspace_bytes<float>(second));
  auto front = model.start(weights, first, first_scratch);
  auto back = model.start(weights, second, second_scratch);

  front.begin(tokens);
  for (moue::index_t layer = 0; layer < cut; ++layer) front.forward(layer, it.view(), it.view());
  back.begin(tokens);
  copy(front.state_out(), back.state_in());
  for (moue::index_t layer = cut; layer < depth; ++layer) back.forward(layer, it.view(), it.view());
  it.y = it.data;

  const auto counts = front.counts() + back.counts();
  it.balance = front.balance(counts);
  front.arm(1, counts);
  back.arm(1, counts);
  for (moue::index_t layer = depth; layer-- > cut;) back.backward(layer, it.view(), it.view(), it.gradients);
  copy(back.dstate_in(), front.dstate_out());
  for (moue::index_t layer = cut; layer-- > 0;) front.backward(layer, it.view(), it.view(), it.gradients);
}

/// Activation checkpointing: of every block its input and depth state are saved, and no more.
void checkpointed(const moue::parameters<float>& weights, batch& it) {
  const moue::index_t block = 2;
  const auto of_block = [](moue::index_t first, moue::mode how) {
    return moue::pass_options{.tokens = tokens, .how = how, .first = first, .count = block};
  };
  for (moue::index_t first = 0; first < depth; first += block)
    it.bytes = std::max({it.bytes, model.workspace_bytes<float>(of_block(first, moue::mode::inference)),
                         model.workspace_bytes<float>(of_block(first, moue::mode::training))});
  moue::workspace scratch(it.bytes);

  moue::routing_counts<float> counts;
  std::vector<std::vector<float>> inputs, states;
  std::vector<float> state(tokens * model.state_width());  // zeros before the first layer
  const moue::matrix_view<float> handed{state.data(), tokens, model.state_width()};
  for (moue::index_t first = 0; first < depth; first += block) {
    inputs.push_back(it.data);
    states.push_back(state);
    it.bytes += (it.data.size() + state.size()) * sizeof(float);
    auto pass = model.start(weights, of_block(first, moue::mode::inference), scratch);
    pass.begin(tokens);
    copy(handed, pass.state_in());
    for (moue::index_t layer = first; layer < first + block; ++layer) pass.forward(layer, it.view(), it.view());
    copy(pass.state_out(), handed);
    counts += pass.counts();
  }
  it.y = it.data;

  std::fill(state.begin(), state.end(), 0.0f);  // from here on gradients, of which the last state has none
  for (moue::index_t first = depth; (first -= block) >= 0;) {
    const auto place = static_cast<std::size_t>(first / block);
    const moue::matrix_view<float> x{inputs[place].data(), tokens, width};
    auto pass = model.start(weights, of_block(first, moue::mode::training), scratch);
    pass.begin(tokens, {}, {.counts = false});
    copy({states[place].data(), tokens, handed.cols}, pass.state_in());
    for (moue::index_t layer = first; layer < first + block; ++layer) pass.forward(layer, x, x);
    it.balance = pass.balance(counts);
    pass.arm(1, counts);
    copy(handed, pass.dstate_out());
    for (moue::index_t layer = first + block; layer-- > first;)
      pass.backward(layer, it.view(), it.view(), it.gradients);
    copy(pass.dstate_in(), handed);
  }
}

const char* same_bits(const void* a, const void* b, std::size_t bytes) {
  return std::memcmp(a, b, bytes) == 0 ? "same bits" : "differ";
}

void compare(const char* name, const batch& it, const batch& to) {
  std::printf("%s: outputs %s", name, same_bits(it.y.data(), to.y.data(), it.y.size() * sizeof(float)));
  std::printf(", input gradients %s", same_bits(it.data.data(), to.data.data(), it.data.size() * sizeof(float)));
  moue::index_t same = 0;
  const auto& layout = *model.layout();
  for (moue::index_t i = 0; i < layout.tensors(); ++i)
    same += it.gradients.live(i) == to.gradients.live(i) &&
            (!it.gradients.live(i) || std::memcmp(it.gradients[i].data, to.gradients[i].data,
                                                  static_cast<std::size_t>(layout[i].size()) * sizeof(float)) == 0);
  std::printf(", gradients same bits in %td of %td tensors", same, layout.tensors());
  std::printf(", balance %s\n", same_bits(&it.balance, &to.balance, sizeof(float)));
}

}  // namespace

int main() {
  auto weights = model.initialize<float>(7);
  for (moue::index_t i = 0; i < weights.layout().tensors();
       ++i)  // fresh maps are zero and leave the state without a say
    if (weights.layout()[i].name.ends_with("trajectory_map"))
      for (moue::index_t j = 0; j < weights.layout()[i].size(); ++j)
        weights[i].data[j] = std::cos(static_cast<float>(j));
  std::vector<float> x(tokens * width);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));

  batch one{x}, two{x}, blocks{x};
  whole(weights, one);
  two_stages(weights, two);
  checkpointed(weights, blocks);
  compare("two stages", two, one);
  compare("four blocks, run again", blocks, one);
  std::printf("the blocks take %s the memory\n",
              2 * blocks.bytes < one.bytes ? "less than half of" : "at least half of");
  std::fprintf(stderr, "%zu bytes, %zu in blocks\n", one.bytes, blocks.bytes);
}
