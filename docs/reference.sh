#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
#
# Makes the reference of all public symbols from the comments of the headers: bash docs/reference.sh [FOLDER]
# It stands in FOLDER/html/index.html, build/reference by default. Fails if a public symbol has no comment.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-build/reference}
rm -rf "$out"
mkdir -p "$out"
python3 docs/reference/prepare.py include "$out/include"
{
  cat docs/reference/Doxyfile
  printf '%s = %s\n' INPUT "$out/include docs/reference/families.dox" OUTPUT_DIRECTORY "$out" \
    STRIP_FROM_PATH "$out/include" STRIP_FROM_INC_PATH "$out/include" WARN_LOGFILE "$out/warnings.txt"
} > "$out/Doxyfile"
if ! doxygen "$out/Doxyfile" > "$out/doxygen.log" 2>&1 || [ -s "$out/warnings.txt" ]; then
  cat "$out/doxygen.log" "$out/warnings.txt"
  exit 1
fi
echo "$out/html/index.html"
