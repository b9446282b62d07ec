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
{ cmake --preset release && cmake --build --preset release --target "${programs[@]}"; } >"$work/build.log" 2>&1 ||
  { tail -n 50 "$work/build.log"; exit 1; }

export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error HF_HUB_DISABLE_PROGRESS_BARS=1
rm -rf "$work/data" "$work/low" "$work/loaded"
"$python" test/parity/generate.py "$work/data" all 2>"$work/generate.log" || { tail "$work/generate.log"; exit 1; }
"$python" test/parity/gguf_moe.py "$work/data" "$work/data/gguf"
MOUE_PARITY_FOLDER=$work/data build/release/test/test_parity_families --no-intro | tee "$work/families.txt"
"$python" test/parity/table.py "$work/families.txt" "$work/data/versions.json"

"$python" test/parity/schemes.py "$work/low/schemes/schemes.safetensors" 2>/dev/null
"$python" test/parity/gguf_file.py "$work/low/gguf" 2>/dev/null
MOUE_LOW_PRECISION=$work/low build/release/test/test_layouts_schemes --no-intro
MOUE_LOW_PRECISION=$work/low build/release/test/test_io_gguf --no-intro

for path in "" "$older"; do
  PYTHONPATH=$path "$python" test/parity/balance.py "$work/pooled_loss.json" 2>/dev/null
  grep -o '"transformers": "[^"]*"' "$work/pooled_loss.json"
  MOUE_POOLED_LOSS=$work/pooled_loss.json build/release/test/test_balance --no-intro -tc="the pooled Switch loss*"
done
PYTHONPATH=$older "$python" test/parity/check.py
"$python" test/parity/load.py make "$work/loaded" 2>/dev/null
for plain in "$work"/loaded/*/plain; do
  model=$(dirname "$plain")
  build/release/examples/moue_convert/moue_convert "$plain" "$model/converted" >/dev/null
  build/release/examples/moue_convert/moue_convert "$model/converted" "$model/back" --back >/dev/null
done
"$python" test/parity/load.py check "$work/loaded" 2>/dev/null
# Version 4.57 reads the published layout of all of these.
PYTHONPATH=$older "$python" test/parity/load.py check "$work/loaded" 2>/dev/null
