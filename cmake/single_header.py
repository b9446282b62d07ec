#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""The library in one file, for projects that copy a header: single_header.py [--io] > moue.hpp

Everything that runs on the CPU, optimisers, instruments, conversion and laws included; with --io checkpoints too. Only
#include "moue/..." is resolved: Eigen (and nlohmann-json) stay outside.
"""

import argparse
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent / "include"
OURS = re.compile(r'#include "(moue/[^"]+)"')
SYSTEM = re.compile(r"#include (<[^>]+>)")


def without_preamble(text):
    """The text of a header without the SPDX lines and #pragma once that each begins with."""
    return re.sub(r"\A(?://[^\n]*\n)*#pragma once\n+", "", text)


def emit(header, seen, lines):
    """Appends `header` after those of ours that it includes, each once. `seen` collects the others besides."""
    if header in seen:
        return
    seen.add(header)
    body, depth = [], 0
    for line in without_preamble((ROOT / header).read_text()).splitlines():
        depth += bool(re.match(r"\s*#\s*if", line)) - bool(re.match(r"\s*#\s*endif", line))
        if ours := OURS.match(line):
            if depth:
                raise SystemExit(f"{header}: {ours[1]} is included under a condition, which one file cannot keep")
            emit(ours[1], seen, lines)
        elif (system := SYSTEM.match(line)) and not depth:
            seen.add(system[1])
        else:
            body.append(line)
    lines += [f"// ---- {header}", "", *"\n".join(body).strip("\n").splitlines(), ""]


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--io", action="store_true", help="checkpoints too; needs nlohmann-json 3")
arguments = parser.parse_args()

version = re.findall(r"version_\w+ = (\d+);", (ROOT / "moue/version.hpp").read_text())
headers = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.hpp"))
wanted = [h for h in headers if not re.match(r"moue/(adapt|dist)/", h)]
if not arguments.io:
    wanted = [h for h in wanted if not re.match(r"moue/io(/|\.hpp)", h)]
lines = []
seen = set()
for header in wanted:
    emit(header, seen, lines)
print("// SPDX-FileCopyrightText: 2026 The moue authors\n// SPDX-License-Identifier: Apache-2.0\n#pragma once\n")
print(f"// moue {'.'.join(version)} in one file, made by cmake/single_header.py.\n")
print("\n".join(f"#include {name}" for name in sorted(seen) if name.startswith("<")), end="\n\n")
print("\n".join(lines).rstrip())
