# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""Writes golden.safetensors beside itself with the format's own package (numpy; safetensors 0.8.0 made the file).

The metadata is what our writer adds to its own; the checksums (CRC-32C) are computed here bit by bit."""

import json
import pathlib

import numpy
from safetensors.numpy import save_file


def crc32c(data):
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return f"{state ^ 0xFFFFFFFF:08x}"


tensors = {
    "a.narrow": numpy.arange(5, dtype=numpy.int16) - 2,
    'wide "\u00fc"': numpy.array([[1, -2, 0.5], [numpy.inf, 3e-45, 65504]], dtype=numpy.float32),
}
sums = {name: crc32c(tensor.tobytes()) for name, tensor in sorted(tensors.items())}
metadata = {
    "format": "pt",
    "made by": "golden.py\n",
    "moue.checksums": json.dumps(sums, separators=(",", ":"), ensure_ascii=False),
}
path = pathlib.Path(__file__).with_suffix(".safetensors")
while True:  # the package writes metadata in any order; ours is sorted
    save_file(tensors, path, metadata)
    text = path.read_bytes()
    if text.find(b"format") < text.find(b"made by") < text.find(b"moue.checksums"):
        break
