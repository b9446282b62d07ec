#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""Writes the version into the namespace: inline_namespace.py [--check] INCLUDE_DIR

Two versions of a header-only library in one program share their symbols, and the linker keeps one of each. So everything
lies in `moue::inline vMAJOR_MINOR`, as moue/version.hpp says; users write `moue::` all the same. Run this after a change
of version; --check changes nothing and fails where a file names none or another.
"""

import pathlib
import re
import sys

check = sys.argv[1] == "--check"
root = pathlib.Path(sys.argv[-1])
numbers = dict(re.findall(r"version_(\w+) = (\d+);", (root / "moue/version.hpp").read_text()))
current = f"moue::inline v{numbers['major']}_{numbers['minor']}"
PLACE = re.compile(r"^((?:\}  // )?namespace )moue(?:::inline v\w+)?((?:::(?!inline\b)\w+)*(?: \{)?)$", re.M)

changed = []
for path in sorted(root.rglob("*")):
    if path.suffix not in (".hpp", ".cuh"):
        continue
    text = path.read_text()
    new = PLACE.sub(rf"\1{current}\2", text)
    if new != text:
        changed.append(path)
        if not check:
            path.write_text(new)
for path in changed:
    print(f"{path}: {'must say' if check else 'says'} namespace {current}")
sys.exit(check and bool(changed))
