#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
#
# Usage: test/fuzz/run.sh [SECONDS | --runs COUNT]
# Feeds every fuzz target of the preset `fuzz`, which must have been built: SECONDS (60) shared among them, or COUNT inputs
# each. Fails on a crash, 512 MB in use, one allocation of 16 MB, or an input that takes two minutes (by the clock: a busy
# machine is not to be taken for a hang). Inputs that lead somewhere new are kept in build/fuzz/corpus/, those that fail in
# build/fuzz/<target>-*.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
shopt -s nullglob
sources=(test/fuzz/*.cpp)
if [ "${1:-}" = --runs ]; then amount=(-runs="$2"); else amount=(-max_total_time=$((${1:-60} / ${#sources[@]}))); fi

status=0
for source in "${sources[@]}"; do
  target=$(basename "$source" .cpp)
  found=build/fuzz/corpus/$target log=build/fuzz/$target.log words=(test/fuzz/"$target".dict*)
  mkdir -p "$found"
  build/fuzz/test/fuzz/fuzz_"$target" "${amount[@]}" -timeout=120 -rss_limit_mb=512 -malloc_limit_mb=16 \
    -print_final_stats=1 -artifact_prefix="build/fuzz/$target-" "${words[@]/#/-dict=}" \
    "$found" "test/fuzz/corpus/$target" >"$log" 2>&1
  ended=$?
  echo "   fuzz_$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs"
  [ "$ended" -eq 0 ] || { status=1; tail -n 40 "$log"; }
done
exit "$status"
