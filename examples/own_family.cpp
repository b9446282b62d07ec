// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// A family of checkpoints that the library does not know, as a row of data: read, run, and refused where config.json says
// something that the row does not understand.

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <moue/io.hpp>
#include <moue/io/layouts/mixture.hpp>
#include <moue/moue.hpp>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace {

namespace io = moue::io;

std::vector<io::moe_family> with_acme() {
  auto families = io::known_families();
  families.push_back(
      {.name = "acme_moe",
       .model_types = {"acme"},
       .layouts = {{.name = "published",
                    .router = "ffn.router.weight",
                    .experts = {.gate = "ffn.w_in", .up = "ffn.w_in", .down = "ffn.w_out", .pair = io::pairing::halves},
                    .word = "blocks."}},
       .keys = {.inside = {"ffn_config"}, .per_token = {"moe_top_k"}}});
  return families;
}

/// Three experts of width 4 and hidden size 2 in the second of two blocks; expert e's matrices are full of e + 1.
void write(const std::filesystem::path& folder, const std::string& ffn_config) {
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.json") << R"({"model_type": "acme", "ffn_config": )" << ffn_config << "}";
  io::safetensors_writer file(folder / "model.safetensors", {{"blocks.1.ffn.router.weight", io::dtype::f32, {3, 4}},
                                                             {"blocks.1.ffn.w_in", io::dtype::f32, {3, 4, 4}},
                                                             {"blocks.1.ffn.w_out", io::dtype::f32, {3, 4, 2}}});
  const auto put = [&](const char* name, std::size_t of_expert) {
    std::vector<float> numbers;
    for (const float number : {1.0f, 2.0f, 3.0f}) numbers.insert(numbers.end(), of_expert, number);
    file.write(name, 0, std::as_bytes(std::span(numbers)));
  };
  put("blocks.1.ffn.router.weight", 4);
  put("blocks.1.ffn.w_in", 16);
  put("blocks.1.ffn.w_out", 8);
  file.commit();
}

void run(const std::filesystem::path& folder) {
  const io::moe_checkpoint source{io::checkpoint(folder), {.family = {}, .config = {}, .families = with_acme()}};
  const auto& d = source.description();
  const auto model = io::mixture_of(d);
  moue::parameters<float> weights(model.layout());
  io::load(source, weights);

  const moue::pass_options options{.tokens = 1, .how = moue::mode::inference};
  moue::workspace scratch(model.workspace_bytes<float>(options));
  auto pass = model.start(weights, options, scratch);
  pass.begin(1);
  const std::vector<float> x(4, 0.5f);
  std::vector<float> y(4);
  pass.forward(0, {x.data(), 1, 4}, {y.data(), 1, 4});
  std::printf("%s, block %td: %td experts, %td a token, y = %.3f\n", d.family.name.c_str(), d.model_layers[0],
              d.experts, d.per_token, static_cast<double>(y[0]));
}

}  // namespace

int main() {
  const auto folder =
      std::filesystem::temp_directory_path() / ("moue_own_family_" + std::to_string(std::random_device{}()));
  write(folder / "plain", R"({"moe_top_k": 2})");
  run(folder / "plain");
  write(folder / "other", R"({"moe_top_k": 2, "moe_temperature": 0.5})");
  try {
    run(folder / "other");
  } catch (const moue::error& refused) {
    std::printf("%s\n", refused.what());
  }
  std::filesystem::remove_all(folder);
}
