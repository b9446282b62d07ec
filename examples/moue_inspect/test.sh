#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
#
# Usage: test.sh PROGRAM DATA SCRATCH: runs the program on small checkpoints and broken files.
set -u
program=$1 data=$2 scratch=$3
failed=0

# expect NAME STATUS TEXT ARGUMENT...: the program must end so and print the text somewhere.
expect() {
  local name=$1 status=$2 text=$3 output ended
  shift 3
  output=$("$program" "$@" 2>&1)
  ended=$?
  if [ "$ended" -ne "$status" ] || ! grep -qF -- "$text" <<<"$output"; then
    printf '%s: status %s, output:\n%s\nexpected status %s and: %s\n' "$name" "$ended" "$output" "$status" "$text"
    failed=1
  fi
}

expect family 0 "mixtral, layout 'w1 w3 w2'" "$data/mixtral"
expect convention 0 "softmax over all, not renormalised" "$data/qwen2_moe"
expect layers 0 "2 with a mixture (0, 2)" "$data/qwen2_moe"
expect shared 0 "and a shared one of hidden size 20, gated by itself" "$data/qwen2_moe"
expect coded 0 "F8_E4M3: 15, 32640 bytes" "$data/deepseek_v3_fp8"
expect coded-parameters 0 "25348: experts 25216, routers 132, the rest 0" "$data/gpt_oss_mxfp4"
expect unknown 0 "family      not recognised" "$data/mixtral/expected.safetensors"
expect wrong-family 1 "the tensors fit no family" "$data/mixtral/model.safetensors" --family olmoe
expect usage 2 "option '--probes' needs a number" "$data/mixtral" --probes 0

rm -f "$scratch"/*.svg
expect picture 0 "picture " "$data/mixtral" --svg "$scratch/experts.svg"
grep -q "layer.expert" "$scratch/experts.svg" || { echo "no picture of experts"; failed=1; }
expect no-folder 1 "cannot write" "$data/mixtral" --svg "$scratch/none/experts.svg"

head -c 100 "$data/mixtral/model.safetensors" >"$scratch/cut.safetensors"
expect cut 1 "ends inside its header" "$scratch/cut.safetensors"
for broken in "$scratch/cut.safetensors" "$0" "$scratch/none"; do
  lines=$("$program" "$broken" 2>&1 | wc -l)
  [ "$lines" -eq 1 ] || { echo "$broken: $lines lines in place of one"; failed=1; }
done
exit $failed
