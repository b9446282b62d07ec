#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2034,SC2181,SC2164
#
# Usage: test/packages/run.sh [--only REGEX]
# How the library reaches users: every way in, compilers, other machines, bits under other flags. Installs what it needs
# (Debian packages; below build/packages Meson, Conan and an old CMake from PyPI, and the newest g++ of Debian's testing
# release) and leaves out nothing: what cannot be had counts as failed. --only runs the checks whose names match. The last
# line reads "N passed, N failed".
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
launcher=ccache # several checks compile the same

debian=(ccache g++ clang-14 clang-19 libc++-19-dev libc++abi-19-dev cmake ninja-build make pkg-config python3-venv git
        libeigen3-dev nlohmann-json3-dev doctest-dev g++-aarch64-linux-gnu g++-i686-linux-gnu g++-s390x-linux-gnu
        qemu-user-static g++-mingw-w64-x86-64-posix qtbase5-dev)

sudo=
[ "$(id -u)" -eq 0 ] || sudo=sudo

installed() { [ "$(dpkg-query -Wf '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

install_needed() {
  local package missing=()
  for package in "${debian[@]}"; do installed "$package" || missing+=("$package"); done
  if [ ${#missing[@]} -gt 0 ]; then
    $sudo apt-get -q -o DPkg::Lock::Timeout=600 update
    DEBIAN_FRONTEND=noninteractive $sudo apt-get -qy -o DPkg::Lock::Timeout=600 install --no-install-recommends \
      "${missing[@]}" || return 1
  fi
  [ -x tools/bin/meson ] || { python3 -m venv tools && tools/bin/pip -q install meson conan; } || return 1
  [ -x old/bin/cmake ] || { python3 -m venv old && old/bin/pip -q install cmake==3.22.6; } || return 1
  [ -f newest/compiler ] || unpack_newest_gxx
}

# The newest g++ that Debian has, of its testing release, as the tree newest/. It needs newer libraries than the system has,
# so they are unpacked with it, and chroot makes the tree the root. The packages of the system itself stay as they are.
unpack_newest_gxx() (
  archive=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
  export APT_CONFIG=$work/newest-apt/configuration
  rm -rf newest newest-apt
  mkdir -p newest-apt/{none,lists/partial,cache/archives/partial} newest/usr/{bin,lib,lib64} newest/tmp
  : >newest-apt/status # nothing counts as installed
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive testing main" >newest-apt/sources
  cat >"$APT_CONFIG" <<EOF
Dir::Etc { SourceList "$work/newest-apt/sources"; SourceParts "$work/newest-apt/none"; };
Dir::State { Lists "$work/newest-apt/lists"; Status "$work/newest-apt/status"; };
Dir::Cache "$work/newest-apt/cache";
APT { Sandbox::User "$(id -un)"; Install-Recommends "false"; };
Debug::NoLocking "true";
EOF
  apt-get -q update || exit
  compiler=$(apt-cache pkgnames g++- | grep -xE 'g\+\+-[0-9]+' | sort -V | tail -n 1)
  apt-get -qy --download-only install "${compiler:?none is offered}" || exit
  for folder in bin lib lib64; do ln -s usr/$folder newest/$folder; done
  for package in newest-apt/cache/archives/*.deb; do dpkg-deb -x "$package" newest || exit; done
  rm -r newest-apt
  echo "$compiler" >newest/compiler # the last thing: the tree is whole
)

# check NAME COMMAND...: one test, with the others in the background; its output is shown if it fails.
check() {
  local name=$1
  shift
  [[ $name =~ $only || $name =~ ^install ]] || return 0
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
  : >"logs/$name.failed" # until it has passed
  {
    start=$SECONDS
    TIMEFORMAT=%0U
    # Not in a condition, where set -e would not count.
    { time { (set -e; "$@") >"logs/$name.log" 2>&1 </dev/null; }; } 2>"logs/$name.time"
    if [ $? -eq 0 ]; then
      rm "logs/$name.failed" && : >"logs/$name.passed"
      echo "-- $name: ok, $((SECONDS - start)) s, $(cat "logs/$name.time") s of a processor"
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
echo "-- $SECONDS s in all, $(($(cat logs/*.time | paste -sd +))) s of a processor"
echo "${#passed[@]} passed, ${#failed[@]} failed"
[ ${#failed[@]} -eq 0 ] && [ ${#passed[@]} -gt 0 ]
