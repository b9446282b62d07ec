#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
#
# Usage: test.sh PROGRAM SCRATCH: what becomes of a run's files and output when something is in the way.
set -u
program=$1 scratch=$2/faults
failed=0
rm -rf "$scratch" && mkdir -p "$scratch"
yes "a text to be learnt by heart" | head -c 50000 >"$scratch/text"

# expect NAME STATUS TEXT COMMAND...: the command must end so and print the text somewhere.
expect() {
  local name=$1 status=$2 text=$3 output ended
  shift 3
  output=$("$@" 2>&1)
  ended=$?
  if [ "$ended" -ne "$status" ] || ! grep -qF -- "$text" <<<"$output"; then
    printf '%s: status %s, output:\n%s\nexpected status %s and: %s\n' "$name" "$ended" "$output" "$status" "$text"
    failed=1
  fi
}
train() { "$program" train --model moe --steps 1 "$@"; }

# Standard output on a full disk; a text without end.
unheard() { train --text /dev/zero --save "$scratch/model" 2>&1 >/dev/full; }
expect full-disk 1 "moue_lm: standard output cannot be written: No space left" unheard
[ -s "$scratch/model" ] || { echo "nothing was saved"; failed=1; }
expect unreadable 1 "text '/proc/self/mem': it cannot be read" train --text /proc/self/mem

# Targets that renaming would destroy, before any training.
ln -s model "$scratch/link" && mkfifo "$scratch/pipe"
# The device is one of the test's own where it can be made: a program that fails this as root would destroy the machine's.
mknod "$scratch/full" c 1 7 2>/dev/null && device=$scratch/full || device=/dev/full
expect device 1 "$device': is not a regular file" train --text "$scratch/text" --save "$device"
expect pipe 1 "is not a regular file" train --text "$scratch/text" --save "$scratch/pipe"
expect link 1 "is a symbolic link" train --text "$scratch/text" --save "$scratch/link"
[ -c "$device" ] && [ -p "$scratch/pipe" ] && [ -L "$scratch/link" ] || { echo "a target was replaced"; failed=1; }

# A limit on the size of files. (Counters of a coverage build would be cut, too: they go elsewhere.)
limited() (ulimit -f 10 && GCOV_PREFIX=$scratch/cut train --text "$scratch/text" --save "$scratch/limited")
expect limit 1 "limited': cannot be written: File too large" limited
ls "$scratch"/limited* 2>/dev/null && { echo "something is left of a file that could not be written"; failed=1; }

# A request to end saves the run; what a killed one left beside the file is taken over.
echo left >"$scratch/stopped.moue-part"
"$program" train --model moe --steps 1000000 --text "$scratch/text" --save "$scratch/stopped" >"$scratch/log" 2>&1 &
for _ in $(seq 600); do grep -q "^text:" "$scratch/log" && break; sleep 0.1; done
kill -TERM $!
wait $!
ended=$?
[ "$ended" -eq 143 ] && grep -q "^stopped after step" "$scratch/log" && [ -s "$scratch/stopped" ] ||
  { printf 'SIGTERM: status %s, output:\n%s\n' "$ended" "$(cat "$scratch/log")"; failed=1; }
expect resumable 2 "keeps its settings" train --resume "$scratch/stopped"
[ ! -e "$scratch/stopped.moue-part" ] || { echo "a part is left beside the file"; failed=1; }
exit $failed
