// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A training step put down half way: what the pass knows goes to a file, everything is destroyed, and another pass picks
// it up and finishes, with the bits of a step that was never interrupted.

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <moue/moue.hpp>
#include <random>
#include <string>
#include <vector>

namespace {

constexpr moue::index_t tokens = 20, width = 16, depth = 6, half = 3;
constexpr moue::pass_options options{.tokens = tokens};

const moue::mixture model{moue::swiglu{.width = width, .hidden = 24},
                          moue::staggered_rotation{.depth = depth, .pool = 8, .window = 4, .stride = 1},
                          moue::universal_router(2), moue::universal_balance{.weight = 0.01}, moue::cpu{1}};

struct step {
  std::vector<float> data;  // [tokens, width] x, then y, then dy = y, then dx
  moue::gradients<float> gradients{model.layout()};
  float balance = 0;

  moue::matrix_view<float> rows() { return {data.data(), tokens, width}; }
};

/// The second half, of a pass that may be the one that did the first or another.
void finish(auto& pass, step& it) {
  for (moue::index_t layer = half; layer < depth; ++layer) pass.forward(layer, it.rows(), it.rows());
  it.balance = pass.balance();
  pass.arm();
  for (moue::index_t layer = depth; layer-- > 0;) pass.backward(layer, it.rows(), it.rows(), it.gradients);
}

template <class T>
void put(std::ostream& out, const T* data, std::size_t count) {
  out.write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(count * sizeof(T)));
}
template <class T>
void get(std::istream& in, T* data, std::size_t count) {
  in.read(reinterpret_cast<char*>(data), static_cast<std::streamsize>(count * sizeof(T)));
}

/// Weights as after some training: the router reads the depth state, of which it would see nothing at first.
moue::parameters<float> trained() {
  auto weights = model.initialize<float>(7);
  for (moue::index_t i = 0; i < weights.layout().tensors(); ++i)
    if (weights.layout()[i].name.ends_with("trajectory_map"))
      for (moue::index_t j = 0; j < weights.layout()[i].size(); ++j)
        weights[i].data[j] = std::cos(static_cast<float>(j));
  return weights;
}

void half_a_step(const std::filesystem::path& path, const std::vector<float>& x) {
  const auto weights = trained();
  moue::workspace scratch(model.workspace_bytes<float>(options));
  auto pass = model.start(weights, options, scratch);
  step it{x};
  pass.begin(tokens);
  for (moue::index_t layer = 0; layer < half; ++layer) pass.forward(layer, it.rows(), it.rows());

  std::ofstream out(path, std::ios::binary);
  const auto position = pass.position().to_bytes();
  const std::size_t size = position.size();
  put(out, &size, 1);
  put(out, position.data(), size);
  put(out, scratch.bytes().data(), scratch.bytes().size());
  put(out, it.data.data(), it.data.size());  // the activations are the host's
}

void the_other_half(const std::filesystem::path& path, step& it) {
  const auto weights = trained();
  moue::workspace scratch(model.workspace_bytes<float>(options));
  std::ifstream in(path, std::ios::binary);
  std::size_t size = 0;
  get(in, &size, 1);
  std::vector<std::byte> bytes(size);
  get(in, bytes.data(), size);
  const auto position = moue::pass_position::from_bytes(bytes);
  get(in, scratch.bytes().data(), scratch.bytes().size());
  it.data.resize(tokens * width);
  get(in, it.data.data(), it.data.size());
  std::printf("picked up before layer %td, file read: %s\n", position.next, in ? "yes" : "no");

  auto pass = model.resume(weights, options, scratch, position);
  finish(pass, it);
}

bool same_bits(const float* a, const float* b, std::size_t count) {
  return std::memcmp(a, b, count * sizeof(float)) == 0;
}

}  // namespace

int main() {
  std::vector<float> x(tokens * width);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));

  step expected{x}, it{{}};
  {
    const auto weights = trained();
    moue::workspace scratch(model.workspace_bytes<float>(options));
    auto pass = model.start(weights, options, scratch);
    pass.begin(tokens);
    for (moue::index_t layer = 0; layer < half; ++layer) pass.forward(layer, expected.rows(), expected.rows());
    finish(pass, expected);
  }
  const auto path =
      std::filesystem::temp_directory_path() / ("moue_put_down_" + std::to_string(std::random_device{}()));
  half_a_step(path, x);
  the_other_half(path, it);
  std::filesystem::remove(path);

  bool same = true;
  const auto& layout = *model.layout();
  for (moue::index_t i = 0; i < layout.tensors(); ++i)
    if (expected.gradients.live(i))
      same = same && it.gradients.live(i) &&
             same_bits(it.gradients[i].data, expected.gradients[i].data, static_cast<std::size_t>(layout[i].size()));
  std::printf("input gradients: %s\n",
              same_bits(it.data.data(), expected.data.data(), x.size()) ? "same bits" : "differ");
  std::printf("gradients: %s\n", same ? "same bits" : "differ");
  std::printf("balancing loss: %s\n", same_bits(&it.balance, &expected.balance, 1) ? "same bits" : "differ");
}
