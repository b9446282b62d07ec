# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""What is compiled when, and what is said where it cannot be."""

import os
import stat
import subprocess
import sys

import numpy as np
import pytest
from compositions import FLAGS, SMALL

import moue


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """A compiler that counts what it compiles, and an empty cache."""
    log = tmp_path / "compiled"
    compiler = tmp_path / "counting"
    compiler.write_text(f'#!/bin/sh\n[ "$1" = --version ] || echo >> {log}\nexec c++ "$@"\n')
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("MOUE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", str(compiler))
    return lambda: len(log.read_text().splitlines()) if log.exists() else 0


def test_it_is_compiled_once_also_by_processes_at_once(counted):
    program = f"import moue; print(moue.compile({SMALL!r}, flags={FLAGS!r}).width)"
    processes = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(4)]
    assert [p.communicate()[0] for p in processes] == [b"4\n"] * 4
    assert counted() == 1
    assert moue.compile(SMALL, flags=FLAGS).width == 4
    assert counted() == 1
    kept = sorted(p.suffix for p in moue.cache_folder().iterdir())
    assert kept == [".lock", ".so"]  # no half of anything


def test_text_flags_and_type_are_the_key(counted, monkeypatch):
    asked = []
    monkeypatch.setattr(moue._compile, "_build", lambda source, library, *_: asked.append(library.name))
    monkeypatch.setattr(moue._core, "load_float32", lambda path: None)
    monkeypatch.setattr(moue._core, "load_float64", lambda path: None)
    moue.compile(SMALL)
    moue.compile(SMALL)
    assert len(set(asked)) == 1
    moue.compile(SMALL.replace("1, 2", "1, 3"))
    moue.compile(SMALL, flags=("-O1",))
    moue.compile(SMALL, dtype="float64")
    moue.compile(SMALL, preamble="struct mine {};")
    moue.compile(SMALL, compiler="c++")
    assert len(set(asked)) == 6
    monkeypatch.setattr(moue._compile, "_headers", lambda: "other headers")
    moue.compile(SMALL)
    assert len(set(asked)) == 7


def test_the_first_error_is_shown(counted):
    with pytest.raises(moue.CompileError, match="composition:1:.*error: .*swigloo") as caught:
        moue.compile("moue::mixture{moue::swigloo{}}", flags=FLAGS)
    assert "error: " in caught.value.log
    assert not list(moue.cache_folder().glob("*.so"))
    with pytest.raises(moue.CompileError, match="moue: a topology needs the member 'index_t layers"):
        moue.compile(
            "moue::mixture{moue::copy_expert{4}, empty{}, moue::linear_router(1)}", preamble="struct empty {};", flags=FLAGS
        )


def test_sizes_that_do_not_fit_are_the_library_s_error(counted):
    with pytest.raises(moue.Error) as caught:
        moue.compile(SMALL.replace("1, 2", "1, -2"), flags=FLAGS)
    assert caught.value.kind == "misuse"


def test_what_is_missing_is_named(counted, monkeypatch):
    with pytest.raises(ValueError, match="dtype is 'int8'"):
        moue.compile(SMALL, dtype="int8")
    with pytest.raises(FileNotFoundError, match="there is no compiler called 'no-such-compiler'"):
        moue.compile(SMALL, compiler="no-such-compiler")
    moue._compile._headers.cache_clear()
    monkeypatch.setenv("MOUE_EIGEN", "/nowhere")
    with pytest.raises(FileNotFoundError, match="Eigen is not in /nowhere"):
        moue.compile(SMALL)


def test_policies_of_one_s_own(counted):
    model = moue.compile(
        "moue::mixture{moue::copy_expert{4}, last{}, moue::linear_router(1)}",
        preamble="""struct last {
  moue::index_t layers() const { return 2; }
  moue::index_t experts() const { return 5; }
  void candidates(moue::index_t layer, auto append) const { append(4 - layer); }
};""",
        flags=FLAGS,
    )
    assert [model.candidates(layer) for layer in range(2)] == [[4], [3]]
    assert model.experts == 5 and model.initialize()["layers.0.router.weight"].dtype == np.float32


def test_stubs_are_there():
    folder = os.path.dirname(moue.__file__)
    assert os.path.exists(os.path.join(folder, "py.typed"))
    assert "class Pass_float32" in open(os.path.join(folder, "_core.pyi")).read()
