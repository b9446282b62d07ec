#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
#
# Trains and compares the contenders of examples/language_model: examples/run.sh [options of `moue_lm compare`].
# On Debian it installs what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "examples/run.sh: $*" >&2
  exit 1
}

missing=()
command -v g++ > /dev/null || missing+=(g++)
command -v cmake > /dev/null || missing+=(cmake)
command -v ninja > /dev/null || missing+=(ninja-build)
[ -d /usr/include/eigen3 ] || [ -n "${Eigen3_DIR:-}${Eigen3_ROOT:-}${CMAKE_PREFIX_PATH:-}" ] || missing+=(libeigen3-dev)

if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get > /dev/null || fail "please install ${missing[*]}: there is no apt-get to do it"
  root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo > /dev/null || fail "please install ${missing[*]}: neither root nor sudo is at hand"
    root=(sudo)
  fi
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  apt() { "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@"; }
  echo "Installing ${missing[*]}"
  { apt update && apt install -y --no-install-recommends "${missing[@]}"; } > "$log" 2>&1 ||
    fail "could not install ${missing[*]}: $(grep -m1 '^E:' "$log" || tail -n1 "$log")"
fi

build=build/examples
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DMOUE_BUILD_TESTS=OFF -DMOUE_BUILD_BENCH=OFF \
  -DMOUE_IO=OFF -DMOUE_NATIVE=ON > /dev/null || fail "the configuration failed, see above"
cmake --build "$build" --target moue_lm || fail "the build failed, see above"
exec "$build/examples/language_model/moue_lm" compare "$@"
