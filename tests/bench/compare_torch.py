#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Speed of Conclave beside PyTorch's on the same model in one run (pip install torch transformers).

Conclave initializes configs/bench_tiny.yaml; transformers' DeepseekV3ForCausalLM loads that folder. For each workload
PyTorch first chooses its fastest variant: threads (all or one), how OpenMP waits, how malloc keeps memory, experts,
attention, optimizer or cache, torch.compile; one after the other, each beside the winner so far. Then both programs
alternate, and PyTorch is stopped while Conclave runs; the ratio is the median over the rounds, so what else the machine
does meets both.

Not like for like, in PyTorch's favour: its step has no gradient clipping, balance loss or router bias update; ours has.
Its bf16 is pure (weights and moments); Conclave keeps f32 masters and moments. Conclave's gradients are exact integer
sums: no split into threads changes a bit. Decoding is timed from the first new token to the last; `conclave generate`
says how fast it was on stderr, printing of a single sample included. In a batch PyTorch continues each of its prompts
greedily; Conclave draws samples of one prompt: a draw costs more than a maximum, and some samples end early.
Neighbours slow barriers most: figures of a busy machine say little about the programs, so the load stands beside each.

Exit codes: 0 done, 1 a program failed, 2 something is missing.
"""
import argparse
import contextlib
import importlib.util
import json
import os
import pathlib
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "bench_tiny.yaml"
SEQUENCES, SEQUENCE_LENGTH = 8, 256  # of CONFIG
PROMPT_TOKENS, NEW_TOKENS, TRIAL_TOKENS = 16, 128, 32

# What a process reads when it starts. The C library else returns and clears the pages of large tensors in each step.
ENVIRONMENTS = {
    "waiting": {"passive": {"OMP_WAIT_POLICY": "PASSIVE"}, "default": {}, "active": {"OMP_WAIT_POLICY": "ACTIVE"}},
    "malloc": {"default": {}, "kept": {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 36)}},
}
# "batched_mm" copies the weights of an expert for each of its tokens: no choice for the 8,192 of a training step.
TRAIN_AXES = {"experts": ["grouped_mm", "eager"], "attention": ["sdpa", "eager"], "optimizer": ["fused", "foreach"],
              "compile": ["uncompiled", "compiled"]}
DECODE_AXES = {"experts": ["grouped_mm", "eager", "batched_mm"], "attention": ["sdpa", "eager"],
               "cache": ["dynamic", "static", "static compiled"]}  # a cache that grows would compile each length
WORKLOADS = {
    "train-f32": {"kind": "train", "precision": "f32", "goal": 2.3},
    "train-bf16": {"kind": "train", "precision": "bf16", "goal": 2.0},
    "decode-1": {"kind": "decode", "precision": "f32", "sequences": 1, "goal": 10},
    "decode-64": {"kind": "decode", "precision": "f32", "sequences": 64, "goal": 4},
}
for _workload in WORKLOADS.values():
    if _workload["kind"] == "train":
        _workload.update(sequences=SEQUENCES, sequence_length=SEQUENCE_LENGTH)
    else:
        _workload.update(capacity=PROMPT_TOKENS + NEW_TOKENS)


class Failure(Exception):
    """What a user must know; main prints it."""


class TorchPeer:
    """A torch_peer.py process, stopped between requests: OpenMP's threads may spin for long after work."""

    def __init__(self, folder, environment):
        self.errors = tempfile.TemporaryFile("w+")
        common = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(pathlib.Path(__file__).with_name("torch_peer.py")), str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
            env={**os.environ, **common, **environment})

    def close(self):
        self.process.kill()
        self.process.communicate()
        self.errors.close()

    def ask(self, request):
        self.process.send_signal(signal.SIGCONT)
        line = ""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            return {"error": "the process ended: " + " ".join(self.errors.read().split()[-30:])}
        self.process.send_signal(signal.SIGSTOP)
        return json.loads(line)


