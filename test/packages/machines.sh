# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2164

# Compiled for another machine and run under its emulator: 64 bits of another kind, 32 bits, big-endian. doctest is a link,
# since /usr/include itself is this machine's. i686 computes with SSE2, as every other machine rounds.
on_machine() {
  local triple=$1 emulator=$2 name=$3 extra=()
  local sources=("$root/test/unit/$name.cpp" "$root/test/doctest_main.cpp")
  [ "$name" = quickstart ] && sources=("$root/examples/quickstart.cpp")
  [ "$triple" = i686-linux-gnu ] && extra=(-msse2 -mfpmath=sse)
  mkdir -p machines headers && ln -sfn /usr/include/doctest headers/doctest && cd machines
  $launcher "$triple-g++" -std=c++20 -O0 -Wall -Wextra -Werror -static "${extra[@]}" \
    -I"$root/include" -I"$root/test/support" -isystem "$eigen" -isystem "$work/headers" "${sources[0]}" -c -o "$triple-$name.o"
  if [ "$name" = quickstart ]; then
    "$triple-g++" -static -o "$triple-$name" "$triple-$name.o"
    "$emulator" "$triple-$name" | diff - "$root/examples/quickstart.expected"
  else
    $launcher "$triple-g++" -std=c++20 -O0 -isystem "$work/headers" -c "${sources[1]}" -o "$triple-$name-main.o"
    "$triple-g++" -static -o "$triple-$name" "$triple-$name.o" "$triple-$name-main.o"
    "$emulator" "$triple-$name" --no-intro
  fi
}

# What reads and writes files does not compile for a machine of the other byte order, and says why first.
refuse_byte_order() {
  says 'error: .*moue: checkpoints are little-endian.*on this machine include all but moue/io' \
    first_error s390x-linux-gnu-g++ -std=c++20 moue/io.hpp
}

check_machines() {
  local name
  check s390x_refuses_files refuse_byte_order
  for name in quickstart topology router_stages closed_candidates; do
    check "aarch64_$name" on_machine aarch64-linux-gnu qemu-aarch64-static $name
    check "i686_$name" on_machine i686-linux-gnu qemu-i386-static $name
    check "s390x_$name" on_machine s390x-linux-gnu qemu-s390x-static $name
  done
}
