#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
#
# Line coverage of include/ by the tests of the preset `dev`, which must have run. Below 95 % it names the headers
# that lack some and fails. A template that no test instantiates is not counted.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
report=build/dev/coverage.txt
gcovr --gcov-executable "llvm-cov gcov" --root . --filter include/ --txt "$report" --print-summary --fail-under-line 95 build/dev && exit
grep -vE ' 100%( |$)' "$report"
exit 1
