#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Encoding speed on one core and loading time beside the tokenizers library (pip install tokenizers), in one run.

Usage: compare_tokenizers.py CONCLAVE TEXT TOKENIZER.json... [--rounds N]
Rounds alternate between both programs; medians are printed. The library gets the text whole and line by line (its faster
way); ours reads the file, cuts and encodes it: `conclave tokenize --count TEXT --threads 1`.
"""
import argparse
import os
import re
import statistics
import subprocess
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Tokenizer  # noqa: E402


def ours(program, tokenizer, text):
    out = subprocess.run([program, "tokenize", "--tokenizer", tokenizer, "--count", text, "--threads", "1"],
                         check=True, capture_output=True, text=True).stdout
    tokens = int(re.search(r"tokens ([\d,]+)", out).group(1).replace(",", ""))
    return float(re.search(r"([\d.]+) MB/s", out).group(1)), float(re.search(r"loaded in ([\d.]+) s", out).group(1)), tokens


def theirs(tokenizer, contents):
    begin = time.perf_counter()
    library = Tokenizer.from_file(tokenizer)
    load = time.perf_counter() - begin
    size = len(contents.encode())
    begin = time.perf_counter()
    whole = library.encode(contents, add_special_tokens=False).ids
    whole_speed = size / (time.perf_counter() - begin) / 1e6
    lines = contents.splitlines(keepends=True)
    begin = time.perf_counter()
    for line in lines:
        library.encode(line, add_special_tokens=False)
    return max(whole_speed, size / (time.perf_counter() - begin) / 1e6), load, len(whole)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("text")
    parser.add_argument("tokenizers", nargs="+")
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()
    contents = open(options.text, encoding="utf-8", newline="").read()
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
    for tokenizer in options.tokenizers:
        rounds = [(ours(options.program, tokenizer, options.text), theirs(tokenizer, contents))
                  for _ in range(options.rounds)]
        median = lambda side, what: statistics.median(r[side][what] for r in rounds)
        ratio = statistics.median(a[0] / b[0] for a, b in rounds)
        print(f"{tokenizer}\n  encode {median(0, 0):.1f} MB/s, library {median(1, 0):.1f} MB/s: {ratio:.1f} x"
              f"\n  load   {median(0, 1):.3f} s, library {median(1, 1):.3f} s")


if __name__ == "__main__":
    main()
