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
  $launcher "$@" -Werror "${known[@]}" -O0 -pthread -I"$work" -I"$root/include" -isystem "$eigen" "$here/user.cpp" -o "$name"
  "./$name"
}

# warnings_of SOURCE COMPILER FLAG...: those of our headers, whatever the source itself makes the compiler say.
warnings_of() {
  local source=$1
  shift
  $launcher "$@" "${strict[@]}" -O0 -c -o /dev/null -I"$root/include" -I"$root/test/support" -isystem "$eigen" \
    '-DMOUE_TEST_DATA="data"' "$source" 2>&1 | tee "messages-$(basename "$source")"
  ! grep -E 'include/moue/.*(warning|error):' "messages-$(basename "$source")"
}

after_qt() {
  g++ -std=c++20 -fPIC -fsyntax-only -isystem /usr/include/x86_64-linux-gnu/qt5 -include QtCore/QObject \
    -I"$root/include" -isystem "$eigen" "$consume/main.cpp"
}

# windows.h comes first and defines min, max, near, far, small and more. Not run: nobody here has a Windows.
with_mingw() {
  x86_64-w64-mingw32-g++-posix -std=c++20 -O1 -Wall -Wextra -Werror -static -include windows.h -I"$root/include" \
    -isystem "$eigen" "$root/examples/quickstart.cpp" -o quickstart.exe
}

check_compilers() {
  local gxx standard
  check gxx-12_strict user gxx-12-strict g++-12 -std=c++20 -DMOUE_TEST_MORE "${strict[@]}" -Wuseless-cast
  check clang-14_strict user clang-14-strict clang++-14 -std=c++20 "${strict[@]}"
  check clang-19_strict user clang-19-strict clang++-19 -std=c++20 -DMOUE_TEST_MORE "${strict[@]}"
  check warnings_train warnings_of "$root/test/unit/train.cpp" g++-12 -std=c++20 -Wuseless-cast
  check warnings_files warnings_of "$root/test/unit/io_parameters.cpp" g++-12 -std=c++20 -Wuseless-cast
  gxx=$(newest_gxx)
  check newest_gxx user newest-gxx "${gxx:-the newest g++}" -std=c++20 "${strict[@]}" -Wuseless-cast
  for gxx in g++-12 clang++-14 clang++-19; do
    standard=23
    [ $gxx = clang++-19 ] || standard=2b
    check "$gxx.c++23" user "$gxx.23" $gxx -std=c++$standard -Wall -Wextra
    check "$gxx.debug" user "$gxx.debug" $gxx -std=c++20 -D_GLIBCXX_DEBUG -Wall -Wextra
    check "$gxx.no-rtti" user "$gxx.no-rtti" $gxx -std=c++20 -fno-rtti -Wall -Wextra
  done
  for standard in 20 23; do
    check "libc++-19.c++$standard" user "libc++.$standard" clang++-19 -std=c++$standard -stdlib=libc++ -Wall -Wextra
  done
  check after_qt after_qt
  check mingw with_mingw
}
