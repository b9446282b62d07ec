#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
#
# The C interface of examples/c_abi: what it exports, a C99 program that uses it, the example, Python's ctypes.
# Needs no Python package; $MOUE_HOSTS_PYTHON is the interpreter (default: python3). Last line: "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/../../.." || exit
here=test/hosts/c_abi
build=build/hosts/c_abi
python=${MOUE_HOSTS_PYTHON:-python3}
passed=0
failed=0

check() {
  local name=$1
  shift
  if "$@"; then
    passed=$((passed + 1))
    echo "-- c_abi, $name: ok"
  else
    failed=$((failed + 1))
    echo "-- c_abi, $name: FAILED"
    return 1
  fi
}

# Symbols that others can see: those that the header declares, no more and no fewer.
exports() {
  diff <(nm -D --defined-only "$library" | awk '{print $NF}' | sort) \
    <(grep -oP 'MOUE_C_API [\w ]+[\w*] ?\*? ?\Kmoue_\w+(?=\()' examples/c_abi/moue_c.h | sort)
}

# Topology and sizes are data: at most 12 compositions are types.
compositions() {
  local most=12 count
  count=$(nm -C "$library" | grep -c 'vtable for moue::.*erased_model<')
  echo "$count compositions are compiled"
  [ "$count" -ge 7 ] && [ "$count" -le "$most" ]
}

build() {
  cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DMOUE_WARNINGS_AS_ERRORS=ON -DMOUE_BUILD_HOSTS=ON \
    -DMOUE_BUILD_TESTS=OFF -DMOUE_BUILD_BENCH=OFF -DMOUE_IO=OFF >"$build.log" 2>&1 &&
    cmake --build "$build" -j "${JOBS:-$(nproc)}" --target moue_c example_c_abi >>"$build.log" 2>&1 &&
    ${CC:-cc} -std=c99 -Wall -Wextra -pedantic -Werror -Iexamples/c_abi "$here/check.c" -o "$build/check" \
      -L"$(dirname "$library")" -lmoue_c -Wl,-rpath,"$PWD/$(dirname "$library")" -lm >>"$build.log" 2>&1 ||
    { tail -n 50 "$build.log"; return 1; }
}

mkdir -p build/hosts
library=$build/examples/c_abi/libmoue_c.so
if check "build" build; then
  check "exported symbols" exports
  check "compositions" compositions
  check "a C99 program" "$build/check"
  check "the example" diff <("$build/examples/c_abi/c_abi") examples/c_abi/train.expected
  check "ctypes" "$python" "$here/check.py" "$library"
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
