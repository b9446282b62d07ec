#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2034,SC2181,SC2164
#
# Usage: test/packages/run.sh [--only REGEX]
# How the library reaches users: every way in, compilers, other machines, bits under other flags. Installs what it needs
# (Debian packages, and Meson, Conan and an old CMake from PyPI, below build/packages) and leaves out nothing: what cannot
# be had counts as failed. --only runs the checks whose names match. The last line reads "N passed, N failed".
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd) || exit
here=$root/test/packages
work=$root/build/packages
jobs=${JOBS:-$(nproc)}
eigen=/usr/include/eigen3
only=.
[ "${1:-}" = --only ] && only=${2:?--only needs a regular expression}
mkdir -p "$work/logs"
cd "$work" || exit
rm -f logs/*
export CONAN_HOME=$work/conan-home
launcher=
command -v ccache >/dev/null && launcher=ccache

debian=(g++ clang-14 clang-19 libc++-19-dev libc++abi-19-dev cmake ninja-build make pkg-config python3-venv git
        libeigen3-dev nlohmann-json3-dev doctest-dev g++-aarch64-linux-gnu g++-i686-linux-gnu g++-s390x-linux-gnu
        qemu-user-static g++-mingw-w64-x86-64-posix qtbase5-dev)

installed() { [ "$(dpkg-query -Wf '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

install_needed() {
  local package missing=() sudo=
  [ "$(id -u)" -eq 0 ] || sudo=sudo
  newest_gxx >/dev/null || $sudo apt-get -q update
  for package in "${debian[@]}" "$(newest_gxx)"; do installed "$package" || missing+=("$package"); done
  if [ ${#missing[@]} -gt 0 ]; then
    $sudo apt-get -q -o DPkg::Lock::Timeout=600 update
    DEBIAN_FRONTEND=noninteractive $sudo apt-get -qy -o DPkg::Lock::Timeout=600 install --no-install-recommends \
      "${missing[@]}" || return 1
  fi
  [ -x tools/bin/meson ] || { python3 -m venv tools && tools/bin/pip -q install meson conan; } || return 1
  [ -x old/bin/cmake ] || { python3 -m venv old && old/bin/pip -q install cmake==3.22.6; }
}

# The newest g++ that the distribution offers, which may be g++ itself.
newest_gxx() { apt-cache pkgnames g++- | grep -xE 'g\+\+-[0-9]+' | sort -V | tail -n 1 | grep .; }

# check NAME COMMAND...: one test, with the others in the background; its output is shown if it fails.
check() {
  local name=$1
  shift
  [[ $name =~ $only || $name =~ ^install ]] || return 0
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
  : >"logs/$name.failed" # until it has passed
  {
    start=$SECONDS
    (set -e; "$@") >"logs/$name.log" 2>&1 </dev/null # not in a condition, where set -e would not count
    if [ $? -eq 0 ]; then
      rm "logs/$name.failed" && : >"logs/$name.passed"
      echo "-- $name: ok, $((SECONDS - start)) s"
    else
      echo "-- $name: FAILED, $((SECONDS - start)) s"
      tail -n 25 "logs/$name.log" | sed 's/^/   /'
    fi
  } &
}

# says REGEX COMMAND...: the command must fail, and its output, taken as one line, must match.
says() {
  local regex=$1 output
  shift
  if output=$("$@" 2>&1); then echo "succeeded, but must not: $*"; return 1; fi
  tr -s ' \n' ' ' <<<"$output" | grep -qE -- "$regex" || { printf '%s\nno message matches: %s\n' "$output" "$regex"; return 1; }
}

# shellcheck disable=SC1090
for part in ways refusals compilers machines bits; do source "$here/$part.sh"; done

install_needed >logs/install.log 2>&1 || { tail -n 5 logs/install.log; echo "-- not all that is needed can be installed"; }
find "$root/include" -name '*.hpp' -not -path '*/moue/adapt/*' -not -path '*/moue/dist/*' -printf '#include "%P"\n' |
  sort >every_header.hpp
check_ways
check_refusals
check_compilers
check_machines
check_bits
wait
shopt -s nullglob
passed=(logs/*.passed) failed=(logs/*.failed)
echo "-- $SECONDS s in all"
echo "${#passed[@]} passed, ${#failed[@]} failed"
[ ${#failed[@]} -eq 0 ] && [ ${#passed[@]} -gt 0 ]
