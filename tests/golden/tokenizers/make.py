#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the tokenizers of this folder and what the tokenizers library (pip install tokenizers) makes of awkward strings:
NAME/tokenizer.json and NAME/cases.jsonl with input, ids (no special tokens added) and decoded (special tokens kept).

Usage: make.py [TEXT...]; the texts are what the small vocabularies are learnt from.
"""
import json
import pathlib
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")
RANGES = [(32, 126)] * 6 + [(9, 13), (0, 31), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0x97F),
                            (0x1100, 0x11FF), (0x2000, 0x206F), (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
                            (0xFF00, 0xFFEF), (0x1F300, 0x1F6FF), (0x20000, 0x2A6DF)]
PIECES = ["'s", "'LL", "n't", "  ", "\n\n", "\r\n", "\t", "   \n", "1234567890", "3.14", " the", "\u200d", "\ufeff", "e\u0301",
          "\u1e9e", "\u180e", "\x85", "<think>", "<|end|>", "foo_bar", "camelCase", "----", "..."]


def split(pattern, behavior, invert=False):
    return pre_tokenizers.Split(pattern, behavior, invert=invert)


def byte_level(add_prefix_space=False, use_regex=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=use_regex)


def token(content, **options):
    return AddedToken(content, **{"normalized": False, **options})


# name -> (normalizer, pre-tokenizers, ignore_merges, added tokens, special added tokens)
KINDS = {
    "gpt2_prefix": (None, [byte_level(True, True)], False, [token("<think>")], [token("<|end|>")]),
    "llama3": (None, [split(Regex(WORDS), "isolated"), byte_level()], True, [], [token("<|end|>", lstrip=True)]),
    "nfc_strip": (normalizers.NFC(), [split(Regex(WORDS), "isolated"), byte_level()], False,
                  [token("foo", single_word=True), token("fo", rstrip=True), token("\u03a9\u0301", normalized=True)],
                  [token("<|end|>", rstrip=True)]),
    "behaviors": (normalizers.NFKC(), [split(Regex(r"\w+|[^\w\s]+"), "merged_with_next"),
                                       split(".", "merged_with_previous"), split(Regex(r"\s+"), "contiguous", True),
                                       byte_level()], False, [token("  ")], [token("<|end|>")]),
    "removed_digits": (normalizers.NFD(), [split(" ", "removed"), pre_tokenizers.Digits(individual_digits=True),
                                           byte_level(use_regex=True)], False, [], [token("<|end|>")]),
}


def awkward(rng):
    parts = []
    for _ in range(rng.randint(1, 10)):
        low, high = rng.choice(RANGES)
        parts.append(rng.choice(PIECES) if rng.random() < 0.5 else "".join(
            chr(rng.randint(low, high)) for _ in range(rng.randint(1, 6))))
        parts.append(" " * rng.choice([0, 0, 1, 2]))
    return "".join(parts)


def main():
    texts = sys.argv[1:] or [__file__]
    for number, (name, (normalizer, steps, ignore_merges, added, special)) in enumerate(KINDS.items()):
        tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
        if normalizer is not None:
            tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.train(texts, trainers.BpeTrainer(vocab_size=600, show_progress=False,
                                                   initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
        tokenizer.add_tokens(added)
        tokenizer.add_special_tokens(special)
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
        rng = random.Random(number)
        with open(folder / "cases.jsonl", "w", encoding="utf-8") as cases:
            for text in ["", "a" * 300, " " * 70] + [awkward(rng) for _ in range(80)]:
                ids = tokenizer.encode(text, add_special_tokens=False).ids
                decoded = tokenizer.decode(ids, skip_special_tokens=False)
                cases.write(json.dumps({"input": text, "ids": ids, "decoded": decoded}) + "\n")


if __name__ == "__main__":
    main()
