# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""From the text of a composition to a model: hash, compile, keep, load."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import pathlib
import platform
import re
import shlex
import subprocess
import tempfile
from collections.abc import Sequence

from . import _built, _core

INCLUDE = pathlib.Path(__file__).with_name("include")
STORAGE = {"float32": "float", "float64": "double"}
SOURCE = """#include <moue/any/erase.hpp>
#include <moue/moue.hpp>
#line 1 "preamble"
{preamble}
static auto moue_composition() {{ return
#line 1 "composition"
{text}
; }}
extern "C" __attribute__((visibility("default"))) std::shared_ptr<const moue::any_model<{storage}>>* moue_make_{dtype}() {{
  return new std::shared_ptr<const moue::any_model<{storage}>>(moue::erase<{storage}>(moue_composition()));
}}
"""


class CompileError(ValueError):
    """A composition that does not compile. The text is the compiler's first error, `log` all that it said."""

    def __init__(self, message: str, log: str):
        super().__init__(message)
        self.log = log


def cache_folder() -> pathlib.Path:
    """Where compiled compositions are kept: $MOUE_CACHE, or moue in the user's cache folder. May be deleted."""
    if "MOUE_CACHE" in os.environ:
        return pathlib.Path(os.environ["MOUE_CACHE"])
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "moue"


@functools.cache
def _headers() -> str:
    """What the headers say: those that this package carries, and the version of Eigen."""
    digest = hashlib.sha256()
    for header in sorted(INCLUDE.rglob("*.[hc]*")):
        digest.update(header.relative_to(INCLUDE).as_posix().encode())
        digest.update(header.read_bytes())
    macros = pathlib.Path(_eigen(), "Eigen/src/Core/util/Macros.h")
    if not macros.exists():
        raise FileNotFoundError(f"Eigen is not in {_eigen()}; install it (Debian: libeigen3-dev) or set MOUE_EIGEN")
    digest.update(macros.read_bytes())
    return digest.hexdigest()


def _eigen() -> str:
    return os.environ.get("MOUE_EIGEN", _built.EIGEN)


def _machine(flags: Sequence[str]) -> str:
    """What -march=native means here."""
    if "-march=native" not in flags:
        return platform.machine()
    try:
        found = re.search(r"^(flags|Features)\s*:.*$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return found[0] if found else platform.processor()


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no compiler called '{command[0]}'; set CXX or give compiler=") from None


def _first_error(log: str) -> str:
    lines = log.splitlines()
    for i, line in enumerate(lines):
        if re.search(r"\b(fatal )?error: ", line):
            return "\n".join([line, *(l for l in lines[i + 1 : i + 3] if re.match(r"\s+(\d+ )?\|", l))])
    return log.strip().splitlines()[-1] if log.strip() else "the compiler failed without a word"


def compile(
    text: str,
    *,
    dtype: str = "float32",
    preamble: str = "",
    flags: Sequence[str] = ("-O2", "-march=native"),
    compiler: str | None = None,
) -> _core.Model_float32 | _core.Model_float64:
    """A model from `text`, a C++ expression that is a `moue::mixture`.

    The first time takes some 15 s; later, also in other processes, it is loaded from `cache_folder()`. It is compiled
    anew when `text`, `preamble` (C++ that comes before it: policies of your own), `dtype` ("float32" or "float64"), the
    compiler (`compiler`, or $CXX), its `flags` or the library's headers change. Processes that compile the same
    composition at once wait for the first of them.
    """
    if dtype not in STORAGE:
        raise ValueError(f"dtype is {dtype!r}; give one of {', '.join(STORAGE)}")
    command = shlex.split(compiler or os.environ.get("CXX") or _built.CXX)
    source = SOURCE.format(text=text, preamble=preamble, dtype=dtype, storage=STORAGE[dtype])
    version = _run([*command, "--version"]).stdout
    asked = [source, _headers(), *command, version, _eigen(), _machine(flags), *flags]
    key = hashlib.sha256("\0".join(asked).encode()).hexdigest()[:32]
    folder = cache_folder()
    library = folder / f"{key}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / f"{key}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not library.exists():
                _build(source, library, command, flags)
    return getattr(_core, f"load_{dtype}")(str(library))


def _build(source: str, library: pathlib.Path, command: Sequence[str], flags: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="build-", dir=library.parent) as work:
        file, made = pathlib.Path(work, "composition.cpp"), pathlib.Path(work, library.name)
        file.write_text(source)
        # The same library hides all but its one function: two compositions share no symbol.
        options = ["-std=c++20", "-fPIC", "-shared", "-pthread", "-w", "-fvisibility=hidden", "-fvisibility-inlines-hidden"]
        places = ["-I", str(INCLUDE), "-isystem", _eigen()]
        done = _run([*command, *options, *flags, *places, str(file), "-o", str(made)])
        if done.returncode != 0:
            log = done.stderr + done.stdout
            raise CompileError(f"the composition does not compile:\n{_first_error(log)}", log)
        os.replace(made, library)  # whole or not at all
