# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""A GGUF file with a tensor of each type and a key of each kind, and what the `gguf` package makes of it.

Usage: gguf_file.py [FOLDER]        (default: test/data/gguf beside this folder)

Blocks are random bits, but for the scales of 16 bits, which are numbers. Writes all_types.gguf, and answers.safetensors
with the decoded numbers under the tensors' names.
"""

import pathlib
import sys

import gguf
import numpy
from safetensors.numpy import save_file

TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K", "MXFP4"]
# Where scales of 16 bits stand in a block.
SCALES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q4_K": [0, 2], "Q6_K": [208]}
random = numpy.random.default_rng(3)


def blocks(name, rows, cols):
    kind = gguf.GGMLQuantizationType[name]
    if name in ("F32", "F16"):
        return random.standard_normal((rows, cols)).astype(numpy.float32 if name == "F32" else numpy.float16)
    if name == "BF16":
        return (random.standard_normal((rows, cols)).astype(numpy.float32).view(numpy.uint32) >> 16).astype(numpy.uint16).view(numpy.uint8)
    numbers, size = gguf.GGML_QUANT_SIZES[kind]
    raw = random.integers(0, 256, (rows * cols // numbers, size)).astype(numpy.uint8)
    for at in SCALES.get(name, []):
        raw[:, at:at + 2] = random.standard_normal((len(raw), 1)).astype(numpy.float16).view(numpy.uint8)
    if name == "MXFP4":
        raw[:, 0] = random.integers(0, 253, len(raw))  # from subnormal numbers to the largest that a float holds
    return raw.reshape(rows, -1)


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    writer, answers = gguf.GGUFWriter(folder / "all_types.gguf", "llama"), {}
    for kind in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"):
        getattr(writer, "add_" + kind)("test." + kind, 7 if kind[0] == "u" else -7)
    writer.add_float32("test.float32", 0.5)
    writer.add_float64("test.float64", 0.1)
    writer.add_bool("test.bool", True)
    writer.add_string("test.string", "a text")
    writer.add_array("test.numbers", [1, 2, 3])
    writer.add_array("test.texts", ["one", "two"])
    for name in TYPES:
        raw = blocks(name, 2, 256)
        kind = gguf.GGMLQuantizationType[name]
        writer.add_tensor("of." + name, raw, raw_dtype=kind)
        answers["of." + name] = gguf.dequantize(raw, kind).astype(numpy.float32).reshape(2, 256)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(answers, folder / "answers.safetensors", {"gguf": "0.19.0"})


if __name__ == "__main__":
    here = pathlib.Path(__file__).resolve().parent
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here.parent / "data" / "gguf")
