// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// The table of public families. Names as in their files and in transformers' weight conversions.

#include <string>
#include <vector>

#include "moue/io/layouts.hpp"

namespace moue::inline v0_1::io {
namespace detail {

/// Matrices called <stem>gate_proj.weight and so on.
inline expert_layout projections(const std::string& stem) {
  return {.gate = stem + "gate_proj.weight", .up = stem + "up_proj.weight", .down = stem + "down_proj.weight"};
}
/// Gate above up in one tensor.
inline expert_layout halves(const std::string& both, const std::string& down) {
  return {.gate = both, .up = both, .down = down, .pair = pairing::halves};
}

inline moe_layout per_expert(const std::string& name) {
  return {.name = name, .router = "mlp.gate.weight", .experts = projections("mlp.experts.{e}.")};
}
/// What transformers 5 holds in memory, and writes if told not to save the original format.
inline moe_layout fused(const std::string& router, const std::string& block = "mlp.") {
  return {.name = "fused",
          .router = block + router,
          .experts = halves(block + "experts.gate_up_proj", block + "experts.down_proj")};
}

inline moe_layout block_sparse(const std::string& name) {
  const std::string stem = "block_sparse_moe.experts.{e}.";
  return {.name = name,
          .router = "block_sparse_moe.gate.weight",
          .experts = {.gate = stem + "w1.weight", .up = stem + "w3.weight", .down = stem + "w2.weight"}};
}
inline moe_layout granite() {
  return {.name = "granite",
          .router = "block_sparse_moe.router.layer.weight",
          .experts = halves("block_sparse_moe.input_linear.weight", "block_sparse_moe.output_linear.weight")};
}
inline moe_layout gpt_oss(bool mxfp4) {
  const std::string both = "mlp.experts.gate_up_proj", down = "mlp.experts.down_proj";
  return {.name = mxfp4 ? "mxfp4" : "transposed",
          .router = "mlp.router.weight",
          .experts = {.gate = both,
                      .up = both,
                      .down = down,
                      .gate_bias = both + "_bias",
                      .up_bias = both + "_bias",
                      .down_bias = down + "_bias",
                      .pair = pairing::interleaved,
                      .transposed = !mxfp4,
                      .mxfp4 = mxfp4},
          .router_bias = "mlp.router.bias"};
}

}  // namespace detail

/// The families this library knows. A row of one's own is appended to a copy.
inline std::vector<moe_family> known_families() {
  using enum gate_convention;
  using namespace detail;
  const std::vector<moe_layout> proj{per_expert("per expert"), fused("gate.weight")};
  return {
      {.name = "mixtral", .model_types = {"mixtral"}, .layouts = {block_sparse("w1 w3 w2"), fused("gate.weight")}},
      {.name = "phimoe",
       .model_types = {"phimoe"},
       .layouts = {block_sparse("w1 w3 w2"), fused("router.weight")},
       .gate = sparsemixer},
      {.name = "olmoe", .model_types = {"olmoe"}, .layouts = proj, .gate_not_normed = softmax, .normed = false},
      {.name = "qwen2_moe",
       .model_types = {"qwen2_moe"},
       .layouts = proj,
       .gate_not_normed = softmax,
       .normed = false,
       .shared = projections("mlp.shared_expert."),
       .shared_self_gate = "mlp.shared_expert_gate.weight"},
      {.name = "qwen3_moe", .model_types = {"qwen3_moe"}, .layouts = proj, .gate_not_normed = softmax, .normed = false},
      {.name = "deepseek_v2",  // its references disagree about norm_topk_prob: true
       .model_types = {"deepseek_v2"},
       .layouts = proj,
       .gate = softmax,
       .normed = false,
       .shared = projections("mlp.shared_experts."),
       .group_best = 1},
      {.name = "deepseek_v3",
       .model_types = {"deepseek_v3"},
       .layouts = proj,
       .gate = sigmoid_of_selected,
       .gate_not_normed = sigmoid,
       .shared = projections("mlp.shared_experts."),
       .selection_bias = "mlp.gate.e_score_correction_bias",
       .group_best = 2},
      {.name = "granitemoe",
       .model_types = {"granitemoe"},
       .layouts = {granite(), fused("router.weight", "block_sparse_moe.")}},
      {.name = "granitemoeshared",
       .model_types = {"granitemoeshared"},
       .layouts = {granite(), fused("router.weight", "block_sparse_moe.")},
       .shared = halves("shared_mlp.input_linear.weight", "shared_mlp.output_linear.weight")},
      {.name = "gpt_oss",
       .model_types = {"gpt_oss"},
       .layouts = {gpt_oss(false), gpt_oss(true)},
       .clamped_swiglu = true},
  };
}

}  // namespace moue::inline v0_1::io
