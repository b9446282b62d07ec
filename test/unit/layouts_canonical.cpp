// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Synthetic checkpoints in every layout: each number lands at its canonical place, bit for bit, and goes back.

#include <doctest/doctest.h>

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

using moue::index;
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
      const auto l = static_cast<index>(layer);
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
template <class T>
void check_values(const io::moe_checkpoint& source, const layout_sizes& sizes) {
  const auto& d = source.description();
  REQUIRE(d.layers() == static_cast<index>(sizes.model_layers.size()));
  for (index layer = 0; layer < d.layers(); ++layer)
    for (const auto part : io::moe_parts)
      for (index e = 0; d.has(part) && e < (d.per_expert(part) ? d.experts : 1); ++e) {
        CAPTURE(static_cast<int>(part));
        const auto shape = d.shape(part);
        const auto values = source.read<T>(layer, part, e);
        REQUIRE(static_cast<index>(values.size()) == shape.rows * shape.cols);
        index wrong = 0;
        for (index r = 0; r < shape.rows; ++r)
          for (index c = 0; c < shape.cols; ++c)
            wrong += values[static_cast<std::size_t>(r * shape.cols + c)] != T(sizes.value(part, layer, e, r, c));
        CHECK(wrong == 0);
      }
}

void copy_layers(const io::moe_checkpoint& source, io::moe_writer& target) {
  const auto& d = source.description();
  for (index layer = 0; layer < d.layers(); ++layer)
    for (const auto part : io::moe_parts)
      for (index e = 0; d.has(part) && e < (d.per_expert(part) ? d.experts : 1); ++e) {
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
      check_values<float>(source, sizes);
      check_values<double>(source, sizes);

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
        CHECK(std::vector<index>(written.entry(name).shape.begin(), written.entry(name).shape.end()) == tensor.shape);
        const auto bytes = written.bytes(name);
        CHECK(std::vector<std::byte>(bytes.begin(), bytes.end()) == tensor.bytes);
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
  check_values<float>(again, sizes);
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

TEST_CASE("block-scaled fp8 is decoded at every tile's border") {
  const layout_sizes sizes{5, 7, 7, 2, {0}};
  const scratch_folder folder;
  auto all = make_layout("per expert", sizes);
  add_shared(all, sizes, "mlp.shared_experts.");
  add_plain(all, sizes, "mlp.gate.e_score_correction_bias", moe_part::selection_bias, {2});
  const auto code = [](index r, index c) { return static_cast<std::uint8_t>((r * 37 + c * 11) % 127); };
  const auto scale = [](index i, index j) { return std::ldexp(1.0f, static_cast<int>(3 * i - 2 * j)); };
  const std::string stem = "model.layers.0.mlp.experts.1.";
  for (const std::string matrix : {"gate_proj", "down_proj"}) {
    const auto shape = all.at(stem + matrix + ".weight").shape;
    put<std::uint8_t>(all, stem + matrix + ".weight", io::dtype::f8_e4m3, shape,
                      [&](const position& at) { return code(at[0], at[1]); });
    put(all, stem + matrix + ".weight_scale_inv", {(shape[0] + 3) / 4, (shape[1] + 2) / 3},
        [&](const position& at) { return scale(at[0], at[1]); });
  }
  const nlohmann::json config{{"model_type", "deepseek_v3"}, {"quantization_config", {{"weight_block_size", {4, 3}}}}};
  save(folder.path(), all, config);
  const io::moe_checkpoint source{io::checkpoint(folder.path())};
  for (const auto part : {moe_part::gate, moe_part::down}) {
    const auto shape = source.description().shape(part);
    const auto values = source.read<float>(0, part, 1);
    for (index r = 0; r < shape.rows; ++r)
      for (index c = 0; c < shape.cols; ++c)
        CHECK(values[static_cast<std::size_t>(r * shape.cols + c)] ==
              io::value_of_e4m3(code(r, c)) * scale(r / 4, c / 3));
  }
  CHECK(source.read<float>(0, moe_part::up, 1)[0] == sizes.value(moe_part::up, 0, 1, 0, 0));

  all.erase(stem + "down_proj.weight_scale_inv");
  save(folder.path(), all, config);
  CHECK_THROWS_WITH_AS(io::moe_checkpoint{io::checkpoint(folder.path())},
                       doctest::Contains("is of type F8_E4M3 without scales called '"), moue::error);
}

TEST_CASE("fp8 tensors that hold all experts have tiles of each expert's own") {
  const layout_sizes sizes{5, 7, 0, 3, {0}};
  const scratch_folder folder;
  auto all = make_layout("fused", sizes);
  const std::string name = "model.layers.0.mlp.experts.gate_up_proj";
  const auto code = [](index e, index r, index c) {
    return static_cast<std::uint8_t>((e * 29 + r * 37 + c * 11) % 127);
  };
  const auto scale = [](index e, index i, index j) { return std::ldexp(1.0f, static_cast<int>(4 * e + i - 2 * j)); };
  put<std::uint8_t>(all, name, io::dtype::f8_e4m3, {3, 14, 5},
                    [&](const position& at) { return code(at[0], at[1], at[2]); });
  put(all, name + "_scale_inv", {3, 4, 2}, [&](const position& at) { return scale(at[0], at[1], at[2]); });
  save(folder.path(), all, {{"model_type", "mixtral"}, {"quantization_config", {{"weight_block_size", {4, 3}}}}});
  const io::moe_checkpoint source{io::checkpoint(folder.path())};
  for (index e = 0; e < 3; ++e) {
    const auto up = source.read<float>(0, moe_part::up, e);
    for (index r = 0; r < 7; ++r)
      for (index c = 0; c < 5; ++c)
        CHECK(up[static_cast<std::size_t>(r * 5 + c)] ==
              io::value_of_e4m3(code(e, 7 + r, c)) * scale(e, (7 + r) / 4, c / 3));
  }
}

TEST_CASE("MXFP4 is decoded, gate and up by turns") {
  const layout_sizes sizes{32, 64, 0, 2, {0}};
  const scratch_folder folder;
  auto all = make_layout("gpt_oss", sizes, "mlp.router.weight");
  // Canonical rows o of [out, in]: of the pair they are gate and up by turns.
  const auto code = [](index e, index o, index i) { return static_cast<std::uint8_t>((e * 5 + o * 7 + i * 3) % 16); };
  const auto power = [](index e, index o, index block) { return static_cast<int>((e + o + 2 * block) % 9) - 4; };
  const auto blocks = [&](const std::string& name, index out, index in) {
    put<std::uint8_t>(all, name + "_blocks", io::dtype::u8, {2, out, in / 32, 16}, [&](const position& at) {
      const index i = at[2] * 32 + at[3] * 2;
      return static_cast<std::uint8_t>(code(at[0], at[1], i) | code(at[0], at[1], i + 1) << 4);
    });
    put<std::uint8_t>(all, name + "_scales", io::dtype::u8, {2, out, in / 32},
                      [&](const position& at) { return static_cast<std::uint8_t>(127 + power(at[0], at[1], at[2])); });
    all.erase(name);
  };
  blocks("model.layers.0.mlp.experts.gate_up_proj", 128, 32);
  blocks("model.layers.0.mlp.experts.down_proj", 32, 64);
  save(folder.path(), all, {{"model_type", "gpt_oss"}});
  const io::moe_checkpoint source{io::checkpoint(folder.path())};
  const float table[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};
  for (const auto part : {moe_part::gate, moe_part::up, moe_part::down})
    for (index e = 0; e < 2; ++e) {
      const auto shape = source.description().shape(part);
      const auto values = source.read<moue::bf16>(0, part, e);
      index wrong = 0;
      for (index r = 0; r < shape.rows; ++r)
        for (index c = 0; c < shape.cols; ++c) {
          const index o = part == moe_part::down ? r : part == moe_part::gate ? 2 * r : 2 * r + 1;
          const float want = std::ldexp(table[code(e, o, c)], power(e, o, c / 32));
          wrong += float(values[static_cast<std::size_t>(r * shape.cols + c)]) != want;
        }
      CHECK(wrong == 0);
    }
  CHECK(source.read<float>(0, moe_part::up_bias, 1)[2] == sizes.value(moe_part::up_bias, 0, 1, 0, 2));
  CHECK_THROWS_WITH_AS(io::moe_writer(folder.path() / "b.safetensors", source.description(), io::dtype::f32),
                       doctest::Contains("layout 'mxfp4' has blocks of low precision"), moue::error);
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
