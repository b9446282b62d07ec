# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""Writes golden.safetensors beside itself with the format's own package (numpy; safetensors 0.8.0 made the file)."""

import pathlib

import numpy
from safetensors.numpy import save_file

tensors = {
    "a.narrow": numpy.arange(5, dtype=numpy.int16) - 2,
    'wide "\u00fc"': numpy.array([[1, -2, 0.5], [numpy.inf, 3e-45, 65504]], dtype=numpy.float32),
}
save_file(tensors, pathlib.Path(__file__).with_suffix(".safetensors"), {"made by": "golden.py\n"})
