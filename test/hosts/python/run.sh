#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
#
# The Python package of examples/python: installs it as a user does, and tests it with NumPy and PyTorch.
# $MOUE_HOSTS_PYTHON is the interpreter of an environment that may be installed into (default: build/hosts/venv, which is
# made). What is skipped has failed. Last line: "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/../../.." || exit
work=build/hosts/python
mkdir -p "$work"
python=${MOUE_HOSTS_PYTHON:-}
passed=0
failed=0

environment() {
  if [ -z "$python" ]; then
    python=$PWD/build/hosts/venv/bin/python
    [ -x "$python" ] || python3 -m venv build/hosts/venv || return
  fi
  local missing=() package
  for package in numpy torch pytest; do
    "$python" -m pip show -q "$package" 2>/dev/null || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] || "$python" -m pip install -q "${missing[@]}"
}

# step NAME COMMAND...: its output is shown where it fails.
step() {
  local name=$1 start=$SECONDS
  shift
  if "$@" >"$work/$name.log" 2>&1; then
    passed=$((passed + 1))
    echo "-- python, $name: ok, $((SECONDS - start)) s"
  else
    failed=$((failed + 1))
    tail -n 60 "$work/$name.log"
    echo "-- python, $name: FAILED, $((SECONDS - start)) s"
    return 1
  fi
}

tests() {
  local report=$work/report.xml start=$SECONDS total=0 bad=1 name number
  rm -f "$report"
  MOUE_CACHE=$PWD/$work/cache "$python" -m pytest -q -p no:cacheprovider --junit-xml "$report" test/hosts/python \
    >"$work/pytest.log" 2>&1
  local status=$?
  if [ -f "$report" ]; then
    bad=0
    for name in tests failures errors skipped; do
      number=$(grep -oPm1 "<testsuite [^>]*\b$name=\"\K[0-9]+" "$report") || number=0
      if [ "$name" = tests ]; then total=$number; else bad=$((bad + number)); fi
    done
  fi
  [ "$bad" -eq 0 ] && { [ "$status" -ne 0 ] || [ "$total" -eq 0 ]; } && bad=1
  [ "$bad" -eq 0 ] || tail -n 100 "$work/pytest.log"
  [ "$total" -ge "$bad" ] && passed=$((passed + total - bad))
  failed=$((failed + bad))
  echo "-- python tests: $total run, $bad failed, $((SECONDS - start)) s"
}

example() {
  MOUE_CACHE=$PWD/$work/cache "$python" examples/python/train.py >"$work/train.txt" 2>&1 && # and no word more
    awk '{ loss[NR] = $NF } END { exit !(NR == 3 && loss[3] < loss[1] / 4) }' "$work/train.txt" || { cat "$work/train.txt"; return 1; }
}

step environment environment && step install "$python" -m pip install --force-reinstall --no-deps ./examples/python && {
  tests
  step example example
}
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
