# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""Mixture layers of generate.py's checkpoints as GGUF files, under the names and keys of the `gguf` package.

Usage: gguf_moe.py DATA OUT [CASE...]        (default: all of CASES; writes OUT/<case>.gguf, and for those of PAIRED
                                              OUT/<case>_paired.gguf)

What llama.cpp's converter does to the tensors of a mixture: the experts of a layer in one tensor, gate and up apart,
matrices as [out, in]. Types: F32, and MXFP4 for experts that are published so. In a paired file gate and up stand in one
tensor, the gate first, as the converter's --fuse-gate-up-exps has them.
"""

import json
import pathlib
import re
import sys

import gguf
import numpy
from safetensors.torch import load_file

# case: (architecture, the name of the gating function or none)
CASES = {
    "mixtral": ("llama", None), "olmoe": ("olmoe", None), "qwen2_moe": ("qwen2moe", None),
    "qwen3_moe": ("qwen3moe", None), "qwen3_vl_moe": ("qwen3vlmoe", None), "qwen3_5_moe": ("qwen35moe", None),
    "deepseek_v2": ("deepseek2", "SOFTMAX"), "deepseek_v2_lite": ("deepseek2", None),
    "deepseek_v3": ("deepseek2", "SIGMOID"), "glm4_moe": ("glm4moe", "SIGMOID"), "granitemoe": ("granitemoe", None),
    "granitemoeshared": ("granitemoe", None), "gpt_oss": ("gpt-oss", None), "gpt_oss_mxfp4": ("gpt-oss", None),
    "minimax_m2": ("minimax-m2", "SIGMOID"), "lfm2_moe": ("lfm2moe", "SIGMOID"), "jamba": ("jamba", None),
    "hunyuan_v1_moe": ("hunyuan-moe", None), "afmoe": ("afmoe", "SIGMOID"), "ernie4_5_moe": ("ernie4_5-moe", None),
    "kimi_linear": ("kimi-linear", "SIGMOID"), "dots1": ("dots1", "SIGMOID"), "qwen3_next": ("qwen3next", None),
}
PAIRED = ("qwen3_5_moe", "qwen3_next")  # whose architectures have such a tensor in the package
ARCHITECTURES = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
FP4 = numpy.array([0, 0.5, 1, 1.5, 2, 3, 4, 6] + [-0.0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=numpy.float32)


def first(config, *keys):
    found = [config[key] for key in keys if config.get(key) is not None]
    return (found[0][0] if isinstance(found[0], list) else found[0]) if found else None


def decoded(tensors):
    """MXFP4 of gpt-oss, as matrices [in, out]."""
    result = {}
    for name, tensor in tensors.items():
        if name.endswith("_blocks"):
            blocks, scales = tensor.numpy(), tensors[name.replace("_blocks", "_scales")].numpy()
            codes = numpy.stack([blocks & 15, blocks >> 4], -1).reshape(*blocks.shape[:-1], 32)
            value = FP4[codes] * numpy.exp2(scales.astype(numpy.float32) - 127)[..., None]
            result[name.removesuffix("_blocks")] = value.reshape(*blocks.shape[:2], -1).swapaxes(1, 2)
        elif not name.endswith("_scales"):
            result[name] = tensor.float().numpy()
    return result


def stacked(tensors):
    """The experts of a layer in one tensor each."""
    result, groups = {}, {}
    for name, tensor in tensors.items():
        if match := re.search(r"\.experts\.(\d+)\.", name):
            groups.setdefault(name.replace(match[0], ".experts."), {})[int(match[1])] = tensor
        else:
            result[name] = tensor
    return result | {name: numpy.stack([experts[e] for e in sorted(experts)]) for name, experts in groups.items()}


def apart(tensors, case):
    """Gate and up in tensors of their own, [.., out, in]."""
    result = {}
    for name, tensor in tensors.items():
        if "gate_up_proj" in name:
            tensor = tensor.swapaxes(1, 2) if "gpt_oss" in case and tensor.ndim == 3 else tensor
            halves = (tensor[:, 0::2], tensor[:, 1::2]) if "gpt_oss" in case else numpy.split(tensor, 2, axis=1)
            for half, word in zip(halves, ("gate_proj", "up_proj")):
                result[name.replace("gate_up_proj", word)] = half
        elif "input_linear" in name:
            axis = tensor.ndim - 2
            stem = name.replace("block_sparse_moe.input_linear", "mlp.experts.{}_proj").replace(
                "shared_mlp.input_linear", "mlp.shared_expert.{}_proj")
            for half, word in zip(numpy.split(tensor, 2, axis=axis), ("gate", "up")):
                result[stem.format(word)] = half
        elif "output_linear" in name:
            result[name.replace("block_sparse_moe.output_linear", "mlp.experts.down_proj").replace(
                "shared_mlp.output_linear", "mlp.shared_expert.down_proj")] = tensor
        elif name.endswith("experts.down_proj") and tensor.ndim == 3 and "gpt_oss" in case:
            result[name] = tensor.swapaxes(1, 2)
        else:
            result[name] = tensor
    return result


def gguf_name(names, name):
    """By the package's map, which knows modules; parameters without one are looked up as if they had a weight."""
    name = name.replace("language_model.", "")
    if ".feed_forward.experts.w" in name:  # LFM2, as the converter does
        name = name.replace("w1", "gate_proj").replace("w3", "up_proj").replace("w2", "down_proj")
    suffix = ".bias" if name.endswith(("bias", "e_score_correction_bias")) else ".weight"
    stem = re.sub(r"(?<=_proj)_bias$|\.bias$|\.weight$|(?<=correction)_bias$", "", name)
    found = names.get_name(stem)
    return found + suffix if found else None


