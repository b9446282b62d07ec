# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""Whether docs/checkpoints/parity.md says what was compared, and bounds what was found.

Usage: table.py FOUND VERSIONS [--write]        FOUND: the output of test_parity_families; VERSIONS: generate.py's

With --write the table is made anew. A bound is the next of 1, 2 and 5 times a power of ten above twice what was found, and
not below LEAST: orders of sums differ from machine to machine.
"""

import json
import math
import pathlib
import re
import sys

from safetensors import safe_open

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PAGE, KEPT = ROOT / "docs" / "checkpoints" / "parity.md", ROOT / "test" / "data"
HEAD = "| case | transformers | in every test | layouts | outputs within | gradients within |\n|" + " --- |" * 6 + "\n"


# What a name ends with, and the layout.
LAYOUTS = {"_paired.gguf": "GGUF in pairs", ".gguf": "GGUF", "_runtime": "fused", "_transposed": "transposed", "": "published"}
LEAST = 5e-7  # some roundings of single precision, which any of them may meet


def bound(found):
    wanted = max(2 * found, LEAST)
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(f"{m * power:.0e}" for m in (1, 2, 5, 10) if m * power >= wanted * (1 - 1e-9))


def larger(a, b):
    """What is no number counts as the largest, and stays."""
    return a if math.isnan(a) or a > b else b


def found_in(text):
    """Per case: its layouts, and the largest differences among them."""
    cases = {}
    for name, outputs, gradients in re.findall(r"^(\S+) +outputs (\S+), gradients (\S+)$", text, re.M):
        case, layout = next((name.removesuffix(end), layout) for end, layout in LAYOUTS.items() if name.endswith(end))
        layouts, worst = cases.setdefault(case, ([], [0, 0]))
        layouts.append(layout)
        worst[:] = larger(worst[0], float(outputs)), larger(worst[1], float(gradients))
    order = ["published", "fused", "transposed", "GGUF", "GGUF in pairs"]
    return {case: (sorted(layouts, key=order.index), worst) for case, (layouts, worst) in sorted(cases.items())}


def kept_version(case):
    path = KEPT / "parity" / case / "expected.safetensors"
    if not path.exists():
        return "no"
    with safe_open(path, "np") as file:
        return file.metadata()["transformers"]


def not_said(text, page, folder):
    """Types that families have and that neither a compared checkpoint nor the page's last paragraph names."""
    compared = {found for path in folder.glob("*/config.json")
                for found in re.findall(r'"model_type": "([^"]+)"', path.read_text())}
    said = set(re.findall(r"\w+", page[page.index("Read by a row of the table, but not compared"):]))
    types = re.findall(r"^model_type (\S+)$", text, re.M)
    return [f"{one}: is neither compared nor in the page" for one in types if one not in compared | said] + (
        [] if types else ["no model_type was printed"])


def rows_of(page):
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[1:] for row in cells}


def main(found, version, write):
    page = PAGE.read_text()
    if write:
        table = HEAD + "".join(
            f"| `{case}` | {version} | {kept_version(case)} | {', '.join(layouts)} | {bound(outputs)} | {bound(gradients)} |\n"
            for case, (layouts, (outputs, gradients)) in found.items())
        start = page.index("| case |")
        PAGE.write_text(page[:start] + table + page[re.compile(r"\n(?!\|)").search(page, start).end():])
        return []
    said, problems = rows_of(page), []
    for case in sorted(set(said) | set(found)):
        if case not in said or case not in found:
            problems.append(f"{case}: is {'not in the page' if case not in said else 'in the page alone'}")
            continue
        layouts, (outputs, gradients) = found[case]
        facts = [version, kept_version(case), ", ".join(layouts)]
        if said[case][:3] != facts:
            problems.append(f"{case}: the page says {said[case][:3]}, not {facts}")
        if not (outputs <= float(said[case][3]) and gradients <= float(said[case][4])):
            problems.append(f"{case}: {outputs:.1e} and {gradients:.1e} are beyond the page's {said[case][3]} and {said[case][4]}")
    return problems or ([] if found else ["nothing was compared"])


if __name__ == "__main__":
    text, versions = pathlib.Path(sys.argv[1]).read_text(), pathlib.Path(sys.argv[2])
    wrong = main(found_in(text), json.loads(versions.read_text())["transformers"], "--write" in sys.argv)
    wrong += not_said(text, PAGE.read_text(), versions.parent)
    print("\n".join(wrong) if wrong else "docs/checkpoints/parity.md bounds what was found")
    sys.exit(bool(wrong))
