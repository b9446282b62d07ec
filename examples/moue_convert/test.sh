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
  case $family in
    longcat_flash) refused="some experts of each layer return their input" ;;
    llama4) refused="each expert's row of the router gates its input" ;;
    gemma4) refused="matrices are products of several tensors" ;;
    dbrx) refused="the experts of a layer stand in one matrix" ;;
    nemotron_h_latent) refused="the experts of a layer share the projections around them" ;;
    *) refused= ;;
  esac
  if [ -n "$refused" ]; then
    expect "$family" 1 "$refused" "$source" "$scratch/$family"
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
  cmp -s "$source/config.json" "$scratch/$family/config.json" &&
    cmp -s "$source/config.json" "$scratch/$family.back/config.json" ||
    { echo "$family: config.json is not as it was"; failed=1; }
done

# A folder in each scheme of low precision: two layers whose experts hold the same codes. Codes and scales come back as they
# were, and open connections copy them.
python3 - "$data/../schemes/schemes.safetensors" "$scratch/schemes" <<'END'
import json, pathlib, struct, sys

raw = pathlib.Path(sys.argv[1]).read_bytes()
size = struct.unpack("<Q", raw[:8])[0]
header, data = json.loads(raw[8:8 + size]), raw[8 + size:]
header.pop("__metadata__", None)
more = {"gptq": {"quant_method": "gptq"}, "awq": {"quant_method": "awq", "version": "gemm"}, "fp8_tiles": {"weight_block_size": [6, 20]}}
for case in sorted({name.split("/")[0] for name in header}):
    pieces = {name.split("/")[1]: entry for name, entry in header.items() if name.startswith(case + "/") and "expected" not in name}
    plain = not any(name.startswith("down.") for name in pieces)  # where blocks are longer than its rows
    tensors = {}
    for layer in (0, 1):
        mlp = f"model.layers.{layer}.mlp."
        tensors[mlp + "gate.weight"] = ("F32", [2, 32], struct.pack("<64f", *[(i * 7 + layer) % 11 - 5.0 for i in range(64)]))
        for expert in (0, 1):
            if plain:
                tensors[f"{mlp}experts.{expert}.down_proj.weight"] = ("F32", [32, 16], bytes(4 * 32 * 16))
            for part in ("gate", "up", "down"):
                for name, entry in pieces.items():
                    if name.startswith("gate." if part == "up" else part + "."):
                        begin, end = entry["data_offsets"]
                        tensors[f"{mlp}experts.{expert}.{part}_proj.{name.split('.', 1)[1]}"] = (entry["dtype"], entry["shape"], data[begin:end])
    folder = pathlib.Path(sys.argv[2], case)
    folder.mkdir(parents=True)
    at, entries, body = 0, {}, b""
    for name, (dtype, shape, content) in sorted(tensors.items(), key=lambda one: (-len(one[1][2]), one[0])):
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(content)]}
        at, body = at + len(content), body + content
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
    (folder / "config.json").write_text(json.dumps(
        {"model_type": "qwen3_moe", "num_experts": 2, "num_hidden_layers": 2, "num_experts_per_tok": 1,
         "quantization_config": next((v for k, v in more.items() if case.startswith(k)), {})}))
