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

# Files that differ from those of DATA in one thing.
python3 - "$data" "$scratch" <<'END' || failed=1
import json, pathlib, shutil, struct, sys

data, scratch = map(pathlib.Path, sys.argv[1:])


def variant(name, of, **keys):
    shutil.rmtree(scratch / name, ignore_errors=True)
    shutil.copytree(data / of, scratch / name)
    config = json.loads((data / of / "config.json").read_text()) | keys
    (scratch / name / "config.json").write_text(json.dumps(config))


def tensors(path):
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:8 + size])
    header.pop("__metadata__", None)
    return {name: (t, content[8 + size:][slice(*t["data_offsets"])]) for name, t in header.items()}


def save(path, all, metadata=None):
    header, body = {"__metadata__": metadata} if metadata else {}, b""
    for name, (entry, part) in all.items():
        header[name] = entry | {"data_offsets": [len(body), len(body) + len(part)]}
        body += part
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


one = {"dtype": "F32", "shape": [1, 1]}, bytes(4)
variant("fewer", "mixtral", num_experts_per_tok=1)
variant("normed", "qwen2_moe", norm_topk_prob=True)
variant("scaled", "glm4_moe", routed_scaling_factor=2.25)
variant("ungrouped", "deepseek_v3", n_group=1, topk_group=1)
save(scratch / "more.safetensors", tensors(data / "mixtral" / "model.safetensors") | {"expected.only": one})
# A run, with two sets of weights; and what only looks like one.
names = [s + n for s in ("weights.", "adamw.first.") for n in ("experts.0.gate", "experts.1.gate", "layers.0.router.weight")]
save(scratch / "run.safetensors", {name: one for name in [*names, "adamw.steps"]})
save(scratch / "no_run.safetensors", {name: one for name in [*names, "head.weight"]})
# The experts of Gemma-4 with another activation.
gemma = {name.split(".layers.")[1]: t for name, t in tensors(data / "gemma4" / "model.safetensors").items() if ".layers." in name}
as_qwen = {}
for name, tensor in gemma.items():
    layer, _, part = name.partition(".")
    part = {"router.proj.weight": "gate.weight"}.get(part, part if part.startswith("experts.") else None)
    if part:
        as_qwen[f"model.layers.{layer}.mlp.{part}"] = tensor
save(scratch / "as_qwen.safetensors", as_qwen)


