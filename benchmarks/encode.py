"""Encoding a corpus: ours against `datasets.map` with the same tokenizer: python benchmarks/encode.py

Both go from the same JSON lines to token ids on disk with two processes, in turn, several times; the ratio is theirs
over ours, so more than 1 means that ours is faster.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import datasets
from memory import SPEC, write_documents
from transformers import AutoTokenizer

from seedbed.data.corpus import build_corpus, shards
from seedbed.data.sources import documents
from seedbed.data.tokenizer import build_tokenizer
from seedbed.data.tokens import build_tokens


def ours(corpus: Path, tokenizer: Path, target: Path) -> float:
    started = time.perf_counter()
    build_tokens(corpus, tokenizer, target, processes=2)
    return time.perf_counter() - started


def theirs(corpus: Path, tokenizer: Path, target: Path) -> float:
    started = time.perf_counter()
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    end = loaded.eos_token_id

    def encode(batch: dict) -> dict:
        ids = loaded(batch["text"], add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False)
        return {"ids": [row + [end] for row in ids["input_ids"]]}

    for split in ("train", "valid", "test"):
        files = [str(shard.path) for shard in shards(corpus, split)]
        loading = {"cache_dir": str(target / "cache"), "split": "train"}
        read = datasets.load_dataset("json", data_files=files, **loading)
        processes = min(2, len(read))
        encoded = read.map(
            encode, batched=True, num_proc=processes, remove_columns=["text"], load_from_cache_file=False
        )
        encoded.save_to_disk(str(target / split))
    return time.perf_counter() - started


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--source", type=Path, help="a .jsonl with the field `text`; random Chinese text without it")
    arguments.add_argument("--megabytes", type=int, default=100, help="size of the random text")
    arguments.add_argument("--rounds", type=int, default=3)
    args = arguments.parse_args()
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        source = args.source or base / "random.jsonl"
        if not args.source:
            write_documents(source, args.megabytes)
        spec = SPEC | {"source": {"files": str(source)}}
        build_corpus(documents(spec), spec, base / "corpus")
        build_tokenizer({"vocab_size": 4096, "max_bytes": 5_000_000}, base / "corpus", base / "tokenizer")
        megabytes = source.stat().st_size / 1e6
        ratios = []
        print("round\tours s\tdatasets.map s\tratio")
        for number in range(args.rounds):
            mine = ours(base / "corpus", base / "tokenizer", base / f"ours-{number}")
            other = theirs(base / "corpus", base / "tokenizer", base / f"theirs-{number}")
            ratios.append(other / mine)
            print(f"{number}\t{mine:.2f}\t{other:.2f}\t{ratios[-1]:.2f}", flush=True)
        print(f"median ratio {statistics.median(ratios):.2f}; ours {megabytes / mine:.1f} MB/s in the last round")


if __name__ == "__main__":
    main()