def mixtures(tensors, renumbered):
    """Of layers that are mixtures; an architecture that has no dense ones numbers them anew."""
    def layer(name):
        return int(re.search(r"layers\.(\d+)\.", name)[1])
    inner = {name: tensor for name, tensor in tensors.items() if ".layers." in name and "visual" not in name}
    layers = sorted({layer(name) for name in inner if "experts." in name})
    number = {l: n if renumbered else l for n, l in enumerate(layers)}
    return {name.replace(f"layers.{layer(name)}.", f"layers.{number[layer(name)]}."): tensor
            for name, tensor in inner.items() if layer(name) in number}, list(number.values())


def paired(tensors):
    """The gates and ups of a layer's experts in one tensor, [experts, 2 hidden, width]."""
    gates = [name for name in tensors if re.search(r"experts\.gate_proj(\.weight)?$", name) and tensors[name].ndim == 3]
    result = {name: tensor for name, tensor in tensors.items() if name not in gates}
    for name in gates:
        up = result.pop(name.replace("gate_proj", "up_proj"))
        result[name.replace("gate_proj", "gate_up_proj")] = numpy.concatenate([tensors[name], up], axis=1)
    return result


def write(case, data, out, in_pairs=False):
    architecture, gating = CASES[case]
    config = json.loads((data / case / "config.json").read_text())
    config = config.get("text_config", config)
    tensors = apart(stacked(decoded(load_file(data / case / "model.safetensors"))), case)
    depth = first(config, "num_hidden_layers", "num_layers")
    tensors = paired(tensors) if in_pairs else tensors
    tensors, layers = mixtures(tensors, renumbered := case in ("qwen2_moe", "qwen3_moe"))
    depth = len(layers) if renumbered else depth
    names = gguf.get_tensor_name_map(ARCHITECTURES[architecture], depth)
    writer = gguf.GGUFWriter(out / f"{case}{'_paired' if in_pairs else ''}.gguf", architecture)
    writer.add_block_count(depth)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_expert_count(first(config, "num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"))
    writer.add_expert_used_count(first(config, "moe_topk", "moe_k", "num_experts_per_token", "num_experts_per_tok"))
    shared = first(config, "n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert")
    if shared:
        writer.add_expert_shared_count(shared)
    scale = first(config, "routed_scaling_factor", "route_scale")
    if scale:
        writer.add_expert_weights_scale(scale)
    normed = first(config, "norm_topk_prob", "route_norm", "moe_renormalize")
    if normed is not None:
        writer.add_expert_weights_norm(normed)
    if gating:
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType[gating])
    groups = first(config, "n_group", "num_expert_group")
    if groups:
        writer.add_expert_group_count(groups)
        writer.add_expert_group_used_count(config["topk_group"])
    if layers[0] > 0:
        writer.add_leading_dense_block_count(layers[0])
    for name, tensor in sorted(tensors.items()):
        if (place := gguf_name(names, name)) is None:
            raise SystemExit(f"{case}: the package has no name for {name}")
        tensor = numpy.ascontiguousarray(tensor.squeeze(0) if name.endswith("gate.weight") and len(tensor) == 1 or
                                         "moe_statics" in name else tensor, dtype=numpy.float32)
        if case == "gpt_oss_mxfp4" and "exps.weight" in place:
            kind = gguf.GGMLQuantizationType.MXFP4
            coded = gguf.quantize(tensor, kind)
            assert numpy.array_equal(gguf.dequantize(coded, kind), tensor)
            writer.add_tensor(place, coded, raw_dtype=kind)
        else:
            writer.add_tensor(place, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    data, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    for case in sys.argv[3:] or CASES:
        write(case, data, out)
        if case in PAIRED:
            write(case, data, out, True)