# fp8 as plain numbers; double precision holds the products of codes and scales.
def decoded(all):
    def value(code):
        exponent, fraction = code >> 3 & 15, code & 7
        size = (fraction / 8 if exponent == 0 else 1 + fraction / 8) * 2.0 ** (max(exponent, 1) - 7)
        return -size if code & 128 else size
    result = {}
    for name, (entry, part) in all.items():
        if entry["dtype"] != "F8_E4M3":
            result |= {} if name.endswith("_scale_inv") else {name: (entry, part)}
            continue
        (rows, cols), factors = entry["shape"], all[name + "_scale_inv"][1]
        factors = struct.unpack(f"<{len(factors) // 4}f", factors)
        across = -(-cols // 128)
        numbers = [value(code) * factors[i // cols // 128 * across + i % cols // 128] for i, code in enumerate(part)]
        result[name] = {"dtype": "F64", "shape": entry["shape"]}, struct.pack(f"<{len(numbers)}d", *numbers)
    return result


fp8 = tensors(data / "deepseek_v3_fp8" / "model.safetensors") | {"norm.weight": one}
scales = "model.layers.0.mlp.experts.1.up_proj.weight_scale_inv"
entry, part = fp8[scales]
twice = struct.pack("<2f", *[2 * scale for scale in struct.unpack("<2f", part)])
for name, content in {"fp8": fp8, "plain": decoded(fp8), "rescaled": fp8 | {scales: (entry, twice)},
                      "normed_fp8": fp8 | {"norm.weight": (one[0], struct.pack("<f", 0.5))}}.items():
    variant(name, "deepseek_v3_fp8")
    save(scratch / name / "model.safetensors", content)
# Connections as moue_convert adds them.
variant("converted", "mixtral")
plan = json.dumps({"version": 1, "home": 4, "universal": [0, 1, 4], "foreign": [[4], [0, 1]]})
save(scratch / "converted" / "model.safetensors", tensors(data / "mixtral" / "model.safetensors"), {"moue.conversion": plan})
END

expect family 0 "mixtral, layout 'w1 w3 w2'" "$data/mixtral"
expect convention 0 "softmax over all, not renormalised" "$data/qwen2_moe"
expect layers 0 "2 with a mixture (0, 2)" "$data/qwen2_moe"
expect shared 0 "and a shared one of hidden size 20, gated by itself" "$data/qwen2_moe"
expect coded 0 "F8_E4M3: 15, 32640 bytes" "$data/deepseek_v3_fp8"
expect coded-parameters 0 "25348: experts 25216, routers 132, the rest 0" "$data/gpt_oss_mxfp4"
expect unknown 0 "family      not recognised" "$data/mixtral/expected.safetensors"
expect wrong-family 1 "the tensors fit no family" "$data/mixtral/model.safetensors" --family olmoe
expect usage 2 "option '--probes' needs a number" "$data/mixtral" --probes 0
expect scheme 0 "codes       fp8" "$data/deepseek_v3_fp8"
expect nested 0 "qwen3_5_moe, layout 'per expert'" "$data/qwen3_5_moe"
expect identities 0 "4 a layer, 3 per token, and 2 that return their input" "$data/longcat_flash"
expect two-matrices 0 "squared ReLU" "$data/nemotron_h"
expect same 0 "the same    26 tensors; 0 are not" "$data/mixtral" --compare "$data/mixtral"
expect layouts 0 "parts of layers; 0 are not" "$data/mixtral" --compare "$data/mixtral_runtime"
expect other 3 "'expected.only' only in the second" "$data/mixtral" --compare "$scratch/more.safetensors"
expect rules 3 "different   experts per token: 2, and 1" "$data/mixtral" --compare "$scratch/fewer"
expect rules-tensors 3 "the same    26 tensors; 0 are not" "$data/mixtral" --compare "$scratch/fewer"
expect rules-layouts 3 "different   experts per token: 2, and 1" "$data/mixtral_runtime" --compare "$scratch/fewer"
expect rules-gates 3 "different   gates: softmax over all, not renormalised, and softmax over the selected" "$data/qwen2_moe" --compare "$scratch/normed"
expect rules-scale 3 "different   scale of the gates: 1.5, and 2.25" "$data/glm4_moe" --compare "$scratch/scaled"
expect rules-groups 3 "different   groups: " "$data/deepseek_v3" --compare "$scratch/ungrouped"
expect coded-values 0 "the same    8 parts of layers; 0 are not" "$scratch/fp8" --compare "$scratch/plain"
expect coded-others 0 "the same    1 other tensors; 0 are not" "$scratch/plain" --compare "$scratch/fp8"
expect coded-norm 3 "'norm.weight' differs by up to 0.5" "$scratch/normed_fp8" --compare "$scratch/plain"
expect coded-scales 3 "layer 0 and 0, up: 1 of 4 experts differ by up to" "$scratch/fp8" --compare "$scratch/rescaled"
expect compare-family 1 "there is no family 'none'" "$data/mixtral" --compare "$data/mixtral" --family none
expect gguf 0 "Q4_K: 1, 288 bytes" "$data/../gguf/all_types.gguf"
expect gguf-tensors 0 "'of.MXFP4' MXFP4 [2, 256]" "$data/../gguf/all_types.gguf" --tensors
expect gguf-other 0 "family      not recognised" "$data/../gguf/all_types.gguf"
expect gguf-family 0 "gguf/glm4moe, layout 'gguf'" "$data/../gguf/glm4_moe.gguf"
expect gguf-gates 0 "sigmoid, renormalised, times 1.5; selection has a bias" "$data/../gguf/glm4_moe.gguf"
expect gguf-experts 0 "4 a layer, 2 per token; and a shared one of hidden size 4" "$data/../gguf/glm4_moe.gguf"
expect gguf-picture 0 "picture " "$data/../gguf/gpt_oss_mxfp4.gguf" --svg "$scratch/gguf.svg"
expect gguf-verify 0 "9 tensors decode to finite numbers, 0 hold others, 0 are not decoded" "$data/../gguf/all_types.gguf" --verify
expect gguf-parameters 0 "516: experts 384, shared experts 96, routers 36, the rest 0" "$data/../gguf/glm4_moe.gguf"
expect gguf-active 0 "12740 parameters per token" "$data/../gguf/gpt_oss_mxfp4.gguf"
expect latent 0 "hidden 4, latent 3, squared ReLU" "$data/nemotron_h_latent"
expect latent-parameters 0 "experts 96, shared experts 96, routers 36, the rest 304" "$data/nemotron_h_latent"
expect latent-picture 0 "picture " "$data/nemotron_h_latent" --svg "$scratch/latent.svg"
expect input-gate 0 "sigmoid, on the input of an expert" "$data/llama4"
expect tables 0 "1 with a mixture (1)" "$data/deepseek_v4"
expect converted 0 "converted   3 universal experts, 3 connections to other layers" "$scratch/converted"
expect two-runs 2 "are two runs" "$data/mixtral" --verify --compare "$data/mixtral"

# GGUF files beside each other, and beside the checkpoints that they were made of.
gguf=$data/../gguf
expect gguf-same 0 "the same    9 tensors; 0 are not" "$gguf/all_types.gguf" --compare "$gguf/all_types.gguf"
expect gguf-other-tensors 3 "'of.MXFP4' only in the first" "$gguf/all_types.gguf" --compare "$gguf/glm4_moe.gguf"
expect gguf-checkpoint 0 "the same    8 parts of layers; 0 are not" "$gguf/glm4_moe.gguf" --compare "$data/glm4_moe"
expect gguf-codes 0 "0 are not" "$data/gpt_oss_mxfp4" --compare "$gguf/gpt_oss_mxfp4.gguf"
expect gguf-other-sizes 3 "1 layers of 4 experts, and 2 layers of 4 experts" "$gguf/glm4_moe.gguf" --compare "$data/mixtral"
expect gguf-no-family 1 "but the tensors do not fit" "$gguf/all_types.gguf" --compare "$data/mixtral"
changed() {  # FROM-THE-END BYTES: the file with these bytes in the place of others
  { head -c "-$1" "$gguf/glm4_moe.gguf"; printf "$2"; tail -c "$(($1 - 4))" "$gguf/glm4_moe.gguf"; } >"$scratch/changed.gguf"
}
changed 548 '\0\0\0\x3f'  # of the last expert
expect gguf-number 3 "'blk.1.ffn_up_exps.weight' differs by up to" "$gguf/glm4_moe.gguf" --compare "$scratch/changed.gguf"
expect gguf-expert 3 "layer 1 and 1, up: 1 of 4 experts differ by up to" "$data/glm4_moe" --compare "$scratch/changed.gguf"
expect gguf-sound 0 "8 tensors decode to finite numbers, 0 hold others" "$scratch/changed.gguf" --verify
changed 4 '\0\0\xc0\x7f'  # of the shared expert; no number
expect gguf-no-number 3 "'blk.1.ffn_up_shexp.weight' differs by up to nan" "$scratch/changed.gguf" --compare "$gguf/glm4_moe.gguf"
expect gguf-damaged 1 "damaged     blk.1.ffn_up_shexp.weight" "$scratch/changed.gguf" --verify

# Weights of a mixture, as moue saves them.
header='{"experts.0.gate":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},'
header+='"layers.0.router.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[4,8]}}'
{
  printf "\\x$(printf %02x ${#header})"
  printf '\0\0\0\0\0\0\0%s\0\0\0\0\0\0\0\0' "$header"
} >"$scratch/own.safetensors"
expect own 0 "weights of a mixture, as moue saves them" "$scratch/own.safetensors"
expect own-parts 0 "expert gate [1, 1]" "$scratch/own.safetensors"
expect run 0 "weights of a mixture, as moue saves them" "$scratch/run.safetensors"
expect run-sets 0 "sets        'adamw.first.', 'weights.'" "$scratch/run.safetensors"
expect run-experts 0 "2 in all" "$scratch/run.safetensors"
expect no-run 0 "not recognised" "$scratch/no_run.safetensors"

rm -f "$scratch"/*.svg
expect picture 0 "picture " "$data/mixtral" --svg "$scratch/experts.svg"
expect gelu-picture 0 "picture " "$data/gemma4" --svg "$scratch/gelu.svg"
expect silu-picture 0 "qwen3_moe" "$scratch/as_qwen.safetensors" --family qwen3_moe --svg "$scratch/silu.svg"
colours() { grep -o 'fill="[^"]*"' "$1"; }
[ "$(colours "$scratch/gelu.svg")" != "$(colours "$scratch/silu.svg")" ] || { echo "a picture of other activations"; failed=1; }
expect clamped-picture 0 "picture " "$data/deepseek_v4" --svg "$scratch/clamped.svg"
expect input-gate-picture 1 "depends on the gate of their input" "$data/llama4" --svg "$scratch/gated.svg"
grep -q "layer.expert" "$scratch/experts.svg" || { echo "no picture of experts"; failed=1; }
expect no-folder 1 "cannot be written: No such file" "$data/mixtral" --svg "$scratch/none/experts.svg"

head -c 100 "$data/mixtral/model.safetensors" >"$scratch/cut.safetensors"
expect cut 1 "ends inside its header" "$scratch/cut.safetensors"
for broken in "$scratch/cut.safetensors" "$0" "$scratch/none"; do
  lines=$("$program" "$broken" 2>&1 | wc -l)
  [ "$lines" -eq 1 ] || { echo "$broken: $lines lines in place of one"; failed=1; }
done
# What renaming would destroy is refused, and stays.
mkdir -p "$scratch/places" && rm -rf "$scratch/places"/* && mkfifo "$scratch/places/pipe"
echo old >"$scratch/places/file" && ln -s file "$scratch/places/link"
# The device is one of the test's own where it can be made: a program that fails this as root would destroy the machine's.
mknod "$scratch/places/full" c 1 7 2>/dev/null && device=$scratch/places/full || device=/dev/full
places=$(ls "$scratch/places" | wc -l)
expect device 1 "$device': is not a regular file" "$data/mixtral" --svg "$device"
expect pipe 1 "is not a regular file" "$data/mixtral" --svg "$scratch/places/pipe"
expect link 1 "is a symbolic link" "$data/mixtral" --svg "$scratch/places/link"
[ -c "$device" ] && [ -p "$scratch/places/pipe" ] && [ -L "$scratch/places/link" ] &&
  [ "$(cat "$scratch/places/file")" = old ] && [ "$(ls "$scratch/places" | wc -l)" -eq "$places" ] ||
  { echo "a picture took another's place"; failed=1; }

# Output that does not arrive; a limit on files.
"$program" "$data/mixtral" >/dev/full 2>"$scratch/errors"
[ $? -eq 1 ] && grep -q "standard output cannot be written: No space left" "$scratch/errors" ||
  { echo "a full disk behind standard output went unnoticed"; failed=1; }
limited=$(ulimit -f 1; GCOV_PREFIX=$scratch/cut "$program" "$data/mixtral" --svg "$scratch/limited.svg" 2>&1)
[ $? -eq 1 ] && grep -q "File too large" <<<"$limited" && [ ! -e "$scratch/limited.svg.moue-part" ] ||
  { echo "a limit on the size of files was not told: $limited"; failed=1; }

# What files say reaches the terminal as text: names, types, and the words of errors.
tensors() {  # HEADER DATA
  printf '%b%s%s' "$(printf '\\x%02x\\0\\0\\0\\0\\0\\0\\0' ${#1})" "$1" "$2" >"$scratch/names.safetensors"
}
tensors '{"a\u001b[2J\ntensors 99":{"dtype":"\u202eU8\u009b","shape":[1],"data_offsets":[0,1]}}' x
expect names 0 'a\x1b[2J\ntensors 99 \u202eU8\u009b [1]' "$scratch/names.safetensors" --tensors
"$program" "$scratch/names.safetensors" --tensors | LC_ALL=C grep -q $'[\x01-\x09\x0b-\x1f\x7f]\|\xc2\x9b\|\xe2\x80\xae' &&
  { echo "a name reached the terminal raw"; failed=1; }
expect path-name 1 'no\nne\x1b' "$scratch/no"$'\nne\e'

# Checksums.
expect no-checksums 1 "26 have no checksum" "$data/mixtral" --verify
golden=$data/../safetensors/golden.safetensors
expect intact 0 "2 tensors are as they were written, 0 are damaged, 0 have no checksum" "$golden" --verify
{ head -c -1 "$golden"; printf '\x01'; } >"$scratch/flipped.safetensors"
expect flipped 1 "damaged     a.narrow" "$scratch/flipped.safetensors" --verify
expect unasked 0 "2 in 1 file" "$scratch/flipped.safetensors"
exit $failed
