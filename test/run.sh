#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
#
# Usage: test/run.sh [--fast | --dev | --tsan | --fuzz | --tidy | --docs | --device | --hosts | --packages | --parity |
#                     --systems | --mutants]...
# Without a flag: everything that a change has to pass. --fast is the format check and the release build alone;
# --docs the reference of public symbols, each of which needs a comment; --device all of the CUDA backend that needs no
# device; --hosts what works inside other frameworks and languages (MPI, TBB, OpenMP, PyTorch, Python, C); --packages how
# users get and compile the library, on other machines too; --parity all families beside the transformers that PyPI has;
# --systems published systems on every backend, beside numbers that were computed independently;
# --mutants which faults no test would see (hours).
# The last line reads "N passed, N failed"; a build, a check and a CTest test count one each.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
jobs=${JOBS:-$(nproc)}
passed=0
failed=0

install_missing() {
  local wanted=(g++ clang clang-format cmake ninja-build python3 libeigen3-dev doctest-dev nlohmann-json3-dev
                libbenchmark-dev valgrind)
  case " $* " in *dev*) wanted+=(gcovr llvm) ;; esac
  case " $* " in *dev* | *fuzz*) wanted+=(libclang-rt-14-dev libomp-14-dev) ;; esac
  case " $* " in *hosts*) wanted+=(libopenmpi-dev openmpi-bin libtbb-dev) ;; esac
  case " $* " in *tidy*) wanted+=(clang-tidy) ;; esac
  case " $* " in *docs*) wanted+=(doxygen) ;; esac
  command -v apt-get >/dev/null || return 0 # not Debian: CMake names what it does not find

  local missing=() package sudo=
  for package in "${wanted[@]}"; do
    [ "$(dpkg-query -Wf '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  [ "$(id -u)" -eq 0 ] || sudo=sudo
  {
    $sudo apt-get -q -o DPkg::Lock::Timeout=600 update &&
      DEBIAN_FRONTEND=noninteractive $sudo apt-get -qy -o DPkg::Lock::Timeout=600 install --no-install-recommends \
        "${missing[@]}"
  } >/tmp/moue-apt.$$ 2>&1 && return 0
  tail -n 5 "/tmp/moue-apt.$$"
  echo "test/run.sh: cannot install: ${missing[*]} (no network or no permission; install them by hand)"
  return 1
}

# check NAME COMMAND...: runs the command, which counts as one test.
check() {
  local name=$1 start=$SECONDS
  shift
  if "$@"; then
    passed=$((passed + 1))
    echo "-- $name: ok, $((SECONDS - start)) s"
  else
    failed=$((failed + 1))
    echo "-- $name: FAILED, $((SECONDS - start)) s"
    return 1
  fi
}

# counted NAME COMMAND...: a command that counts its tests itself, in a last line as this script's.
counted() {
  local name=$1 last
  shift
  mkdir -p build
  bash "$@" | tee "build/$name.log"
  last=$(tail -n 1 "build/$name.log")
  if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
    passed=$((passed + BASH_REMATCH[1]))
    failed=$((failed + BASH_REMATCH[2]))
  else
    failed=$((failed + 1))
  fi
}

# Tests that say nothing about what vectors and fused operations do to bits: where `dev` runs them, `release` leaves them
# out, and the examples but for quickstart and the programs, moue_*.
once='analysis|balance|bounds|convert_(back|carry|config|dense|moe_to_moue|open|plan|schedule|scores)|corners|dlpack|drop|errors'
once+='|entries|executor|experts|gated_experts|gradients|group_limited|io_(checkpoint|elements|faults|gguf|header|parameters)'
once+='|io_(safetensors|sharded|text|verify|writer)|language_model_convert|laws|laws_(balance|exempt|model|rows|stages)|layouts_.*'
once+='|layer_losses|load_.*|muon|parameters|parity_.*|pass_(edits|resume|steps)|report.*|router_stages|similarity|sparsemixer|topology'
once+='|trace|train_resident|transforms|user_policies|view_of|visit|example\.([a-l].*|mixed.*|[n-p].*|[r-z].*)'

# Whole models on the CUDA backend, emulated and compiled, which are slow: --device has them, and --systems the published.
whole_models='cuda_(corners|published|stack|storage|ties|user_policies)|published|(stored|user)_device|device_models|example\.gpu_layer'

