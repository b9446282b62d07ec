#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
#
# Usage: test.sh PROGRAM DATA SCRATCH: converts small checkpoints of every family, there and back.
set -u
program=$1 data=$2 scratch=$3/work
failed=0
rm -rf "$scratch" && mkdir -p "$scratch"

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

for source in "$data"/*/; do
  family=$(basename "$source")
  [ -f "$source/config.json" ] || continue
  if [ "$family" = longcat_flash ]; then
    expect "$family" 1 "some experts of each layer return their input" "$source" "$scratch/$family"
    continue
  fi
  expect "$family" 0 "closed: the same outputs as before" "$source" "$scratch/$family" --rows home:1
  expect "$family back" 0 "written" "$scratch/$family" "$scratch/$family.back" --back
  # Closed connections leave nothing behind: the way back gives the source's tensors, byte for byte.
  a=$("$program" "$scratch/$family.back" "$scratch/none" --dry-run 2>&1 | grep -c "byte for byte")
  [ "$a" -eq 1 ] || { echo "$family: the way back gave no checkpoint of the family"; failed=1; }
  cmp -s <(tail -c +"$(($(od -An -tu8 -N8 "$source/model.safetensors") + 9))" "$source/model.safetensors") \
    <(tail -c +"$(($(od -An -tu8 -N8 "$scratch/$family.back/model-00001-of-00001.safetensors") + 9))" \
      "$scratch/$family.back/model-00001-of-00001.safetensors") ||
    { echo "$family: the way back changed a byte"; failed=1; }
done

expect window 0 "candidates   4 a layer of its own, and 1 of other layers" "$data/mixtral" "$scratch/w" --topology staggered_rotation:5:3
expect shards 0 "written      " "$data/mixtral" "$scratch/s" --shard-size 0.005
[ "$(ls "$scratch/s" | grep -c safetensors)" -gt 3 ] || { echo "one shard in place of several"; failed=1; }
expect opened 0 "open with bias 0: outputs change" "$data/mixtral" "$scratch/o" --open 0 --rows home:1
expect private 0 "16 experts in place of 8" "$scratch/o" "$scratch/p" --back
grep -q '"num_local_experts": 8' "$scratch/p/config.json" || { echo "config.json keeps the old number"; failed=1; }
expect biased 0 "written" "$data/mixtral" "$scratch/b" --open -3
expect no-place 1 "open it fully (bias 0) first" "$scratch/b" "$scratch/q" --back
expect list 0 "universal    2 of 8 experts" "$data/mixtral" "$scratch/l" --universal list:0,5
echo '[[1, 2, 3, 4], [5, 6, 7, 8]]' >"$scratch/loads.json"
expect used 0 "universal    3 of 8 experts" "$data/mixtral" "$scratch/u" --universal "most_used:3:$scratch/loads.json"
expect similar 0 "universal    3 of 8 experts" "$data/mixtral" "$scratch/similar" --universal most_similar:3
expect dry 0 "closed: the same outputs as before" "$data/mixtral" "$scratch/dry" --dry-run
[ ! -e "$scratch/dry" ] || { echo "a dry run wrote something"; failed=1; }

expect again 1 "holds a checkpoint already" "$data/mixtral" "$scratch/mixtral"
expect twice 1 "was converted before" "$scratch/mixtral" "$scratch/twice"
expect plain 1 "was not converted" "$data/mixtral" "$scratch/plain" --back
expect id 1 "expert 8 was chosen of 8" "$data/mixtral" "$scratch/id" --universal list:8
expect uneven 2 "as many universal experts in every layer" "$data/mixtral" "$scratch/e" --universal list:0,1,4 --topology reuse_blocks:2
expect usage 2 "does not know 'ring'" "$data/mixtral" "$scratch/x" --topology ring
expect no-input 1 "$scratch/none" "$scratch/none" "$scratch/x"
expect no-output 1 "cannot be made a folder" "$data/mixtral" "$scratch/loads.json/x"
exit $failed