END
count=0
for source in "$scratch"/schemes/*; do
  scheme=$(basename "$source")
  expect "$scheme" 0 "closed: the same outputs as before" "$source" "$source.moue" --rows home:1
  expect "$scheme back" 0 "written" "$source.moue" "$source.back" --back
  expect "$scheme opened" 0 "open with bias 0: outputs change" "$source" "$source.open" --rows home:1 --open 0
  expect "$scheme private" 0 "8 experts in place of 4" "$source.open" "$source.private" --back
  python3 - "$source" "$source.back" "$source.private" <<'END' || { echo "$scheme: codes or scales changed"; failed=1; }
import json, pathlib, struct, sys

def tensors(folder):
    found = {}
    for path in pathlib.Path(folder).glob("*.safetensors"):
        raw = path.read_bytes()
        size = struct.unpack("<Q", raw[:8])[0]
        for name, entry in json.loads(raw[8:8 + size]).items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                found[name] = (entry["dtype"], entry["shape"], raw[8 + size:][begin:end])
    return found

source, back, private = map(tensors, sys.argv[1:])
codes = {name: entry for name, entry in source.items() if "experts" in name}
copies = {name: entry for name, entry in private.items() if "experts" in name}
# Both layers and both experts of the source hold the same, and so does every private copy.
sys.exit(source != back or len(copies) != 2 * len(codes) or
         any(entry != codes[name.replace("experts.2.", "experts.0.").replace("experts.3.", "experts.1.")] for name, entry in copies.items()))
END
  count=$((count + 1))
done
[ "$count" -eq 17 ] || { echo "$count folders in schemes of low precision, not 17"; failed=1; }

expect window 0 "candidates   4 a layer of its own, and 1 of other layers" "$data/mixtral" "$scratch/w" --topology staggered_rotation:5:3
expect shards 0 "written      " "$data/mixtral" "$scratch/s" --shard-size 0.005
[ "$(ls "$scratch/s" | grep -c safetensors)" -gt 3 ] || { echo "one shard in place of several"; failed=1; }
expect opened 0 "open with bias 0: outputs change" "$data/mixtral" "$scratch/o" --open 0 --rows home:1
expect private 0 "16 experts in place of 8" "$scratch/o" "$scratch/p" --back
grep -q '"num_local_experts": 8' "$scratch/p/config.json" || { echo "config.json keeps the old number"; failed=1; }
# Numbers that JSON cannot write stay as they are, and the number of experts is changed where it stands.
mkdir "$scratch/nested" && cp "$data/mixtral/model.safetensors" "$scratch/nested"
printf '{"limit": -Infinity, "list": [NaN, Infinity], "vision_config": {"num_local_experts": 4}, "text_config": %s}' \
  "$(cat "$data/mixtral/config.json")" >"$scratch/nested/config.json"
expect nested 0 "open with bias 0: outputs change" "$scratch/nested" "$scratch/nested.open" --open 0 --rows home:1
expect nested-private 0 "16 experts in place of 8" "$scratch/nested.open" "$scratch/nested.back" --back
cmp -s <(sed 's/"num_local_experts": 4,/"num_local_experts": 8,/' "$scratch/nested/config.json") "$scratch/nested.back/config.json" ||
  { echo "config.json has more or less than other numbers"; failed=1; }
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
expect half 2 "needs a whole number from 1" "$data/mixtral" "$scratch/x" --topology staggered_rotation:2.5:1
expect negative 2 "needs a whole number from 1" "$data/mixtral" "$scratch/x" --topology staggered_rotation:-1:1
expect wide 2 "a window of 9 in a ring of 8" "$data/mixtral" "$scratch/x" --topology staggered_rotation:9:1
expect no-block 2 "needs a whole number from 1" "$data/mixtral" "$scratch/x" --topology reuse_blocks:0
expect reach 2 "needs a whole number from 0" "$data/mixtral" "$scratch/x" --topology adjacent_reuse:1e300
expect seed 2 "needs a whole number from 0" "$data/mixtral" "$scratch/x" --seed 1.5
expect no-id 2 "needs an id behind every colon and comma" "$data/mixtral" "$scratch/x" --universal list:0,
expect endless-loads 1 "is not a regular file" "$data/mixtral" "$scratch/x" --universal most_used:1:/dev/zero
[ ! -e "$scratch/x" ] || { echo "a run that was refused wrote something"; failed=1; }

# Files of another's are neither overwritten nor removed, also where IN is one of them.
mkdir "$scratch/foreign" && cp "$data/mixtral/model.safetensors" "$scratch/foreign/model-00001-of-00001.safetensors"
cp "$data/mixtral/model.safetensors" "$scratch/foreign/model-00002-of-00003.safetensors"
expect beside-foreign 0 "written" "$data/mixtral" "$scratch/foreign"
for name in model-00001-of-00001 model-00002-of-00003; do
  cmp -s "$data/mixtral/model.safetensors" "$scratch/foreign/$name.safetensors" ||
    { echo "$name of another checkpoint was touched"; failed=1; }
done
expect back-again 0 "written" "$scratch/foreign" "$scratch/foreign.back" --back
mkdir "$scratch/own" && cp "$data/mixtral/model.safetensors" "$scratch/own/model-00001-of-00001.safetensors"
cp "$data/mixtral/config.json" "$scratch/own/config.json"
expect own-config 1 "holds a 'config.json' without" "$scratch/own/model-00001-of-00001.safetensors" "$scratch/own"
[ "$(ls "$scratch/own")" = $'config.json\nmodel-00001-of-00001.safetensors' ] || { echo "IN was touched"; failed=1; }

# A config.json nested deeper than any stack is an error.
mkdir "$scratch/deep" && cp "$data/mixtral/model.safetensors" "$scratch/deep"
{ printf '{"model_type":"mixtral","num_experts_per_tok":2,"a":'; head -c 100000 /dev/zero | tr '\0' '['; head -c 100000 /dev/zero | tr '\0' ']'; printf '}'; } \
  >"$scratch/deep/config.json"
expect deep 1 "nests more than 100 lists and objects" "$scratch/deep" "$scratch/x"

# Output that does not arrive; a limit on files. (Counters of a coverage build would be cut, too: they go elsewhere.)
"$program" "$data/mixtral" "$scratch/x" --dry-run >/dev/full 2>"$scratch/errors"
[ $? -eq 1 ] && grep -q "standard output cannot be written: No space left" "$scratch/errors" ||
  { echo "a full disk behind standard output went unnoticed"; failed=1; }
limited=$(ulimit -f 1; GCOV_PREFIX=$scratch/cut "$program" "$data/mixtral" "$scratch/limited" 2>&1)
[ $? -eq 1 ] && grep -q "File too large" <<<"$limited" && [ -z "$(ls "$scratch/limited")" ] ||
  { echo "a limit on the size of files was not told: $limited"; failed=1; }
exit $failed
