#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From a fresh clone to a trained model: packages, build, then at most three minutes of training on two cores, with samples
# before and after. Arguments: your own text or JSONL files, plain, .gz or .zst. The same command again goes on where it stopped.
set -euo pipefail

readonly warmup=4              # steps before the first samples; they measure the speed, too
readonly seconds_to_train=100  # what the rest may take; decides the number of steps
readonly least_steps=20 most_steps=500
readonly default_bytes=1000000 validation_bytes=50000

files=()
for file in "$@"; do
  if [[ ! -f $file || ! -r $file ]]; then
    echo "demo: cannot read the file $file" >&2
    exit 2
  fi
  files+=("$(realpath -- "$file")")
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."

launch/setup.sh
[[ -f build/release/build.ninja ]] || cmake --preset release >/dev/null
cmake --build --preset release --target conclave
conclave=build/release/conclave

# ---- Text -----------------------------------------------------------------------------------------------------------
mkdir -p runs
if ((${#files[@]} == 0)); then
  run=runs/demo
  text=runs/demo_text.txt
  if [[ ! -s $text ]]; then
    # Kept: a run that goes on needs the same text, whatever is installed in between.
    { find /usr/share/common-licenses -type f -print0; find /usr/share/doc -name copyright -type f -print0; } 2>/dev/null |
      sort -z | xargs -0 cat -- 2>/dev/null | head -c "$default_bytes" >"$text.tmp" || true
    mv "$text.tmp" "$text"
  fi
  files=("$(realpath "$text")")
  prompts=("This program is free software" "Permission is hereby granted" "You may not")
  echo "demo: training on the licence texts of this machine, /usr/share/common-licenses and /usr/share/doc/*/copyright"
else
  name=$(basename -- "${files[0]}" | tr -c 'A-Za-z0-9\n' '_')
  run="runs/demo_${name}_$(printf '%s\n' "${files[@]}" | cksum | cut -d' ' -f1)"
  prompts=("The" "It is" "When")
  echo "demo: training on ${files[*]}"
fi
sources="" bytes=0
for file in "${files[@]}"; do
  quoted=${file//\\/\\\\}
  quoted=${quoted//\"/\\\"}
  sources+="${sources:+, }{path: \"$quoted\"}"
  bytes=$((bytes + $(stat -L -c %s -- "$file")))
done
# 5 % for validation, but no more than a pass of a second or two.
fraction=$(awk -v bytes="$bytes" -v most="$validation_bytes" 'BEGIN { f = most / (bytes + 1); printf "%.6f", f < 0.05 ? f : 0.05 }')

# ---- Steps ----------------------------------------------------------------------------------------------------------
train() {  # train STEPS
  local code=0
  "$conclave" train configs/demo.yaml "data.train=[$sources]" "data.validation_fraction=$fraction" "run.dir=$run" \
    "train.steps=$1" || code=$?
  if ((code == 130 || code == 75)); then
    echo "demo: stopped and saved; the same command goes on"
  fi
  ((code == 0)) || exit "$code"
}

samples() {  # samples TITLE
  echo
  echo "---- $1 ----"
  local prompt
  for prompt in "${prompts[@]}"; do
    printf '%s' "$prompt"
    "$conclave" generate "$run" --prompt "$prompt" --max-tokens 100 --temperature 0.7 --seed 1
    echo
  done
}

configured_steps() {
  sed -n '/^train:/,/^[a-z]/s/^  steps: //p' "$run/config.yaml" 2>/dev/null || true
}

steps=$(configured_steps)
if [[ -z $steps ]] || ((steps <= warmup)); then
  train "$warmup"
  samples "before training (after $warmup small steps)"
  # The median of the first steps, rounded up: the very first waits for memory.
  seconds=$(sed -n 's/.*"seconds": \([0-9.e+-]*\).*/\1/p' "$run/metrics.jsonl" | sort -g | sed -n "$((warmup / 2 + 1))p")
  steps=$(awk -v budget="$seconds_to_train" -v step="$seconds" -v least="$least_steps" -v most="$most_steps" \
    'BEGIN { n = int(budget / (step * 1.1)); if (n < least) n = least; if (n > most) n = most; print n }')
  echo "demo: $steps steps, at $(printf '%.2f' "$seconds") s each"
fi
train "$steps"
samples "after training"

checkpoint="$run/checkpoints/step_$steps"
cat <<END
The model is a Hugging Face folder: $checkpoint
  $conclave generate $run --prompt "${prompts[0]}"
  python3 -c 'from transformers import AutoModelForCausalLM; print(AutoModelForCausalLM.from_pretrained("$checkpoint"))'
To start over: rm -r $run
END
