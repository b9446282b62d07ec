# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""Puts many faults into a copy of the library at once, each of which the environment variable MOUE_MUTANT turns on.

Usage: mutants.py SOURCE_INCLUDE COPY_INCLUDE LIST SHARE [DROPPED]

COPY_INCLUDE is written anew; LIST gets a line for each mutant: number, file, line, rule, the text of the line. SHARE of
the possible ones is taken, which ones by a hash of their text: they stay the same until a line changes, and grow in number
with the library. DROPPED holds lines "file:line:rule" of those that do not compile.

    flip    if (c)       if (!c)
    order   a < b        a <= b, and so on; a > b becomes a >= b
    equal   a == b       a != b
    sign    a + b        a - b, and the other way round
    delete  x = y; f(x); nothing
"""

import hashlib
import pathlib
import re
import sys

SUPPORT = """#pragma once
#include <cstdlib>
#include <type_traits>
inline const int moue_mutant_on = [] { const char* s = std::getenv("MOUE_MUTANT"); return s ? std::atoi(s) : 0; }();
constexpr bool moue_mutant(int n) { return !std::is_constant_evaluated() && moue_mutant_on == n; }
namespace moue_mutants {
template <class A, class Tag> struct left { const A& a; };
#define MOUE_MUTANT_PAIR(name, op, other) \\
  template <int N> struct name {}; \\
  template <class A, int N> constexpr left<A, name<N>> operator op(const A& a, name<N>) { return {a}; } \\
  template <class A, int N, class B> constexpr auto operator op(left<A, name<N>> l, const B& b) { \\
    return moue_mutant(N) ? l.a other b : l.a op b; \\
  }
MOUE_MUTANT_PAIR(lt, <, <=)
MOUE_MUTANT_PAIR(le, <=, <)
MOUE_MUTANT_PAIR(gt, >, >=)
MOUE_MUTANT_PAIR(ge, >=, >)
MOUE_MUTANT_PAIR(eq, ==, !=)
MOUE_MUTANT_PAIR(ne, !=, ==)
MOUE_MUTANT_PAIR(plus, +, -)
MOUE_MUTANT_PAIR(minus, -, +)
#undef MOUE_MUTANT_PAIR
}
"""
PAIRS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne", "+": "plus", "-": "minus"}
RULES = {"lt": "order", "le": "order", "gt": "order", "ge": "order", "eq": "equal", "ne": "equal", "plus": "sign",
         "minus": "sign"}
NOT_CODE = re.compile(r'^\s*(#|//|\*|template|concept|requires|static_assert|using|friend|namespace|case|"|inline)|operator'
                      r'|concept |requires|constexpr \w+ \w+ =|static constexpr|noexcept|\w\[\]')
LEFT = r"[A-Za-z_][\w.:]*(?:->\w+|\([^()]*\)|\[[^\[\]]*\]|\.\w+)*"
ASSIGNED = re.compile(rf"^(\s+)({LEFT} (?:=|\+=|-=|\*=|/=) (?!default|delete|0;)[^{{}}]*);$")
CALLED = re.compile(r"^(\s+)((?!return\b|throw\b|if\b|for\b|while\b|require\b|do\b)[a-z_][\w.]*(?:<[\w, ]+>)?\([^{}]*\));$")


def closing(text, start):
    depth = 0
    for i in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return i
    return -1


def candidates(line):
    """(rule, position, text before, text after as a function of the number)"""
    if NOT_CODE.search(line) or '"' in line:
        return
    for m in re.finditer(r"\bif \(", line):
        start = m.end() - 1
        end = closing(line, start)
        condition = line[start + 1:end]
        if end > 0 and ";" not in condition and not re.search(r"[^=!<>]=[^=]", condition):
            yield "flip", start, line[start:end + 1], lambda n, c=condition: f"(::moue_mutant({n}) != static_cast<bool>({c}))"
    if re.search(r"\b(if|for|while|return)\b|\?|=", line):
        for m in re.finditer(r"(?<=[\w\)\]]) (<|<=|>|>=|==|!=|\+|-) (?=[\w\(:])", line):
            name, op = PAIRS[m.group(1)], m.group(1)
            yield (RULES[name], m.start(), m.group(0),
                   lambda n, name=name, op=op: f" {op} ::moue_mutants::{name}<{n}>{{}} {op} ")
    for pattern in (ASSIGNED, CALLED):
        if m := pattern.match(line):
            yield ("delete", m.start(2), m.group(2) + ";",
                   lambda n, s=m.group(2): f"::moue_mutant({n}) ? void() : void({s});")


def main(source, copy, listing, share, dropped):
    known = set(dropped.read_text().split("\n")) if dropped and dropped.exists() else set()
    number, rows = 0, []
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        name = path.relative_to(source).as_posix()
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        lines, body = path.read_text().split("\n"), False
        for i, line in enumerate(lines):
            body = body or line.startswith("namespace moue")
            if not body or "/testing/" in name or name.endswith(("version.hpp", "config.hpp", "error.hpp")):
                continue
            taken = []
            for rule, at, old, new in candidates(line):
                key = hashlib.sha1(f"{name}|{line.strip()}|{rule}|{at - len(line) + len(line.lstrip())}".encode()).digest()
                if int.from_bytes(key[:4], "big") >= share * 2**32:
                    continue
                if not any(at < e and b < at + len(old) for b, e, _, _ in taken):  # one inside another: the first only
                    taken.append((at, at + len(old), new, rule))
            for at, end, new, rule in sorted(taken, reverse=True):
                number += 1  # also of what is dropped, so that other lines need not be compiled again
                if f"{name}:{i + 1}:{rule}" in known:
                    continue
                lines[i] = lines[i][:at] + new(number) + lines[i][end:]
                rows.append(f"{number}\t{name}\t{i + 1}\t{rule}\t{line.strip()}")
        text = "\n".join(lines)
        if text != path.read_text():
            text = text.replace("#pragma once", '#pragma once\n#include "moue/mutants.hpp"', 1).replace(
                '#include "moue/mutants.hpp"\n\n', '#include "moue/mutants.hpp"\n', 1)  # lines keep their numbers
        if not target.exists() or target.read_text() != text:
            target.write_text(text)
    (copy / "moue/mutants.hpp").write_text(SUPPORT)
    listing.write_text("\n".join(rows) + "\n")
    print(f"-- {len(rows)} mutants")


if __name__ == "__main__":
    arguments = [pathlib.Path(a) for a in sys.argv[1:]]
    main(*arguments[:3], float(sys.argv[4]), arguments[4] if len(arguments) > 4 else None)
