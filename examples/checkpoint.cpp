// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Weights to a file and back, a broken load that changes nothing, and a checkpoint of several files.

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <moue/io.hpp>
#include <moue/moue.hpp>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace {

const moue::mixture model{moue::swiglu{.width = 16, .hidden = 32},
                          moue::staggered_rotation{.depth = 3, .pool = 6, .window = 4, .stride = 2},
                          moue::universal_router(2)};

void save_and_load(const std::filesystem::path& path) {
  const auto weights = model.initialize<float>(7);
  moue::io::save(path, weights, {{"step", "1000"}});

  auto loaded = model.initialize<float>(0);
  const moue::io::checkpoint checkpoint(path);
  moue::io::load(checkpoint, loaded);
  std::printf("step %s, %zu tensors\n", checkpoint.metadata().at("step").c_str(), checkpoint.names().size());
  std::printf("same: %s\n", loaded["experts.5.up"](31, 15) == weights["experts.5.up"](31, 15) ? "yes" : "no");
}

void look_inside(const std::filesystem::path& path) {
  const moue::io::checkpoint checkpoint(path);
  for (const auto& name : checkpoint.names()) {
    if (!name.starts_with("experts.5.")) continue;
    const auto& entry = checkpoint.entry(name);
    std::printf("%s %s %llu x %llu\n", name.c_str(), entry.type_name.c_str(),
                static_cast<unsigned long long>(entry.shape[0]), static_cast<unsigned long long>(entry.shape[1]));
  }
  std::vector<double> row(16);
  checkpoint.read<double>("experts.5.up", 2 * 16, row);  // the third row of [32, 16]
  const auto whole = checkpoint.read<moue::bf16>("experts.5.up");
  std::printf("third row begins with %.4f, as bf16 %.4f\n", row[0], static_cast<double>(float{whole[2 * 16]}));
}

void refuse_another_model(const std::filesystem::path& path) {
  const moue::mixture wider{moue::swiglu{.width = 16, .hidden = 48}, model.topology(), moue::universal_router(2)};
  auto weights = wider.initialize<float>(7);
  try {
    moue::io::load(moue::io::checkpoint(path), weights);
  } catch (const moue::error& refused) {
    const std::string text = refused.what();
    std::printf("refused: %s\n", text.substr(text.find("tensor '")).c_str());
  }
}

void write_several_files(const std::filesystem::path& folder) {
  using moue::io::dtype;
  moue::io::sharded_writer writer(folder, {{"a", dtype::f32, {1000, 4}}, {"b", dtype::f32, {1000, 4}}}, 20'000);
  std::vector<float> row(4);
  for (const auto* name : {"a", "b"})
    for (std::uint64_t i = 0; i < 1000; ++i) {
      row.assign(4, static_cast<float>(i));
      writer.write(name, i * 16, std::as_bytes(std::span(row)));
    }
  writer.commit();
  for (const auto& file : writer.files()) std::printf("%s\n", file.c_str());
  std::printf("b ends with %.0f\n", static_cast<double>(moue::io::checkpoint(folder).read<float>("b").back()));
}

}  // namespace

int main() {
  const auto folder =
      std::filesystem::temp_directory_path() / ("moue_checkpoint_" + std::to_string(std::random_device{}()));
  std::filesystem::create_directory(folder);
  save_and_load(folder / "weights.safetensors");
  look_inside(folder / "weights.safetensors");
  refuse_another_model(folder / "weights.safetensors");
  write_several_files(folder);
  std::filesystem::remove_all(folder);
}
