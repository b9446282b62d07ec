# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""Tiny random checkpoints of public mixture-of-experts families, and what their reference implementation makes of them.

Usage: generate.py [DIRECTORY [all | CASE...]]  (default: test/data/parity beside this folder, all cases that are kept
                                                 there; "all" adds the cases of REST and every layout of modules in memory)

Needs torch, transformers (5 or newer), safetensors and numpy. Weights and inputs are seeded and come out the same each
time, the answers up to rounding: the order of sums depends on where memory lies. Each case is a folder:

  config.json, model.safetensors    as `save_pretrained` writes them, without tensors outside mixture layers
  expected.safetensors              per mixture layer m (not counting dense ones) x, dy, y, dx as `layers.<m>.<name>`,
                                    gradients as `grad.<our name of the parameter>`, those of what a layer's experts
                                    have copies of as `grad.layers.<m>.experts.<name>`; the metadata has the versions
The cases of RUNTIME hold the same weights as their first half under the names that the modules have in memory; those of
TRANSPOSED hold stacked experts as [in, out], as they were published: transformers reads that, and no longer writes it.
"""

import json
import pathlib
import shutil
import sys
import tempfile

import numpy
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

TOKENS, WIDTH = 8, 16
COMMON = dict(vocab_size=8, hidden_size=WIDTH, num_attention_heads=2, num_key_value_heads=2, num_experts_per_tok=2,
              max_position_embeddings=16, pad_token_id=None, bos_token_id=None, eos_token_id=None)
LATENT = dict(kv_lora_rank=8, qk_rope_head_dim=4, v_head_dim=8, qk_nope_head_dim=4, moe_intermediate_size=12)

# case: (class stem, configuration beyond COMMON)
CASES = {
    "mixtral": ("Mixtral", dict(num_hidden_layers=2, intermediate_size=12, num_local_experts=4)),
    "olmoe": ("Olmoe", dict(num_hidden_layers=2, intermediate_size=12, num_experts=4, norm_topk_prob=False)),
    "qwen2_moe": ("Qwen2Moe", dict(num_hidden_layers=3, intermediate_size=20, moe_intermediate_size=12,
                                   shared_expert_intermediate_size=20, num_experts=4, decoder_sparse_step=1,
                                   mlp_only_layers=[1], norm_topk_prob=False)),
    "qwen3_moe": ("Qwen3Moe", dict(num_hidden_layers=4, intermediate_size=20, moe_intermediate_size=12, num_experts=4,
                                   head_dim=8, decoder_sparse_step=2, norm_topk_prob=True)),
    "deepseek_v2_lite": ("DeepseekV2", dict(num_hidden_layers=2, intermediate_size=20, n_routed_experts=6,
                                            n_shared_experts=2, first_k_dense_replace=1, q_lora_rank=None,
                                            topk_method="greedy", n_group=1, topk_group=1, **LATENT)),
    "deepseek_v2": ("DeepseekV2", dict(num_hidden_layers=2, intermediate_size=20, n_routed_experts=8,
                                       n_shared_experts=2, first_k_dense_replace=1, q_lora_rank=None,
                                       topk_method="group_limited_greedy", n_group=4, topk_group=2,
                                       routed_scaling_factor=1.5, num_experts_per_tok=3, **LATENT)),
    "deepseek_v3": ("DeepseekV3", dict(num_hidden_layers=2, intermediate_size=20, n_routed_experts=8,
                                       n_shared_experts=1, first_k_dense_replace=1, q_lora_rank=8, n_group=4,
                                       topk_group=2, routed_scaling_factor=2.5,
                                       num_experts_per_tok=3, **LATENT)),
    "phimoe": ("Phimoe", dict(num_hidden_layers=2, intermediate_size=12, num_local_experts=4,
                              router_jitter_noise=0.2)),
    "granitemoe": ("GraniteMoe", dict(num_hidden_layers=2, intermediate_size=12, num_local_experts=4)),
    "granitemoeshared": ("GraniteMoeShared", dict(num_hidden_layers=2, intermediate_size=12, num_local_experts=4,
                                                  shared_intermediate_size=20)),
    "gpt_oss": ("GptOss", dict(num_hidden_layers=2, intermediate_size=12, num_local_experts=4, head_dim=8)),
}
# Newer families: one mixture layer that is as small as it can be.
SMALL = dict(vocab_size=8, hidden_size=8, num_attention_heads=2, num_key_value_heads=2, head_dim=4,
             max_position_embeddings=16, pad_token_id=None, bos_token_id=None, eos_token_id=None)
SMALL_LATENT = dict(kv_lora_rank=4, qk_rope_head_dim=2, v_head_dim=4, qk_nope_head_dim=2, q_lora_rank=4)
SIGMOID = dict(num_experts_per_tok=2, intermediate_size=6, moe_intermediate_size=4, n_routed_experts=4,
               n_shared_experts=1, n_group=1, topk_group=1, routed_scaling_factor=1.5, norm_topk_prob=True)
QWEN = dict(num_hidden_layers=1, intermediate_size=6, moe_intermediate_size=4, shared_expert_intermediate_size=6,
            num_experts=4, num_experts_per_tok=2, layer_types=["full_attention"])
VISION = dict(depth=1, num_hidden_layers=1, hidden_size=8, intermediate_size=8, num_heads=2, num_attention_heads=2,
              out_hidden_size=8)

# case: (class stem, configuration beyond SMALL); these are committed
CASES_OF_5_24 = {
    "glm4_moe": ("Glm4Moe", dict(num_hidden_layers=2, first_k_dense_replace=1, **SIGMOID)),
    "kimi_k25": ("Kimi_K25", dict(text_config=dict(model_type="deepseek_v3", num_hidden_layers=2,
                                                   first_k_dense_replace=1, **SIGMOID, **SMALL_LATENT),
                                  vision_config=VISION)),
    "qwen3_5_moe": ("Qwen3_5Moe", dict(text_config=QWEN, vision_config=VISION)),
    "qwen3_vl_moe": ("Qwen3VLMoe", dict(text_config=QWEN | dict(decoder_sparse_step=1, moe_intermediate_size=6),
                                        vision_config=VISION)),
    "minimax_m2": ("MiniMaxM2", dict(num_hidden_layers=1, intermediate_size=4, num_local_experts=4,
                                     num_experts_per_tok=2)),
    "kimi_linear": ("KimiLinear", dict(num_hidden_layers=2, intermediate_size=6, moe_intermediate_size=4, num_experts=4,
                                       num_experts_per_token=2, num_shared_experts=1, num_expert_group=2, topk_group=1,
                                       layer_types=["full_attention", "full_attention"],
                                       mlp_layer_types=["dense", "sparse"], **SMALL_LATENT)),
    "lfm2_moe": ("Lfm2Moe", dict(num_hidden_layers=2, intermediate_size=6, moe_intermediate_size=4, num_experts=4,
                                 num_experts_per_tok=2, num_dense_layers=1, routed_scaling_factor=1.5,
                                 layer_types=["full_attention", "full_attention"])),
    "jamba": ("Jamba", dict(num_hidden_layers=2, intermediate_size=4, num_experts=4, num_experts_per_tok=2,
                            attn_layer_period=2, attn_layer_offset=0, use_mamba_kernels=False, mamba_d_state=4,
                            mamba_dt_rank=2, mamba_expand=1)),
    "hunyuan_v1_moe": ("HunYuanMoEV1", dict(num_hidden_layers=1, intermediate_size=4, num_experts=4, moe_topk=[2])),
    "afmoe": ("Afmoe", dict(num_hidden_layers=2, intermediate_size=6, moe_intermediate_size=4, num_experts=4,
                            num_experts_per_tok=2, num_shared_experts=2, num_dense_layers=1, route_scale=1.5)),
    "hy_v3": ("HYV3", dict(num_hidden_layers=2, intermediate_size=6, moe_intermediate_size=4, num_experts=4,
                           num_experts_per_tok=2, num_shared_experts=1, mlp_layer_types=["dense", "sparse"])),
    "ernie4_5_moe": ("Ernie4_5_Moe", dict(num_hidden_layers=2, intermediate_size=6, moe_intermediate_size=4,
                                          moe_num_experts=4, moe_k=2, moe_num_shared_experts=1,
                                          moe_layer_start_index=1, moe_layer_end_index=-1, moe_layer_interval=1)),
    "longcat_flash": ("LongcatFlash", dict(num_layers=1, ffn_hidden_size=6, expert_ffn_hidden_size=4,
                                           n_routed_experts=4, zero_expert_num=2, moe_topk=3,
                                           routed_scaling_factor=1.5, **SMALL_LATENT)),
    "nemotron_h": ("NemotronH", dict(layers_block_type=["full_attention", "moe"], intermediate_size=6,
                                     moe_intermediate_size=4, moe_shared_expert_intermediate_size=6,
                                     n_routed_experts=4, num_experts_per_tok=2, routed_scaling_factor=1.5)),
    "mistral4": ("Mistral4", dict(num_hidden_layers=1, **SIGMOID | dict(n_routed_experts=8, n_group=4, topk_group=2),
                                  **SMALL_LATENT)),
    "gemma4": ("Gemma4", dict(text_config=dict(num_hidden_layers=1, intermediate_size=6, moe_intermediate_size=4,
                                               num_experts=4, top_k_experts=2, enable_moe_block=True,
                                               layer_types=["full_attention"], global_head_dim=4,
                                               hidden_size_per_layer_input=0),
                              vision_config=None, audio_config=None)),
    "llama4": ("Llama4", dict(text_config=dict(num_hidden_layers=2, intermediate_size=4, intermediate_size_mlp=6,
                                               num_local_experts=4, num_experts_per_tok=2,
                                               interleave_moe_layer_step=2,
                                               layer_types=["full_attention", "full_attention"]),
                              vision_config=VISION | dict(intermediate_size=32, vision_output_dim=8,
                                                          projector_input_dim=8, projector_output_dim=8))),
    "dbrx": ("Dbrx", dict(d_model=8, n_heads=2, n_layers=1, max_seq_len=16, attn_config=dict(kv_n_heads=2, rope_theta=10000.0),
                          ffn_config=dict(ffn_hidden_size=4, moe_num_experts=4, moe_top_k=2))),
    "deepseek_v4": ("DeepseekV4", dict(num_hidden_layers=2, mlp_layer_types=["hash_moe", "moe"],
                                       layer_types=["sliding_attention", "sliding_attention"],
                                       **{k: v for k, v in SIGMOID.items() if k not in ("n_group", "topk_group")})),
    "nemotron_h_latent": ("NemotronH", dict(layers_block_type=["full_attention", "moe"], intermediate_size=6,
                                            moe_intermediate_size=4, moe_shared_expert_intermediate_size=6,
                                            moe_latent_size=3, n_routed_experts=4, num_experts_per_tok=2,
                                            routed_scaling_factor=1.5)),
}
# The rest share a layout and a rule with one of the others: compared, but not kept.
REST = {
    "deepseek_v32": ("DeepseekV32", dict(num_hidden_layers=2, first_k_dense_replace=1, index_topk=2, index_n_heads=2,
                                         index_head_dim=4, **SIGMOID | dict(n_group=2), **SMALL_LATENT)),
    "glm4_moe_lite": ("Glm4MoeLite", dict(num_hidden_layers=2, mlp_layer_types=["dense", "sparse"], **SIGMOID,
                                          **SMALL_LATENT)),
    "glm4v_moe": ("Glm4vMoe", dict(text_config=dict(num_hidden_layers=2, first_k_dense_replace=1, **SIGMOID),
                                   vision_config=VISION)),
    "glm_moe_dsa": ("GlmMoeDsa", dict(num_hidden_layers=2, first_k_dense_replace=1, index_topk=2, index_n_heads=2,
                                      index_head_dim=4, **SIGMOID, **SMALL_LATENT)),
    "dots1": ("Dots1", dict(num_hidden_layers=2, first_k_dense_replace=1, **SIGMOID | dict(norm_topk_prob=False))),
    "solar_open": ("SolarOpen", dict(num_hidden_layers=1, **SIGMOID)),
    "exaone_moe": ("ExaoneMoe", dict(num_hidden_layers=2, first_k_dense_replace=1, num_experts=4, num_shared_experts=1,
                                     **{k: v for k, v in SIGMOID.items() if "_experts" not in k or "per" in k})),
    "mimo_v2_flash": ("MiMoV2Flash", dict(num_hidden_layers=2, mlp_layer_types=["dense", "sparse"],
                                          layer_types=["full_attention"] * 2,
                                          **{k: v for k, v in SIGMOID.items() if k != "n_shared_experts"})),
    "qwen3_next": ("Qwen3Next", QWEN | dict(decoder_sparse_step=1, norm_topk_prob=True)),
    "mellum": ("Mellum", dict(num_hidden_layers=1, intermediate_size=6, moe_intermediate_size=4, num_local_experts=4,
                              num_experts_per_tok=2, layer_types=["full_attention"])),
    "minimax": ("MiniMax", dict(num_hidden_layers=1, intermediate_size=4, num_local_experts=4, num_experts_per_tok=2,
                                layer_types=["full_attention"])),
    "flex_olmo": ("FlexOlmo", dict(num_hidden_layers=1, intermediate_size=4, num_experts=4, num_experts_per_tok=2)),
    "granitemoehybrid": ("GraniteMoeHybrid", dict(num_hidden_layers=1, intermediate_size=4, shared_intermediate_size=6,
                                                  num_local_experts=4, num_experts_per_tok=2,
                                                  layer_types=["full_attention"], mamba_n_heads=2, mamba_expand=2,
                                                  mamba_d_head=8)),
}
TRANSPOSED = ["qwen3_vl_moe"]
RUNTIME = ["mixtral", "qwen3_moe", "deepseek_v3", "phimoe", "granitemoeshared"]
MXFP4 = ("GptOss", dict(num_hidden_layers=1, intermediate_size=64, num_local_experts=4, head_dim=16,
                        hidden_size=32))
# More than one 128 x 128 tile in each direction that matters, and a ragged edge.
FP8 = ("DeepseekV3", dict(num_hidden_layers=1, intermediate_size=20, n_routed_experts=4, n_shared_experts=1,
                          first_k_dense_replace=0, q_lora_rank=8, n_group=2, topk_group=1,
                          **{**LATENT, "moe_intermediate_size": 136}))

VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__, "numpy": numpy.__version__}


def build(stem, settings, generator, common=COMMON):
    kind = getattr(transformers, stem + "Config")
    if "text_config" in settings:
        config = kind(**settings | {"text_config": common | settings["text_config"]})
        model = getattr(transformers, stem + "ForConditionalGeneration")
    else:
        config, model = kind(**{**common, **settings}), getattr(transformers, stem + "ForCausalLM")
    config._experts_implementation = "eager"
    model = model(config).eval()
    with torch.no_grad():
        for block in blocks(model):
            for part in block:
                for name, tensor in [*part.named_parameters(), *part.named_buffers()]:
                    scale = 0.15 if "correction" in name or "expert_bias" in name else 0.5 if tensor.dim() > 1 else 0.4
                    # Wide enough that some pre-activations meet the clamp of gpt-oss.
                    if "gate_up" in name and tensor.dim() > 1:
                        scale = {"GptOss": 1.0, "DeepseekV4": 3.0}.get(stem, scale)
                    tensor.copy_(scale * torch.randn(tensor.shape, generator=generator))
                    if isinstance(part, OfGemma4) and tensor.dim() == 1:  # others are divided by it
                        tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return model


class OfGemma4(torch.nn.Module):
    """What a layer of Gemma-4 adds to its dense block, from the layer's normed input without the norm's weight."""

    def __init__(self, layer):
        super().__init__()
        self.router, self.experts, self.norm = layer.router, layer.experts, layer.pre_feedforward_layernorm_2
        x = torch.randn(5, self.router.hidden_size)
        normed, real = self.router.norm(x), (self.router(x)[1], self.norm(x))
        for norm in (self.router.norm, self.norm):
            object.__setattr__(norm, "_norm", lambda h: h)
        assert torch.allclose(self.router(normed)[1], real[0]) and torch.allclose(self.norm(normed), real[1])

    def forward(self, x):
        flat = x.reshape(-1, x.shape[-1])
        _, gates, chosen = self.router(flat)
        return self.experts(self.norm(flat), chosen, gates).reshape(x.shape)

    @staticmethod
    def of(layer):
        if "of_gemma4" not in layer.__dict__:
            object.__setattr__(layer, "of_gemma4", OfGemma4(layer))  # not registered: it is not the model's
        return layer.of_gemma4


def blocks(model):
    """Per mixture layer, the modules whose outputs add up to the layer's."""
    for name, layers in model.named_modules():
        if not name.endswith(("layers", "blocks")) or not isinstance(layers, torch.nn.ModuleList):
            continue
        for layer in layers:
            if hasattr(layer, "experts"):
                yield [OfGemma4.of(layer)]
            for block in layer.children():
                if hasattr(block, "experts") and not getattr(block, "is_hash", False):
                    yield [block] + ([layer.shared_mlp] if getattr(layer, "shared_mlp", None) else [])


