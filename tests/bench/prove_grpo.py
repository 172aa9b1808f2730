#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether reinforcement learning earns its keep: for some seeds, a base model, a cold start of a hundred demonstrations, GRPO from
it and from the base, and two controls: as many more updates on the same demonstrations, and rewards that are a coin. Prints
held-out pass@1, pass@8, majority and length with standard errors as a table for the README.

  tests/bench/prove_grpo.py [--seeds 1,2,3] [--dir runs/proof] [--binary build/release/conclave]
"""
import argparse
import json
import math
import pathlib
import subprocess
import sys
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seeds", default="1,2,3")
parser.add_argument("--dir", default="runs/proof")
parser.add_argument("--binary", default="build/release/conclave")
parser.add_argument("--random-steps", type=int, default=30)
parser.add_argument("--steps", type=int, default=150, help="of GRPO, and updates of more_sft")
options = parser.parse_args()
root = pathlib.Path(__file__).resolve().parents[2]


def train(config, run, *overrides):
    """Trains unless it is done; the figures of its last line."""
    start = time.time()
    command = [options.binary, "train", str(root / "configs" / config), f"run.dir={run}", *overrides]
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        sys.exit("failed: " + " ".join(command))
    lines = pathlib.Path(run, "metrics.jsonl").read_text().splitlines()
    figures = json.loads(lines[-1])
    figures["wall"] = time.time() - start
    return figures


def proof(seed):
    run = lambda name: f"{options.dir}/{seed}/{name}"
    steps = options.steps
    seeded = f"train.seed={seed}"
    train("addition_base.yaml", run("base"), seeded)
    start = ("addition_grpo.yaml", run("start"), seeded, f"model.from={run('base')}", "train.steps=1", "optim.lr=0")
    stages = {"base": train(*start)}
    stages["cold_start"] = train("addition_sft.yaml", run("cold_start"), seeded, f"model.from={run('base')}")
    stages["r1_zero"] = train("addition_grpo.yaml", run("r1_zero"), seeded, f"model.from={run('base')}", f"train.steps={steps}")
    after = f"model.from={run('cold_start')}"
    stages["grpo"] = train("addition_grpo.yaml", run("grpo"), seeded, after, f"train.steps={steps}")
    stages["more_sft"] = train("addition_sft.yaml", run("more_sft"), seeded, after, f"train.steps={steps}", f"train.validate_every={steps}")
    stages["random_rewards"] = train("addition_grpo.yaml", run("random_rewards"), seeded, after,
                                     f"train.steps={options.random_steps}",
                                     "reward=[{name: math, weight: 0}, {name: random}]")
    return stages


print("| seed | run | pass@1 | pass@8 | maj@8 | length | seconds |\n|---|---|---|---|---|---|---|", flush=True)
for seed in options.seeds.split(","):
    stages = proof(int(seed))
    for name, f in stages.items():
        print(f"| {seed} | {name} | {f['pass_at_1']:.3f} +- {f['pass_at_1_stderr']:.3f} | {f['pass_at_8']:.3f} +- {f['pass_at_8_stderr']:.3f} "
              f"| {f['majority']:.3f} | {f['evaluation_length']:.1f} | {f['wall']:.0f} |", flush=True)

    def errors(better, worse):
        a, b = stages[better], stages[worse]
        return (a["pass_at_1"] - b["pass_at_1"]) / math.hypot(a["pass_at_1_stderr"], b["pass_at_1_stderr"])

    print(f"\nseed {seed}: grpo - more_sft {errors('grpo', 'more_sft'):+.1f} standard errors, r1_zero - base {errors('r1_zero', 'base'):+.1f}, "
          f"random_rewards - cold_start {errors('random_rewards', 'cold_start'):+.1f}\n", flush=True)
