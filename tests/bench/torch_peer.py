# SPDX-License-Identifier: Apache-2.0
"""The PyTorch side of compare_torch.py: a process of its own, as OpenMP and malloc read their settings when it starts.

One JSON request per line of standard input, one JSON answer per line of standard output: the seconds of each repeat,
after some that warm up where a variant is new. A variant that PyTorch refuses is answered with its error.
"""
import json
import sys
import time

import torch
import transformers

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def load(folder, precision, variant):
    model, info = transformers.DeepseekV3ForCausalLM.from_pretrained(
        folder, dtype=DTYPES[precision], experts_implementation=variant["experts"],
        attn_implementation=variant["attention"], output_loading_info=True)
    if any(info.values()):
        raise ValueError(f"{folder} is not the very model of transformers: {info}")
    return model


class Training:
    """Forward, loss, backward, AdamW: a step as a training script has it."""

    def __init__(self, folder, workload, variant):
        model = load(folder, workload["precision"], variant).train()
        self.vocabulary = model.config.vocab_size
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1,
                                           **{variant["optimizer"]: True})
        self.forward = torch.compile(model) if variant["compile"] == "compiled" else model
        self.shape = (workload["sequences"], workload["sequence_length"])
        self.random = torch.Generator().manual_seed(1)

    def repeat(self, request):
        ids = torch.randint(self.vocabulary, self.shape, generator=self.random)
        begin = time.perf_counter()
        self.forward(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - begin, None


class Decoding:
    """Greedy decoding of a batch of equally long prompts; timed from the first new token to the last."""

    def __init__(self, folder, workload, variant):
        self.model = load(folder, workload["precision"], variant).eval()
        self.length = workload["capacity"]
        self.static = variant["cache"] != "dynamic"
        compiled = variant["cache"] == "static compiled"
        self.forward = torch.compile(self.model, dynamic=False) if compiled else self.model
        self.cache = None

    def fresh_cache(self):
        if not self.static:
            return transformers.DynamicCache(config=self.model.config)
        if self.cache is None:
            self.cache = transformers.StaticCache(config=self.model.config, max_cache_len=self.length)
        self.cache.reset()
        return self.cache

    @torch.inference_mode()
    def repeat(self, request):
        prompts = torch.tensor(request["prompts"])
        cache = self.fresh_cache()
        logits = self.model(prompts, cache=cache, use_cache=True, logits_to_keep=1).logits
        tokens = [logits[:, -1].argmax(-1, keepdim=True)]
        begin = time.perf_counter()
        while len(tokens) < request["new_tokens"]:
            logits = self.forward(tokens[-1], cache=cache, use_cache=True).logits
            tokens.append(logits[:, -1].argmax(-1, keepdim=True))
        return time.perf_counter() - begin, torch.cat(tokens, 1).tolist()


def main():
    folder = sys.argv[1]
    torch.set_flush_denormal(True)
    held = []  # the last two variants, as the chooser lets two alternate: [(what, its work)]
    for line in sys.stdin:
        request = json.loads(line)
        wanted = (request["workload"], request["variant"])
        torch.set_num_threads(request["variant"]["threads"])
        try:
            work = next((work for what, work in held if what == wanted), None)
            if work is None:
                held = held[-1:]
                kind = {"train": Training, "decode": Decoding}[request["workload"]["kind"]]
                work = kind(folder, *wanted)
                for _ in range(2):  # the second may compile again
                    work.repeat(request)
            held = [entry for entry in held if entry[0] != wanted] + [(wanted, work)]
            results = [work.repeat(request) for _ in range(request["repeats"])]
            answer = {"seconds": [seconds for seconds, _ in results], "tokens": results[-1][1]}
        except Exception as error:  # of any library below: the other variants go on
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
