"""Steps/s of a Thinker against a loop over torch.nn.TransformerDecoderLayer: python benchmarks/thinker.py

Both learn to copy 20 of 16 symbols with 16 values a position in 8 heads, 8 latents and 4 steps, in batches of 1024,
fp32. The loop is what a person would write: a layer with self-attention for the latents, which attends to the input and
all past latents, and another one for the outputs. Ours is asked as training does it, eager and compiled. Beside that:
the share of a step that generating problems takes, and where the rest goes.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

SYMBOLS, LENGTH, BATCH = 16, 20, 1024
WIDTH, HEADS, LATENTS, STEPS = 16, 8, 8, 4
WARM = 3
SIDES = ("loop", "eager", "compiled")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--steps", type=int, default=20, help="steps that are timed in a round")
    arguments.add_argument("--side", choices=[*SIDES, "parts"], help="measure this one in this very process")
    args = arguments.parse_args()
    if args.side:
        print(json.dumps(parts() if args.side == "parts" else step_seconds(args.side, args.steps)))
        return
    rounds = [{side: measured(side, args.steps) for side in SIDES} for _ in range(args.rounds)]
    for one in rounds:
        print(", ".join(f"{side} {seconds * 1000:.0f} ms a step" for side, seconds in one.items()))
    for side in SIDES[1:]:
        print(f"{side}: {statistics.median(one['loop'] / one[side] for one in rounds):.2f} times as fast as the loop")
    for name, share in measured("parts", args.steps).items():
        print(f"{name}: {share:.1%} of an eager step")


def measured(side: str, steps: int) -> float | dict:
    command = [sys.executable, __file__, "--side", side, "--steps", str(steps)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def step_seconds(side: str, steps: int) -> float:
    """Median seconds of a step."""
    one, times = loop() if side == "loop" else ours(compiled=side == "compiled"), []
    for number in range(WARM + steps):
        started = time.perf_counter()
        one(number)
        times.append(time.perf_counter() - started)
    return statistics.median(times[WARM:])


# --- ours ---------------------------------------------------------------------------------------------------------


def run_spec(task: dict, length: int) -> dict:
    from seedbed.objectives.thinker.config import ThinkerRun

    fields = {
        "objective": "thinker",
        "task": task,
        "length": length,
        "model": {"hidden_size": WIDTH, "num_attention_heads": HEADS},
        "n_latent": LATENTS,
        "n_step": STEPS,
        "batch": BATCH,
        "budget": {"steps": 1},
        "optimizer": {"lr": 1e-3},
    }
    return ThinkerRun(**fields).spec()


def ours(compiled: bool, task: dict | None = None, length: int = LENGTH):
    """A function that trains for one step."""
    import torch

    from seedbed.hardware import keep_freed_memory
    from seedbed.objectives.thinker.objective import Thinking
    from seedbed.train.optimizers import build_optimizer

    keep_freed_memory()
    objective = Thinking(run_spec(task or {"name": "copy", "symbols": SYMBOLS}, length), {})
    objective.loss_module.train()
    if compiled:
        objective.compile()
    optimizer = build_optimizer(objective.loss_module, objective.spec["optimizer"])

    def one(number: int) -> None:
        numbers = range(number * BATCH, (number + 1) * BATCH)
        optimizer.zero_grad()
        for loss in objective.losses(objective.loss_module, objective.batch(numbers), numbers):
            loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.loss_module.parameters(), 1.0)
        optimizer.step()

    one.objective = objective
    return one


def parts() -> dict:
    """Shares of an eager step: generating problems, attention, and the largest operations outside of it."""
    from torch.profiler import ProfilerActivity, profile

    found = {}
    tasks = {"copy": ({"name": "copy", "symbols": SYMBOLS}, LENGTH)}
    tasks["addition"] = ({"name": "addition", "base": 16, "largest": 1000, "width": "variable"}, 3)
    one = ours(compiled=False)
    step = statistics.median(timed(one, number) for number in range(10))
    for name, (task, length) in tasks.items():
        objective = ours(False, task, length).objective
        times = [timed(objective.batch, range(number * BATCH, (number + 1) * BATCH)) for number in range(50)]
        found[f"generating {name}"] = statistics.median(times) / step
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        one(100)
    events = {event.key: event for event in profiled.key_averages()}
    total = sum(event.self_cpu_time_total for event in events.values())
    attention = sum(events[key].cpu_time_total for key in ("Broadcast", "BroadcastBackward"))
    products = sum(events[key].self_cpu_time_total for key in ("aten::mm", "aten::addmm"))
    return found | {"attention": attention / total, "matrix products": products / total}


def timed(function, *inputs) -> float:
    started = time.perf_counter()
    function(*inputs)
    return time.perf_counter() - started


# --- the other side -----------------------------------------------------------------------------------------------


def loop():
    """A function that trains for one step."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.symbols, self.places = nn.Embedding(SYMBOLS, WIDTH), nn.Embedding(LENGTH, WIDTH)
            self.latents, self.queries = nn.Embedding(LATENTS, WIDTH), nn.Embedding(LENGTH, WIDTH)
            layer = {"dim_feedforward": 4 * WIDTH, "dropout": 0.0, "batch_first": True}
            self.think = nn.TransformerDecoderLayer(WIDTH, HEADS, **layer)
            self.output = nn.TransformerDecoderLayer(WIDTH, HEADS, **layer)
            self.head = nn.Linear(WIDTH, SYMBOLS)

        def forward(self, x):
            memory = [self.symbols(x) + self.places.weight]
            latents = self.latents.weight.expand(len(x), -1, -1)
            for _ in range(STEPS):
                latents = self.think(latents, torch.cat(memory, 1))
                memory.append(latents)
            return self.head(self.output(self.queries.weight.expand(len(x), -1, -1), torch.cat(memory, 1)))

    model = Loop()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def one(number: int) -> None:
        x = torch.randint(SYMBOLS, (BATCH, LENGTH))
        optimizer.zero_grad()
        F.cross_entropy(model(x).flatten(0, 1), x.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return one


if __name__ == "__main__":
    main()
