// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Layouts: how a family of public mixture-of-experts checkpoints names and arranges its tensors, and what its numbers
/// mean. The contract: a family is one row of plain data.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "moue/view.hpp"

namespace moue::inline v0_1::io {

/// How the outputs of a token's chosen experts are weighed.
enum class gate_convention {
  softmax_of_selected,  ///< softmax over the chosen logits; the same as softmax over all, divided by the chosen sum
  softmax,              ///< the chosen entries of a softmax over all, times a scale
  sigmoid,              ///< sigmoids of the chosen logits, times a scale
  sigmoid_of_selected,  ///< the same, divided by their sum first
  sparsemixer           ///< two softmaxes over near rivals (Phi-3.5-MoE)
};

/// The matrices and vectors of a mixture layer in canonical form: matrices [out, in], row-major; vectors [1, n].
enum class moe_part {
  gate,              ///< [hidden, width], of one expert, as all down to `down_bias`
  up,                ///< [hidden, width]
  down,              ///< [width, hidden]
  gate_bias,         ///< [1, hidden]
  up_bias,           ///< [1, hidden]
  down_bias,         ///< [1, width]
  shared_gate,       ///< of the expert that every token uses
  shared_up,         ///<
  shared_down,       ///<
  shared_self_gate,  ///< [1, width]: the shared expert's output is multiplied by sigmoid(row · x)
  router,            ///< [experts, width]
  router_bias,       ///< [1, experts], added to the logits
  selection_bias     ///< [1, experts], seen by selection alone
};

inline constexpr moe_part moe_parts[] = {moe_part::gate,          moe_part::up,
                                         moe_part::down,          moe_part::gate_bias,
                                         moe_part::up_bias,       moe_part::down_bias,
                                         moe_part::shared_gate,   moe_part::shared_up,
                                         moe_part::shared_down,   moe_part::shared_self_gate,
                                         moe_part::router,        moe_part::router_bias,
                                         moe_part::selection_bias};

/// Where the gate and up matrices of an expert stand.
enum class pairing {
  apart,       ///< in tensors of their own
  halves,      ///< in one: all rows (or columns, if transposed) of gate, then all of up
  interleaved  ///< in one: gate and up by turns
};

/// Names and arrangement of gated experts. A name is what follows "layers.<l>."; "{e}" in it stands for the expert, and
/// without "{e}" one tensor holds all experts of a layer, the expert first. Empty: there is none.
struct expert_layout {
  std::string gate;
  std::string up;  ///< the same as `gate` if they are paired
  std::string down;
  std::string gate_bias = {};
  std::string up_bias = {};
  std::string down_bias = {};
  pairing pair = pairing::apart;
  bool transposed = false;  ///< matrices stand as [in, out]
  bool mxfp4 = false;       ///< matrices stand as "<name>_blocks" and "<name>_scales", [out, in]
};

/// One way to write a family's layers.
struct moe_layout {
  std::string name;
  std::string router;  ///< [experts, width]
  expert_layout experts;
  std::string router_bias = {};
};

/// A family: every layout it is found in, and what is common to them. Tensors of type fp8 with "<name>_scale_inv"
/// beside them are decoded in every family.
struct moe_family {
  std::string name;
  std::vector<std::string> model_types;  ///< what config.json may call it
  std::vector<moe_layout> layouts;       ///< the published one first; that is what writers use
  gate_convention gate = gate_convention::softmax_of_selected;
  /// The convention if config.json says `norm_topk_prob: false`; without one, that is an error.
  std::optional<gate_convention> gate_not_normed = {};
  bool normed = true;  ///< where config.json does not say
  expert_layout shared = {};
  std::string shared_self_gate = {};
  std::string selection_bias = {};
  index_t group_best = 0;       ///< members that make a group's score, if routing may be limited to groups; 0: never
  bool clamped_swiglu = false;  ///< the gating of gpt-oss in place of silu(gate) up
};

/// What a checkpoint's layers are called, for messages and reports.
inline std::string_view name_of(gate_convention gate) {
  switch (gate) {
    case gate_convention::softmax_of_selected:
      return "softmax over the selected";
    case gate_convention::softmax:
      return "softmax over all, not renormalised";
    case gate_convention::sigmoid:
      return "sigmoid, not renormalised";
    case gate_convention::sigmoid_of_selected:
      return "sigmoid, renormalised";
    case gate_convention::sparsemixer:
      return "sparsemixer";
  }
  return "";
}

}  // namespace moue::inline v0_1::io
