# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""moue/adapt/dlpack.hpp with the tensors of PyTorch and NumPy."""

import ctypes
import gc
import os
import pathlib
import subprocess

import numpy as np
import pytest
import torch

HERE = pathlib.Path(__file__).parent
NAMES = {False: b"dltensor", True: b"dltensor_versioned"}
USED = {False: b"used_dltensor", True: b"used_dltensor_versioned"}
new = ctypes.pythonapi.PyCapsule_New
new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
pointer = ctypes.pythonapi.PyCapsule_GetPointer
pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
rename = ctypes.pythonapi.PyCapsule_SetName
rename.argtypes = [ctypes.py_object, ctypes.c_char_p]


@pytest.fixture(scope="module")
def lib(tmp_path_factory):
    made = tmp_path_factory.mktemp("dlpack") / "dlpack.so"
    include = pathlib.Path(torch.__file__).parent / "include"
    command = [os.environ.get("CXX", "c++"), "-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    places = ["-I", HERE / "../../../include", "-isystem", include]
    subprocess.run([*command, *places, HERE / "dlpack.cpp", "-o", made], check=True)
    result = ctypes.CDLL(str(made))
    result.describe.restype = ctypes.c_bool
    result.describe.argtypes = [ctypes.c_void_p, ctypes.c_bool, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    result.lend.restype = result.lend_read_only.restype = ctypes.c_void_p
    return result


def described(lib, tensor, versioned=False):
    """(rows, cols, stride, sum, read only), or the text of the refusal."""
    capsule = tensor.__dlpack__(max_version=(1, 0)) if versioned else tensor.__dlpack__()
    out, text = (ctypes.c_double * 5)(), ctypes.create_string_buffer(500)
    address = pointer(capsule, NAMES[versioned])
    rename(capsule, USED[versioned])  # from here on it is ours to give back
    return tuple(out) if lib.describe(address, versioned, out, text, 500) else text.value.decode()


def test_their_tensors(lib):
    x = torch.arange(24, dtype=torch.float32)
    assert described(lib, x.view(2, 3, 4)) == (6, 4, 4, 276, 0)
    assert described(lib, x.view(4, 6)[1:, 2:5]) == (3, 3, 6, 6 * (9 + 15 + 21) / 2, 0)
    assert described(lib, x.view(4, 6)[::2]) == (2, 6, 12, sum(range(6)) + sum(range(12, 18)), 0)
    assert described(lib, x[:6].expand(3, 6)) == (3, 6, 0, 45, 0)
    a = np.arange(24, dtype=np.float32).reshape(4, 6)
    assert described(lib, a[::-1]) == (4, 6, -6, 276, 0)
    a.flags.writeable = False
    assert described(lib, a, versioned=True) == (4, 6, 6, 276, 1)
    assert "the elements of a row lie 6 apart" in described(lib, x.view(4, 6).t())
    assert "the rows are not evenly apart" in described(lib, x.view(2, 3, 4)[:, :2])
    assert "the elements are float64, not float32" in described(lib, x.double().view(4, 6))


def test_their_memory_is_given_back(lib):
    x = np.ones((4, 6), np.float32)
    gone = []

    class Watched(np.ndarray):
        def __del__(self):
            gone.append(1)

    watched = x.view(Watched)
    assert described(lib, watched)[3] == 24
    del watched
    gc.collect()
    assert gone


def test_our_tensors(lib):
    lent = torch.from_dlpack(new(lib.lend(), NAMES[False], None))
    assert lent.tolist() == [[1, 2, 3], [5, 6, 7]]
    assert lent.stride() == (4, 1)
    part = lent[1]
    del lent
    gc.collect()
    assert lib.lent_alive() == 1 and part.tolist() == [5, 6, 7]
    del part
    gc.collect()
    assert lib.lent_alive() == 0

    class Lent:
        def __dlpack__(self, **_):
            return new(lib.lend_read_only(), NAMES[True], None)

        def __dlpack_device__(self):
            return 1, 0

    array = np.from_dlpack(Lent())
    assert array.tolist() == [0, 1, 2, 3, 4, 5, 6, 7] and not array.flags.writeable
    del array
    gc.collect()
    assert lib.lent_alive() == 0
