# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""The rules of the source tree that no compiler checks. Usage: structure.py INCLUDE_DIR"""

import pathlib
import re
import sys

SPDX = "// SPDX-FileCopyrightText: 2026 The moue authors\n// SPDX-License-Identifier: Apache-2.0\n"
EIGEN_HOME = re.compile(r"moue/backend/cpu(\.hpp|/)")
JSON_HOME = re.compile(r"moue/io(\.hpp|/)")
FRAMEWORK = re.compile(r"(cuda|cublas|cudnn|nccl|thrust/|cub/|torch/|ATen/|c10/|mpi\.|dlpack)")
FRAMEWORK_HOME = re.compile(r"moue/(adapt|dist)/|.*\.cuh$")
UNPROTECTED = re.compile(r"\bstd::(?:min|max)(?:<[\w:]+>)?\(|numeric_limits<.*>::(?:min|max)\(\)")
POLICY = re.compile(r"moue/(expert|topology|router|balance)/")
BACKEND = re.compile(r"moue/backend/(?!archetype\.hpp)")

root = pathlib.Path(sys.argv[1])
texts = {p.relative_to(root).as_posix(): p.read_text() for p in sorted(root.rglob("*")) if p.suffix in (".hpp", ".cuh")}
includes = {name: re.findall(r'^\s*#\s*include\s*[<"]([^">]+)[">]', text, re.M) for name, text in texts.items()}
# What moue/version.hpp opens, every file opens: cmake/inline_namespace.py writes it.
HOME = re.search(r"^namespace (moue(?:::inline v\w+)?)\b", texts["moue/version.hpp"], re.M)[1]


def chains(start):
    """The shortest chain of includes from `start` to every header it reaches, `start` itself if it is in a circle."""
    found, queue = {}, [[start]]
    for chain in queue:
        for target in includes.get(chain[-1], []):
            if target not in found:
                found[target] = chain + [target]
                queue.append(found[target])
    return found


def violations(name):
    text, reached = texts[name], chains(name)
    if not text.startswith(SPDX + "#pragma once\n"):
        yield "must begin with the two SPDX lines and #pragma once"
    if name in reached:
        yield "circular include: " + " -> ".join(reached[name])
    for target in includes[name]:
        if target.startswith("Eigen/") and not EIGEN_HOME.match(name):
            yield f"<{target}> belongs in moue/backend/cpu.hpp alone"
        if target.startswith("nlohmann/") and not JSON_HOME.match(name):
            yield f"<{target}> belongs under moue/io/ alone"
        if FRAMEWORK.match(target) and not FRAMEWORK_HOME.match(name):
            yield f"<{target}> belongs in a .cuh, adapt/ or dist/"
        if target.endswith(".cuh") and not FRAMEWORK_HOME.match(name):
            yield f"<{target}>: a header for any compiler includes none for a device"
        if target == "iostream":
            yield "<iostream>: the library prints nothing"
    for call in UNPROTECTED.findall(text):
        yield f"{call}: write (std::min)(...), a name that the macros of <windows.h> leave alone"
    if POLICY.match(name):
        for target, chain in reached.items():
            if BACKEND.match(target):
                yield "a policy knows no backend: " + " -> ".join(chain)
    for opened in re.findall(r"^namespace (moue\b[^{]*?) *\{", text, re.M):
        if opened != HOME and not opened.startswith(HOME + "::") or "inline" in opened[len(HOME):]:
            yield f"namespace {opened}: everything lies in {HOME}"
    for macro in re.findall(r"^\s*#\s*define\s+(\w+)", text, re.M):
        if name != "moue/config.hpp" or not macro.startswith("MOUE_"):
            yield f"macro {macro}: macros are named MOUE_ and live in moue/config.hpp"


found = [f"{name}: {violation}" for name in texts for violation in violations(name)]
print("\n".join(found))
sys.exit(bool(found) or not texts)
