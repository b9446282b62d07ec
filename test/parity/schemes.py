# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""One matrix in each scheme of low precision, and what a decoder that is not ours makes of it.

Usage: schemes.py [FILE]        (default: test/data/schemes/schemes.safetensors beside this folder)

Codes and scales are random bits: every code occurs. Decoders: compressed-tensors for its formats, AutoGPTQ's and AutoAWQ's
own for theirs (`pip install compressed-tensors; pip install --no-deps auto-gptq autoawq`), transformers' for tiles of fp8,
gpt-oss and FBGEMM. ModelOpt's scale of the whole is our own: it has no foreign decoder. Scales are given in single precision where
a decoder multiplies in the type of its scales, so that products are exact, or rounded once.

Tensors: `<case>/<part>.<piece>` with part `gate` [16, 32] or, where its blocks are short enough, `down` [32, 16], named as
in checkpoints, and `<case>/<part>.expected`. MXFP4 of gpt-oss, which no other family's files have, is `blocks`, `scales` and
`expected` in a file of its own, gpt_oss.safetensors.
"""

import importlib.util
import pathlib
import sys

import numpy
import torch
import transformers.integrations.fbgemm_fp8 as fbgemm_fp8
from compressed_tensors.compressors.mxfp4.base import MXFP4PackedCompressor
from compressed_tensors.compressors.mxfp8.base import MXFP8QuantizationCompressor
from compressed_tensors.compressors.naive_quantized.base import NaiveQuantizationCompressor
from compressed_tensors.compressors.nvfp4.base import NVFP4PackedCompressor
from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from safetensors.torch import save_file
from transformers.integrations.finegrained_fp8 import _dequantize_fp8_weight
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

GATE, DOWN = (16, 32), (32, 16)
generator = torch.Generator().manual_seed(5)


def module(package, path):
    """A file of a package, without the package: what that imports at the top is long gone."""
    folder = pathlib.Path(importlib.util.find_spec(package).submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location("file_of_" + package, folder / path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def integers(low, high, shape, dtype=torch.int32):
    return torch.randint(low, high, shape, generator=generator, dtype=torch.int64).to(dtype)


def bits(shape, dtype=torch.int32):
    """Random words, each bit fair."""
    return integers(-2**31, 2**31, shape) if dtype == torch.int32 else integers(0, 256, shape, torch.uint8)


def scales(shape, dtype=torch.bfloat16):
    return (0.01 + torch.rand(shape, generator=generator)).to(dtype)


def fp8(shape):
    codes = bits(shape, torch.uint8)
    codes[codes & 127 == 127] = 1  # not a number
    return codes.view(torch.float8_e4m3fn)


def widened(pieces):
    return {k: v.float() if v.dtype in (torch.bfloat16, torch.float16) else v for k, v in pieces.items()}


def compressed(compressor, pieces, **arguments):
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**arguments))
    return pieces | {"expected": compressor.decompress(widened(pieces), scheme)["weight"].float()}


def by_tiles(shape, tile, scale):
    codes = fp8(shape)
    factors = scale.view(torch.float8_e8m0fnu).float() if scale.dtype == torch.uint8 else scale
    return {"weight": codes, "weight_scale_inv": scale,
            "expected": _dequantize_fp8_weight(codes, factors, list(tile), torch.float32)}


def gpt_oss(rows, cols):
    pieces = {"blocks": bits((1, rows, cols // 32, 16), torch.uint8),
              "scales": integers(100, 150, (1, rows, cols // 32), torch.uint8)}
    expected = convert_moe_packed_tensors(pieces["blocks"], pieces["scales"], dtype=torch.float32)
    return pieces | {"expected": expected.transpose(1, 2)}


def grid(shape, tile):
    return -(-shape[0] // tile[0]), -(-shape[1] // tile[1])


def int4(shape, group, symmetric=True, width=4):
    pieces = {"weight_packed": bits((shape[0], shape[1] * width // 32)), "weight_scale": scales((shape[0], shape[1] // group)),
              "weight_shape": torch.tensor(shape)}
    if not symmetric:
        pieces["weight_zero_point"] = bits((shape[0] * width // 32, shape[1] // group))
    return compressed(PackedQuantizationCompressor, pieces, num_bits=width, type="int", strategy="group", group_size=group,
                      symmetric=symmetric)


def nvfp4(shape):
    scale = fp8((shape[0], shape[1] // 16)).float().abs().to(torch.float8_e4m3fn)
    pieces = {"weight_packed": bits((shape[0], shape[1] // 2), torch.uint8), "weight_scale": scale,
              "weight_global_scale": torch.tensor([64.0])}
    return compressed(NVFP4PackedCompressor, pieces, num_bits=4, type="float", strategy="tensor_group", group_size=16,
                      symmetric=True)


def gptq(shape, group, ordered=False, width=4):
    rows, cols = shape
    pieces = {"qweight": bits((cols * width // 32, rows)), "qzeros": bits((cols // group, rows * width // 32)),
              "scales": scales((cols // group, rows), torch.float16),
              "g_idx": torch.arange(cols, dtype=torch.int32) // group}
    # All bits set is 0 to some implementations and 2^bits to others.
    words = pieces["qzeros"].numpy().view(numpy.uint32)
    for at in range(0, 32, width):
        full = numpy.uint32(((1 << width) - 1) << at)
        words[(words & full) == full] ^= numpy.uint32(1 << at)
    if ordered:
        pieces["g_idx"] = pieces["g_idx"][torch.randperm(cols, generator=generator)]
    layer = module("auto_gptq", "nn_modules/qlinear/qlinear_cuda.py").QuantLinear(width, group, 32, 32, False)
    for name, tensor in pieces.items():
        setattr(layer, name, tensor.float() if name == "scales" else tensor)
    layer.infeatures, layer.outfeatures = cols, rows
    return pieces | {"expected": layer(torch.eye(cols)).T.contiguous()}


def awq(shape, group):
    rows, cols = shape
    pieces = {"qweight": bits((cols, rows // 8)), "qzeros": bits((cols // group, rows // 8)),
              "scales": scales((cols // group, rows), torch.float16)}
    decode = module("awq", "utils/packing_utils.py").dequantize_gemm
    return pieces | {"expected": decode(pieces["qweight"], pieces["qzeros"], pieces["scales"].float(), 4, group).T.contiguous()}


def eight_bits(shape, scale, **arguments):
    compressor = MXFP8QuantizationCompressor if scale.dtype == torch.uint8 else NaiveQuantizationCompressor
    return compressed(compressor, {"weight": fp8(shape), "weight_scale": scale}, num_bits=8, type="float", symmetric=True,
                      **arguments)


def fbgemm(shape):
    """What transformers' layer answers to unit vectors, on the path that needs no kernels of FBGEMM."""
    pieces = {"weight": fp8(shape), "weight_scale": scales((shape[0], 1), torch.float32)}
    layer = fbgemm_fp8.FbgemmFp8Linear(shape[1], shape[0], bias=False)
    for name, tensor in pieces.items():
        setattr(layer, name, torch.nn.Parameter(tensor, requires_grad=False))
    fbgemm_fp8._is_torch_xpu_available = True
    fbgemm_fp8.quantize_fp8_per_row = lambda x, scale_ub: (x.to(torch.float8_e4m3fn), torch.ones(len(x)))
    return pieces | {"expected": layer(torch.eye(shape[1])).T.contiguous()}


