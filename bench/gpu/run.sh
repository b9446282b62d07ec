#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
#
# Usage: bench/gpu/run.sh [--quick] [--arch N]
# On a machine with a GPU: builds, runs every test that needs one, also under compute-sanitizer, then the benchmarks, and
# prints a short table last. --quick ends within 8 minutes: fewer shapes and repetitions, and less under the sanitizers.
# --arch 90 compiles for that architecture, and not for the device's own.
#
# Logs, results.tsv and the page gpu.md go to $OUT, or build/gpu. Ends with 77 where there is no device, and with 1 if
# anything failed; the failures are named before the table. PyTorch is measured if $PYTHON, or python3, has it.
#
# Needed are the CUDA Toolkit, CMake 3.25 and python3, but no network. Headers of Eigen, doctest and nlohmann/json are
# looked for in third_party/, which git ignores, before the system. To fill it, where libeigen3-dev, doctest-dev and
# nlohmann-json3-dev are installed, and to carry it from there:
#   mkdir -p third_party && cp -rL /usr/include/{eigen3,doctest,nlohmann} third_party/
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

quick=
arch=
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=--quick ;;
    --arch) arch=${2:?--arch needs a number, such as 90} && shift ;;
    *) sed -n '5,8s/^# //p' "$0"; exit 2 ;;
  esac
  shift
done
command="bash bench/gpu/run.sh${quick:+ $quick}"
out=${OUT:-build/gpu}
build=build/gpu-cmake
python=${PYTHON:-python3}
results=$out/results.tsv
mkdir -p "$out" "$build" || exit
out=$(cd "$out" && pwd)
failures=()
passed=0

nvcc=${CUDACXX:-$(command -v nvcc || echo "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc")}
if ! "$nvcc" --version >/dev/null 2>&1; then
  echo "no CUDA compiler: $nvcc does not run; set CUDACXX"
  [ -e /dev/nvidiactl ] && exit 1
  exit 77
fi
"$nvcc" -o "$build/probe" bench/gpu/probe.cu || exit 1
device=$("$build/probe")
status=$?
if [ $status -ne 0 ]; then
  echo "$device"
  exit $status
fi
arch=${arch:-$(sed -n 1p <<<"$device")}
device=$(sed -n 2p <<<"$device")
driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)
echo "-- $device${driver:+, $driver}; compiled for $arch"

# step NAME SECONDS COMMAND...: runs the command for so many seconds at most, and no longer than the whole may take.
step() {
  local name=$1 limit=$2 start=$SECONDS status log=$out/$1.log
  shift 2
  [ -z "$quick" ] || [ $((450 - SECONDS)) -gt "$limit" ] || limit=$((450 - SECONDS))
  status=124
  [ "$limit" -le 0 ] || { timeout -k 10 "$limit" "$@" >"$log" 2>&1; status=$?; }
  if [ $status -eq 0 ]; then
    passed=$((passed + 1))
    echo "-- $name: ok, $((SECONDS - start)) s"
    return 0
  fi
  local why="status $status"
  [ $status -ne 124 ] && [ $status -ne 137 ] || why="out of time"
  failures+=("$name ($why)")
  echo "-- $name: FAILED, $why, $((SECONDS - start)) s"
  [ "$limit" -le 0 ] || tail -n 15 "$log"
  return 1
}

# package NAME TARGET FOLDER HEADER: a package that CMake finds, if third_party/FOLDER/HEADER is there.
carried=()
package() {
  local folder=$PWD/$build/packages headers=$PWD/third_party/$3
  [ -e "$headers/$4" ] || return 0
  mkdir -p "$folder"
  cat >"$folder/$1Config.cmake" <<END
if(NOT TARGET $2)
  add_library($2 INTERFACE IMPORTED)
  set_target_properties($2 PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "$headers")
endif()
END
  echo 'set(PACKAGE_VERSION_COMPATIBLE TRUE)' >"$folder/$1ConfigVersion.cmake"
  carried+=("-D$1_DIR=$folder")
}
package Eigen3 Eigen3::Eigen eigen3 Eigen/Core
package doctest doctest::doctest . doctest/doctest.h
package nlohmann_json nlohmann_json::nlohmann_json . nlohmann/json.hpp

# either QUICK FULL: what the mode asks for.
either() { if [ -n "$quick" ]; then echo "$1"; else echo "$2"; fi; }

