#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
#
# Usage: test/hosts/run.sh [--only HOST]...
# What works inside other frameworks. Each HOST is a function below. Installs what is missing (Debian's packages, and
# those of PyPI in one environment, build/hosts/venv), builds, and runs. What is skipped has failed.
# The last line reads "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
root=$PWD
work=$root/build/hosts
python=$work/venv/bin/python
jobs=${JOBS:-$(nproc)}
hosts=(torch python c_abi)
passed=0
failed=0
mkdir -p "$work"

# debian PACKAGE...: installs those that are missing.
debian() {
  command -v apt-get >/dev/null || return 0 # not Debian: the build names what it does not find
  local missing=() package sudo=
  for package in "$@"; do
    [ "$(dpkg-query -Wf '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  [ "$(id -u)" -eq 0 ] || sudo=sudo
  $sudo apt-get -q -o DPkg::Lock::Timeout=600 update &&
    DEBIAN_FRONTEND=noninteractive $sudo apt-get -qy -o DPkg::Lock::Timeout=600 install --no-install-recommends "${missing[@]}"
}

# pypi PACKAGE...: installs those that are missing into the environment, which is made once.
pypi() {
  local base=/usr/bin/python3
  [ -x "$base" ] || base=python3
  [ -x "$python" ] || "$base" -m venv "$work/venv" || return
  local missing=() package
  for package in "$@"; do
    "$python" -m pip show -q "$package" 2>/dev/null || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] || "$python" -m pip install -q "${missing[@]}"
}

# step NAME COMMAND...: a command that only counts where it fails; then its output is shown.
step() {
  local name=$1 log=$work/$1.log start=$SECONDS
  shift
  if "$@" >"$log" 2>&1; then
    echo "-- $name: ok, $((SECONDS - start)) s"
  else
    failed=$((failed + 1))
    tail -n 60 "$log"
    echo "-- $name: FAILED, $((SECONDS - start)) s"
    return 1
  fi
}

# Attribute NAME of the first suite in a report; 0 where it has none.
reported() {
  local number
  number=$(grep -oP "\b$1=\"\K[0-9]+" "$2" | head -n 1)
  echo "${number:-0}"
}

# suite NAME REPORT COMMAND...: a command that writes a report as JUnit does. What it skips has failed.
suite() {
  local name=$1 report=$2 log=$work/$1.log start=$SECONDS total bad
  shift 2
  rm -f "$report"
  "$@" >"$log" 2>&1
  local status=$?
  total=0 bad=0
  if [ -f "$report" ]; then
    total=$(reported tests "$report")
    bad=$(($(reported failures "$report") + $(reported errors "$report") + $(reported skipped "$report") +
      $(reported disabled "$report")))
  fi
  [ "$bad" -eq 0 ] && { [ "$status" -ne 0 ] || [ "$total" -eq 0 ]; } && bad=1
  [ "$bad" -eq 0 ] || tail -n 100 "$log"
  [ "$total" -ge "$bad" ] && passed=$((passed + total - bad))
  failed=$((failed + bad))
  echo "-- $name: $total run, $bad failed, $((SECONDS - start)) s"
}

# cmake_build NAME SOURCE OPTION...: into build/hosts/NAME.
cmake_build() {
  local folder=$work/$1 source=$2
  shift 2
  cmake -Wno-dev -S "$source" -B "$folder" -G Ninja "$@" && cmake --build "$folder" -j "$jobs"
}

# torch_in_cpp NAME OPTION...: the C++ tests with one libtorch.
torch_in_cpp() {
  local name=$1
  shift
  step "$name-build" cmake_build "$name" test/hosts/torch "$@" &&
    suite "$name" "$work/$name.xml" ctest --test-dir "$work/$name" --output-on-failure --output-junit "$work/$name.xml"
  grep -ho 'NOT TESTED: .*' "$work/$name-build.log" "$work/$name.xml" | sort -u | sed 's/^/-- /'
}

# libtorch: Debian's and the newest wheel's in C++, and the wheel's in Python.
torch() {
  step torch-packages debian g++ cmake ninja-build libeigen3-dev doctest-dev libtorch-dev python3-dev python3-venv || return
  step torch-environment pypi torch numpy pytest ninja setuptools || return
  local wheel
  wheel=$("$python" -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parent)')
  torch_in_cpp torch-debian -DMOUE_TORCH_FOLDER=
  torch_in_cpp torch-wheel -DMOUE_TORCH_FOLDER="$wheel"
  step torch-extension env MAX_JOBS="$jobs" "$python" test/hosts/torch/build_extension.py "$work/torch-extension" &&
    PYTHONPATH=$work/torch-extension:$root/test/hosts/torch suite torch-python "$work/torch-python.xml" \
      "$python" -m pytest -q -p no:cacheprovider --junit-xml "$work/torch-python.xml" test/hosts/torch
}

# counted NAME: test/hosts/NAME/run.sh, whose last line is as that of this script.
counted() {
  local log=$work/$1-tests.log start=$SECONDS good=0 bad=1
  MOUE_HOSTS_PYTHON=$python JOBS=$jobs bash "test/hosts/$1/run.sh" >"$log" 2>&1
  local status=$?
  [[ $(tail -n 1 "$log") =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]] && good=${BASH_REMATCH[1]} bad=${BASH_REMATCH[2]}
  [ "$bad" -eq 0 ] && { [ "$status" -ne 0 ] || [ "$good" -eq 0 ]; } && bad=1
  [ "$bad" -eq 0 ] || tail -n 100 "$log"
  passed=$((passed + good))
  failed=$((failed + bad))
  echo "-- $1: $((good + bad)) run, $bad failed, $((SECONDS - start)) s"
}

# The package of examples/python, with NumPy and PyTorch.
python() {
  step python-packages debian g++ cmake ninja-build libeigen3-dev python3-dev python3-venv || return
  step python-environment pypi numpy torch pytest || return
  counted python
}

# The C interface of examples/c_abi, from C and from Python.
c_abi() {
  step c_abi-packages debian g++ cmake ninja-build libeigen3-dev python3-dev python3-venv || return
  step c_abi-environment pypi || return
  counted c_abi
}

chosen=()
while [ $# -gt 0 ]; do
  case "$1 ${2:-}" in
    "--only "?*)
      [[ " ${hosts[*]} " == *" $2 "* ]] || { echo "no host is called $2: ${hosts[*]}"; exit 2; }
      chosen+=("$2")
      shift 2
      ;;
    *) sed -n '5,8s/^# //p' "$0"; exit 2 ;;
  esac
done
for host in "${chosen[@]:-${hosts[@]}}"; do "$host"; done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
