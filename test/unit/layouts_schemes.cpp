// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0

// Checkpoints in every scheme of low precision: decoded as decoders that are not ours do it. The codes and their answers
// come from test/parity/schemes.py.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "layout_files.hpp"
#include "message_of.hpp"
#include "moue/io/layouts/moe_checkpoint.hpp"

namespace {

using moue::index_t;
using namespace test;
namespace io = moue::io;
using io::moe_part;
using nlohmann::json;

/// The folder of the answers: `test/run.sh --parity` writes them anew elsewhere.
std::string data() {
  const char* given = std::getenv("MOUE_LOW_PRECISION");
  return given != nullptr ? given : MOUE_TEST_DATA;
}
const std::string path = data() + "/schemes/schemes.safetensors";
const std::string stem = "model.layers.0.mlp.experts.";
const layout_sizes sizes{32, 16, 3, 2, {0}};

struct sample {
  const char* name;
  bool down;  ///< the other matrix stands in the file too
  json quantisation = json::object();
};
const std::vector<sample> samples{{"fp8_tensor", false},
                                  {"fp8_rows", true},
                                  {"fp8_tiles", true, {{"weight_block_size", {6, 20}}}},
                                  {"fp8_tiles_e8m0", false, {{"weight_block_size", {6, 20}}}},
                                  {"mxfp8", false},
                                  {"mxfp4", false},
                                  {"nvfp4", true},
                                  {"nvfp4_modelopt", true},
                                  {"int8", false},
                                  {"int4", true},
                                  {"int4_zeros", false},
                                  {"int8_words", false},
                                  {"gptq", true, {{"quant_method", "gptq"}, {"checkpoint_format", "gptq"}}},
                                  {"gptq_ordered", false, {{"quant_method", "gptq"}, {"desc_act", true}}},
                                  {"gptq_8", false, {{"quant_method", "gptq"}, {"bits", 8}}},
                                  {"awq", true, {{"quant_method", "awq"}, {"version", "gemm"}}},
                                  {"fbgemm", true, {{"quant_method", "fbgemm_fp8"}, {"activation_scale_ub", 1200.0}}}};

/// A checkpoint of Qwen3-MoE whose matrices are those of the sample.
raw_tensors checkpoint_of(const io::checkpoint& source, const sample& one) {
  auto all = make_layout("per expert", sizes);
  const auto replace = [&](const std::string& part, const std::string& matrix) {
    const auto from = std::string(one.name) + "/" + part + ".";
    all.erase(matrix + ".weight");
    for (const auto& name : source.names()) {
      if (!name.starts_with(from) || name.ends_with(".expected")) continue;
      const auto bytes = source.bytes(name);
      const auto& entry = source.entry(name);
      all[matrix + "." + name.substr(from.size())] = {
          {entry.shape.begin(), entry.shape.end()}, entry.type, {bytes.begin(), bytes.end()}};
    }
  };
  for (const std::string expert : {"0.", "1."}) {
    replace("gate", stem + expert + "gate_proj");
    replace("gate", stem + expert + "up_proj");
    if (one.down) replace("down", stem + expert + "down_proj");
  }
  return all;
}

json config_of(const sample& one) {
  return {{"model_type", "qwen3_moe"}, {"num_experts_per_tok", 1}, {"quantization_config", one.quantisation}};
}

std::string refusal(const raw_tensors& all, const json& config,
                    const std::function<void(io::moe_checkpoint&)>& act = {}) {
  const scratch_folder folder;
  save(folder.path(), all, config);
  return message_of([&] {
    io::moe_checkpoint source{io::checkpoint(folder.path())};
    if (act) act(source);
  });
}

TEST_CASE("every scheme is decoded to the bit") {
  const io::checkpoint answers(path);
  for (const auto& one : samples) {
    const std::string name = one.name;
    CAPTURE(name);
    const scratch_folder folder;
    save(folder.path(), checkpoint_of(answers, one), config_of(one));
    const io::moe_checkpoint source{io::checkpoint(folder.path())};
    CHECK(source.description().hidden == 16);
    for (const auto part : {moe_part::gate, moe_part::up, moe_part::down}) {
      const bool down = part == moe_part::down;
      if (down && !one.down) continue;
      const auto got = source.read<float>(0, part, 1);
      const auto want = answers.read<float>(std::string(one.name) + (down ? "/down.expected" : "/gate.expected"));
      REQUIRE(got.size() == want.size());
      index_t wrong = 0;
      for (std::size_t i = 0; i < want.size(); ++i) wrong += got[i] != want[i];
      CHECK(wrong == 0);
    }
    if (!one.down) CHECK(source.read<float>(0, moe_part::down, 1)[5] == sizes.value(moe_part::down, 0, 1, 0, 5));
  }
}

TEST_CASE("MXFP4 of gpt-oss is decoded to the bit") {
  const io::checkpoint answers(data() + "/schemes/gpt_oss.safetensors");
  const auto want = answers.read<float>("expected");
  std::vector<float> got(want.size());
  io::decode_mxfp4(answers.bytes("blocks"), answers.bytes("scales"), std::span(got));
  CHECK(got.size() == 5 * 96);
  CHECK(got == want);
}

TEST_CASE("GPTQ's newer format stores zeros as they are") {
  const io::checkpoint answers(path);
  for (const auto& one : samples)
    if (std::string_view(one.name) == "gptq") {
      auto all = checkpoint_of(answers, one);
      for (auto& [name, tensor] : all)  // one more in each, modulo 16
        if (name.ends_with(".qzeros"))
          for (auto& byte : tensor.bytes) {
            const auto old = static_cast<unsigned>(byte);
            byte = static_cast<std::byte>(((old + 1) & 15u) | (((old >> 4) + 1) & 15u) << 4);
          }
      auto config = config_of(one);
      config["quantization_config"]["checkpoint_format"] = "gptq_v2";
      CHECK(refusal(all, config, [&](const io::moe_checkpoint& source) {
              CHECK(source.read<float>(0, moe_part::gate, 1) == answers.read<float>("gptq/gate.expected"));
            }) == "");
      config["quantization_config"]["checkpoint_format"] = "marlin";
      CHECK(contains(refusal(all, config), "'quantization_config.checkpoint_format' is neither 'gptq' nor 'gptq_v2'"));
    }
}

TEST_CASE("what does not fit its scheme is named") {
  const io::checkpoint answers(path);
  const auto with = [&](const char* name, const std::function<void(raw_tensors&)>& change, const json& more = {}) {
    for (const auto& one : samples)
      if (std::string_view(one.name) == name) {
        auto all = checkpoint_of(answers, one);
        change(all);
        auto config = config_of(one);
        config["quantization_config"].update(more.is_null() ? json::object() : more);
        return refusal(all, config, [](const io::moe_checkpoint& source) { source.read<float>(0, moe_part::gate, 0); });
      }
    return std::string("no such sample");
  };
  const std::string gate = stem + "0.gate_proj.";
  const auto lacks = [&](const char* piece) { return [=](raw_tensors& all) { all.erase(gate + piece); }; };
  CHECK(contains(with("fp8_rows", lacks("weight_scale")),
                 "'" + gate + "weight' is of type F8_E4M3 without scales called '" + gate + "weight_scale_inv' or '" +
                     gate + "weight_scale'"));
  CHECK(contains(with("int4", lacks("weight_packed")), "'" + gate + "weight' is missing"));
  CHECK(contains(with("gptq", lacks("qzeros")), "'" + gate + "qzeros' is missing"));
  CHECK(contains(with("nvfp4", lacks("weight_global_scale")),
                 "'" + gate + "weight_scale' is of type F8_E4M3, without a scale"));
  const auto shaped = [&](const char* piece, std::vector<index_t> shape) {
    return [=](raw_tensors& all) { all.at(gate + piece).shape = shape; };
  };
  CHECK(contains(with("fp8_rows", shaped("weight_scale", {1, 16})),
                 "has shape [1, 16], which is no grid of scales for [16, 32]"));
  CHECK(contains(with("fp8_tiles", shaped("weight_scale_inv", {2, 3})),
                 "which is no grid of scales for [16, 32] (tiles of 6 x 20, rows, or parts of rows)"));
  CHECK(contains(with("int4", shaped("weight_packed", {4, 16})), "weight_packed' has shape [4, 16], not [16, 4]"));
  CHECK(contains(with("awq", shaped("qzeros", {4, 1})), "qzeros' has shape [4, 1], not [2, 2]"));
  CHECK(contains(with("gptq", shaped("scales", {4, 8})), "scales' has shape [4, 8], not [4, 16]"));
  CHECK(contains(with("awq", [](raw_tensors&) {}, {{"version", "gemv"}}),
                 "'quantization_config.version' is not 'gemm', the one value understood here"));
  CHECK(contains(with("gptq_ordered", [&](raw_tensors& all) { all.at(gate + "g_idx").bytes[0] = std::byte{99}; }),
                 "column 0 belongs to group 99 of 4"));
  CHECK(contains(with("gptq", [&](raw_tensors& all) { all.at(gate + "qzeros").bytes[0] |= std::byte{15}; }),
                 "is stored as 15, which some readers take for 0 and others for 16"));
  CHECK(contains(with("int4", [&](raw_tensors& all) { all.at(gate + "weight_shape").bytes[0] = std::byte{99}; }),
                 "weight_shape' is not [16, 32]"));
  CHECK(
      contains(with("int8", [&](raw_tensors& all) { all[gate + "weight_zero_point"] = all.at(gate + "weight_scale"); }),
               "weight_zero_point' stands beside a matrix that is in the scheme '8 bits of compressed-tensors'"));
}

TEST_CASE("scales of activations change no weight, and none is taken for another") {
  const io::checkpoint answers(path);
  const struct {
    const char* name;
    const char* scale;
    const char* other;
  } rows[] = {{"fp8_tiles", "activation_scale", "weight_scale_2"},
              {"fp8_rows", "input_scale", "weight_scale_2"},
              {"nvfp4_modelopt", "input_scale", "weight_global_scale"},
              {"nvfp4", "input_global_scale", "weight_scale_2"},
              {"fbgemm", "input_scale", "input_scale_ub"}};
  for (const auto& row : rows) {
    const std::string name = row.name;
    CAPTURE(name);
    const auto one = std::find_if(samples.begin(), samples.end(), [&](const auto& s) { return s.name == name; });
    const auto with = [&](const std::string& piece) {
      auto all = checkpoint_of(answers, *one);
      put(all, stem + "1.gate_proj." + piece, {1}, [](const position&) { return 1e30f; });
      return refusal(all, config_of(*one), [&](const io::moe_checkpoint& source) {
        CHECK(source.read<float>(0, moe_part::gate, 1) == answers.read<float>(name + "/gate.expected"));
      });
    };
    CHECK(with(row.scale) == "");
    CHECK(contains(with(row.other), ("mlp.experts.1.gate_proj." + std::string(row.other) + "'").c_str()));
  }
}

}  // namespace
