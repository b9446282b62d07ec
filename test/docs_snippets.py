# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""Code in documents is code that is compiled, and links lead somewhere. Usage: docs_snippets.py REPOSITORY

A ```cpp fence in a document must stand, blanks aside, in one file that the build compiles: examples, the consumer, or a
header, whose comment marks are taken away so that contracts written there can be quoted. A ```c fence stands in a file of
C, a ```python fence in one that an example or a test runs. Other code has another language tag. Relative links must name a file and, after a #, one of its headings. CONTRIBUTING.md is about the sources
themselves: there only links are checked.
"""

import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1]).resolve()
documents = sorted({*root.glob("*.md"), *root.glob("docs/**/*.md")})
CODE = {"cpp": (".cpp", ".hpp", ".cu", ".cuh"), "c": (".c", ".h"), "python": (".py", ".pyi")}
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def plain(text):
    return " ".join(re.sub(r"^\s*///", "", text, flags=re.M).split())


def anchors(document):
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", document.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def link_problem(document, link):
    if re.match(r"[a-z]+:", link):
        return None
    path, _, anchor = link.partition("#")
    target = (document.parent / path).resolve() if path else document
    if not target.exists():
        return f"the link {link} leads nowhere"
    if anchor and anchor not in anchors(target):
        return f"{target.name} has no heading #{anchor}"
    return None


def problems(document, compiled):
    quotes = document.name != "CONTRIBUTING.md"
    fence = first = None
    body = []
    for number, line in enumerate(document.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            if fence is None:
                fence, first, body = line.strip()[3:], number, []
                if quotes and not fence:
                    yield number, "a fence needs a language tag: cpp, cmake, sh or text"
            else:
                snippet = plain("\n".join(body))
                if quotes and fence in CODE and not (snippet and any(snippet in text for text in compiled[fence])):
                    yield first, "this code stands in no file that is compiled or run"
                fence = None
        elif fence is not None:
            body.append(line)
        else:
            for link in LINK.findall(re.sub(r"`[^`]*`", "", line)):
                if problem := link_problem(document, link):
                    yield number, problem
    if fence is not None:
        yield first, "a fence that does not end"


sources = [p for d in ("examples", "include", "test") for p in (root / d).rglob("*")]
compiled = {tag: [plain(p.read_text()) for p in sources if p.suffix in endings] for tag, endings in CODE.items()}
found = [f"{d.relative_to(root)}:{n}: {what}" for d in documents for n, what in problems(d, compiled)]
print("\n".join(found))
sys.exit(bool(found) or not documents or not all(compiled.values()))
