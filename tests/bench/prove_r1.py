#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether the stages of DeepSeek-R1's recipe earn their keep: configs/demo_r1.yaml for some seeds, then the table of the README, and
each goal with the difference in standard errors. Runs that are done are read, not made again.

  tests/bench/prove_r1.py [--seeds 1,2,3] [--dir runs/proof] [--binary build/release/conclave] [--jobs 2] [KEY=VALUE ...]
"""
import argparse
import json
import math
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--dir", default="runs/proof")
    parser.add_argument("--binary", default="build/release/conclave")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--config", default=str(ROOT / "configs/demo_r1.yaml"))
    parser.add_argument("overrides", nargs="*")
    return parser.parse_args()


def train(options, seed):
    """{name: row of summary.json} of a whole recipe."""
    run = pathlib.Path(options.dir, seed)
    run.mkdir(parents=True, exist_ok=True)
    command = [options.binary, "train", options.config, f"run.dir={run}", f"train.seed={seed}", *options.overrides]
    with open(run / "log.txt", "a") as log:
        if subprocess.run([*command, "--jobs", str(options.jobs)], stdout=log, stderr=log).returncode:
            sys.exit(f"failed, see {run}/log.txt: " + " ".join(command))
    summary = json.loads((run / "summary.json").read_text())
    return {row["name"]: row for row in summary["stages"] + summary["controls"]}


def errors(rows, better, worse):
    a, b = rows[better], rows[worse]
    return (a["pass_at_1"] - b["pass_at_1"]) / math.hypot(a["stderr"], b["stderr"])


def goals(rows):
    for better, worse in (("grpo", "more_sft"), ("r1_zero", "base"), ("distilled", "student_alone")):
        difference = errors(rows, better, worse)
        yield f"{better} - {worse} {difference:+.1f}", difference > 3
    difference = errors(rows, "random_rewards", "cold_start")
    yield f"random_rewards - cold_start {difference:+.1f}", difference <= 2
    yield f"grpo {rows['grpo']['pass_at_1']:.2f}", rows["grpo"]["pass_at_1"] >= 0.7


def share(value):
    return f"{value:.3f}".removeprefix("0")


def main():
    options = parse()
    seeds = options.seeds.split(",")
    all_rows = {seed: train(options, seed) for seed in seeds}
    names = [name for name, row in all_rows[seeds[0]].items() if row["pass_at_1"] is not None]
    print("| stage | " + " | ".join(f"seed {seed}: pass@1 | pass@8 | greedy" for seed in seeds) + " | length |")
    print("|---" * (2 + 3 * len(seeds)) + "|")
    for name in names:
        rows = [all_rows[seed][name] for seed in seeds]
        cells = [f"{share(r['pass_at_1'])} +- {share(r['stderr'])} | {share(r['pass_at_8'])} | {share(r['greedy'])}" for r in rows]
        lengths = " / ".join(f"{r['length']:.1f}" for r in rows)
        print(f"| {name} | " + " | ".join(cells) + f" | {lengths} |")
    missed = 0
    for seed in seeds:
        found = list(goals(all_rows[seed]))
        missed += sum(not reached for _, reached in found)
        print(f"\nseed {seed}, in standard errors: " + ", ".join(text + ("" if reached else " (MISSED)") for text, reached in found))
    sys.exit(1 if missed else 0)


main()