# What compiles is run, even where something else does not.
generator=()
keep_going=(-k)
if [ ! -e "$build/CMakeCache.txt" ] && command -v ninja >/dev/null; then generator=(-G Ninja); fi
targets=(test_cuda_device example_gpu_layer bench_gpu_layer bench_gpu_stack bench_gpu_products bench_gpu_table)
step configure 120 cmake -S . -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DCMAKE_CUDA_COMPILER="$nvcc" \
  -DCMAKE_CUDA_ARCHITECTURES="$arch-real" -DMOUE_BUILD_CUDA=ON -DMOUE_BUILD_TESTS=ON -DMOUE_BUILD_EXAMPLES=ON \
  -DMOUE_BUILD_BENCH=ON -DMOUE_INSTALL=OFF -DMOUE_TEST_ALL_COMPOSITIONS="$(either OFF ON)" "${carried[@]}"
[ ! -e "$build/build.ninja" ] || keep_going=(-k 0)
step build "$(either 270 3600)" cmake --build "$build" -j "$(nproc)" --target "${targets[@]}" -- "${keep_going[@]}"

tests=$build/test/cuda/test_cuda_device
example=$build/examples/gpu_layer/gpu_layer
step tests "$(either 60 900)" "$tests" --no-intro
step gpu_layer 60 "$example"

# Errors of calls are not the sanitizer's business here: each is checked, and a test makes one on purpose.
if sanitizer=$(command -v compute-sanitizer || command -v "$(dirname "$nvcc")/compute-sanitizer"); then
  for tool in memcheck racecheck initcheck; do
    sanitize=("$sanitizer" --tool "$tool" --error-exitcode 1 --report-api-errors no)
    if [ -n "$quick" ]; then
      step "$tool" 40 "${sanitize[@]}" "$tests" --no-intro --test-case="a graph*,16-bit*"
    else
      step "$tool" 2400 "${sanitize[@]}" "$tests" --no-intro
      step "$tool-gpu_layer" 900 "${sanitize[@]}" "$example"
    fi
  done
else
  echo "-- compute-sanitizer is not installed: nothing ran under it"
fi

rm -f "$results" "$out/cold.tsv"
bench() {
  local name=$1 limit=$2 program=$3
  shift 3
  step "$name" "$limit" "$build/bench/gpu/bench_gpu_$program" --out "$results" $quick "$@"
}
upto4096=(--tokens 1 --tokens 16 --tokens 256 --tokens 4096)
if [ -n "$quick" ]; then
  bench layer 90 layer --shape r-small --shape olmoe --shape qwen3-30b "${upto4096[@]}"
  bench stack 60 stack --shape olmoe "${upto4096[@]}"
  bench products 60 products --shape olmoe --tokens 1 --tokens 4 --tokens 16 --tokens 64 --tokens 256
else
  bench layer 2400 layer
  bench layer-float 2400 layer --type float "${upto4096[@]}"
  bench stack 2400 stack
  bench stack-float 2400 stack --type float "${upto4096[@]}"
  bench products 2400 products
  bench products-float 2400 products --type float
  results=$out/cold.tsv bench layer-cold 1200 layer --cold --tokens 1 --tokens 16 --tokens 256
fi
if "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
  step torch "$(either 60 2400)" "$python" bench/gpu/torch_baseline.py "$results" $quick
else
  echo "-- $python has no PyTorch with a device: it is not measured"
fi

notes=(--note "$(date -u +%F)" --note "$device${driver:+, driver $driver}" --note "\`$command\`")
[ ! -s "$out/cold.tsv" ] || step cold-table 60 "$build/bench/gpu/bench_gpu_table" "$out/cold.tsv" \
  --markdown "$out/cold.md" "${notes[@]}" --note "caches flushed before each run"
quick='' step table 60 "$build/bench/gpu/bench_gpu_table" "$results" --markdown "$out/gpu.md" "${notes[@]}"
echo "-- $SECONDS s in all; logs and results in $out"
echo "$passed steps passed, ${#failures[@]} failed"
[ ${#failures[@]} -eq 0 ] || printf '   %s\n' "${failures[@]}"
[ ! -s "$out/table.log" ] || cat "$out/table.log"
[ ${#failures[@]} -eq 0 ]
