"""A training step against peers, side by side in one run: python benchmarks/pretrain.py

    python benchmarks/pretrain.py --overhead      what a step of ours spends outside of the computation
    python benchmarks/pretrain.py --checkpoints   what a checkpoint a minute costs

All train the same GPT-2 on random tokens with the same number of threads: `plain` is a loop of PyTorch's own parts with
torch.compile (`eager`: without), `trainer` is that of transformers (which needs `pip install accelerate`), `seedbed` is
scripts/pretrain.py. Each is a process of its own, they take turns in rounds, and compared is within a round. Speed is
the median over the steps after a warm-up. Step memory is the peak during those steps less what the process held after
its imports, before there was a model; with several processes both are sums, in which pages that they share count twice.
Steps during which other programs were busy do not count, and a run that had too few others is repeated.
"""

import argparse
import importlib
import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent.parent
LAYERS, WIDTH, HEADS, VOCABULARY, SEQUENCES, LENGTH = 6, 256, 4, 4096, 16, 256
TOKENS = SEQUENCES * LENGTH
QUIET = 0.1  # cores that other programs may use
FACTS = "BENCHMARK_FACTS"  # directory that a process of `seedbed` leaves its measurements in
TIMED = "BENCHMARK_TIMED"  # set: it times its parts, too

# --- measuring a process from within ----------------------------------------------------------------------------------


def resident(field: str) -> float:
    """MiB that this process holds (VmRSS), or held at most since `reset_peak` (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def busy() -> float:
    """Seconds that the cores of this machine have worked, all of them and all programs together."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


class Meter:
    """Times and memory of the steps after the first `warm` of `steps`."""

    def __init__(self, warm: int, steps: int) -> None:
        self.warm, self.steps = warm, steps
        self.ends: list[tuple[float, float]] = []  # of steps since the warm-up: the time, the work of other programs
        self.base = self.highest = self.step_peak = 0.0
        self.done = 0

    def before_model(self) -> None:
        """Load what would only be loaded on the way: it is not the model's memory."""
        for module in ("transformers.models.gpt2.modeling_gpt2", "torch._dynamo", "torch._inductor.compile_fx"):
            importlib.import_module(module)
        self.base = resident("VmRSS")

    def after_step(self) -> None:
        self.done += 1
        if self.done == self.warm:
            self.highest = resident("VmHWM")
            reset_peak()
        if self.done >= self.warm:
            mine = time.process_time() * int(os.environ.get("WORLD_SIZE", 1))  # the other ranks work as much
            self.ends.append((time.perf_counter(), busy() - mine))
        if self.done == self.steps:
            self.step_peak = resident("VmHWM")

    def facts(self) -> dict:
        steps = [(end[0] - start[0], end[1] - start[1]) for start, end in zip(self.ends, self.ends[1:], strict=False)]
        return {
            "seconds": [seconds for seconds, _ in steps],
            "quiet": [seconds for seconds, others in steps if others < QUIET * seconds],
            "whole": max(self.highest, resident("VmHWM")),
            "step": self.step_peak - self.base if self.done else 0.0,
        }


# --- plain PyTorch ----------------------------------------------------------------------------------------------------


