#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
#
# Usage: test/device/run.sh
# All of the CUDA backend that can be tested without a device: every emulated suite with the shared memory of three
# generations of devices, in KB a block; nvcc compiles all tests and benchmarks that a device would run, and gates.py reads
# the kernels. Needs the CUDA Toolkit; takes cuobjdump from PyPI where the toolkit has none. The last line reads
# "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
jobs=${JOBS:-$(nproc)}
build=build/device
passed=0
failed=0
mkdir -p $build

# check NAME COMMAND...: one test, whose output is shown if it fails.
check() {
  local name=$1 start=$SECONDS
  shift
  if "$@" >"$build/check.log" 2>&1; then
    passed=$((passed + 1))
    echo "-- $name: ok, $((SECONDS - start)) s"
  else
    failed=$((failed + 1))
    tail -n 60 "$build/check.log"
    echo "-- $name: FAILED, $((SECONDS - start)) s"
    return 1
  fi
}

build_all() {
  cmake --preset device &&
    cmake --build $build -j "$jobs" --target emulated_tests test_cuda_device example_gpu_layer \
      bench_gpu_products bench_gpu_layer bench_gpu_stack
}

# suites KB: every emulated suite, each of which counts as one test; one that was skipped, as failed.
suites() {
  local report=$PWD/$build/suites-$1.xml start=$SECONDS total good
  rm -f "$report"
  MOUE_TEST_SHARED_KB=$1 ctest --test-dir $build -R '^unit\.cuda_' -j "$jobs" --timeout 900 --no-tests=error \
    --output-on-failure --output-junit "$report" >"$build/suites-$1.log" 2>&1
  total=$(grep -oPm1 '\btests="\K[0-9]+' "$report") || total=1
  good=$(grep -c '<testcase .*status="run"' "$report")
  passed=$((passed + good))
  failed=$((failed + total - good))
  [ "$total" -eq "$good" ] || tail -n 100 "$build/suites-$1.log"
  echo "-- suites with $1 KB: $good of $total, $((SECONDS - start)) s"
}

cuobjdump() {
  command -v cuobjdump && return
  local tools=$build/tools
  [ -x $tools/bin/python ] || python3 -m venv $tools >&2 || return
  $tools/bin/pip -q install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm >&2 || return
  find "$PWD/$tools" -path '*/bin/cuobjdump'
}

check "build" build_all && {
  for kilobytes in 99 163 227; do suites $kilobytes; done
  tool=$(cuobjdump)
  for target in bench/gpu/CMakeFiles/bench_gpu_products.dir/products.cu.o \
    examples/gpu_layer/CMakeFiles/example_gpu_layer.dir/gpu_layer.cu.o; do
    check "machine code of ${target##*/}" python3 test/device/gates.py "$tool" $build/$target
  done
}
echo "-- $SECONDS s in all"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