def run(block, x):
    first = block[0](x)
    y = first[0] if isinstance(first, tuple) else first
    return y + block[1](x) if len(block) > 1 else y


def router_of(block):
    return block[0].gate if hasattr(block[0], "gate") else block[0].router


def router_weight(block):
    return next(p for name, p in router_of(block).named_parameters() if name.endswith("weight"))


def route(block, x):
    """What the router hands to the experts: weights and numbers of the chosen."""
    if type(block[0]).__name__ == "Llama4TextMoe":  # whose experts are given rows
        with torch.no_grad():
            return router_of(block)(x)[0].topk(block[0].top_k)
    seen = []
    hook = block[0].experts.register_forward_pre_hook(lambda _, a, k: seen.append((*a, *k.values())), with_kwargs=True)
    with torch.no_grad():
        run(block, x[None])
    hook.remove()
    pair = [t.reshape(len(x), -1) for t in seen[0][1:3]]
    return pair if pair[0].is_floating_point() else pair[::-1]


def steady_tokens(block, count, width, generator):
    """Tokens whose routing a small change of the router's weights leaves alone, so that a test has no coin to toss."""
    kept, weight = [], router_weight(block)
    while len(kept) < count:
        x = torch.randn(64, width, generator=generator)
        gates, chosen = route(block, x)
        order = chosen.sort(dim=-1)
        good = torch.ones(len(x), dtype=torch.bool)
        original = weight.detach().clone()
        for _ in range(8):
            with torch.no_grad():
                weight.copy_(original + 2e-3 * torch.randn(weight.shape, generator=generator))
            other_gates, other = route(block, x)
            other_order = other.sort(dim=-1)
            same = (order.values == other_order.values).all(-1)
            moved = (gates.gather(1, order.indices) - other_gates.gather(1, other_order.indices)).abs().amax(-1)
            good &= same & (moved < 0.1)
        with torch.no_grad():
            weight.copy_(original)
        kept.extend(x[good])
    return torch.stack(kept[:count])


