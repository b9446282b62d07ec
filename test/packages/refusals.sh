# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2164

# find_moue PREFIX ARGUMENTS [OPTION...]: configures a project that calls find_package(moue ARGUMENTS), and prints which
# components it got.
find_moue() {
  local folder
  folder=$(mktemp -d -p "$work" ask.XXXXXX)
  cat >"$folder/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.22)
project(ask LANGUAGES CXX)
find_package(moue $2)
foreach(one io cuda none)
  message(STATUS "\${one}: \${moue_\${one}_FOUND} \${moue_\${one}_NOT_FOUND_MESSAGE}")
endforeach()
END
  cmake -S "$folder" -B "$folder/build" "-Dmoue_ROOT=$1" "${@:3}"
}

refuse_versions() {
  says 'compatible with requested version "0.2".*moueConfig.cmake, version: 0.1' find_moue "$work/prefix" '0.2 REQUIRED'
  says 'compatible with requested version "1.0".*moueConfig.cmake, version: 0.1' find_moue "$work/prefix" '1.0 REQUIRED'
  says 'compatible with requested version "0.0".*moueConfig.cmake, version: 0.1' find_moue "$work/prefix" '0.0 REQUIRED'
  find_moue "$work/prefix" '0.1 REQUIRED'
  export PKG_CONFIG_PATH=$work/prefix/share/pkgconfig method
  says "'moue' has version '0.1.*required version is '>= 0.2'" pkg-config --print-errors --exists 'moue >= 0.2'
  for method in cmake pkg-config; do
    says "ERROR: .*need 'moue' \['>=0.2'\] found '0.1" ask_meson
  done
}
ask_meson() {
  local folder
  folder=$(mktemp -d -p "$work" ask.XXXXXX)
  printf "project('ask', 'cpp')\ndependency('moue', version: '>=0.2', method: '%s', modules: ['moue::moue'])\n" "$method" \
    >"$folder/meson.build"
  "$work/tools/bin/meson" setup "$folder/build" "$folder" "-Dcmake_prefix_path=$work/prefix"
}

refuse_components() {
  says "'none' is missing: moue has no such component; there are io and cuda" \
    find_moue "$work/prefix" '0.1 REQUIRED COMPONENTS none'
  says "'io' is missing: moue was installed without it; configure moue with -DMOUE_IO=ON" \
    find_moue "$work/core" '0.1 REQUIRED COMPONENTS io'
  says "'io' is missing: nlohmann-json 3 was not found" \
    find_moue "$work/prefix" '0.1 REQUIRED COMPONENTS io' -DCMAKE_DISABLE_FIND_PACKAGE_nlohmann_json=ON
  says "'cuda' is missing: moue was installed without it; configure moue with -DMOUE_BUILD_CUDA=ON" \
    find_moue "$work/prefix" '0.1 REQUIRED COMPONENTS cuda'
  cp -r "$work/prefix" "$work/ask.cuda" && touch "$(dirname "$(find "$work/ask.cuda" -name moueConfig.cmake)")/moueCudaTargets.cmake"
  says "'cuda' is missing: this project does not compile CUDA; call enable_language\(CUDA\) before find_package" \
    find_moue "$work/ask.cuda" '0.1 REQUIRED COMPONENTS cuda'
  # What is optional stops nothing, and is said to be there or not.
  find_moue "$work/core" '0.1 REQUIRED OPTIONAL_COMPONENTS io cuda none' >components-core.txt
  grep -q -- '-- io: FALSE .*configure moue with -DMOUE_IO=ON' components-core.txt
  grep -q -- '-- cuda: FALSE .*configure moue with -DMOUE_BUILD_CUDA=ON' components-core.txt
  grep -q -- '-- none: FALSE .*there are io and cuda' components-core.txt
  find_moue "$work/prefix" '0.1 REQUIRED OPTIONAL_COMPONENTS io cuda' >components.txt
  grep -q -- '-- io: TRUE' components.txt && grep -q -- '-- cuda: FALSE' components.txt
}

refuse_sources() {
  says 'nlohmann-json 3 was not found.*-DMOUE_IO=OFF' \
    cmake -S "$root" -B refused-json "${quiet[@]}" -DCMAKE_DISABLE_FIND_PACKAGE_nlohmann_json=ON
  says 'doctest was not found.*-DMOUE_BUILD_TESTS=OFF' \
    cmake -S "$root" -B refused-doctest -DCMAKE_DISABLE_FIND_PACKAGE_doctest=ON
  says 'CMake 3.25 or higher is required' old/bin/cmake -S "$root" -B refused-cmake "${quiet[@]}"
}

# Before C++20, without exceptions, or with arithmetic that knows no infinity, the first error says so in one sentence.
refuse_modes() {
  local compiler flag
  for compiler in g++ clang++-14 clang++-19; do
    says 'error: .*moue: needs C\+\+20; compile with -std=c\+\+20 or newer' \
      first_error $compiler -std=c++17 moue/moue.hpp
    says 'error: .*moue: reports misuse by exceptions; compile without -fno-exceptions' \
      first_error $compiler -std=c++20 -fno-exceptions moue/moue.hpp
    for flag in -ffast-math -Ofast -ffinite-math-only; do
      says 'error: .*moue: closed candidates are infinite.*compile without -ffast-math' \
        first_error $compiler -std=c++20 $flag moue/moue.hpp
    done
  done
}
# first_error COMPILER FLAG... HEADER: prints the first error of a file that includes this header alone.
first_error() {
  "${@:1:$#-1}" -Wfatal-errors -fsyntax-only -I"$root/include" -isystem "$eigen" -x c++ - <<<"#include <${*: -1}>" 2>&1 |
    grep -m1 error:
  return 1
}

check_refusals() {
  rm -rf "$work"/ask.*
  check refuse_versions refuse_versions
  check refuse_components refuse_components
  check refuse_sources refuse_sources
  check refuse_modes refuse_modes
}
