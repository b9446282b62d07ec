// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Checkpoints whose matrices stand in 8 or 4 bits with scales beside them, made number by number.

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
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

TEST_CASE("block-scaled fp8 is decoded at every tile's border") {
  const layout_sizes sizes{5, 7, 7, 2, {0}};
  const scratch_folder folder;
  auto all = make_layout("per expert", sizes);
  add_shared(all, sizes, "mlp.shared_experts.");
  add_plain(all, sizes, "mlp.gate.e_score_correction_bias", moe_part::selection_bias, {2});
  const auto code = [](index_t r, index_t c) { return static_cast<std::uint8_t>((r * 37 + c * 11) % 127); };
  const auto scale = [](index_t i, index_t j) { return std::ldexp(1.0f, static_cast<int>(3 * i - 2 * j)); };
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
    for (index_t r = 0; r < shape.rows; ++r)
      for (index_t c = 0; c < shape.cols; ++c)
        CHECK(values[static_cast<std::size_t>(r * shape.cols + c)] ==
              io::value_of_e4m3(code(r, c)) * scale(r / 4, c / 3));
  }
  CHECK(source.read<float>(0, moe_part::up, 1)[0] == sizes.value(moe_part::up, 0, 1, 0, 0));

  all.erase(stem + "down_proj.weight_scale_inv");
  save(folder.path(), all, config);
  CHECK_THROWS_WITH_AS(io::moe_checkpoint{io::checkpoint(folder.path())},
                       doctest::Contains("is of type F8_E4M3 without scales called '"), moue::error);
}

TEST_CASE("scales of fp8 that are bytes are powers of two") {
  const layout_sizes sizes{5, 7, 0, 2, {0}};
  const auto code = [](index_t r, index_t c) { return static_cast<std::uint8_t>((r * 37 + c * 11) % 127); };
  const auto power = [](index_t i, index_t j) { return static_cast<int>(3 * i - 2 * j); };
  const std::string name = "model.layers.0.mlp.experts.1.gate_proj.weight";
  const auto read_with = [&](io::dtype type, auto scale) {
    const scratch_folder folder;
    auto all = make_layout("per expert", sizes);
    const auto shape = all.at(name).shape;
    put<std::uint8_t>(all, name, io::dtype::f8_e4m3, shape, [&](const position& at) { return code(at[0], at[1]); });
    put<decltype(scale(0, 0))>(all, name + "_scale_inv", type, {(shape[0] + 3) / 4, (shape[1] + 2) / 3},
                               [&](const position& at) { return scale(at[0], at[1]); });
    save(folder.path(), all, {{"model_type", "qwen3_moe"}, {"quantization_config", {{"weight_block_size", {4, 3}}}}});
    return io::moe_checkpoint{io::checkpoint(folder.path())}.template read<float>(0, moe_part::gate, 1);
  };
  const auto byte = [&](index_t i, index_t j) { return static_cast<std::uint8_t>(127 + power(i, j)); };
  for (const auto type : {io::dtype::u8, io::dtype::f8_e8m0}) {
    const auto values = read_with(type, byte);
    for (index_t r = 0; r < 7; ++r)
      for (index_t c = 0; c < 5; ++c)
        CHECK(values[static_cast<std::size_t>(r * 5 + c)] ==
              std::ldexp(io::value_of_e4m3(code(r, c)), power(r / 4, c / 3)));
  }
  CHECK_THROWS_WITH_AS(read_with(io::dtype::u8, [](index_t, index_t) { return std::uint8_t{255}; }),
                       doctest::Contains("not finite"), moue::error);
  CHECK_THROWS_WITH_AS(read_with(io::dtype::i8, byte), doctest::Contains("_scale_inv' has type 'I8'"), moue::error);
  CHECK_THROWS_WITH_AS(read_with(io::dtype::i32, [](index_t, index_t) { return std::int32_t{1}; }),
                       doctest::Contains("_scale_inv' has type 'I32', in which 'fp8' has none such"), moue::error);
}

TEST_CASE("fp8 tensors that hold all experts have tiles of each expert's own") {
  const layout_sizes sizes{5, 7, 0, 3, {0}};
  const scratch_folder folder;
  auto all = make_layout("fused", sizes);
  const std::string name = "model.layers.0.mlp.experts.gate_up_proj";
  const auto code = [](index_t e, index_t r, index_t c) {
    return static_cast<std::uint8_t>((e * 29 + r * 37 + c * 11) % 127);
  };
  const auto scale = [](index_t e, index_t i, index_t j) {
    return std::ldexp(1.0f, static_cast<int>(4 * e + i - 2 * j));
  };
  put<std::uint8_t>(all, name, io::dtype::f8_e4m3, {3, 14, 5},
                    [&](const position& at) { return code(at[0], at[1], at[2]); });
  put(all, name + "_scale_inv", {3, 4, 2}, [&](const position& at) { return scale(at[0], at[1], at[2]); });
  save(folder.path(), all, {{"model_type", "mixtral"}, {"quantization_config", {{"weight_block_size", {4, 3}}}}});
  const io::moe_checkpoint source{io::checkpoint(folder.path())};
  for (index_t e = 0; e < 3; ++e) {
    const auto up = source.read<float>(0, moe_part::up, e);
    for (index_t r = 0; r < 7; ++r)
      for (index_t c = 0; c < 5; ++c)
        CHECK(up[static_cast<std::size_t>(r * 5 + c)] ==
              io::value_of_e4m3(code(e, 7 + r, c)) * scale(e, (7 + r) / 4, c / 3));
  }
}

