# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2164

strict=(-Wall -Wextra -Wconversion -Wshadow -Wold-style-cast -Wdouble-promotion)

# user NAME COMPILER FLAG...: user.cpp, whose headers come by -I as a user's do, compiled without a warning and run.
user() {
  local name=$1 known=()
  shift
  # std::stable_sort of libstdc++ 12 calls what it deprecates, and clang 19 says so in a system header.
  [ "$1" = clang++-19 ] && known=(-Wno-deprecated-declarations)
  mkdir -p user && cd user
  $launcher "$@" -Werror "${known[@]}" -O0 -I"$work" -I"$root/include" -isystem "$eigen" -c "$here/user.cpp" -o "$name.o"
  "$@" -pthread -o "$name" "$name.o"
  "./$name"
}

# warnings_of SOURCE COMPILER FLAG...: those of our headers, whatever the source itself makes the compiler say.
warnings_of() {
  local source=$1
  shift
  $launcher "$@" "${strict[@]}" -fsyntax-only -I"$root/include" -I"$root/test/support" -isystem "$eigen" \
    '-DMOUE_TEST_DATA="data"' "$source" 2>&1 | tee "messages-$(basename "$source")"
  ! grep -E 'include/moue/.*(warning|error):' "messages-$(basename "$source")"
}

# newest NAME FLAG...: as `user`, inside the tree of the newest g++, which brings no library but its own.
newest() {
  local name=$1 inside=$work/newest/$1
  shift
  rm -rf "$inside" && mkdir -p "$inside/others"
  cp -r "$root/include" "$here/user.cpp" every_header.hpp "$inside"
  cp -r "$eigen" /usr/include/nlohmann "$inside/others"
  $sudo chroot newest "$(cat newest/compiler)" --version
  $sudo chroot newest "$(cat newest/compiler)" "$@" -Werror -O0 -pthread "-I$name" "-I$name/include" \
    -isystem "$name/others/eigen3" -isystem "$name/others" "$name/user.cpp" -o "$name/user"
  $sudo chroot newest "$name/user"
}

# Every header after the macros of QObject (signals, slots, emit, foreach).
after_qt() {
  $launcher g++ -std=c++20 -fPIC -fsyntax-only -isystem /usr/include/x86_64-linux-gnu/qt5 -include QtCore/QObject \
    -I"$work" -I"$root/include" -isystem "$eigen" "$here/user.cpp"
}

# All but what reads files, after windows.h, which defines min, max, near, far, small and more. Not run: nobody here has a
# Windows.
with_mingw() {
  mkdir -p mingw && cd mingw
  grep -v '"moue/io[./]' ../every_header.hpp >every_header.hpp
  local flags=(-std=c++20 -O0 -Wall -Wextra -Werror -static -include windows.h -I. -I"$root/include" -isystem "$eigen")
  $launcher x86_64-w64-mingw32-g++-posix "${flags[@]}" -c "$root/examples/quickstart.cpp"
  $launcher x86_64-w64-mingw32-g++-posix "${flags[@]}" -c "$here/user.cpp"
  for program in quickstart user; do x86_64-w64-mingw32-g++-posix -static -o $program.exe $program.o; done
}

check_compilers() {
  local gxx standard
  check gxx-12_strict user gxx-12-strict g++-12 -std=c++20 -DMOUE_TEST_MORE "${strict[@]}" -Wuseless-cast
  check clang-14_strict user clang-14-strict clang++-14 -std=c++20 "${strict[@]}"
  check clang-19_strict user clang-19-strict clang++-19 -std=c++20 -DMOUE_TEST_MORE "${strict[@]}"
  check warnings_train warnings_of "$root/test/unit/train.cpp" g++-12 -std=c++20 -Wuseless-cast
  check warnings_files warnings_of "$root/test/unit/io_parameters.cpp" g++-12 -std=c++20 -Wuseless-cast
  check newest_gxx_strict newest strict -std=c++20 -DMOUE_TEST_MORE "${strict[@]}" -Wuseless-cast
  check newest_gxx.c++23 newest c++23 -std=c++23 -Wall -Wextra
  for gxx in g++-12 clang++-14 clang++-19; do
    standard=23
    [ $gxx = clang++-19 ] || standard=2b
    check "$gxx.modes" user "$gxx.modes" $gxx -std=c++$standard -D_GLIBCXX_DEBUG -fno-rtti -Wall -Wextra
  done
  check clang++-19.c++20.modes user clang++-19.c++20.modes clang++-19 -std=c++20 -D_GLIBCXX_DEBUG -fno-rtti -Wall -Wextra
  for standard in 20 23; do
    check "libc++-19.c++$standard" user "libc++.$standard" clang++-19 -std=c++$standard -stdlib=libc++ -Wall -Wextra
  done
  check after_qt after_qt
  check mingw with_mingw
}
