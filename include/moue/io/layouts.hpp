// SPDX-FileCopyrightText: 2026 The moue authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// @file
/// Layouts: how a family of public mixture-of-experts checkpoints names and arranges its tensors, and what its numbers
/// mean. The contract: a family is one row of plain data.

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "moue/view.hpp"

namespace moue::inline v0_1::io {

/// How the outputs of a token's chosen experts are weighed.
enum class gate_convention {
  softmax_of_selected,  ///< softmax over the chosen logits (softmax over all, divided by the chosen sum), times a scale
  softmax,              ///< the chosen entries of a softmax over all, times a scale
  sigmoid,              ///< sigmoids of the chosen logits, times a scale
  sigmoid_of_selected,  ///< the same, divided by their sum first
  sparsemixer,          ///< two softmaxes over near rivals (Phi-3.5-MoE)
  root_of_softplus,     ///< square roots of softplus of the chosen logits, divided by their sum, times a scale
  sigmoid_of_input      ///< the sigmoid of its logit multiplies what an expert reads; outputs are added (Llama-4)
};

/// The matrices and vectors of a mixture layer in canonical form: matrices [out, in], row-major; vectors [1, n].
enum class moe_part {
  gate,              ///< [hidden, width], of one expert, as all down to `down_bias`; see `latent_in`
  up,                ///< [hidden, width]
  down,              ///< [width, hidden]
  gate_bias,         ///< [1, hidden]
  up_bias,           ///< [1, hidden]
  down_bias,         ///< [1, width]
  latent_in,         ///< [latent, width]: projects what the experts of a layer read; their matrices then have latent
                     ///< columns for width
  latent_out,        ///< [width, latent]: projects what they answer
  input_gate,        ///< [1, width]: the expert's row of the router, where that gates its input
  shared_gate,       ///< of the expert that every token uses
  shared_up,         ///<
  shared_down,       ///<
  shared_self_gate,  ///< [1, width]: the shared expert's output is multiplied by sigmoid(row · x)
  router,            ///< [experts, width]
  router_bias,       ///< [1, experts], added to the logits
  selection_bias     ///< [1, experts], seen by selection alone
};

/// All parts, in their order.
inline constexpr moe_part moe_parts[] = {moe_part::gate,
                                         moe_part::up,
                                         moe_part::down,
                                         moe_part::gate_bias,
                                         moe_part::up_bias,
                                         moe_part::down_bias,
                                         moe_part::latent_in,
                                         moe_part::latent_out,
                                         moe_part::input_gate,
                                         moe_part::shared_gate,
                                         moe_part::shared_up,
                                         moe_part::shared_down,
                                         moe_part::shared_self_gate,
                                         moe_part::router,
                                         moe_part::router_bias,
                                         moe_part::selection_bias};

/// Where the gate and up matrices of an expert stand.
enum class pairing {
  apart,       ///< in tensors of their own
  halves,      ///< in one: all rows (or columns, if transposed) of gate, then all of up
  interleaved  ///< in one: gate and up by turns
};

/// What an expert computes.
enum class expert_activation {
  silu,            ///< down (silu(gate) up)
  clamped_swiglu,  ///< the gating of gpt-oss, with biases
  relu_squared,    ///< down relu(up)²: two matrices
  gelu_tanh,       ///< down (gelu(gate) up), by the approximation with tanh
  clamped_silu     ///< down (silu(min(gate, 10)) up), up kept within 10
};

/// What selection compares; a selection bias is added to it.
enum class selection_score {
  logits,
  sigmoid,          ///< of each logit
  softmax,          ///< over all logits
  root_of_softplus  ///< square root of softplus of each logit
};

/// Names and arrangement of experts. A name is what follows "layers.<l>."; "{e}" in it stands for the expert, and
/// without "{e}" one tensor holds all experts of a layer, the expert first. Empty: there is none.
struct expert_layout {
  std::string gate;               ///< empty too if experts have two matrices
  std::string up;                 ///< the same as `gate` if they are paired
  std::string down;               ///< [width, hidden], or transposed
  std::string gate_bias = {};     ///< names of biases
  std::string up_bias = {};       ///< names of biases
  std::string down_bias = {};     ///< names of biases
  std::string input_gate = {};    ///< of rows of the input, see `moe_part::input_gate`
  std::string latent_in = {};     ///< of a layer's projections, see `moe_part::latent_in`
  std::string latent_out = {};    ///< of a layer's projections
  pairing pair = pairing::apart;  ///< how gate and up stand
  bool transposed = false;        ///< matrices stand as [in, out]
  bool down_transposed = false;   ///< `down` alone does
  bool flat = false;              ///< the experts of a layer stand one above the other, [experts rows, cols]
  bool mxfp4 = false;             ///< matrices stand as "<name>_blocks" and "<name>_scales", [out, in]
  bool unused_gates = false;      ///< stacked gates and ups have entries for experts that return their input, too
};

/// A vector of a layer that belongs into a part: canonical matrices are products.
struct moe_fold {
  moe_part part;            ///< which
  std::string vector;       ///< [width], which scales columns, or of each expert a number
  bool of_experts = false;  ///< a number for each expert
  bool over_root = false;   ///< divided by the square root of the width
};

namespace detail {

template <class Layout>
auto& name_in(Layout& layout, moe_part part) {
  switch (part) {
    case moe_part::gate:
      return layout.experts.gate;
    case moe_part::up:
      return layout.experts.up;
    case moe_part::down:
      return layout.experts.down;
    case moe_part::gate_bias:
      return layout.experts.gate_bias;
    case moe_part::up_bias:
      return layout.experts.up_bias;
    case moe_part::down_bias:
      return layout.experts.down_bias;
    case moe_part::latent_in:
      return layout.experts.latent_in;
    case moe_part::latent_out:
      return layout.experts.latent_out;
    case moe_part::input_gate:
      return layout.experts.input_gate;
    case moe_part::shared_gate:
      return layout.shared.gate;
    case moe_part::shared_up:
      return layout.shared.up;
    case moe_part::shared_down:
      return layout.shared.down;
    case moe_part::shared_self_gate:
      return layout.shared_self_gate;
    case moe_part::router:
      return layout.router;
    case moe_part::router_bias:
      return layout.router_bias;
    case moe_part::selection_bias:
      break;
  }
  return layout.selection_bias;
}

}  // namespace detail

/// One way to write a family's layers.
struct moe_layout {
  std::string name;                    ///< of the layout, unique in its family
  std::string router;                  ///< [experts, width]
  expert_layout experts;               ///< routed ones
  std::string router_bias = {};        ///< added to the logits
  std::string selection_bias = {};     ///< seen by selection alone
  bool selection_bias_is_row = false;  ///< written as [1, experts]
  expert_layout shared = {};           ///< of the expert that every token uses
  std::string shared_self_gate = {};   ///< of that expert's own gate
  std::string word = "layers.";        ///< before the number of the layer
  /// Tensors of a layer that are no part of the mixture, though they sound like it; what ends with "." stands for all
  /// that begins with it.
  std::vector<std::string> beside = {};
  std::vector<moe_fold> folds = {};  ///< no part has two
  /// A layer that has this tensor chooses experts in another way, and is left out.
  std::string left_out = {};