TEST_CASE("codes of transposed experts are refused") {
  const layout_sizes sizes{6, 5, 0, 2, {0}};
  auto all = make_layout("gpt_oss", sizes, "mlp.router.weight");
  const std::string name = "model.layers.0.mlp.experts.gate_up_proj";
  put<std::uint8_t>(all, name, io::dtype::f8_e4m3, {2, 6, 10}, [](const position&) { return std::uint8_t{1}; });
  put(all, name + "_scale", {2, 1, 10}, [](const position&) { return 1.0f; });
  const scratch_folder folder;
  save(folder.path(), all, {{"model_type", "gpt_oss"}});
  CHECK_THROWS_WITH_AS(io::moe_checkpoint{io::checkpoint(folder.path())},
                       doctest::Contains("gate_up_proj' is in the scheme '8 bits of compressed-tensors', which is for "
                                         "matrices as they are"),
                       moue::error);
}

TEST_CASE("MXFP4 is decoded, gate and up by turns") {
  const layout_sizes sizes{32, 64, 0, 2, {0}};
  const scratch_folder folder;
  auto all = make_layout("gpt_oss", sizes, "mlp.router.weight");
  // Canonical rows o of [out, in]: of the pair they are gate and up by turns.
  const auto code = [](index_t e, index_t o, index_t i) {
    return static_cast<std::uint8_t>((e * 5 + o * 7 + i * 3) % 16);
  };
  const auto power = [](index_t e, index_t o, index_t block) { return static_cast<int>((e + o + 2 * block) % 9) - 4; };
  const auto blocks = [&](const std::string& name, index_t out, index_t in) {
    put<std::uint8_t>(all, name + "_blocks", io::dtype::u8, {2, out, in / 32, 16}, [&](const position& at) {
      const index_t i = at[2] * 32 + at[3] * 2;
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
    for (index_t e = 0; e < 2; ++e) {
      const auto shape = source.description().shape(part);
      const auto values = source.read<moue::bf16>(0, part, e);
      index_t wrong = 0;
      for (index_t r = 0; r < shape.rows; ++r)
        for (index_t c = 0; c < shape.cols; ++c) {
          const index_t o = part == moe_part::down ? r : part == moe_part::gate ? 2 * r : 2 * r + 1;
          const float want = std::ldexp(table[code(e, o, c)], power(e, o, c / 32));
          wrong += float(values[static_cast<std::size_t>(r * shape.cols + c)]) != want;
        }
      CHECK(wrong == 0);
    }
  CHECK(source.read<float>(0, moe_part::up_bias, 1)[2] == sizes.value(moe_part::up_bias, 0, 1, 0, 2));
  CHECK_THROWS_WITH_AS(io::moe_writer(folder.path() / "b.safetensors", source.description(), io::dtype::f32),
                       doctest::Contains("layout 'mxfp4' has blocks of low precision"), moue::error);
}

TEST_CASE("codes of DeepSeek-V4 are refused by name") {
  const auto zero = [](const position&) { return 0.0f; };
  raw_tensors plain;
  const std::string layer = "layers.0.ffn.";
  put(plain, layer + "gate.weight", {2, 64}, zero);
  put(plain, layer + "gate.bias", {2}, zero);
  for (const std::string expert : {"experts.0.", "experts.1.", "shared_experts."}) {
    put(plain, layer + expert + "w1.weight", {32, 64}, zero);
    put(plain, layer + expert + "w3.weight", {32, 64}, zero);
    put(plain, layer + expert + "w2.weight", {64, 32}, zero);
  }
  const auto open = [&](const raw_tensors& all) {
    const scratch_folder folder;
    save(folder.path(), all,
         {{"model_type", "deepseek_v4"}, {"num_experts_per_tok", 1}, {"routed_scaling_factor", 1.5}});
    return io::moe_checkpoint{io::checkpoint(folder.path())}.description().layout.name;
  };
  CHECK(open(plain) == "w1 w3 w2");
  // As published: pairs of 4 bits with a power of two for each 32 numbers; shared experts in tiles of 8 bits.
  auto coded = plain;
  const auto byte = [](const position&) { return std::uint8_t{0x22}; };
  put<std::uint8_t>(coded, layer + "experts.1.w1.weight", io::dtype::i8, {32, 32}, byte);
  put<std::uint8_t>(coded, layer + "experts.1.w1.scale", io::dtype::f8_e8m0, {32, 2}, byte);
  CHECK_THROWS_WITH_AS(open(coded), doctest::Contains("'ffn.experts.1.w1.scale' in layer 0 is no part of it"),
                       moue::error);
  coded.erase(layer + "experts.1.w1.scale");
  CHECK_THROWS_WITH_AS(
      open(coded), doctest::Contains("'layers.0.ffn.experts.1.w1.weight' is of type I8 without scales"), moue::error);
  coded = plain;
  put<std::uint8_t>(coded, layer + "shared_experts.w2.weight", io::dtype::f8_e4m3, {64, 32}, byte);
  put<std::uint8_t>(coded, layer + "shared_experts.w2.scale", io::dtype::f8_e8m0, {1, 1}, byte);
  CHECK_THROWS_WITH_AS(open(coded), doctest::Contains("'ffn.shared_experts.w2.scale' in layer 0 is no part of it"),
                       moue::error);
}

}  // namespace