def text_config(model):
    return getattr(model.config, "text_config", model.config)


def canonical_gradients(block, config, layer, layers):
    """The block's gradients by our names. Written without a look at the library: the tests compare the two."""
    found, part = {}, block[0]
    router = router_of(block)
    found[f"layers.{layer}.router.weight"] = router_weight(block).grad
    if config.model_type == "dbrx":
        for e in range(config.ffn_config.moe_num_experts):
            for name, ours in (("w1", "gate"), ("v1", "up"), ("w2", "down")):
                grad = getattr(part.experts.mlp, name).grad.view(-1, config.ffn_config.ffn_hidden_size, config.d_model)[e]
                found[f"experts.{layer * config.ffn_config.moe_num_experts + e}.{ours}"] = grad.T if ours == "down" else grad
        return {"grad." + k: v for k, v in found.items()}
    candidates, experts = len(router_weight(block)), len(part.experts.down_proj)
    if getattr(router, "bias", None) is not None:
        found[f"layers.{layer}.router.candidate_bias"] = router.bias.grad
    down = part.experts.down_proj.grad
    if isinstance(part, OfGemma4):  # ours are products
        found[f"layers.{layer}.router.weight"] = router_weight(block).grad / (router.scale * config.hidden_size**-0.5)
        down = down / router.per_expert_scale[:, None, None]
    if config.model_type == "llama4_text":  # the router's rows reach the output by way of their experts alone
        found[f"layers.{layer}.router.weight"] = torch.zeros_like(router.weight)
    for e in range(experts):
        name = f"experts.{layer * candidates + e}."
        if config.model_type == "gpt_oss":
            both, bias = part.experts.gate_up_proj.grad, part.experts.gate_up_proj_bias.grad[e]
            found[name + "gate"], found[name + "up"] = both[e][:, 0::2].T, both[e][:, 1::2].T
            found[name + "down"] = down[e].T
            found[name + "gate_bias"], found[name + "up_bias"] = bias[0::2], bias[1::2]
            found[name + "down_bias"] = part.experts.down_proj_bias.grad[e]
        elif config.model_type == "llama4_text":
            found[name + "gate"], found[name + "up"] = part.experts.gate_up_proj.grad[e].T.chunk(2)
            found[name + "down"], found[name + "input_gate"] = down[e].T, router.weight.grad[e][None]
        elif isinstance(part, OfGemma4):
            found[name + "gate"], found[name + "up"] = (part.experts.gate_up_proj.grad[e] / part.norm.weight).chunk(2)
            found[name + "down"] = down[e]
        elif hasattr(part.experts, "gate_up_proj"):
            found[name + "gate"], found[name + "up"] = part.experts.gate_up_proj.grad[e].chunk(2)
            found[name + "down"] = down[e]
        else:
            found[name + "up"], found[name + "down"] = part.experts.up_proj.grad[e], down[e]
    if isinstance(getattr(part, "fc1_latent_proj", None), torch.nn.Linear):  # of which our experts have copies
        found[f"layers.{layer}.experts.project_in"] = part.fc1_latent_proj.weight.grad
        found[f"layers.{layer}.experts.project_out"] = part.fc2_latent_proj.weight.grad
    name = f"experts.{layers * candidates + layer}."
    shared = [getattr(part, n) for n in ("shared_experts", "shared_expert", "shared_mlp") if hasattr(part, n)]
    for n in ("gate", "up", "down"):
        if shared and hasattr(shared[0], n + "_proj"):
            found[name + n] = getattr(shared[0], n + "_proj").weight.grad
    if hasattr(part, "shared_expert_gate"):
        found[name + "self_gate"] = part.shared_expert_gate.weight.grad
    if len(block) > 1:
        found[name + "gate"], found[name + "up"] = block[1].input_linear.weight.grad.chunk(2)
        found[name + "down"] = block[1].output_linear.weight.grad
    return {"grad." + k: v for k, v in found.items()}


