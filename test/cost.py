# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""What the quickstart costs a user who needs no more than it does. Usage: cost.py REPOSITORY EIGEN_INCLUDE BUILD_FOLDER

Functions in its object, and instructions of one training step (callgrind, AVX2 build, g++ 12: the figures are this
compiler's). LIMITS are those of the library before its pass could be taken apart, with 5 % more instructions.
"""

import pathlib
import re
import subprocess
import sys

LIMITS = {"functions": 219, "instructions": 4235613 * 105 // 100}
FLAGS = ["-std=c++20", "-O3", "-DNDEBUG", "-mavx2", "-mfma"]

root, eigen, folder = (pathlib.Path(a) for a in sys.argv[1:])
version = subprocess.run(["g++", "-dumpversion"], capture_output=True, text=True, check=True).stdout.strip().split(".")[0]
if version != "12":
    print(f"not compared: the limits are those of g++ 12, this is g++ {version}")
    sys.exit(77)


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def compiled(name, source, *more):
    file, out = folder / f"cost_{name}.cpp", folder / f"cost_{name}"
    file.write_text(source)
    run("g++", *FLAGS, f"-I{root / 'include'}", "-isystem", eigen, *more, file, "-o", out)
    return out


def replaced(text, old, new):
    if old not in text:
        sys.exit(f"examples/quickstart.cpp has no '{old}'")
    return text.replace(old, new)


source = (root / "examples/quickstart.cpp").read_text()
functions = len(re.findall(r" [tTwW] ", run("nm", compiled("object", source, "-c"))))

# The same step once and three times, by one program, so that what precedes the steps costs the same; half the difference
# is a step.
looped = replaced(source, "int main() {", "int main(int steps, char**) {")
looped = replaced(looped, "  pass.begin(64);", "  float balance = 0;\n  for (int step = 0; step < steps; ++step) {\n  pass.begin(64);")
looped = replaced(looped, "const float balance = pass.balance();", "balance = pass.balance();")
looped = replaced(looped, "pass.backward(layer, x, x, gradients);", "pass.backward(layer, x, x, gradients);\n  }")
program = compiled("steps", looped, "-pthread")
counts = []
for arguments in ([], ["two", "more"]):
    report = run("valgrind", "--tool=callgrind", f"--callgrind-out-file={folder / 'cost.callgrind'}", program, *arguments)
    counts.append(int(re.search(r"Collected : (\d+)", report).group(1)))
instructions = (counts[1] - counts[0]) // 2

print(f"functions {functions} of at most {LIMITS['functions']}")
print(f"instructions of a step {instructions} of at most {LIMITS['instructions']}")
sys.exit(functions > LIMITS["functions"] or instructions > LIMITS["instructions"])
