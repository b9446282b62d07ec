// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// What public implementations make of tiny random checkpoints of their families, from file to gradient. The numbers
// come from test/parity/generate.py.

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "moue/backend/cpu.hpp"
#include "moue/io/layouts/mixture.hpp"
#include "moue/pass.hpp"

namespace {

using moue::index_t;
namespace io = moue::io;

const std::string parity_folder = std::string(MOUE_TEST_DATA) + "/parity/";

/// The larger of two; what is no number counts as the largest, and stays.
double larger(double a, double b) { return std::isnan(a) || a > b ? a : b; }

double largest(const std::vector<float>& values) {
  double most = 0;
  for (const float v : values) most = larger(most, std::abs(double(v)));
  return most;
}

/// The largest difference.
double distance(const float* got, const std::vector<float>& want) {
  double most = 0;
  for (std::size_t i = 0; i < want.size(); ++i) most = larger(most, std::abs(double(got[i]) - double(want[i])));
  return most;
}

/// A difference as a share of the largest number; none at all is none of nothing, too.
double share(double difference, double most) { return difference == 0 ? 0 : difference / most; }

std::string last_name(std::string_view name) { return std::string(name.substr(name.rfind('.') + 1)); }

/// Both sides compute in single precision, in different orders of sums of some hundred terms: 1e-5 of the largest
/// number is about a hundred roundings. Gradients are sums over tokens of products of such sums.
constexpr double output_tolerance = 1e-5, gradient_tolerance = 1e-4;

/// The gradient that an answer is compared with, and how many of ours it takes: "layers.<l>.experts.<name>" is the sum of
/// those of the layer's experts.
struct summed {
  std::vector<float> values;
  index_t tensors = 1;
};
summed gradient_of(const moue::gradients<float>& gradients, const moue::parameter_layout& layout, index_t candidates,
                   const std::string& key) {
  const auto of_experts = key.find(".experts.");
  if (!key.starts_with("layers.") || of_experts == key.npos) {
    const auto one = gradients[key];
    return {{one.data, one.data + one.rows * one.cols}};
  }
  summed all{{}, 0};
  for (index_t i = 0; i < layout.tensors(); ++i) {
    const auto& info = layout[i];
    if (info.expert < 0 || info.expert / candidates != std::stoi(key.substr(7)) || info.size() == 0 ||
        !info.name.ends_with("." + last_name(key)))
      continue;
    const auto one = gradients[info.name];
    all.values.resize(static_cast<std::size_t>(info.size()));
    for (index_t j = 0; j < info.size(); ++j) all.values[static_cast<std::size_t>(j)] += one.data[j];
    ++all.tensors;
  }
  return all;
}

/// The largest differences, as shares of the largest number.
struct differences {
  double outputs = 0, gradients = 0;
};

differences compare(const io::public_mixture<>& model, const moue::parameters<float>& weights, index_t candidates,
                    const std::string& name, const io::checkpoint& expected) {
  differences found;
  CAPTURE(name);
  const auto answer = [&](index_t layer, const char* what) {
    return expected.read<float>("layers." + std::to_string(layer) + "." + what);
  };
  const index_t width = model.width();
  const index_t tokens = static_cast<index_t>(answer(0, "x").size()) / width;
  const moue::pass_options options{.tokens = tokens};
  moue::workspace scratch(model.workspace_bytes<float>(options));
  auto pass = model.start(weights, options, scratch);
  pass.begin(tokens);
  std::vector<float> out(static_cast<std::size_t>(tokens * width));
  for (index_t layer = 0; layer < model.layers(); ++layer) {
    CAPTURE(layer);
    const auto x = answer(layer, "x"), y = answer(layer, "y");
    pass.forward(layer, {x.data(), tokens, width}, {out.data(), tokens, width});
    CHECK(distance(out.data(), y) <= output_tolerance * largest(y));
    found.outputs = larger(found.outputs, share(distance(out.data(), y), largest(y)));
  }
  moue::gradients<float> gradients(model.layout());
  pass.arm();
  for (index_t layer = model.layers() - 1; layer >= 0; --layer) {
    CAPTURE(layer);
    const auto dy = answer(layer, "dy"), dx = answer(layer, "dx");
    pass.backward(layer, {dy.data(), tokens, width}, {out.data(), tokens, width}, gradients);
    CHECK(distance(out.data(), dx) <= gradient_tolerance * largest(dx));
    found.gradients = larger(found.gradients, share(distance(out.data(), dx), largest(dx)));
  }

  std::map<std::string, double> scale;  // of all tensors that play one role
  index_t compared = 0, trained = 0;
  for (const auto& key : expected.names())
    if (key.starts_with("grad."))
      scale[last_name(key)] = larger(scale[last_name(key)], largest(expected.read<float>(key)));
  for (const auto& key : expected.names())
    if (key.starts_with("grad.")) {
      CAPTURE(key);
      const auto want = expected.read<float>(key);
      const auto got = gradient_of(gradients, *model.layout(), candidates, key.substr(5));
      REQUIRE(got.values.size() == want.size());
      CHECK(distance(got.values.data(), want) <= gradient_tolerance * scale.at(last_name(key)));
      found.gradients = larger(found.gradients, share(distance(got.values.data(), want), scale.at(last_name(key))));
      compared += got.tensors;
    }
  for (const auto& info : *model.layout()) trained += info.trained && info.size() > 0 ? 1 : 0;
  if (name.find("fp8") == std::string::npos && name.find("mxfp4") == std::string::npos) CHECK(compared == trained);
  return found;
}

/// The case whose weights stand in another layout in what is called so.
std::string case_of(const std::string& name) {
  for (const std::string_view layout : {"_runtime", "_transposed", "_paired"})
    if (name.ends_with(layout)) return name.substr(0, name.size() - layout.size());
  return name;
}

differences reproduce(const std::string& name, const std::string& answers, const std::string& folder = parity_folder) {
  const std::string path = folder + name;
  const moue::io::moe_checkpoint source{moue::io::checkpoint(path)};
  const auto model = moue::io::mixture_of(source.description());
  moue::parameters<float> weights(model.layout());
  moue::io::load(source, weights);
  return compare(model, weights, source.description().candidates(), name,
                 io::checkpoint(folder + answers + "/expected.safetensors"));
}

/// The same weights in a GGUF file.
differences reproduce_gguf(const std::string& name, const std::string& file, const std::string& folder) {
  const io::moe_checkpoint source{io::gguf_file(file)};
  CHECK(source.description().family.name.starts_with("gguf/"));
  const auto model = io::mixture_of(source.description());
  moue::parameters<float> weights(model.layout());
  io::load(source, weights);
  return compare(model, weights, source.description().candidates(), name,
                 io::checkpoint(folder + name + "/expected.safetensors"));
}

TEST_CASE("what is no number is beyond every tolerance, wherever it stands") {
  const float none = std::numeric_limits<float>::quiet_NaN();
  for (std::size_t at = 0; at < 3; ++at) {
    std::vector<float> got{1, 2, 3};
    got[at] = none;
    CHECK(std::isnan(distance(got.data(), {1, 2, 4})));
    CHECK(std::isnan(largest(got)));
  }
  CHECK(share(0, 0) == 0);  // a role whose gradients are all zero
  CHECK(std::isinf(share(1, 0)));
  CHECK(std::isnan(share(none, 0)));
  CHECK(std::isnan(larger(none, 1)));
  CHECK(std::isnan(larger(1, none)));
}

TEST_CASE("published checkpoints give what their reference implementations make of them") {
  for (const char* name : {"mixtral", "olmoe", "qwen2_moe", "qwen3_moe", "deepseek_v2_lite", "deepseek_v2",
                           "deepseek_v3", "phimoe", "granitemoe", "granitemoeshared", "gpt_oss"})
    reproduce(name, name);
}

TEST_CASE("so do those of newer families") {
  for (const char* name : {"glm4_moe",    "kimi_k25",     "qwen3_5_moe",   "qwen3_vl_moe",   "minimax_m2",
                           "kimi_linear", "lfm2_moe",     "jamba",         "hunyuan_v1_moe", "afmoe",
                           "hy_v3",       "ernie4_5_moe", "longcat_flash", "nemotron_h",     "nemotron_h_latent",
                           "mistral4",    "gemma4",       "llama4",        "dbrx",           "deepseek_v4"})
    reproduce(name, name);
}

TEST_CASE("so do GGUF files of the same weights") {
  for (const std::string name : {"glm4_moe", "qwen3_5_moe", "qwen3_5_moe_paired", "ernie4_5_moe", "gpt_oss_mxfp4"})
    reproduce_gguf(case_of(name), std::string(MOUE_TEST_DATA) + "/gguf/" + name + ".gguf", parity_folder);
}

// What `test/run.sh --parity` has written with the transformers that is installed.
TEST_CASE("so do all of a folder that the environment names") {
  const char* given = std::getenv("MOUE_PARITY_FOLDER");
  if (given == nullptr) return;
  const std::string folder = std::string(given) + "/";
  int count = 0;
  const auto print = [&](const std::string& name, const differences& found) {
    std::printf("%-24s outputs %.1e, gradients %.1e\n", name.c_str(), found.outputs, found.gradients);
    ++count;
  };
  for (const auto& entry : std::filesystem::directory_iterator(given)) {
    const auto name = entry.path().filename().string();
    if (!entry.is_directory() || name == "gguf") continue;
    differences found;
    CHECK_NOTHROW(found = reproduce(name, case_of(name), folder));
    print(name, found);
  }
  if (std::filesystem::exists(folder + "gguf"))
    for (const auto& entry : std::filesystem::directory_iterator(folder + "gguf")) {
      differences found;
      CHECK_NOTHROW(found = reproduce_gguf(case_of(entry.path().stem().string()), entry.path().string(), folder));
      print(entry.path().filename().string(), found);
    }
  CHECK(count > 0);
  for (const auto& family : io::known_families())  // table.py looks whether each was compared or is said not to be
    for (const auto& type : family.model_types)
      if (!type.starts_with("gguf/")) std::printf("model_type %s\n", type.c_str());
}

TEST_CASE("low-precision checkpoints give what their decoded numbers give") {
  for (const char* name : {"deepseek_v3_fp8", "gpt_oss_mxfp4"}) reproduce(name, name);
}

TEST_CASE("checkpoints in the layout of modules in memory, or transposed, give the same") {
  for (const std::string name : {"mixtral_runtime", "qwen3_moe_runtime", "deepseek_v3_runtime", "phimoe_runtime",
                                 "granitemoeshared_runtime", "qwen3_vl_moe_transposed"})
    reproduce(name, case_of(name));
  CHECK(io::moe_checkpoint{io::checkpoint(parity_folder + "qwen3_vl_moe_transposed")}.description().layout.name ==
        "transposed");
}

}  // namespace