def expect(model, generator, which=lambda name: True, tokens=TOKENS):
    """Inputs, outputs and gradients of every mixture layer."""
    all_blocks = list(blocks(model))
    expected = {}
    for m, block in enumerate(all_blocks):
        width = text_config(model).hidden_size
        x = steady_tokens(block, tokens, width, generator).requires_grad_()
        dy = torch.randn(tokens, width, generator=generator)
        for part in block:
            part.zero_grad()
        y = run(block, x[None]).reshape(tokens, width)
        (y * dy).sum().backward()
        expected |= {f"layers.{m}.{k}": v for k, v in dict(x=x, dy=dy, y=y, dx=x.grad).items()}
        expected |= canonical_gradients(block, text_config(model), m, len(all_blocks))
    return {k: v.detach().clone().contiguous() for k, v in expected.items() if not k.startswith("grad.") or which(k)}


def save_model(model, folder, **options):
    """`save_pretrained`, then only what belongs to a mixture layer: the rest says nothing here and takes room."""
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch, **options)
        tensors = load_file(pathlib.Path(scratch, "model.safetensors"))
        config = json.loads(pathlib.Path(scratch, "config.json").read_text())
    stems = (".mlp.", ".block_sparse_moe.", ".shared_mlp.", ".mlps.", ".feed_forward.", ".mixer.", ".ffn.", ".router.",
             ".experts.", ".pre_feedforward_layernorm_2.")
    save_folder(folder, {k: v for k, v in tensors.items() if any(s in k for s in stems)}, config)


