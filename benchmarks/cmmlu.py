"""CMMLU beside lm-evaluation-harness: are all answers the same, and how much faster are they?

    python benchmarks/cmmlu.py --harness PYTHON --data CMMLU [--model DIR] [--subjects 10] [--shots 5]

PYTHON is an interpreter of an environment with lm-eval 0.4, accelerate, and the same torch and transformers; CMMLU a
directory with `dev/` and `test/`. Without a model an untrained one of about 10 M parameters is made, with a tokenizer
of the questions. Both answer in fp32 with the same batch size; reading questions and loading models is not timed.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from seedbed.data.tokenizer import save_tokenizer, train_tokenizer
from seedbed.evaluate.cmmlu.measure import CONVENTIONS, answer
from seedbed.evaluate.cmmlu.questions import LETTERS, load_questions
from seedbed.hardware import keep_freed_memory
from seedbed.models.causal_lm import export
from seedbed.objectives.lm.subject import CausalLM

SHAPE = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 8, "num_attention_heads": 4}
VOCABULARY = 8192


def make_model(questions: dict, folder: Path) -> None:
    """An untrained Llama with a tokenizer trained on the questions."""
    texts = [text for group in questions.values() for one in group for text in (one.text, *one.options)]
    save_tokenizer(train_tokenizer(texts, VOCABULARY), folder / "tokenizer")
    torch.manual_seed(0)
    # Larger than usual, so that answers differ clearly.
    config = AutoConfig.for_model("llama", vocab_size=VOCABULARY, initializer_range=0.05, eos_token_id=2, **SHAPE)
    export(AutoModelForCausalLM.from_config(config), folder / "tokenizer", folder)


def ours(model: Path, dev: dict, test: dict, shots: int, batch_size: int) -> tuple[float, dict]:
    """Seconds, and by subject the rows of its questions."""
    subject = CausalLM.of_model(model)
    _ = subject.model, subject.tokenizer
    started = time.perf_counter()
    rows = answer(subject, CONVENTIONS["lm-eval"], dev, test, shots, batch_size)
    seconds = time.perf_counter() - started
    return seconds, {name: [row for row in rows if row["subject"] == name] for name in test}


def theirs(python: str, model: Path, data: Path, subjects: list[str], options: list[int]) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "answers.json"
        script = Path(__file__).with_name("harness.py")
        subprocess.run([python, script, model, data, out, *map(str, options), *subjects], check=True)
        return json.loads(out.read_text(encoding="utf-8"))


def compare(mine: dict, other: dict) -> tuple[int, int, float]:
    """Questions, how many of them have another answer (acc or acc_norm), and the largest difference in nats."""
    questions = differ = 0
    largest = 0.0
    for name, rows in mine.items():
        for row, answered in zip(rows, other[name], strict=True):
            log_p = [row[f"log_p_{letter}"] for letter in LETTERS]
            right = float(row["predicted"] == row["gold"])
            questions += 1
            # A letter is one character long, so that both accuracies are of the same answer.
            differ += not right == answered["acc"] == answered["acc_norm"]
            differ += LETTERS[answered["log_p"].index(max(answered["log_p"]))] != row["predicted"]
            largest = max(largest, *(abs(a - b) for a, b in zip(log_p, answered["log_p"], strict=True)))
    return questions, differ, largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--harness", required=True, help="python of an environment with lm-eval")
    parser.add_argument("--data", type=Path, required=True, help="CMMLU, with dev/ and test/")
    parser.add_argument("--model", type=Path, help="a transformers directory")
    parser.add_argument("--subjects", type=int, default=67, help="how many, spread over the alphabet")
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # as scripts/evaluate.py does
    dev, test = load_questions({"files": str(args.data)})
    chosen = sorted(test)[:: max(1, len(test) // args.subjects)][: args.subjects]
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or Path(folder)
        if not args.model:
            make_model(test, model)
        seconds, rows = ours(model, dev, {name: test[name] for name in chosen}, args.shots, args.batch_size)
        found = theirs(args.harness, model, args.data, chosen, [args.shots, args.batch_size, args.threads])
    questions, differ, largest = compare(rows, found["answers"])
    print(f"lm-eval {found['version']}, {args.shots} shots, batches of {args.batch_size}, {args.threads} threads")
    print(f"{questions} questions of {len(chosen)} subjects; {differ} answered otherwise")
    print(f"log-probabilities differ by at most {largest:.1e} nats")
    print(f"ours {questions / seconds:.1f}, theirs {questions / found['seconds']:.1f} questions/s")
    print(f"{found['seconds'] / seconds:.2f} times as fast")


if __name__ == "__main__":
    main()