class TorchPeers:
    """One process per environment that a variant asks for."""

    def __init__(self, folder, threads):
        self.folder, self.common, self.peers = folder, {"OMP_NUM_THREADS": str(threads)}, {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close_all_but(None)

    def close_all_but(self, variant):
        kept = variant and self.key(variant)
        for key in [key for key in self.peers if key != kept]:
            self.peers.pop(key).close()

    @staticmethod
    def key(variant):
        return tuple(variant[axis] for axis in ENVIRONMENTS)

    def ask(self, request):
        key = self.key(request["variant"])
        if key not in self.peers:
            settings = [values[value] for values, value in zip(ENVIRONMENTS.values(), key)]
            self.peers[key] = TorchPeer(self.folder, dict(self.common, **settings[0], **settings[1]))
        answer = self.peers[key].ask(request)
        if self.peers[key].process.poll() is not None:
            self.peers.pop(key).close()
        return answer


def make_prompts(sequences, seed):
    draw = random.Random(seed)
    # 256 and above are markers of texts, so the first 256 are tokens like any other.
    return [[draw.randrange(256) for _ in range(PROMPT_TOKENS)] for _ in range(sequences)]


def torch_speeds(peers, workload, variant, repeats, prompts, new_tokens=NEW_TOKENS):
    """Tokens per second of each repeat, and the last repeat's new tokens."""
    answer = peers.ask({"workload": workload, "variant": variant, "repeats": repeats, "prompts": prompts,
                       "new_tokens": new_tokens})
    if "error" in answer:
        raise Failure(f"PyTorch, {describe(variant)}: {answer['error']}")
    per_sequence = new_tokens - 1 if workload["kind"] == "decode" else workload["sequence_length"]
    return [workload["sequences"] * per_sequence / seconds for seconds in answer["seconds"]], answer["tokens"]


def describe(variant):
    return ", ".join(f"{axis} {value}" for axis, value in variant.items() if value != "default")


def all_axes(workload, options):
    environments = {axis: list(values)[:2] if options.quick else list(values) for axis, values in ENVIRONMENTS.items()}
    return {"threads": [options.threads] + [1] * (options.threads > 1), **environments,
            **(TRAIN_AXES if workload["kind"] == "train" else DECODE_AXES)}


def choose_variant(peers, workload, options):
    """PyTorch's fastest variant, and the best speed of each one tried: one axis after the other.

    Candidate and winner so far alternate, so what the machine does meanwhile meets both."""
    axes = all_axes(workload, options)
    prompts = make_prompts(workload["sequences"], 0)
    trials = {}

    def duel(*variants):
        best = [0] * len(variants)
        for index in [*range(len(variants))] * options.trials:
            try:
                speeds, _ = torch_speeds(peers, workload, variants[index], 1, prompts, TRIAL_TOKENS)
                best[index] = max(best[index], *speeds)
            except Failure as failure:
                print(f"  failed: {failure}", flush=True)
        for variant, speed in zip(variants, best):
            trials[describe(variant)] = max(speed, trials.get(describe(variant), 0))
        return best

    winner = {axis: values[0] for axis, values in axes.items()}
    print(f"  from {describe(winner)}")
    for axis, values in axes.items():
        for candidate in [dict(winner, **{axis: value}) for value in values[1:]]:
            before, speed = duel(winner, candidate)
            print(f"  {axis} {candidate[axis]}: {speed:,.0f} tokens/s, {winner[axis]}: {before:,.0f}", flush=True)
            winner = candidate if speed > before else winner
        peers.close_all_but(winner)
    if not any(trials.values()):
        raise Failure("PyTorch ran no variant of this workload")
    return winner, trials


def run_conclave(options, *arguments):
    """What it writes to stdout and stderr."""
    command = [options.binary, *map(str, arguments), "--threads", str(options.threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"{options.binary} {arguments[0]} failed ({done.returncode}):\n{done.stderr.strip()[-2000:]}")
    return done.stdout, done.stderr


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def conclave_train(options, work, precision, steps, *arguments):
    """A fresh run; its folder, and the metrics of its steps but the first."""
    folder = pathlib.Path(work) / f"conclave_{precision}"
    shutil.rmtree(folder, ignore_errors=True)
    run_conclave(options, "train", CONFIG, *arguments, f"precision={precision}", f"run.dir={folder}",
                 f"train.steps={steps + 1}")
    return folder, read_lines(folder / "metrics.jsonl")[1:]


def conclave_decode(options, folder, prompt, sequences):
    """Tokens per second from the first new token to the last, and a single sequence's tokens."""
    how = ["--temperature", 0] if sequences == 1 else ["--samples", sequences]  # greedy samples would be equal
    text, said = run_conclave(options, "generate", folder, "--prompt-ids", ",".join(map(str, prompt)), "--max-tokens",
                              NEW_TOKENS, *how)
    speed = re.search(r"drawn at ([\d,]+) tokens/s", said)
    if not speed:
        raise Failure(f"{options.binary} generate says no speed: {said.strip()}")
    tokens = [int(token) for token in text.split(",") if token.strip()] if sequences == 1 else None
    return int(speed[1].replace(",", "")), tokens


def check_same_tokens(ours, theirs):
    """Both continue a prompt alike: later tokens may part at a near tie, the first ones do not."""
    if ours[:4] != theirs[:4]:
        raise Failure(f"not the same model: Conclave continues with {ours[:4]}, PyTorch with {theirs[:4]}")


def conclave_speeds(options, work, folder, workload, repeats, prompts):
    if workload["kind"] == "train":
        metrics = conclave_train(options, work, workload["precision"], repeats)[1]
        return [line["tokens_per_second"] for line in metrics], None
    results = [conclave_decode(options, folder, prompts[0], workload["sequences"]) for _ in range(repeats)]
    return [speed for speed, _ in results], results[-1][1]


def compare(name, folder, work, options):
    """A row of the table: both alternate, after PyTorch has chosen its variant."""
    workload = {key: value for key, value in WORKLOADS[name].items() if key != "goal"}
    print(f"{name} (load {os.getloadavg()[0]:.1f})", flush=True)
    repeats = options.repeats if workload["kind"] == "train" else 2
    theirs, ours, loads = [], [], []
    with TorchPeers(folder, options.threads) as peers:
        variant, trials = choose_variant(peers, workload, options)
        torch_speeds(peers, workload, variant, 1, make_prompts(workload["sequences"], 0))  # may compile
        for index in range(options.rounds):
            prompts = make_prompts(workload["sequences"], index + 1)
            # The first is left out here, too: caches and clocks are the other program's.
            speeds, their_tokens = torch_speeds(peers, workload, variant, repeats + 1, prompts)
            theirs.append(speeds[1:])
            speeds, our_tokens = conclave_speeds(options, work, folder, workload, repeats, prompts)
            ours.append(speeds)
            if our_tokens:
                check_same_tokens(our_tokens, their_tokens[0])
            loads.append(os.getloadavg()[0])
    row = {"name": name, "goal": WORKLOADS[name]["goal"], "variant": describe(variant), "trials": trials,
           "pytorch": sum(theirs, []), "conclave": sum(ours, []), "loads": loads}
    row["ratio"] = statistics.median(statistics.median(a) / statistics.median(b) for a, b in zip(ours, theirs))
    row["ratio_of_best"] = max(row["conclave"]) / max(row["pytorch"])
    return row


def measure_peak(options, work, precision):
    """The folder of a short run, the model FLOPs of a token, and the machine's peak per second, all from the program."""
    folder, metrics = conclave_train(options, work, precision, 6, "--profile", "--profile-steps", "3")
    flops = metrics[-1]["model_flops_per_second"] / metrics[-1]["tokens_per_second"]
    return folder, flops, read_lines(folder / "profile.jsonl")[0]["peak_flops_per_second"]


def print_row(row):
    def side(speeds):
        text = f"{statistics.median(speeds):,.0f} (best {max(speeds):,.0f})"
        share = statistics.median(speeds) * row["flops"] / row["peak"] if "peak" in row else None
        return f"{text:>24}" + (f" {100 * share:3.0f} %" if share else "")

    ratio = f"{row['ratio']:5.2f} x (best {row['ratio_of_best']:.2f})"
    print(f"{row['name']:<11}{side(row['pytorch']):<31}{side(row['conclave']):<31}{ratio:<22}{row['goal']:>5} x"
          f"   {min(row['loads']):.1f} to {max(row['loads']):.1f}   {row['variant']}")


def print_table(rows):
    print("\ntokens/s: median (best) and share of the machine's peak in that precision")
    print(f"{'':<11}{'PyTorch':>24}{'Conclave':>31}{'ratio':>12}{'goal':>24}   load         PyTorch's variant")
    for row in rows:
        print_row(row)
    print(flush=True)


def has_bf16_products():
    flags = pathlib.Path("/proc/cpuinfo")
    return flags.exists() and any(flag in flags.read_text() for flag in ("avx512_bf16", "amx_bf16"))


def check_needs(options):
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        return f"{sys.executable} has no {' and no '.join(missing)}: pip install torch transformers, or another python"
    if not os.access(options.binary, os.X_OK) or os.path.isdir(options.binary):
        return f"--binary: {options.binary} is no program; build it with: ninja -C build/release conclave"
    if options.json and not os.access(pathlib.Path(options.json).parent, os.W_OK):
        return f"--json: {options.json} cannot be written"
    return None


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(ROOT / "build" / "release" / "conclave"), help="the conclave program")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each program (all processors)")
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, help="these workloads; without it all, but train-bf16 "
                        "only where the processor has bf16 products: PyTorch is 20 times slower than f32 elsewhere")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and trials")
    parser.add_argument("--json", metavar="OUT", help="also write every figure to this file")
    options = parser.parse_args()
    if options.threads < 1:
        parser.error("--threads: at least 1")
    options.rounds, options.repeats, options.trials = (3, 4, 2) if options.quick else (6, 4, 3)
    return options


def run(options, work):
    names = options.only or [name for name in WORKLOADS if name != "train-bf16" or has_bf16_products()]
    if not options.only and "train-bf16" not in names:
        print("train-bf16 is left out: this processor has no bf16 products")
    folder, *f32 = measure_peak(options, work, "f32")
    model = pathlib.Path(work) / "model"
    shutil.copytree(next((folder / "checkpoints").glob("step_*")), model, ignore=shutil.ignore_patterns("optimizer"))
    rows = []
    for name in names:
        row = compare(name, model, work, options)
        if WORKLOADS[name]["kind"] == "train":
            precision = WORKLOADS[name]["precision"]
            row["flops"], row["peak"] = f32 if precision == "f32" else measure_peak(options, work, precision)[1:]
        rows.append(row)
        print_table([row])  # at once, as an interrupted run has no other
        if options.json:
            pathlib.Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")
    if len(rows) > 1:
        print_table(rows)


def main():
    options = parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that stopped processes end, too
    if problem := check_needs(options):
        print(f"compare_torch.py: {problem}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as work:
        try:
            run(options, work)
        except Failure as failure:
            print(f"compare_torch.py: {failure}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