def save_transposed(model, folder):
    """The experts' axes exchanged. Transformers must read the same model from it."""
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch)
        path = pathlib.Path(scratch, "model.safetensors")
        tensors = {k: v.transpose(1, 2).contiguous() if ".experts." in k else v for k, v in load_file(path).items()}
        save_file(tensors, path, {"format": "pt"})
        again = type(model).from_pretrained(scratch).state_dict()
        config = json.loads(pathlib.Path(scratch, "config.json").read_text())
    assert all(torch.equal(again[name], tensor) for name, tensor in model.state_dict().items())
    save_folder(folder, {k: v for k, v in tensors.items() if ".mlp." in k}, config)


def save_folder(folder, tensors, config):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


# --- low precision, encoded by hand ---

FP4 = numpy.array([0, 0.5, 1, 1.5, 2, 3, 4, 6] + [-0.0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=numpy.float32)


def fp8_values():
    """All 256 codes of 1-4-3 with bias 7; 0x7f and 0xff are no numbers."""
    code = numpy.arange(256)
    exponent, fraction = (code >> 3) & 15, code & 7
    value = numpy.where(exponent == 0, fraction / 8 * 2.0**-6, (1 + fraction / 8) * 2.0 ** (exponent - 7.0))
    value = numpy.where(code & 128, -value, value).astype(numpy.float32)
    value[[127, 255]] = numpy.nan
    return value


FP8_VALUES = fp8_values()
EVERY_CODE = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)
assert numpy.array_equal(FP8_VALUES, EVERY_CODE.float().numpy(), equal_nan=True)


