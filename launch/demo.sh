#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From a fresh clone to R1 in small: packages, build, then configs/demo_r1.yaml, at most five minutes on two cores. Arguments:
# your own text or JSONL files, plain, .gz or .zst, which the base model then learns beside its sums; and changes of the config, such
# as train.seed=2. The same command again goes on where it stopped.
set -euo pipefail

readonly task_rows=12 # stages.base.batch.sequences of the config

usage() {
  echo "usage: launch/demo.sh [FILE...] [KEY=VALUE...]     text for the base model; changes of configs/demo_r1.yaml"
}

files=() overrides=()
for argument in "$@"; do
  case $argument in
    -h | --help)
      usage
      exit 0
      ;;
    *=*)
      if [[ ! -e $argument ]]; then
        overrides+=("$argument")
        continue
      fi
      ;;
  esac
  if [[ ! -f $argument || ! -r $argument ]]; then
    echo "demo: cannot read the file $argument" >&2
    usage >&2
    exit 2
  fi
  files+=("$(realpath -- "$argument")")
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."

launch/setup.sh
[[ -f build/release/build.ninja ]] || cmake --preset release >/dev/null
cmake --build --preset release --target conclave
conclave=build/release/conclave

# ---- What is learned ------------------------------------------------------------------------------------------------
run=runs/demo_r1
if (($# > 0)); then
  name=$(basename -- "${files[0]:-changed}" | tr -c 'A-Za-z0-9\n' '_')
  run+="_${name}_$(printf '%s\n' "${files[@]}" "${overrides[@]}" | cksum | cut -d' ' -f1)"
fi
# The config's own source has weight 1; one more row for every four makes room for the text.
blend=()
for file in "${files[@]}"; do
  quoted=${file//\\/\\\\}
  quoted=${quoted//\"/\\\"}
  weight=$(awk -v n=${#files[@]} 'BEGIN { print 0.25 / n }')
  blend+=("stages.base.data.train.$((${#blend[@]} + 1))={path: \"$quoted\", weight: $weight}")
done
if ((${#files[@]} > 0)); then
  blend+=("stages.base.batch.sequences=$((task_rows * 5 / 4))")
  echo "demo: the base model learns sums of three digits, and one row in five of ${files[*]}"
fi

# ---- Training -------------------------------------------------------------------------------------------------------
cores=$(nproc)
code=0
"$conclave" train configs/demo_r1.yaml "run.dir=$run" "${blend[@]}" "${overrides[@]}" --jobs $((cores < 4 ? cores : 4)) ||
  code=$?
if ((code == 130 || code == 75)); then
  echo "demo: stopped and saved; the same command goes on"
fi
((code == 0)) || exit "$code"

# ---- What came of it ------------------------------------------------------------------------------------------------
if ((${#files[@]} > 0)); then
  echo
  echo "---- what the base model writes ----"
  for prompt in "The" "It is" "When"; do
    printf '%s' "$prompt"
    "$conclave" generate "$run/stages/base" --prompt "$prompt" --max-tokens 100 --temperature 0.7 --seed 1
    echo
  done
fi
cat <<END

Curves, answers over time, the table with its controls: $run/report.html
Each stage is a Hugging Face folder:                    $run/stages/*/checkpoints/step_*
  $conclave generate $run/stages/grpo_final --chat --prompt "123+456="
  $conclave eval $run/stages/grpo_final --tasks addition --samples 8
  $conclave replay $run/stages/grpo --step 10 --sample 0
To start over: rm -r $run
END
