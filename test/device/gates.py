# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""Usage: gates.py CUOBJDUMP OBJECT

What must hold of the machine code of the kernels that compute products in an object of nvcc: none keeps a register in
local memory, all that ask for tensor cores use them, and these read global memory 16 bytes at a time. Prints a line a
kernel and exits with 1 if something does not hold.
"""

import collections
import re
import subprocess
import sys

PRODUCTS = re.compile(r"run_(tiles|few_rows|column_sum)I")
# Registers a thread: above, fewer blocks run at once than `Engine::blocks` and `few_rows::blocks` ask for.
MOST_REGISTERS = {"run_tiles": 255, "run_few_rows": 128, "run_column_sum": 128}


def dump(tool, obj, flag):
    done = subprocess.run([tool, flag, obj], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{tool} {flag} {obj}: {done.stderr.strip()}")
    return done.stdout + done.stderr


def registers(text):
    """(architecture, kernel) -> registers, bytes of stack."""
    found, arch = {}, None
    for m in re.finditer(r"arch = (sm_\w+)|Function (\S+):\s*\n\s*REG:(\d+) STACK:(\d+)", text):
        if m[1]:
            arch = m[1]
        else:
            found[arch, m[2]] = int(m[3]), int(m[4])
    return found


def instructions(text):
    """(architecture, kernel) -> how often each instruction stands there."""
    found, arch, kernel = collections.defaultdict(collections.Counter), None, None
    for line in text.splitlines():
        if m := re.search(r"arch = (sm_\w+)", line):
            arch = m[1]
        elif m := re.search(r"Function : (\S+)", line):
            kernel = m[1]
        elif m := re.search(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+ )?([A-Z][A-Z0-9_.]*)", line):
            found[arch, kernel][m[1]] += 1
    return found


def complaints(kernel, used, stack, code):
    def count(start):
        return sum(n for name, n in code.items() if name.startswith(start))

    if stack or count("LDL") or count("STL"):
        yield f"keeps registers in local memory: {stack} bytes, {count('LDL')} loads, {count('STL')} stores"
    most = MOST_REGISTERS[re.search(r"run_(tiles|few_rows|column_sum)", kernel)[0]]
    if used > most:
        yield f"takes {used} registers, more than {most}"
    if "tensor_engine" in kernel:
        if not count("HMMA"):
            yield "uses no tensor cores"
        if not any(name.startswith("LDG") and ".128" in name for name in code):
            yield "reads global memory less than 16 bytes at a time"


def main(tool, obj):
    sizes, codes = registers(dump(tool, obj, "-res-usage")), instructions(dump(tool, obj, "-sass"))
    kernels = sorted(key for key in sizes if PRODUCTS.search(key[1]))
    if not kernels:
        sys.exit(f"{obj} holds no kernel of a product")
    bad = 0
    for key in kernels:
        used, stack = sizes[key]
        wrong = list(complaints(key[1], used, stack, codes[key]))
        bad += bool(wrong)
        print(key[0], key[1][:160], f"{used} registers", "; ".join(wrong) or "ok")
    print(f"{len(kernels)} kernels, {bad} of them wrong")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
