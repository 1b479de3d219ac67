"""Peak memory of shuffling and encoding, on a corpus and on one 20 times as large: python benchmarks/memory.py

Each stage is the script that the workflow runs, measured as the operating system accounts for it (the largest resident
set of any of its processes).
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
SPEC = {
    "format": "auto",
    "text": "text",
    "lines_per_document": 1,
    "max_record_bytes": 64_000_000,
    "unicode": "none",
    "min_chars": 1,
    "deduplicate": True,
    "split": {"valid": 0.01, "test": 0.01},
    "shards": 4,
    "seed": 0,
}


def write_documents(path: Path, megabytes: int) -> None:
    """Documents of random Chinese characters, about 3 KB each."""
    generator = random.Random(0)
    characters = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]
    with path.open("w", encoding="utf-8") as stream:
        for _ in range(megabytes * 1_000_000 // 3000):
            stream.write(
                json.dumps({"text": "".join(generator.choices(characters, k=1000))}, ensure_ascii=False) + "\n"
            )


def peak(*command: object) -> float:
    """Largest resident set in MiB of a script and its processes; run in a process of its own, whose children count."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    line = [sys.executable, "-c", code, sys.executable, *map(str, command)]
    kilobytes = int(subprocess.run(line, check=True, capture_output=True, text=True, cwd=ROOT).stdout)
    return kilobytes / 1024


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--megabytes", type=int, default=10, help="size of the smaller corpus")
    args = arguments.parse_args()
    print("stage\tMB of text\tpeak MiB\tratio")
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        first = {}
        for size in (args.megabytes, 20 * args.megabytes):
            source, corpus, tokenizer = base / f"{size}.jsonl", base / f"corpus-{size}", base / "tokenizer"
            write_documents(source, size)
            spec = base / "spec.json"
            spec.write_text(json.dumps(SPEC | {"source": {"files": str(source)}}))
            build = ["scripts/build_corpus.py", "--corpus", "c", "--spec", spec, "--out", corpus]
            found = {"shuffle": peak(*build)}
            if not tokenizer.exists():
                spec.write_text(json.dumps({"vocab_size": 4096, "max_bytes": 5_000_000}))
                peak(
                    "scripts/build_tokenizer.py",
                    "--tokenizer",
                    "t",
                    "--spec",
                    spec,
                    "--corpus",
                    corpus,
                    "--out",
                    tokenizer,
                )
            encode = ["--corpus", corpus, "--tokenizer", tokenizer, "--out", base / f"tokens-{size}", "--processes", 2]
            found["encode"] = peak("scripts/build_tokens.py", *encode)
            for stage, memory in found.items():
                first.setdefault(stage, memory)
                print(f"{stage}\t{size}\t{memory:.0f}\t{memory / first[stage]:.2f}", flush=True)


if __name__ == "__main__":
    main()
