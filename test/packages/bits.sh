# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2164

# What is promised to the bit, compiled for a processor with fused multiply-adds, with and without contraction.
unit_bits() {
  local name=$1 label=$2
  shift 2
  mkdir -p bits && cd bits
  $launcher "$@" -std=c++20 -O2 -march=x86-64-v3 -Wno-psabi -I"$root/include" -I"$root/test/support" -isystem "$eigen" \
    -c "$root/test/unit/$name.cpp" -o "$name-$label.o"
  $launcher g++ -std=c++20 -O0 -c "$root/test/doctest_main.cpp" -o "main-$name-$label.o"
  # By the same compiler: names of templates with concepts are mangled in two ways.
  $launcher "$1" -std=c++20 -O0 -I"$root/include" -I"$root/test/support" -c "$root/test/support/stack.cpp" \
    -o "stack-$name-$label.o"
  "$1" -pthread -o "$name-$label" "$name-$label.o" "main-$name-$label.o" "stack-$name-$label.o"
  "./$name-$label" --no-intro
}

# The same of a user's program, which has a `main` of its own.
program_bits() {
  local label=$1
  shift
  mkdir -p bits && cd bits
  $launcher "$@" -std=c++20 -O2 -march=x86-64-v3 -Wno-psabi -I"$root/include" -isystem "$eigen" -c "$here/same_bits.cpp" \
    -o "program-$label.o"
  "$1" -pthread -o "program-$label" "program-$label.o"
  "./program-$label"
}

# One program, one source compiled for two instruction sets: the linker keeps the first of two copies of an inline
# function, for both. On a processor without AVX (emulated) the program that asks the processor first still dies if the
# wide object came first.
mixed_instructions() {
  rm -rf mixed && mkdir mixed && cd mixed
  local flags=(-std=c++20 -O1 -pthread -I"$root/include" -isystem "$eigen")
  $launcher g++ "${flags[@]}" -Dmain=narrow -c "$consume/main.cpp" -o narrow.o
  $launcher g++ "${flags[@]}" -Dmain=wide -mavx2 -c "$consume/main.cpp" -o wide.o
  echo 'int narrow(), wide(); int main() { int r = narrow(); return __builtin_cpu_supports("avx2") ? r + wide() : r; }' >main.cpp
  g++ -O1 -c main.cpp
  g++ -static -pthread -o narrow-first main.o narrow.o wide.o
  g++ -static -pthread -o wide-first main.o wide.o narrow.o
  local status=0
  qemu-x86_64-static -cpu Nehalem ./narrow-first
  qemu-x86_64-static -cpu Nehalem ./wide-first || status=$?
  [ "$status" -eq 132 ] # illegal instruction
}

# Two versions of the library, of unlike layout, behind two halves of one program, linked in both orders.
two_versions() {
  rm -rf versions && mkdir -p versions/new && cd versions
  cp -r "$root/include" "$root/cmake" new
  sed -i 's/version_minor = [0-9]*/version_minor = 99/' new/include/moue/version.hpp
  sed -i '/^struct tensor_info {/,/^};/s/^};/  long added[8] = {};\n};/' new/include/moue/parameter/layout.hpp
  grep -q 'added\[8\]' new/include/moue/parameter/layout.hpp
  python3 new/cmake/inline_namespace.py new/include
  local flags=(-std=c++20 -O0 -pthread -isystem "$eigen" -I"$consume") minor
  minor=$(grep -oP 'version_minor = \K\d+' "$root/include/moue/version.hpp")
  $launcher g++ "${flags[@]}" -I"$root/include" -Dmain=old -DHALF=old_half "-DMINOR=$minor" -c "$here/version_half.cpp" -o old.o
  $launcher g++ "${flags[@]}" -Inew/include -Dmain=new_ -DHALF=new_half -DMINOR=99 -c "$here/version_half.cpp" -o new.o
  echo 'int old_half(), new_half(); int main() { return old_half() + new_half(); }' >main.cpp
  g++ -pthread -o program main.cpp old.o new.o && ./program
  g++ -pthread -o program main.cpp new.o old.o && ./program
  python3 "$root/cmake/inline_namespace.py" --check "$root/include" # or a third version would meet this one
}

# g++ fuses where nothing forbids it; clang does so across expressions if it is told.
check_bits() {
  local name
  for name in closed_candidates alignment convert_bits_cpu convert_bits_double; do
    check "bits_gxx_$name" unit_bits $name gxx g++
    check "bits_gxx_off_$name" unit_bits $name gxx-off g++ -ffp-contract=off
  done
  for name in closed_candidates alignment convert_bits_cpu convert_bits_double; do
    check "bits_clang_fast_$name" unit_bits $name clang-fast clang++-19 -ffp-contract=fast
    check "bits_clang_off_$name" unit_bits $name clang-off clang++-19 -ffp-contract=off
  done
  check bits_gxx_program program_bits gxx g++
  check bits_gxx_off_program program_bits gxx-off g++ -ffp-contract=off
  check bits_clang_fast_program program_bits clang-fast clang++-19 -ffp-contract=fast
  check bits_clang_off_program program_bits clang-off clang++-19 -ffp-contract=off
  check mixed_instructions mixed_instructions
  check two_versions two_versions
}
