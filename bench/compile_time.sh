#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
# What including the library costs: processor seconds and peak memory of compiling one file, per compiler and front door;
# with nvcc for one architecture, where it is installed.
# Usage: bench/compile_time.sh [eigen include folder]
set -euo pipefail
cd "$(dirname "$0")/.."
eigen=${1:-/usr/include/eigen3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

echo 'int main() {}' >"$folder/empty.cpp"
echo '#include <Eigen/Core>
int main() {}' >"$folder/eigen_core.cpp"
echo '#include <moue/topology/staggered_rotation.hpp>
int main() {}' >"$folder/one_topology.cpp"
echo '#include <moue/backend/reference.hpp>
#include <moue/pass.hpp>
int main() {}' >"$folder/pass_without_eigen.cpp"
echo '#include <moue/moue.hpp>
int main() {}' >"$folder/front_door.cpp"
cp examples/quickstart.cpp "$folder/quickstart.cpp"

echo '#include <moue/cuda.cuh>
int main() {}' >"$folder/cuda_front_door.cu"
cp bench/cuda_layer.cu "$folder/cuda_layer.cu"

printf '%-22s %-10s %10s %10s %10s\n' file compiler options cpu_s peak_MB
# measure FILE COMPILER OPTIONS...: the least of three runs.
measure() {
  python3 - "$folder" "$@" <<'PYTHON'
import resource, subprocess, sys
folder, file, compiler, *options = sys.argv[1:]
command = [compiler, '-std=c++20', *options, '-Iinclude', '-c', f'{folder}/{file}', '-o', f'{folder}/out.o']
best = 1e9
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
print(f'{file.split(".")[0]:22} {compiler:10} {options[0]:>10} {best:10.2f} {after.ru_maxrss / 1024:10.0f}', flush=True)
PYTHON
}

for compiler in g++ clang++; do
  command -v "$compiler" >/dev/null || continue
  for file in empty eigen_core one_topology pass_without_eigen front_door quickstart; do
    for options in -O0 -O3; do
      [ "$options" = -O3 ] && [ "$file" != quickstart ] && continue
      measure "$file.cpp" "$compiler" "$options" -isystem "$eigen"
    done
  done
done
command -v nvcc >/dev/null || exit 0
cp "$folder/empty.cpp" "$folder/empty.cu"
for file in empty cuda_front_door cuda_layer; do
  measure "$file.cu" nvcc -O2 -arch=sm_90 --extended-lambda --expt-relaxed-constexpr
done
