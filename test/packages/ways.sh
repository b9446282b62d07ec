# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2164 # root, here, work and so on are run.sh's

# Every way in, each with the project in test/consume and a build folder of its own.
consume=$root/test/consume
quiet=(-DMOUE_BUILD_TESTS=OFF -DMOUE_BUILD_EXAMPLES=OFF -DMOUE_BUILD_BENCH=OFF)

# install_to PREFIX OPTION...: there for whoever asks next, installed elsewhere and moved.
install_to() {
  local prefix=$1
  shift
  rm -rf "$prefix" "$prefix.build" "$prefix.first"
  cmake -S "$root" -B "$prefix.build" "${quiet[@]}" "$@"
  cmake --install "$prefix.build" --prefix "$prefix.first"
  mv "$prefix.first" "$prefix"
}

# cmake_project CMAKE BUILD OPTION...: configures, builds and runs the consumer.
cmake_project() {
  local cmake=$1 build=$2
  shift 2
  rm -rf "$build"
  "$cmake" -S "$consume" -B "$build" -DCMAKE_CXX_COMPILER_LAUNCHER=$launcher "$@"
  "$cmake" --build "$build"
  (cd "$build" && ctest --output-on-failure --no-tests=error)
}

with_meson() {
  rm -rf "meson-$1"
  PKG_CONFIG_PATH=$work/prefix/share/pkgconfig CXX="$launcher g++" tools/bin/meson setup "meson-$1" "$consume" \
    "-Dmethod=$1" "-Dcmake_prefix_path=$work/prefix"
  tools/bin/meson test -C "meson-$1" --no-stdsplit --print-errorlogs
}

with_make() {
  rm -rf make && mkdir make && cd make
  PKG_CONFIG_PATH=$work/prefix/share/pkgconfig CXX="$launcher g++" CXXFLAGS='-O0 -Wall -Wextra -Werror' \
    make -f "$consume/Makefile" check
}

from_archive() {
  local parts=(CMakeLists.txt LICENSE README.md cmake include)
  rm -rf archive && mkdir -p archive
  tar -C "$root" -czf archive/moue.tar.gz --transform 's,^,moue-0.1/,' "${parts[@]}"
  cmake_project cmake archive/build "-DMOUE_ARCHIVE=$work/archive/moue.tar.gz"
}

# Eigen and the JSON library come from the system, as packages of Conan's cache; no server is asked.
with_conan() {
  rm -rf conan-home conan && mkdir -p conan
  cp -r "$consume" conan/test_package
  local conan=$work/tools/bin/conan
  $conan profile detect
  $conan remote disable '*'
  $conan create "$here/system_package.py" --name eigen --version 3.4.0
  $conan create "$here/system_package.py" --name nlohmann_json --version 3.11.2
  $conan create "$root" --test-folder "$work/conan/test_package" -s compiler.cppstd=20 -s build_type=Debug
  $conan create "$root" --test-folder '' -s compiler.cppstd=20 -o 'moue/*:io=False'
}

# The same sources, from one header instead of a tree, in two translation units of one program.
with_one_header() {
  rm -rf one && mkdir -p one/moue && cd one
  python3 "$root/cmake/single_header.py" --io >moue/moue.hpp
  echo '#include "moue/moue.hpp"' >moue/io.hpp
  sed 's/int main()/int checkpoint()/' "$consume/checkpoint.cpp" >checkpoint.cpp
  (sed 's/int main()/int checkpoint();\nint use()/' "$consume/main.cpp"; echo 'int main() { return use() + checkpoint(); }') >main.cpp
  for source in main checkpoint; do
    $launcher g++ -std=c++20 -O0 -Wall -Wextra -Werror -I. -isystem "$eigen" -c $source.cpp
  done
  g++ -pthread -o program main.o checkpoint.o && ./program
}

# The lines of README's section on use in a project, word for word, in a copy of the sources, where neither doctest nor the
# benchmark is found.
readme_lines() {
  local section
  rm -rf readme && mkdir -p readme/home readme/moue readme/my_project && cd readme
  tar -C "$root" --exclude=./build --exclude=./.git -cf - . | tar -C moue -xf -
  section=$(sed -n '/^## Use it in a project/,/^## On a GPU/p' moue/README.md)
  sed -n '/^```sh/,/^```$/{/^```/d;p}' <<<"$section" >lines.sh
  cp moue/examples/quickstart.cpp program.cpp
  {
    printf 'cmake_minimum_required(VERSION 3.22)\nproject(my LANGUAGES CXX)\nadd_executable(my_program ../program.cpp)\n'
    sed -n '/^```cmake/,/^```$/{/^```/d;p}' <<<"$section"
  } >my_project/CMakeLists.txt
  for package in doctest benchmark; do echo "set(CMAKE_DISABLE_FIND_PACKAGE_$package ON)"; done >without.cmake
  export HOME=$work/readme/home CMAKE_TOOLCHAIN_FILE=$work/readme/without.cmake
  [ "$(grep -c '' lines.sh)" -ge 4 ]
  bash -euxo pipefail lines.sh
  [ -f home/.local/include/moue/moue.hpp ]
  ./a.out | diff - moue/examples/quickstart.expected
  cmake --build my_project/build
  my_project/build/my_program | diff - moue/examples/quickstart.expected
}

# What is installed depends on the options alone: with something called nvcc and a JSON library at hand, and with neither.
# Nobody asks that nvcc anything.
same_files() {
  rm -rf same && mkdir -p same/none same/nvcc
  printf '#!/bin/sh\necho "$@" >>"%s"\nexit 1\n' "$work/same/asked" >same/nvcc/nvcc
  chmod +x same/nvcc/nvcc
  PATH=$work/same/nvcc:$PATH CUDACXX=nvcc install_to "$work/same/rich" -DMOUE_IO=OFF
  [ ! -e same/asked ]
  ln -s "$(command -v cmake)" "$(command -v c++)" "$(command -v cc)" "$(command -v make)" same/none
  PATH=$work/same/none:/bin CUDACXX='' install_to "$work/same/poor" -DMOUE_IO=OFF \
    -DCMAKE_DISABLE_FIND_PACKAGE_nlohmann_json=ON -DCMAKE_DISABLE_FIND_PACKAGE_CUDAToolkit=ON
  diff -r same/rich same/poor
}

check_ways() {
  check install install_to "$work/prefix"
  check install_core install_to "$work/core" -DMOUE_IO=OFF
  wait
  check package cmake_project cmake package "-Dmoue_ROOT=$work/prefix"
  check package_core cmake_project cmake package-core "-Dmoue_ROOT=$work/core" -DCONSUME_IO=OFF \
    -DCMAKE_DISABLE_FIND_PACKAGE_nlohmann_json=ON
  check package_cmake_3.22 cmake_project "$work/old/bin/cmake" package-3.22 "-Dmoue_ROOT=$work/prefix"
  check subdirectory cmake_project cmake subdirectory "-DMOUE_CHECKOUT=$root"
  check subdirectory_core cmake_project cmake subdirectory-core "-DMOUE_CHECKOUT=$root" -DCONSUME_IO=OFF \
    -DCMAKE_DISABLE_FIND_PACKAGE_nlohmann_json=ON
  check fetch_content from_archive
  check meson_cmake with_meson cmake
  check meson_pkg-config with_meson pkg-config
  check make_pkg-config with_make
  check conan with_conan
  check one_header with_one_header
  check readme_lines readme_lines
  check same_files same_files
}
