#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
#
# Usage: must_fail.sh SOURCE COMPILER [FLAG...]
# SOURCE must not compile, every regex of its lines "// expected-error: REGEX" must match an error or note of the
# compiler, and with MOUE_TEST_FIXED defined it must compile: a mistake other than the intended one does not count.
# "// expected-first-error: REGEX" is about the first error that the compiler prints.
set -uo pipefail
source=$1
shift

die() {
  printf '%s: %s\n' "$source" "$1"
  printf '%s\n' "$output"
  exit 1
}

mapfile -t regexes < <(sed -n 's|^ *// expected-error: *||p' "$source")
output=
first=$(sed -n 's|^ *// expected-first-error: *||p' "$source")
[ ${#regexes[@]} -gt 0 ] || [ -n "$first" ] || die "no line '// expected-error: REGEX'"

output=$("$@" "$source" 2>&1) && die "compiled, but must not"
messages=$(grep -E '(error|note): ' <<<"$output")  # not the source lines that compilers echo
if [ -n "$first" ]; then
  grep -m 1 'error: ' <<<"$messages" | grep -Eq -- "$first" || die "the first error does not match: $first"
fi
for regex in "${regexes[@]}"; do
  grep -Eq -- "$regex" <<<"$messages" || die "no message matches: $regex"
done

output=$("$@" -DMOUE_TEST_FIXED "$source" 2>&1) || die "must compile with MOUE_TEST_FIXED"
