// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A training run that is saved half-way and goes on from the file: it ends with the bits of one that never stopped.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <moue/io.hpp>
#include <moue/moue.hpp>
#include <moue/train/adamw.hpp>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

using moue::index_t;
using storage = moue::bf16;  // so that the optimiser has master copies, which are saved as well

constexpr index_t width = 8, tokens = 64;

const moue::mixture model{moue::mlp<moue::silu>{.width = width, .hidden = 16},
                          moue::staggered_rotation{.depth = 3, .pool = 6, .window = 4, .stride = 2},
                          moue::universal_router(2, {.rank = 4}), moue::universal_balance{.weight = 0.01}};

/// All that a run has to remember. Gradients, passes and workspaces hold nothing from step to step.
struct run {
  moue::parameters<storage> weights = model.initialize<storage>(11);
  moue::adamw<storage> optimiser{weights};
  std::int64_t step = 0;

  void train(std::int64_t last);
};

void run::train(std::int64_t last) {
  moue::gradients<float> gradients(model.layout());
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.workspace_bytes<storage>(options));
  auto pass = model.start(weights, options, scratch);
  for (; step < last; ++step) {
    std::vector<storage> x(tokens * width), dx(tokens * width);
    for (std::size_t i = 0; i < x.size(); ++i)  // the data of a step follow from its number
      x[i] = std::sin(static_cast<float>((i + static_cast<std::size_t>(step)) * i % 211));
    const moue::matrix_view<storage> rows{x.data(), tokens, width}, drows{dx.data(), tokens, width};
    const auto target = x;
    pass.begin(tokens);
    for (index_t layer = 0; layer < model.layers(); ++layer) pass.forward(layer, rows, rows);
    pass.arm();
    for (std::size_t i = 0; i < x.size(); ++i) dx[i] = 2 * (float{x[i]} - float{target[i]}) / float{tokens * width};
    for (index_t layer = model.layers(); layer-- > 0;) pass.backward(layer, drows, drows, gradients);
    optimiser.step(weights, gradients, 0.01);
    gradients.reset();
  }
}

/// Calls f(prefix, values) with everything of a run that is a set of tensors.
void each_set(run& r, const auto& f) {
  f("weights.", r.weights);
  r.optimiser.visit([&](std::string_view name, auto& values) { f("adamw." + std::string(name) + ".", values); });
}

/// All of it in one file, which replaces `path` at one instant.
void save(const std::filesystem::path& path, run& r) {
  const auto steps = r.optimiser.steps();
  std::vector<moue::io::tensor_spec> specs{{"adamw.steps", moue::io::dtype::i64, {steps.size()}}};
  each_set(r, [&]<class S>(const std::string& prefix, const moue::parameters<S>& values) {
    for (const auto& info : values.layout())
      specs.push_back({prefix + info.name,
                       moue::io::dtype_of<S>(),
                       {static_cast<std::uint64_t>(info.rows), static_cast<std::uint64_t>(info.cols)}});
  });
  moue::io::safetensors_writer writer(path, specs, {{"step", std::to_string(r.step)}});
  writer.write("adamw.steps", 0, std::as_bytes(steps));
  each_set(r, [&]<class S>(const std::string& prefix, const moue::parameters<S>& values) {
    for (index_t i = 0; i < values.layout().tensors(); ++i) {
      const std::span all(values[i].data, static_cast<std::size_t>(values.layout()[i].size()));
      writer.write(prefix + values.layout()[i].name, 0, std::as_bytes(all));
    }
  });
  writer.commit();
}

void load(const std::filesystem::path& path, run& r) {
  const moue::io::checkpoint file(path);
  each_set(r, [&](const std::string& prefix, auto& values) { moue::io::load(file, values, prefix); });
  const auto bytes = file.bytes("adamw.steps");
  std::memcpy(r.optimiser.steps().data(), bytes.data(), bytes.size());
  r.step = std::stoll(file.metadata().at("step"));
}

bool same(run& a, run& b) {
  bool equal = a.step == b.step && std::ranges::equal(a.optimiser.steps(), b.optimiser.steps());
  const auto& layout = *model.layout();
  for (index_t i = 0; i < layout.tensors(); ++i) {
    const auto size = static_cast<std::size_t>(layout[i].size());
    equal = equal && std::memcmp(a.weights[i].data, b.weights[i].data, size * sizeof(storage)) == 0;
  }
  return equal;
}

}  // namespace

int main() {
  const auto path = std::filesystem::temp_directory_path() /
                    ("moue_resume_" + std::to_string(std::random_device{}()) + ".safetensors");
  run never_stopped;
  never_stopped.train(20);

  run first;
  first.train(10);
  save(path, first);

  run second;  // in another process, say
  load(path, second);
  std::printf("goes on after step %d\n", static_cast<int>(second.step));
  second.train(20);
  std::printf("the bits of a run that never stopped: %s\n", same(second, never_stopped) ? "yes" : "no");
  std::filesystem::remove(path);
}
