// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Synthetic checkpoints in every layout: each number lands at its canonical place, bit for bit, and goes back.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "layout_files.hpp"
#include "moue/io/layouts/moe_checkpoint.hpp"
#include "moue/io/layouts/moe_writer.hpp"

namespace {

using moue::index_t;
using namespace test;
namespace io = moue::io;
using io::moe_part;

struct sample {
  std::string family, layout;
  std::function<raw_tensors(const layout_sizes&)> make;
};

std::vector<sample> samples() {
  const auto named = [](const char* style, const char* router) {
    return [=](const layout_sizes& s) { return make_layout(style, s, router); };
  };
  const auto qwen2 = [](const char* style) {
    return [=](const layout_sizes& s) {
      auto all = make_layout(style, s);
      add_shared(all, s, "mlp.shared_expert.");
      add_plain(all, s, "mlp.shared_expert_gate.weight", moe_part::shared_self_gate, {1, s.width});
      return all;
    };
  };
  const auto deepseek = [](const char* style, bool biased) {
    return [=](const layout_sizes& s) {
      auto all = make_layout(style, s);
      add_shared(all, s, "mlp.shared_experts.");
      if (biased) add_plain(all, s, "mlp.gate.e_score_correction_bias", moe_part::selection_bias, {s.experts});
      return all;
    };
  };
  const auto granite_shared = [](const layout_sizes& s) {
    auto all = make_layout("granite", s, "block_sparse_moe.router.layer.weight");
    for (std::size_t layer = 0; layer < s.model_layers.size(); ++layer) {
      const std::string stem = "model.layers." + std::to_string(s.model_layers[layer]) + ".shared_mlp.";
      const auto l = static_cast<index_t>(layer);
      put(all, stem + "input_linear.weight", {2 * s.shared_hidden, s.width}, [&](const position& at) {
        return at[0] < s.shared_hidden ? s.value(moe_part::shared_gate, l, 0, at[0], at[1])
                                       : s.value(moe_part::shared_up, l, 0, at[0] - s.shared_hidden, at[1]);
      });
      put(all, stem + "output_linear.weight", {s.width, s.shared_hidden},
          [&](const position& at) { return s.value(moe_part::shared_down, l, 0, at[0], at[1]); });
    }
    return all;
  };
  return {{"mixtral", "w1 w3 w2", named("mixtral", "block_sparse_moe.gate.weight")},
          {"mixtral", "fused", named("fused", "mlp.gate.weight")},
          {"phimoe", "w1 w3 w2", named("mixtral", "block_sparse_moe.gate.weight")},
          {"phimoe", "fused", named("fused", "mlp.router.weight")},
          {"olmoe", "per expert", named("per expert", "mlp.gate.weight")},
          {"olmoe", "fused", named("fused", "mlp.gate.weight")},
          {"qwen2_moe", "per expert", qwen2("per expert")},
          {"qwen2_moe", "fused", qwen2("fused")},
          {"qwen3_moe", "per expert", named("per expert", "mlp.gate.weight")},
          {"qwen3_moe", "fused", named("fused", "mlp.gate.weight")},
          {"deepseek_v2", "per expert", deepseek("per expert", false)},
          {"deepseek_v2", "fused", deepseek("fused", false)},
          {"deepseek_v3", "per expert", deepseek("per expert", true)},
          {"deepseek_v3", "fused", deepseek("fused", true)},
          {"granitemoe", "granite", named("granite", "block_sparse_moe.router.layer.weight")},
          {"granitemoeshared", "granite", granite_shared},
          {"gpt_oss", "transposed", named("gpt_oss", "mlp.router.weight")}};
}

/// Every part of every layer and expert is what `sizes` says.
void check_values(const io::moe_checkpoint& source, const layout_sizes& sizes) {
  const auto& d = source.description();
  REQUIRE(d.layers() == static_cast<index_t>(sizes.model_layers.size()));
  for (index_t layer = 0; layer < d.layers(); ++layer)
    for (const auto part : io::moe_parts)
      for (index_t e = 0; d.has(part) && e < (d.per_expert(part) ? d.experts : 1); ++e) {
        CAPTURE(static_cast<int>(part));
        const auto shape = d.shape(part);
        const auto values = source.read<float>(layer, part, e);
        REQUIRE(static_cast<index_t>(values.size()) == shape.rows * shape.cols);
        index_t wrong = 0;
        for (index_t r = 0; r < shape.rows; ++r)
          for (index_t c = 0; c < shape.cols; ++c)
            wrong += values[static_cast<std::size_t>(r * shape.cols + c)] != sizes.value(part, layer, e, r, c);
        CHECK(wrong == 0);
      }
}

void copy_layers(const io::moe_checkpoint& source, io::moe_writer& target) {
  const auto& d = source.description();
  for (index_t layer = 0; layer < d.layers(); ++layer)
    for (const auto part : io::moe_parts)
      for (index_t e = 0; d.has(part) && e < (d.per_expert(part) ? d.experts : 1); ++e) {
        const auto values = source.read<float>(layer, part, e);
        target.write(layer, part, e, std::span<const float>(values));
      }
}

TEST_CASE("every layout yields the same canonical numbers and takes them back") {
  // Square experts too: there a transposition keeps the shape.
  for (const layout_sizes& sizes : {layout_sizes{6, 5}, layout_sizes{4, 4, 4}})
    for (const auto& sample : samples()) {
      CAPTURE(sample.family);
      CAPTURE(sample.layout);
      const scratch_folder folder;
      const auto stored = sample.make(sizes);
      save(folder.path() / "a", stored, {{"model_type", sample.family}});
      const io::moe_checkpoint source{io::checkpoint(folder.path() / "a")};
      const auto& d = source.description();
      CHECK(d.family.name == sample.family);
      CHECK(d.layout.name == sample.layout);
      CHECK(d.prefix == "model.");
      CHECK((d.experts == sizes.experts && d.width == sizes.width && d.hidden == sizes.hidden));
      CHECK(d.shared_hidden == (d.has(moe_part::shared_down) ? sizes.shared_hidden : 0));
      CHECK(d.missing == "num_experts_per_tok");
      check_values(source, sizes);

      io::moe_writer target(folder.path() / "b.safetensors", d, io::dtype::f32);
      copy_layers(source, target);
      target.commit();
      const io::checkpoint written(folder.path() / "b.safetensors");
      CHECK(written.names().size() == stored.size());
      for (const auto& entry : stored) {
        const auto& name = entry.first;
        const auto& tensor = entry.second;
        CAPTURE(name);
        REQUIRE(written.contains(name));
        CHECK(std::vector<index_t>(written.entry(name).shape.begin(), written.entry(name).shape.end()) == tensor.shape);
        const auto bytes = written.bytes(name);
        CHECK(std::vector<std::byte>(bytes.begin(), bytes.end()) == tensor.bytes);
      }
    }
}

TEST_CASE("what transformers wrote is written back to the byte") {
  for (const std::string name :
       {"glm4_moe", "kimi_k25", "qwen3_5_moe", "qwen3_vl_moe", "minimax_m2", "kimi_linear", "lfm2_moe", "jamba",
        "hunyuan_v1_moe", "afmoe", "hy_v3", "ernie4_5_moe", "longcat_flash", "nemotron_h", "nemotron_h_latent",
        "mistral4", "llama4", "dbrx", "deepseek_v4"}) {
    CAPTURE(name);
    const io::moe_checkpoint source{io::checkpoint(std::string(MOUE_TEST_DATA) + "/parity/" + name)};
    const scratch_folder folder;
    io::moe_writer target(folder.path() / "b.safetensors", source.description(), io::dtype::f32);
    copy_layers(source, target);
    target.commit();
    const io::checkpoint written(folder.path() / "b.safetensors");
    for (const auto& tensor : written.names()) {
      CAPTURE(tensor);
      const auto old = source.files().bytes(tensor), fresh = written.bytes(tensor);
      CHECK(source.files().entry(tensor).shape == written.entry(tensor).shape);
      CHECK(std::equal(old.begin(), old.end(), fresh.begin(), fresh.end()));
    }
  }
}

TEST_CASE("a family's layouts can be exchanged") {
  const layout_sizes sizes{6, 5};
  const scratch_folder folder;
  save(folder.path() / "a", make_layout("mixtral", sizes, "block_sparse_moe.gate.weight"), {{"model_type", "mixtral"}});
  const io::moe_checkpoint source{io::checkpoint(folder.path() / "a")};
  auto fused = source.description();
  fused.layout = fused.family.layouts[1];
  std::filesystem::create_directories(folder.path() / "b");
  io::moe_writer target(folder.path() / "b/model.safetensors", fused, io::dtype::f32);
  copy_layers(source, target);
  target.commit();
  const io::moe_checkpoint again{io::checkpoint(folder.path() / "b"), {.family = "mixtral", .config = {}}};
  CHECK(again.description().layout.name == "fused");
  check_values(again, sizes);
}

TEST_CASE("numbers are rounded to the stored type, and refused where it is too narrow") {
  const layout_sizes sizes{4, 3};
  const scratch_folder folder;
  save(folder.path() / "a", make_layout("gpt_oss", sizes, "mlp.router.weight"), {{"model_type", "gpt_oss"}});
  const io::moe_checkpoint source{io::checkpoint(folder.path() / "a")};
  std::filesystem::create_directories(folder.path() / "b");
  io::moe_writer target(folder.path() / "b/model.safetensors", source.description(), io::dtype::bf16);
  copy_layers(source, target);
  target.commit();
  const io::moe_checkpoint again{io::checkpoint(folder.path() / "b")};
  const auto want = source.read<float>(1, moe_part::down, 2), got = again.read<float>(1, moe_part::down, 2);
  for (std::size_t i = 0; i < want.size(); ++i) CHECK(got[i] == float(moue::bf16(want[i])));

  io::moe_writer narrow(folder.path() / "c.safetensors", source.description(), io::dtype::f16);
  const std::vector<float> large(12, 1e6f);
  CHECK_THROWS_WITH_AS(narrow.write(0, moe_part::up, 1, std::span<const float>(large)),
                       doctest::Contains("'model.layers.0.mlp.experts.gate_up_proj' is not finite as F16"),
                       moue::error);
  const std::vector<float> one(12, 1.0f);
  narrow.write(0, moe_part::up, 1, std::span<const float>(one));
  CHECK_THROWS_WITH_AS(narrow.commit(), doctest::Contains("only one of two paired matrices came"), moue::error);
  CHECK_THROWS_AS(narrow.write(0, moe_part::down_bias, 1, std::span<const float>(one)), moue::error);
  CHECK_FALSE(std::filesystem::exists(folder.path() / "c.safetensors"));
  CHECK_THROWS_WITH_AS(io::moe_writer(folder.path() / "d.safetensors", source.description(), io::dtype::u8),
                       doctest::Contains("cannot be stored as U8"), moue::error);
}

TEST_CASE("numbers that are not finite are refused with the tensor's name") {
  const layout_sizes sizes{4, 3};
  const scratch_folder folder;
  auto all = make_layout("fused", sizes);
  const float broken = std::nanf("");
  const std::string name = "model.layers.1.mlp.experts.down_proj";
  std::memcpy(all.at(name).bytes.data() + 4 * (1 * 12 + 5), &broken, 4);
  save(folder.path(), all, {{"model_type", "qwen3_moe"}});
  const io::moe_checkpoint source{io::checkpoint(folder.path())};
  CHECK_NOTHROW(source.read<float>(1, moe_part::down, 0));
  CHECK_THROWS_WITH_AS(
      source.read<float>(1, moe_part::down, 1),
      doctest::Contains("'model.layers.1.mlp.experts.down_proj' holds a number that is not finite, of expert 1"),
      moue::error);
}

}  // namespace
