"""The forgetting curve against a loop of single forwards: python benchmarks/forgetting.py

An untrained Llama of about 11 M parameters with a vocabulary of 32 000 copies random tokens. The loop
gives transformers one prompt at a time and compares what it finds likeliest; ours are the same prompts. Ratios are of
the loop's time to ours, the median of several rounds; both have to find the same.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import AutoConfig, AutoModelForCausalLM

from seedbed.data.tokenizer import BOS, EOS, PAD, save_tokenizer
from seedbed.data.tokens import TokenSplit
from seedbed.evaluate.forgetting.measure import Task, measure_length, prompts
from seedbed.files import write_json
from seedbed.hardware import keep_freed_memory
from seedbed.models.causal_lm import export
from seedbed.objectives.lm.subject import CausalLM

VOCABULARY = 32_000
SHAPE = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4, "num_attention_heads": 4}


def make_subject(folder: Path) -> CausalLM:
    """An untrained model, and tokens of which only the number and the vocabulary matter."""
    words = {PAD: 0, BOS: 1, EOS: 2} | {str(number): number for number in range(3, VOCABULARY)}
    save_tokenizer(Tokenizer(models.WordLevel(words, EOS)), folder / "tokenizer")
    torch.manual_seed(0)
    config = AutoConfig.for_model("llama", vocab_size=VOCABULARY, tie_word_embeddings=True, **SHAPE)
    export(AutoModelForCausalLM.from_config(config), folder / "tokenizer", folder / "model")
    (folder / "shards").mkdir()
    np.arange(VOCABULARY, dtype="<u2").tofile(folder / "shards" / "test.bin")
    counts = {"documents": 1, "characters": 1, "bytes": 1, "words": 1}
    split = {"tokens": VOCABULARY, **counts, "shards": [{"file": "test.bin", "tokens": VOCABULARY}]}
    write_json(
        folder / "index.json", {"dtype": "uint16", "vocab_size": VOCABULARY, "eos_id": 2, "splits": {"test": split}}
    )
    return CausalLM(folder / "model", folder, 1024)


@torch.inference_mode()
def one_by_one(spec: dict, subject: CausalLM, split: TokenSplit, task: Task) -> np.ndarray:
    """Copy and LM accuracy [repeats, 2], one forward for each prompt."""
    generator = np.random.default_rng([spec["seed"], task.length, 1])
    found = []
    for prompt in prompts(spec, subject, split, "random", task, generator):
        ids = torch.tensor([prompt])
        predicted = subject.model(ids[:, :-1]).logits[0].argmax(-1)
        found.append((predicted == ids[0, 1:])[-task.scored :].double().mean().item())
    return np.array(found).reshape(-1, 2)


def timed(function: callable, *arguments: object) -> tuple[float, np.ndarray]:
    started = time.perf_counter()
    found = function(*arguments)
    return time.perf_counter() - started, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[4, 8, 16, 32, 64, 128, 256, 512])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # as scripts/evaluate.py does; the loop gains from it, too
    with tempfile.TemporaryDirectory() as folder:
        subject = make_subject(Path(folder))
        split, spec = subject.split("test"), {"repeats": args.repeats, "seed": 0}
        totals = np.zeros(2)
        print("length\tloop s\tours s\tratio")
        for length in args.lengths:
            task = Task(length, "copy", 0, begin=1, end=2)
            seconds = []
            for _ in range(args.rounds + 1):  # the first warms up
                theirs, expected = timed(one_by_one, spec, subject, split, task)
                ours, found = timed(measure_length, spec, subject, split, "random", task)
                assert np.array_equal(found, expected), (found, expected)
                seconds.append((theirs, ours))
            middle = [statistics.median(column) for column in zip(*seconds[1:], strict=True)]
            totals += middle
            print(f"{length}\t{middle[0]:.3f}\t{middle[1]:.3f}\t{middle[0] / middle[1]:.2f}", flush=True)
        print(f"all\t{totals[0]:.3f}\t{totals[1]:.3f}\t{totals[0] / totals[1]:.2f}")


if __name__ == "__main__":
    main()