# CUDA is built where asked for, and a change has to pass that wherever there is a compiler for it.
configure_and_build() {
  local options=()
  if [ "$1" = release ]; then
    if command -v "${CUDACXX:-nvcc}" >/dev/null; then options=(-DMOUE_BUILD_CUDA=ON); else options=(-DMOUE_BUILD_CUDA=OFF); fi
    options+=("-DMOUE_TESTS_LEFT_OUT=$whole_models$([[ " ${steps[*]} " != *" dev "* ]] || echo "|$once")")
  fi
  cmake --preset "$1" "${options[@]}" >"build/$1.log" 2>&1 || { cat "build/$1.log"; return 1; }
  cmake --build --preset "$1" -j "$jobs" >"build/$1.log" 2>&1 || { tail -n 100 "build/$1.log"; return 1; }
}

# What a suite of CTest counted: attribute NAME of its report.
reported() { grep -oPm1 "\b$1=\"\K[0-9]+" "$2"; }

build_and_test() {
  local preset=$1 report=$PWD/build/$1/report.xml start=$SECONDS
  shift
  check "$preset build" configure_and_build "$preset" || return
  rm -f "$report"
  "$@" ctest --preset "$preset" -j "$jobs" --output-junit "$report" >"build/$preset.log" 2>&1
  local status=$? total bad=0
  if total=$(reported tests "$report") && [ "$total" -gt 0 ]; then
    bad=$(reported failures "$report")
    passed=$((passed + total - bad - $(reported disabled "$report") - $(reported skipped "$report")))
  fi
  [ "$status" -ne 0 ] && [ "$bad" -eq 0 ] && bad=1
  failed=$((failed + bad))
  [ "$bad" -eq 0 ] || cat "build/$preset.log"
  echo "-- $preset tests: ${total:-0} run, $bad failed, $((SECONDS - start)) s with the build"
}

check_format() {
  clang-format --version >/dev/null || return 1
  local unformatted
  unformatted=$(find include test examples bench -type f -regex '.*\.\(hpp\|cpp\|cuh\|cu\)' -print0 |
    xargs -0r clang-format --dry-run --Werror 2>&1 | grep -oP '^[^:]+(?=:\d+:\d+: error)' | sort -u)
  [ -z "$unformatted" ] || { printf 'run clang-format -i on:\n%s\n' "$unformatted"; return 1; }
}

# ThreadSanitizer cannot start on kernels that randomise more address bits than it knows.
fixed_addresses() {
  if setarch -R true 2>/dev/null; then setarch -R "$@"; else "$@"; fi
}

steps=()
for flag in "$@"; do
  case $flag in
    --fast) steps+=(format release) ;;
    --dev | --tsan | --fuzz | --tidy | --docs | --device | --hosts | --packages | --parity | --systems | --mutants) steps+=("${flag#--}") ;;
    *) sed -n '5,14s/^# //p' "$0"; exit 2 ;;
  esac
done
[ ${#steps[@]} -gt 0 ] || steps=(format release dev tsan fuzz)

mkdir -p build
check "packages" install_missing "${steps[@]}" || steps=()
for step in "${steps[@]}"; do
  case $step in
    format) check "format" check_format ;;
    tsan) build_and_test tsan fixed_addresses ;;
    fuzz) check "fuzz build" configure_and_build fuzz && check "fuzz" test/fuzz/run.sh ;;
    device) counted "device" test/device/run.sh ;;
    hosts) build_and_test hosts && counted "frameworks" test/hosts/run.sh ;;
    packages) counted "packages" test/packages/run.sh ;;
    mutants) counted "mutants" test/mutate.sh ;;
    tidy) check "tidy" configure_and_build tidy ;;
    docs) check "docs" bash docs/reference.sh ;;
    parity) check "parity" test/parity/run.sh ;;
    dev)
      find build/dev -name '*.gcda' -delete 2>/dev/null # counters of an earlier run
      build_and_test dev && check "coverage" test/coverage.sh
      ;;
    *) build_and_test "$step" ;;
  esac
done
if [ -f build/release/CMakeCache.txt ]; then
  grep -q '^MOUE_CCCL_INCLUDE_DIR:PATH=.*-NOTFOUND' build/release/CMakeCache.txt &&
    echo "-- NOT TESTED: the CUDA backend on a host; install the headers of the CUDA Toolkit"
  grep -q '^MOUE_BUILD_CUDA:BOOL=OFF' build/release/CMakeCache.txt &&
    echo "-- NOT TESTED: what nvcc compiles; install the CUDA Toolkit, with nvcc on the PATH or in CUDACXX"
fi
echo "-- ${SECONDS} s in all"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