def plain(meter: Meter, compiled: bool) -> None:
    """Train as a script of one page would: everything that torch has ready, nothing of one's own."""
    import torch
    from torch import nn
    from torch.nn import functional

    from seedbed.hardware import bf16_is_fast

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rows, length, _ = x.shape
            parts = self.qkv(self.norm1(x)).split(WIDTH, 2)
            q, k, v = (part.view(rows, length, HEADS, WIDTH // HEADS).transpose(1, 2) for part in parts)
            seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(seen.transpose(1, 2).reshape(rows, length, WIDTH))
            return x + self.down(functional.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LENGTH, WIDTH)
            self.blocks, self.norm = nn.ModuleList(Block() for _ in range(LAYERS)), nn.LayerNorm(WIDTH)
            self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
            self.head.weight = self.tokens.weight
            nn.init.normal_(self.tokens.weight, std=0.02)

        def forward(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
            for block in self.blocks:
                x = block(x)
            logits = self.head(self.norm(x))
            return functional.cross_entropy(logits.view(-1, VOCABULARY).float(), targets.reshape(-1))

    torch.manual_seed(0)
    meter.before_model()
    model = GPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    call = torch.compile(model) if compiled else model
    for _ in range(meter.steps):
        windows = torch.randint(VOCABULARY, (SEQUENCES, LENGTH + 1))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_is_fast()):
            loss = call(windows[:, :-1], windows[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        meter.after_step()


# --- transformers' Trainer --------------------------------------------------------------------------------------------


def trainer(meter: Meter) -> None:
    import torch
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

    from seedbed.hardware import bf16_is_fast
    from seedbed.models.families import config_of

    class Steps(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            meter.after_step()

    class Windows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return meter.steps * SEQUENCES

        def __getitem__(self, _: int) -> dict:
            ids = torch.randint(VOCABULARY, (LENGTH,))
            return {"input_ids": ids, "labels": ids}

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            use_cpu=True,
            bf16=bf16_is_fast(),
            max_steps=meter.steps,
            per_device_train_batch_size=SEQUENCES,
            optim="adamw_torch_fused",
            max_grad_norm=1.0,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        meter.before_model()
        config = config_of(model_spec() | {"key_norm": False}, VOCABULARY, eos=0, positions=LENGTH)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        Trainer(model, arguments, train_dataset=Windows(), callbacks=[Steps()]).train()


# --- ours -------------------------------------------------------------------------------------------------------------


def model_spec() -> dict:
    return {"family": "gpt2", "n_layer": LAYERS, "n_embd": WIDTH, "n_head": HEADS}


def run_spec(steps: int) -> dict:
    """A run as a user would configure it, that validates only once."""
    from seedbed.objectives.lm.config import LanguageModelRun

    fields = {
        "corpus": "random",
        "tokenizer": "none",
        "model": model_spec(),
        "seq_len": LENGTH,
        "batch_tokens": TOKENS,
        "budget": {"steps": steps},
        "validation": {"every": 10**6, "tokens": LENGTH},
        "log_every": 5,
    }
    return LanguageModelRun.model_validate(fields).spec()


def write_tokens(folder: Path, tokens: int) -> None:
    """Random token shards and a tokenizer that only has to be there."""
    import numpy as np

    from seedbed.checksums import sha256
    from seedbed.files import write_json

    (folder / "tokens" / "shards").mkdir(parents=True)
    index = {"dtype": "uint16", "vocab_size": VOCABULARY, "eos_id": 0, "splits": {}}
    for split, size in (("train", tokens), ("valid", 10 * LENGTH), ("test", 10 * LENGTH)):
        path = folder / "tokens" / "shards" / f"{split}-00000.bin"
        np.random.default_rng(0).integers(0, VOCABULARY, size).astype("<u2").tofile(path)
        shard = {"file": path.name, "tokens": size, "sha256": sha256(path)}
        measures = {"documents": 1, "characters": size, "bytes": size, "words": size}
        index["splits"][split] = {"tokens": size, **measures, "shards": [shard]}
    write_json(folder / "tokens" / "index.json", index)
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")


def seedbed(base: Path, warm: int, steps: int, *options: str, timed: bool = False) -> dict:
    """Run scripts/pretrain.py under the hooks of `watched`; return what its processes measured."""
    with tempfile.TemporaryDirectory(dir=base) as folder:
        paths = [f"--input=tokens={base / 'tokens' / 'index.json'}", f"--out={Path(folder) / 'run'}"]
        paths += [f"--input=tokenizer={base / 'tokenizer' / 'tokenizer.json'}"]
        spec = ["--run", "benchmark", "--spec", json.dumps(run_spec(steps)), "--threads", str(threads())]
        environment = os.environ | {FACTS: folder, "BENCHMARK_WARM": str(warm), "BENCHMARK_STEPS": str(steps)}
        started(spec + paths + list(options), environment | ({TIMED: "1"} if timed else {}))
        found = [json.loads(path.read_text()) for path in sorted(Path(folder).glob("facts-*.json"))]
        lines = [json.loads(line) for line in (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()]
    main_process = next(facts for facts in found if facts["rank"] == 0)
    told = [line["tokens_per_second"] for line in lines if line["step"] > warm + 4]  # lines are means of five steps
    sums = {key: sum(facts[key] for facts in found) for key in ("whole", "step")}
    return main_process | sums | {"told": statistics.median(told)}


def watched() -> None:
    """This process is scripts/pretrain.py, with hooks that look at the clock and at memory, and change nothing."""
    meter, parts = Meter(int(os.environ["BENCHMARK_WARM"]), int(os.environ["BENCHMARK_STEPS"])), {}
    ranks = int(sys.argv[sys.argv.index("--processes") + 1])
    if ranks == 1 or "RANK" in os.environ:  # the agent of several ranks does not load the engine
        hook(meter, parts)
    sys.path.insert(0, str(ROOT))
    try:
        runpy.run_path(str(ROOT / "scripts" / "pretrain.py"))["main"]()  # by this file's command line, as its ranks
    finally:
        rank = int(os.environ.get("RANK", 0 if ranks == 1 else -1))
        facts = meter.facts() | {"rank": rank, "parts": parts}
        (Path(os.environ[FACTS]) / f"facts-{rank}.json").write_text(json.dumps(facts))


def hook(meter: Meter, parts: dict[str, float]) -> None:
    from torch.utils import tensorboard  # noqa: F401, an import of the engine, as those of `before_model`

    from seedbed.objectives.lm.objective import LanguageModelling
    from seedbed.train.trainer import Trainer

    make, update, timers = LanguageModelling.__init__, Trainer.update, defaultdict(float)

    def made(self: LanguageModelling, *args: object) -> None:
        meter.before_model()
        make(self, *args)

    def updated(self: Trainer, batches: list) -> None:
        if meter.done == meter.warm:
            timers.clear()
        update(self, batches)
        meter.after_step()
        if meter.done == meter.steps:
            parts.update(timers)  # the validation that follows is no part of a step

    LanguageModelling.__init__, Trainer.update = made, updated
    if TIMED in os.environ:
        time_parts(timers)


def time_parts(timers: dict[str, float]) -> None:
    """Count the seconds in DeepSpeed's calls, and in those of torch within them."""
    import torch
    from deepspeed.runtime.engine import DeepSpeedEngine

    from seedbed.objectives.lm.objective import NextToken
    from seedbed.train.engine import Engine

    timed = {
        "engine.forward": (DeepSpeedEngine, "forward"),
        "engine.backward": (DeepSpeedEngine, "backward"),
        "engine.step": (DeepSpeedEngine, "step"),
        "clipping": (Engine, "clip_gradients"),
        "model": (NextToken, "forward"),
        "autograd": (torch.autograd, "backward"),
        "optimizer": (torch.optim.AdamW, "step"),
    }
    for label, (owner, name) in timed.items():
        setattr(owner, name, timing(getattr(owner, name), label, timers))


def timing(function: Callable, label: str, timers: dict[str, float]) -> Callable:
    def call(*args: object, **options: object) -> object:
        started = time.perf_counter()
        try:
            return function(*args, **options)
        finally:
            timers[label] += time.perf_counter() - started

    return call


# --- taking turns -----------------------------------------------------------------------------------------------------


def threads() -> int:
    return len(os.sched_getaffinity(0))


def started(arguments: list[str], environment: dict[str, str]) -> str:
    """Output of this file in another process; what went wrong there is shown."""
    wait_for_quiet()
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment | {"CUDA_VISIBLE_DEVICES": ""})
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def wait_for_quiet(longest: float = 30) -> None:
    """Until other programs leave the machine alone for two seconds."""
    until = time.monotonic() + longest
    while time.monotonic() < until:
        before = busy()
        time.sleep(2)
        if busy() - before < 2 * QUIET:
            break


def repeated(measure: Callable[[], dict], least: int) -> dict:
    """What was measured, once that had at least so many quiet steps, or the best of some tries."""
    tries = []
    while len(tries) < 3:
        tries.append(measure())
        if len(tries[-1]["quiet"]) >= least:
            break
    best = max(tries, key=lambda facts: len(facts["quiet"]))
    return best | {"speed": TOKENS / statistics.median(best["quiet"] or best["seconds"])}


def peer(name: str, warm: int, steps: int) -> dict:
    output = started(["--contender", name, "--warm", str(warm), "--steps", str(steps)], dict(os.environ))
    return json.loads(output.splitlines()[-1])


def contend(name: str, warm: int, steps: int) -> None:
    """Be one of the peers, and print what was measured."""
    import torch

    torch.set_num_threads(threads())
    meter = Meter(warm, steps)
    trainer(meter) if name == "trainer" else plain(meter, compiled=name == "plain")
    print(json.dumps(meter.facts()))


def layouts(compiled: bool, micro_batches: tuple[int, ...] = (16, 8, 4)) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Ways to compute the same run: processes x threads, sequences at a time."""
    for processes in (1, 2):
        for micro_batch in micro_batches:
            if micro_batch * processes <= SEQUENCES and processes <= threads():
                name = f"seedbed {processes} x {threads() // processes}, micro_batch {micro_batch}"
                options = ("--processes", str(processes), "--micro-batch", str(micro_batch))
                yield name, options
                if compiled:
                    yield f"{name}, compile", (*options, "--compile", "1")


def compare(base: Path, args: argparse.Namespace) -> None:
    peers = ["plain", "eager"] + (["trainer"] if find_spec("accelerate") else [])
    if "trainer" not in peers:
        print("transformers' Trainer is left out: it needs `pip install accelerate`")
    ways = dict(layouts(args.compile))
    measures = {name: partial(peer, name, args.warm, args.steps) for name in peers}
    measures |= {name: partial(seedbed, base, args.warm, args.steps, *options) for name, options in ways.items()}
    rounds = []
    print("round\tcontender\ttokens/s\tpeak MiB\tstep MiB\tquiet steps")
    for number in range(args.rounds):
        found = {}
        for name, measure in measures.items():
            found[name] = facts = repeated(measure, (args.steps - args.warm) // 3)
            sizes = f"{facts['speed']:.0f}\t{facts['whole']:.0f}\t{facts['step']:.0f}"
            print(f"{number}\t{name}\t{sizes}\t{len(facts['quiet'])} of {len(facts['seconds'])}", flush=True)
        rounds.append(found)
    print("\ncontender\ttokens/s\tpeak MiB\tstep MiB" + "".join(f"\tspeed / {p}\tstep memory / {p}" for p in peers))
    for name in rounds[0]:
        cells = [f"{statistics.median(found[name][key] for found in rounds):.0f}" for key in ("speed", "whole", "step")]
        for other in peers:
            for key in ("speed", "step"):
                ratios = [found[name][key] / found[other][key] for found in rounds]
                cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        print("\t".join([name, *cells]))


def overhead(base: Path, args: argparse.Namespace) -> None:
    """Where the time of a step goes, by DeepSpeed's calls and by torch's within them."""
    print("layout\tms a step\tforward\tbackward\tclipping\tstep\toutside of these\toutside of torch's own")
    for name, options in layouts(args.compile):
        for _ in range(args.rounds):
            facts = seedbed(base, args.warm, args.steps, *options, timed=True)
            parts, whole = facts["parts"], sum(facts["seconds"])
            calls = [parts[key] / whole for key in ("engine.forward", "engine.backward", "clipping", "engine.step")]
            torchs = sum(parts[key] / whole for key in ("model", "autograd", "clipping", "optimizer"))
            shares = "\t".join(f"{share:.2%}" for share in (*calls, 1 - sum(calls), 1 - torchs))
            print(f"{name}\t{1000 * whole / len(facts['seconds']):.1f}\t{shares}", flush=True)


def checkpoints(base: Path, args: argparse.Namespace) -> None:
    """Mean time of a step with a checkpoint every few steps against none, scaled to a checkpoint a minute."""
    steps = args.warm + max(args.steps, 4 * args.every)
    print("layout\tms a step\twith checkpoints\tone every s\tseconds for one\tshare at one a minute")
    for name, options in layouts(False, (8,)):
        for _ in range(args.rounds):
            without = seedbed(base, args.warm, steps, *options)
            often = seedbed(base, args.warm, steps, *options, "--checkpoint-steps", str(args.every))
            quiet, busy = (statistics.mean(facts["seconds"]) for facts in (without, often))
            cost = (busy - quiet) * args.every
            figures = f"{1000 * quiet:.1f}\t{1000 * busy:.1f}\t{busy * args.every:.1f}\t{cost:.3f}\t{cost / 60:.2%}"
            print(f"{name}\t{figures}", flush=True)


def main() -> None:
    if FACTS in os.environ:
        watched()
        return
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--warm", type=int, default=10, help="steps that do not count")
    arguments.add_argument("--steps", type=int, default=40, help="steps in all")
    arguments.add_argument("--every", type=int, default=20, help="steps between checkpoints with --checkpoints")
    arguments.add_argument("--compile", action="store_true", help="ours with torch.compile, too")
    arguments.add_argument("--overhead", action="store_true")
    arguments.add_argument("--checkpoints", action="store_true")
    arguments.add_argument("--contender", choices=["plain", "eager", "trainer"], help="be one of them")
    args = arguments.parse_args()
    if args.contender:
        contend(args.contender, args.warm, args.steps)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_tokens(Path(folder), 40 * TOKENS)
        (overhead if args.overhead else checkpoints if args.checkpoints else compare)(Path(folder), args)


if __name__ == "__main__":
    main()