def modelopt(shape):
    """As compressed-tensors', but the scale of the whole is multiplied with."""
    pieces = nvfp4(shape)
    whole = 0.0123
    expected = (pieces["expected"].double() * 64).mul(torch.tensor(whole).double()).float()
    return {"weight": pieces["weight_packed"], "weight_scale": pieces["weight_scale"],
            "weight_scale_2": torch.tensor(whole), "expected": expected}


def cases():
    yield "fp8_tensor", eight_bits(GATE, scales((1,)), strategy="tensor"), None
    yield "fp8_rows", eight_bits(GATE, scales((16, 1)), strategy="channel"), eight_bits(DOWN, scales((32, 1)), strategy="channel")
    yield "fp8_tiles", by_tiles(GATE, (6, 20), scales(grid(GATE, (6, 20)), torch.float32)), by_tiles(
        DOWN, (6, 20), scales(grid(DOWN, (6, 20)), torch.float32))
    yield "fp8_tiles_e8m0", by_tiles(GATE, (6, 20), integers(117, 137, grid(GATE, (6, 20)), torch.uint8)), None
    yield "mxfp8", eight_bits(GATE, integers(117, 137, (16, 1), torch.uint8), strategy="group", group_size=32), None
    yield "mxfp4", compressed(MXFP4PackedCompressor, {"weight_packed": bits((16, 16), torch.uint8),
                                                      "weight_scale": integers(117, 137, (16, 1), torch.uint8)},
                              num_bits=4, type="float", strategy="group", group_size=32, symmetric=True), None
    yield "nvfp4", nvfp4(GATE), nvfp4(DOWN)
    yield "nvfp4_modelopt", modelopt(GATE), modelopt(DOWN)
    yield "int8", compressed(NaiveQuantizationCompressor, {"weight": integers(-128, 128, GATE, torch.int8),
                                                           "weight_scale": scales((16, 1))},
                             num_bits=8, type="int", strategy="channel", symmetric=True), None
    yield "int4", int4(GATE, 8), int4(DOWN, 8)
    yield "int4_zeros", int4(GATE, 16, False), None
    yield "int8_words", int4(GATE, 16, width=8), None
    yield "gptq", gptq(GATE, 16), gptq(DOWN, 8)
    yield "gptq_ordered", gptq(GATE, 8, True), None
    yield "gptq_8", gptq(GATE, 16, width=8), None
    yield "awq", awq(GATE, 16), awq(DOWN, 8)
    yield "fbgemm", fbgemm(GATE), fbgemm(DOWN)


def main(path):
    tensors = {}
    for case, gate, down in cases():
        for part, pieces in (("gate", gate), ("down", down or {})):
            for piece, tensor in pieces.items():
                tensors[f"{case}/{part}.{piece}"] = tensor.contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    versions = {"torch": torch.__version__, "numpy": numpy.__version__}
    save_file(tensors, path, versions)
    save_file({piece: tensor.contiguous() for piece, tensor in gpt_oss(5, 96).items()}, path.parent / "gpt_oss.safetensors",
              versions)


if __name__ == "__main__":
    here = pathlib.Path(__file__).resolve().parent
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here.parent / "data" / "schemes" / "schemes.safetensors")
