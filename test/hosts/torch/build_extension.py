# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""Builds the extension module that the tests import. Usage: build_extension.py FOLDER"""

import pathlib
import sys

from torch.utils import cpp_extension

here = pathlib.Path(__file__).resolve().parent
root = here.parents[2]
folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
(folder / "lock").unlink(missing_ok=True)  # of a build that was ended, for which torch would wait
cpp_extension.load(
    name="moue_torch",
    sources=[str(here / "extension.cpp"), str(here / "models.cpp")],
    extra_include_paths=[str(root / "include")],
    extra_cflags=["-std=c++20", "-O1", "-Wall", "-Wextra", "-Wno-array-bounds", "-Wno-maybe-uninitialized", "-Werror",
                  "-isystem/usr/include/eigen3"],
    build_directory=str(folder),
    verbose=True,
)
