#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds every *_fuzz.cc of this folder with clang++, AddressSanitizer and UndefinedBehaviorSanitizer in build/fuzz, and
# runs each for SECONDS (default 60). Exit 1 on a finding. Texts that reach new code stay in build/fuzz/corpus/ for the
# next run; files in the folder TARGET_seeds/ beside this script are where it starts.
#   tests/fuzz/run.sh [SECONDS]
set -uo pipefail
seconds=${1:-60}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
build=$root/build/fuzz

if ! command -v clang++ >/dev/null; then
  echo "fuzz: clang++ is missing; on Debian: apt-get install clang libclang-rt-14-dev" >&2
  exit 2
fi
cmake --preset fuzz -S "$root" >"$build.log" 2>&1 && cmake --build "$build" --target fuzzers >>"$build.log" 2>&1 || {
  tail -30 "$build.log" >&2
  exit 2
}

failed=0
printf '%-20s %12s %8s  %s\n' target runs seconds result
for source in "$here"/*_fuzz.cc; do
  target=$(basename "$source" .cc)
  corpus=$build/corpus/$target
  mkdir -p "$corpus"
  seeds=()
  [[ -d $here/${target}_seeds ]] && seeds=("$here/${target}_seeds")
  log=$build/$target.log
  begin=$SECONDS
  if "$build/tests/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$build/$target-" "$corpus" "${seeds[@]}" >"$log" 2>&1; then
    result=fine
  else
    result="FAILED, see $log"
    failed=1
  fi
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  printf '%-20s %12s %8s  %s\n' "$target" "${runs:-?}" "$((SECONDS - begin))" "$result"
done
exit $failed
