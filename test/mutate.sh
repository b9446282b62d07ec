#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
#
# Usage: test/mutate.sh [AREA...]                     (default: all areas)
# Which faults would no test see? Compiles those of test/mutants.py into the tests of an area at once, turns them on one
# by one, and prints those that every test passes with. Those that test/mutants.txt explains have no effect, or none that
# is promised. The last line reads "N passed, N failed": seen or explained, and neither. Needs an hour or more.
# MUTANT_SHARE is the share of all possible mutants that is taken, MUTANT_LAUNCHER a command in front of every other.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
root=$PWD
share=${MUTANT_SHARE:-0.25}
read -ra launcher <<<"${MUTANT_LAUNCHER:-}"

# area: the headers below include/moue that belong to it (a regex), and the tests that are to see their faults.
declare -A headers=(
  [pass]='pass|executor|dispatch|routing|mixture|workspace|token_rows|grouped|gradients'
  [router]='router|scalar|math|lanes|operations'
  [balance]='balance|analysis'
  [train]='train'
  [topology]='topology'
  [expert]='expert[./]'
  [backend]='backend/(blocks|cpu|host_threads|reference)'
  [convert]='convert'
  [io]='io/'
  [cuda]='backend/cuda'
)
declare -A tests=(
  [pass]='corners non_finite pass_laws pass_steps pass_edits pass_resume executor gradients balance stack_gradient allocation'
  [router]='router_stages closed_candidates group_limited sparsemixer non_finite balance golden corners'
  [balance]='balance analysis similarity corners golden'
  [train]='train muon clip gradients train_resident'
  [topology]='topology corners'
  [expert]='experts gated_experts recomputed laws'
  [backend]='laws_backend grouped threads host_threads alignment executor few_rows'
  [convert]='convert_plan convert_schedule convert_moe_to_moue convert_back convert_open convert_dense convert_carry convert_config'
  [io]='io_header io_safetensors io_writer io_elements io_parameters io_checkpoint io_sharded io_converted io_gguf layouts_recognise layouts_config'
  [cuda]='cuda_corners cuda_dispatch cuda_executor cuda_products cuda_rows cuda_stack cuda_ties'
)
areas=("$@")
[ ${#areas[@]} -gt 0 ] || areas=(pass router balance train topology expert backend convert io cuda)
for area in "${areas[@]}"; do
  [ -n "${tests[$area]:-}" ] || { sed -n '5,10s/^# //p' "$0"; exit 2; }
done

work=$root/build/mutants
copy=$work/source
mkdir -p "$copy"
for part in "$root"/*; do
  case $(basename "$part") in build | include | shared) ;; *) ln -sfn "$part" "$copy/$(basename "$part")" ;; esac
done
mutate() { python3 test/mutants.py include "$copy/include" "$work/list.tsv" "$share" "$work/dropped"; }
configured() {
  cmake -S "$copy" -B "$work/tree" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O1 -DCMAKE_CXX_FLAGS=-w \
    -DMOUE_BUILD_EXAMPLES=OFF -DMOUE_BUILD_BENCH=OFF -DMOUE_BUILD_CUDA=OFF
}
# What does not compile is dropped, until the rest does.
build() {
  local round
  for round in 1 2 3 4 5 6; do
    "${launcher[@]}" ninja -C "$work/tree" -j "${JOBS:-$(nproc)}" -k 0 "$@" >"$work/build.log" 2>&1 && return
    grep -oP 'include/\Kmoue/[\w/.]+:\d+(?=:\d+:\s+(error|required))' "$work/build.log" | sort -u >"$work/blamed"
    awk -F'\t' 'NR == FNR { blamed[$1] = 1; next } ($2 ":" $3) in blamed { print $2 ":" $3 ":" $4 }' "$work/blamed" \
      "$work/list.tsv" | sort -u >"$work/more"
    [ -s "$work/more" ] || break
    cat "$work/more" >>"$work/dropped"
    echo "-- $(wc -l <"$work/more") mutants do not compile"
    mutate
  done
  tail -n 40 "$work/build.log"
  return 1
}
# survives NUMBER TEST...: whether every test passes with the mutant on, none of them for longer than a minute.
survives() {
  local number=$1 test
  shift
  for test in "$@"; do
    (
      ulimit -v 16000000
      cd "$work" && MOUE_MUTANT=$number "${launcher[@]}" timeout -k 1 60 "tree/test/test_$test" --no-intro --abort-after=1
    ) >/dev/null 2>&1 || return 1
  done
}

touch "$work/dropped"
mutate || exit
configured >"$work/configure.log" 2>&1 || { cat "$work/configure.log"; exit 1; }
passed=0 failed=0
for area in "${areas[@]}"; do
  read -ra names <<<"${tests[$area]}"
  build "${names[@]/#/test_}" || { failed=$((failed + 1)); continue; }
  survives 0 "${names[@]}" || { echo "-- $area: its tests fail without a mutant"; failed=$((failed + 1)); continue; }
  seen=0 explained=0 unseen=0
  while IFS=$'\t' read -r number file line rule text <&3; do
    [[ $file =~ ^moue/(${headers[$area]}) ]] || continue
    if ! survives "$number" "${names[@]}"; then
      seen=$((seen + 1))
    elif grep -qF -- "$file: $rule: $text" test/mutants.txt; then
      explained=$((explained + 1))
    else
      unseen=$((unseen + 1))
      echo "unseen: $file:$line: $rule: $text" | tee -a "$work/unseen.txt"
    fi
  done 3<"$work/list.tsv"
  echo "-- $area: $seen seen, $explained explained, $unseen unseen"
  passed=$((passed + seen + explained)) failed=$((failed + unseen))
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