def nearest(table, values):
    usable = numpy.flatnonzero(numpy.isfinite(table))
    return usable[numpy.abs(values[..., None] - table[usable]).argmin(-1)].astype(numpy.uint8)


def encode_fp8(weight, tile=128):
    """Codes [out, in] and one factor for each tile, and the values they stand for."""
    rows, cols = weight.shape
    factor = numpy.zeros((-(-rows // tile), -(-cols // tile)), numpy.float32)
    code, value = numpy.zeros((rows, cols), numpy.uint8), numpy.zeros((rows, cols), numpy.float32)
    for i in range(factor.shape[0]):
        for j in range(factor.shape[1]):
            here = numpy.s_[i * tile:(i + 1) * tile, j * tile:(j + 1) * tile]
            factor[i, j] = numpy.abs(weight[here]).max() / 448
            code[here] = nearest(FP8_VALUES, weight[here] / factor[i, j])
            value[here] = FP8_VALUES[code[here]] * factor[i, j]
    return code, factor, value


def encode_mxfp4(weight):
    """Blocks [..., out, in / 32, 16], the even element in the low half, scales [..., out, in / 32], and the values."""
    parts = weight.reshape(*weight.shape[:-1], -1, 32)
    power = numpy.floor(numpy.log2(numpy.abs(parts).max(-1))) - 2
    scaled = parts / 2.0 ** power[..., None]
    code = nearest(FP4, scaled)
    blocks = code[..., 0::2] | (code[..., 1::2] << 4)
    value = (FP4[code] * 2.0 ** power[..., None]).astype(numpy.float32).reshape(weight.shape)
    return blocks.astype(numpy.uint8), (power + 127).astype(numpy.uint8), value


def make_fp8(folder, generator):
    model = build(*FP8, generator)
    prefix, block = "model.layers.0.mlp.", model.model.layers[0].mlp
    stored = {prefix + "gate.weight": block.gate.weight.detach().to(torch.bfloat16),
              prefix + "gate.e_score_correction_bias": block.gate.e_score_correction_bias.detach()}
    with torch.no_grad():
        block.gate.weight.copy_(stored[prefix + "gate.weight"].float())
        inner = block.experts.intermediate_dim
        matrices = {}
        for e in range(block.experts.num_experts):
            matrices |= {f"experts.{e}.gate_proj": block.experts.gate_up_proj[e, :inner],
                         f"experts.{e}.up_proj": block.experts.gate_up_proj[e, inner:],
                         f"experts.{e}.down_proj": block.experts.down_proj[e]}
        matrices |= {f"shared_experts.{n}_proj": getattr(block.shared_experts, n + "_proj").weight
                     for n in ("gate", "up", "down")}
        for name, matrix in matrices.items():
            code, factor, value = encode_fp8(matrix.numpy())
            matrix.copy_(torch.from_numpy(value))
            stored[prefix + name + ".weight"] = torch.from_numpy(code).view(torch.float8_e4m3fn)
            stored[prefix + name + ".weight_scale_inv"] = torch.from_numpy(factor)
    config = model.config.to_dict() | {"quantization_config": {"quant_method": "fp8", "fmt": "e4m3",
                                                               "activation_scheme": "dynamic",
                                                               "weight_block_size": [128, 128]}}
    save_folder(folder, stored, plain(config))
    return model


def make_mxfp4(folder, generator):
    model = build(*MXFP4, generator)
    prefix, block = "model.layers.0.mlp.", model.model.layers[0].mlp
    stored = {prefix + "router." + n: getattr(block.router, n).detach().to(torch.bfloat16) for n in ("weight", "bias")}
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(block.router, name).copy_(stored[prefix + "router." + name].float())
        for name in ("gate_up_proj", "down_proj"):
            matrix = getattr(block.experts, name)
            coded, scales, value = encode_mxfp4(matrix.transpose(1, 2).contiguous().numpy())
            matrix.copy_(torch.from_numpy(value).transpose(1, 2))
            coded, scales = torch.from_numpy(coded), torch.from_numpy(scales)
            assert torch.equal(convert_moe_packed_tensors(coded, scales, dtype=torch.float32), matrix)
            stored[prefix + f"experts.{name}_blocks"], stored[prefix + f"experts.{name}_scales"] = coded, scales
            bias = getattr(block.experts, name + "_bias")
            stored[prefix + f"experts.{name}_bias"] = bias.detach().to(torch.bfloat16)
            bias.copy_(stored[prefix + f"experts.{name}_bias"].float())
    config = model.config.to_dict() | {"quantization_config": {"quant_method": "mxfp4"}}
    save_folder(folder, stored, plain(config))
    return model


def plain(config):
    return json.loads(json.dumps(config, default=str))


def make_case(case, directory, seed, in_memory=False):
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(1000 + seed)
    small = case not in CASES
    stem, settings = {**CASES, **CASES_OF_5_24, **REST}[case]
    model = build(stem, settings, generator, SMALL if small else COMMON)
    save_model(model, directory / case)
    save_file(expect(model, generator, tokens=4 if small else TOKENS), directory / case / "expected.safetensors", VERSIONS)
    if case in TRANSPOSED:
        save_transposed(model, directory / (case + "_transposed"))
    if in_memory or case in RUNTIME:
        save_model(model, directory / (case + "_runtime"), save_original_format=False)


def main(directory, *cases):
    directory.mkdir(parents=True, exist_ok=True)
    names = [*CASES, *CASES_OF_5_24, *REST]
    low = {"deepseek_v3_fp8": make_fp8, "gpt_oss_mxfp4": make_mxfp4}
    everything = cases == ("all",)
    for case in [*names, *low] if everything else cases or [*CASES, *CASES_OF_5_24, *low]:
        if case not in low:
            make_case(case, directory, names.index(case), everything)
            continue
        torch.manual_seed(7)
        generator = torch.Generator().manual_seed(2000 + len(case))
        model = low[case](directory / case, generator)
        expected = expect(model, generator, which=lambda name: "router" in name)
        save_file(expected, directory / case / "expected.safetensors", VERSIONS)
    (directory / "versions.json").write_text(json.dumps(VERSIONS, indent=1) + "\n")


if __name__ == "__main__":
    here = pathlib.Path(__file__).resolve().parent
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here.parent / "data" / "parity", *sys.argv[2:])