  /// The name of `part`, or an empty text.
  const std::string& pattern(moe_part part) const { return detail::name_in(*this, part); }
  std::string& pattern(moe_part part) { return detail::name_in(*this, part); }
};

/// A key of config.json and a value: a truth value, a number or a text.
struct config_value_of {
  std::string key;                                ///< of config.json
  std::variant<bool, double, std::string> value;  ///< the one that is meant
};

/// How a key of config.json tells which layers are mixtures.
enum class layer_rule {
  dense_before,  ///< a number: layers below it are dense
  mixtures_to,   ///< a number: layers above it are dense; -1: none
  dense_in,      ///< a list of dense layers
  mixtures_in,   ///< a list of mixtures
  every,         ///< a number n: mixtures are the layers l with l % n = 0, or with an `offset` key l % n = its value
  every_last,    ///< a number n: mixtures are the layers l with (l + 1) % n = 0
  each           ///< a list with an entry, or a text with a letter, for each layer: "sparse", "moe", "E", true or 1
};
/// A key of config.json with its rule.
struct layer_key {
  std::string key;          ///< of config.json
  layer_rule rule;          ///< what its value says
  std::string offset = {};  ///< the key of the offset of `every`
};

/// The keys of config.json that say, under their usual names, which layers are mixtures. A layer is one if no key says
/// otherwise. A list is read as `each` also where a number is usual.
inline std::vector<layer_key> usual_layer_keys() {
  using enum layer_rule;
  return {{"first_k_dense_replace", dense_before},
          {"num_dense_layers", dense_before},
          {"moe_layer_start_index", dense_before},
          {"moe_layer_end_index", mixtures_to},
          {"mlp_only_layers", dense_in},
          {"moe_layers", mixtures_in},
          {"decoder_sparse_step", every_last},
          {"moe_layer_interval", every_last},
          {"interleave_moe_layer_step", every_last},
          {"moe_layer_freq", every},
          {"expert_layer_period", every, "expert_layer_offset"},
          {"mlp_layer_types", each},
          {"layers_block_type", each},
          {"hybrid_override_pattern", each},
          {"is_moe_layer", each}};
}

/// Where config.json says what tensors cannot tell. Of several names the first that is there counts; empty: no such key.
struct config_keys {
  /// Objects that hold the language model's keys, "a.b" for one within another; the first that is there is read first.
  std::vector<std::string> inside = {"text_config", "llm_config", "language_config", "thinker_config.text_config"};
  std::vector<std::string> per_token = {"num_experts_per_tok"};  ///< experts that a token takes
  std::vector<std::string> experts = {"num_experts", "num_local_experts",
                                      "n_routed_experts"};                       ///< routed experts of a layer
  std::vector<std::string> depth = {"num_hidden_layers"};                        ///< layers of the model
  std::vector<std::string> width = {"hidden_size"};                              ///< columns of a layer's input
  std::vector<std::string> shared = {"n_shared_experts", "num_shared_experts"};  ///< how many; 0: no shared expert
  std::vector<std::string> normed = {"norm_topk_prob"};  ///< whether gates are divided by their sum
  std::string norm_power = {};  ///< the p of the norm that gates are divided by: 1; null in the file: of none
  std::vector<std::string> scale = {"routed_scaling_factor"};  ///< of the gates
  std::optional<double> scale_default = {};                    ///< without one, gates that are sigmoids need the key
  std::vector<std::string> groups = {"n_group"};               ///< groups of experts
  std::vector<std::string> selected_groups = {"topk_group"};   ///< groups that a token uses
  std::vector<std::string> latent = {};                        ///< columns of the experts' matrices between projections
  std::vector<std::string> activation = {"hidden_act", "activation_function"};  ///< what experts compute
  std::string identities = {};                         ///< how many experts behind the real ones return their input
  std::vector<layer_key> layers = usual_layer_keys();  ///< which layers are mixtures
  std::vector<config_value_of> must_be = {};  ///< keys that, where they are, have the one value that is understood
  std::vector<std::string> ignored = {};      ///< keys about experts that change nothing here
};

/// A family: every layout it is found in, and what is common to them. The schemes of low precision in
/// moue/io/schemes.hpp are decoded in every family.
struct moe_family {
  std::string name;                                             ///< of the family
  std::vector<std::string> model_types;                         ///< what config.json may call it
  std::vector<moe_layout> layouts;                              ///< the published one first; that is what writers use
  gate_convention gate = gate_convention::softmax_of_selected;  ///< how logits become gates, where they are normed
  /// The convention if config.json says that gates are not normed; without one, that is an error.
  std::optional<gate_convention> gate_not_normed = {};
  bool normed = true;                                   ///< where config.json does not say
  selection_score selection = selection_score::logits;  ///< what is compared
  index_t group_best = 0;  ///< members that make a group's score, if routing may be limited to groups; 0: never
  expert_activation activation = expert_activation::silu;  ///< what experts compute
  config_keys keys = {};                                   ///< where config.json says what tensors cannot tell
  std::vector<moe_part> optional = {};                     ///< parts that a checkpoint may lack, in all of its layers
};

/// What a checkpoint's gates are called, for messages and reports.
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
    case gate_convention::root_of_softplus:
      return "square root of softplus, renormalised";
    case gate_convention::sigmoid_of_input:
      return "sigmoid, on the input of an expert";
  }
  return "";
}

/// What its experts are called.
inline std::string_view name_of(expert_activation activation) {
  switch (activation) {
    case expert_activation::silu:
      return "SwiGLU";
    case expert_activation::clamped_swiglu:
      return "clamped gating";
    case expert_activation::relu_squared:
      return "squared ReLU";
    case expert_activation::gelu_tanh:
      return "gated GELU";
    case expert_activation::clamped_silu:
      return "SwiGLU, clamped at 10";
  }
  return "";
}

}  // namespace moue::inline v0_1::io
