#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
#
# Usage: test/parity/run.sh
# Writes checkpoints of every family with transformers, as a user would get them, and GGUF files of them, compares with what
# it computes from them, and that with docs/checkpoints/parity.md; decodes low precision anew; and, with two versions of
# transformers, compares the pooled balancing loss and loads converted checkpoints. Needs PyPI and 10 GB of disk, in
# build/parity. PARITY_PYTHON names a Python that has all packages already.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$PWD/build/parity
mkdir -p "$work"
python=${PARITY_PYTHON:-$work/venv/bin/python}
if [ ! -x "$python" ]; then
  python3 -m venv "$work/venv"
  "$python" -m pip install -q torch transformers==5.24.0 safetensors numpy gguf==0.19.0 compressed-tensors==0.20.1
  "$python" -m pip install -q --no-deps auto-gptq==0.7.1 autoawq==0.2.9
fi
older=$work/transformers-4.57
[ -d "$older" ] || "$python" -m pip install -q --no-deps --target "$older" transformers==4.57.1 'huggingface_hub<1' 'tokenizers<0.23'

programs=(test_parity_families test_layouts_schemes test_io_gguf test_balance moue_convert)
{ cmake --preset release -DMOUE_TESTS_LEFT_OUT= && cmake --build --preset release --target "${programs[@]}"; } >"$work/build.log" 2>&1 ||
  { tail -n 50 "$work/build.log"; exit 1; }

# quiet LOG COMMAND...: what the command says of errors goes to the log, and is shown if it fails.
quiet() {
  local log=$work/$1.log
  shift
  "$@" 2>"$log" || { local status=$?; tail -n 30 "$log" >&2; return "$status"; }
}

export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error HF_HUB_DISABLE_PROGRESS_BARS=1
rm -rf "$work/data" "$work/low" "$work/loaded"
quiet generate "$python" test/parity/generate.py "$work/data" all
"$python" test/parity/gguf_moe.py "$work/data" "$work/data/gguf"
MOUE_PARITY_FOLDER=$work/data build/release/test/test_parity_families --no-intro | tee "$work/families.txt"
"$python" test/parity/table.py "$work/families.txt" "$work/data/versions.json"

quiet schemes "$python" test/parity/schemes.py "$work/low/schemes/schemes.safetensors"
quiet gguf_file "$python" test/parity/gguf_file.py "$work/low/gguf"
MOUE_LOW_PRECISION=$work/low build/release/test/test_layouts_schemes --no-intro
MOUE_LOW_PRECISION=$work/low build/release/test/test_io_gguf --no-intro

# A folder that is there may be another's, or half of one.
version=$(PYTHONPATH=$older quiet version "$python" -c 'import transformers; print(transformers.__version__)')
[ "$version" = 4.57.1 ] || { echo "$older holds transformers $version, not 4.57.1: remove it"; exit 1; }

for path in "" "$older"; do
  PYTHONPATH=$path quiet balance "$python" test/parity/balance.py "$work/pooled_loss.json"
  grep -o '"transformers": "[^"]*"' "$work/pooled_loss.json"
  MOUE_POOLED_LOSS=$work/pooled_loss.json build/release/test/test_balance --no-intro -tc="the pooled Switch loss*"
done
PYTHONPATH=$older "$python" test/parity/check.py
quiet load "$python" test/parity/load.py make "$work/loaded"
for plain in "$work"/loaded/*/plain; do
  model=$(dirname "$plain")
  build/release/examples/moue_convert/moue_convert "$plain" "$model/converted" >/dev/null
  build/release/examples/moue_convert/moue_convert "$model/converted" "$model/back" --back >/dev/null
done
quiet load "$python" test/parity/load.py check "$work/loaded"
# Version 4.57 reads the published layout of all that it knows.
PYTHONPATH=$older quiet load "$python" test/parity/load.py check "$work/loaded"
