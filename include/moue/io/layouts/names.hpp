// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// How public families name their tensors, as pieces that rows are put together from.

#include <string>
#include <utility>
#include <vector>

#include "moue/io/layouts.hpp"

namespace moue::inline v0_1::io::detail {

/// Matrices called <stem>gate_proj.weight and so on.
inline expert_layout projections(const std::string& stem) {
  return {.gate = stem + "gate_proj.weight", .up = stem + "up_proj.weight", .down = stem + "down_proj.weight"};
}
/// Matrices called <stem>w1.weight (gate), w3 (up) and w2 (down).
inline expert_layout numbered(const std::string& stem) {
  return {.gate = stem + "w1.weight", .up = stem + "w3.weight", .down = stem + "w2.weight"};
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
/// Mixtral's published names.
inline moe_layout block_sparse(const std::string& name) {
  return {.name = name, .router = "block_sparse_moe.gate.weight", .experts = numbered("block_sparse_moe.experts.{e}.")};
}

inline moe_layout with_bias(moe_layout layout, std::string selection_bias, bool is_row = false) {
  layout.selection_bias = std::move(selection_bias);
  layout.selection_bias_is_row = is_row;
  return layout;
}
inline moe_layout with_shared(moe_layout layout, expert_layout shared, std::string self_gate = {}) {
  layout.shared = std::move(shared);
  layout.shared_self_gate = std::move(self_gate);
  return layout;
}
inline moe_layout beside(moe_layout layout, std::vector<std::string> names) {
  layout.beside = std::move(names);
  return layout;
}
/// Another word before the number of the layer.
inline moe_layout called(moe_layout layout, std::string word) {
  layout.word = std::move(word);
  return layout;
}
/// The shared experts of DeepSeek, one above the other in one matrix each.
inline moe_layout deepseek_shared(moe_layout layout) {
  return with_shared(std::move(layout), projections("mlp.shared_experts."));
}
inline moe_layout qwen_shared(moe_layout layout) {
  return with_shared(std::move(layout), projections("mlp.shared_expert."), "mlp.shared_expert_gate.weight");
}

inline moe_layout granite() {
  return {.name = "granite",
          .router = "block_sparse_moe.router.layer.weight",
          .experts = halves("block_sparse_moe.input_linear.weight", "block_sparse_moe.output_linear.weight")};
}
inline moe_layout granite_shared(moe_layout layout) {
  return with_shared(std::move(layout), halves("shared_mlp.input_linear.weight", "shared_mlp.output_linear.weight"));
}
/// Stacked, as [in, out], with halves (Qwen3-VL-MoE).
inline moe_layout stacked_transposed() {
  auto layout = fused("gate.weight");
  layout.name = "transposed";
  layout.experts.transposed = true;
  return layout;
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
/// Two matrices an expert, perhaps between projections of the layer (Nemotron-H).
inline moe_layout nemotron(bool published) {
  const std::string stem = published ? "mixer.experts.{e}." : "mixer.experts.", tail = published ? ".weight" : "";
  return {
      .name = published ? "per expert" : "fused",
      .router = "mixer.gate.weight",
      .experts = {.gate = {},
                  .up = stem + "up_proj" + tail,
                  .down = stem + "down_proj" + tail,
                  .latent_in = "mixer.fc1_latent_proj.weight",
                  .latent_out = "mixer.fc2_latent_proj.weight"},
      .selection_bias = "mixer.gate.e_score_correction_bias",
      .shared = {
          .gate = {}, .up = "mixer.shared_experts.up_proj.weight", .down = "mixer.shared_experts.down_proj.weight"}};
}

/// Also gates and ups for experts that return their input.
inline moe_layout longcat_fused() {
  auto layout = with_bias(fused("router.classifier.weight"), "mlp.router.e_score_correction_bias");
  layout.experts.unused_gates = true;
  return layout;
}
/// Vectors around the mixture belong into its matrices.
inline moe_layout gemma4() {
  const std::string norm = "pre_feedforward_layernorm_2.weight";
  return {.name = "stacked",
          .router = "router.proj.weight",
          .experts = halves("experts.gate_up_proj", "experts.down_proj"),
          .beside = {"mlp."},
          .folds = {{.part = moe_part::router, .vector = "router.scale", .over_root = true},
                    {.part = moe_part::gate, .vector = norm},
                    {.part = moe_part::up, .vector = norm},
                    {.part = moe_part::down, .vector = "router.per_expert_scale", .of_experts = true}}};
}
/// The router's rows gate what experts read.
inline moe_layout llama4() {
  auto layout = with_shared(fused("router.weight", "feed_forward."), projections("feed_forward.shared_expert."));
  layout.name = "transposed";
  layout.experts.transposed = true;
  layout.experts.input_gate = layout.router;
  return layout;
}
inline moe_layout dbrx() {
  return {.name = "flat",
          .router = "ffn.router.layer.weight",
          .experts = {.gate = "ffn.experts.mlp.w1",
                      .up = "ffn.experts.mlp.v1",
                      .down = "ffn.experts.mlp.w2",
                      .down_transposed = true,
                      .flat = true},
          .word = "blocks."};
}
inline moe_layout deepseek_v4(bool published) {
  auto layout = published ? with_shared({.name = "w1 w3 w2",
                                         .router = "ffn.gate.weight",
                                         .experts = numbered("ffn.experts.{e}."),
                                         .selection_bias = "ffn.gate.bias"},
                                        numbered("ffn.shared_experts."))
                          : with_bias(deepseek_shared(fused("gate.weight")), "mlp.gate.e_score_correction_bias");
  layout.left_out = published ? "ffn.gate.tid2eid" : "mlp.gate.tid2eid";
  layout.beside = {"ffn_hc.", "hc_ffn_fn", "hc_ffn_base", "hc_ffn_scale"};
  return layout;
}

}  // namespace moue::inline v0_1::io::detail
