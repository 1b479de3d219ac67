"""Samples/s and memory of the ICAE objective against a batch-1 loop with a separate decoder: python benchmarks/icae.py

Both train the same: context 128 in 32 memory vectors, half reconstruction and half continuation, LoRA of rank 32 on
q,v, a frozen decoder, bf16 where the processor has it, 8 samples to a step. The other side is written as the published
code is: one sample after the other, a copy of the base as the decoder, all logits. Memory is what a process has at its
peak beyond what it had before the models were there.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LENGTH, SIZE, CONTINUATION, SAMPLES = 128, 32, 128, 8
VOCABULARY = 32000
MODEL = {
    "family": "llama",
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "tie_word_embeddings": True,
}
LORA = {"r": 32, "alpha": 32, "dropout": 0.0, "targets": "q,v"}
WARM = 2


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--steps", type=int, default=8, help="steps of 8 samples that are timed in a round")
    arguments.add_argument("--side", choices=["ours", "single"], help="measure this one in this very process")
    arguments.add_argument("--data", type=Path, help="contexts and base, as this script writes them")
    args = arguments.parse_args()
    if args.side:
        print(json.dumps({"ours": ours, "single": single}[args.side](args.data, args.steps)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder))
        rounds = [{side: measured(side, folder, args.steps) for side in ("ours", "single")} for _ in range(args.rounds)]
    for one in rounds:
        print(
            ", ".join(f"{side} {facts['rate']:.1f} samples/s, {facts['memory']:.0f} MiB" for side, facts in one.items())
        )
    for key in ("rate", "memory"):
        print(f"{key}: {statistics.median(one['ours'][key] / one['single'][key] for one in rounds):.2f} times")


def measured(side: str, folder: str, steps: int) -> dict:
    command = [sys.executable, __file__, "--side", side, "--data", folder, "--steps", str(steps)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def write_data(folder: Path) -> None:
    """Contexts of random ids, and a base as a directory."""
    import torch
    from tokenizers import Tokenizer, models

    from seedbed.data.contexts import build_contexts
    from seedbed.data.tokenizer import save_tokenizer
    from seedbed.models.causal_lm import new_model

    made = Tokenizer(models.WordLevel({**{f"w{n}": n for n in range(3, VOCABULARY)}, "<|eos|>": 2}, unk_token="w3"))
    made.add_special_tokens(["<|eos|>"])
    save_tokenizer(made, folder / "tokenizer")
    spec = {"control": "random", "documents": 400, "tokens": LENGTH + CONTINUATION, "held_out": 10, "seed": 0}
    build_contexts(spec, None, folder / "tokenizer", folder / "contexts")
    torch.manual_seed(0)
    new_model({"key_norm": False} | MODEL, VOCABULARY, 2, LENGTH + SIZE, "sdpa").save_pretrained(folder / "base")


def run_spec() -> dict:
    from seedbed.objectives.icae.config import IcaeRun

    fields = {
        "objective": "icae",
        "contexts": "random",
        "tokenizer": "none",
        "model": MODEL,
        "seq_len": LENGTH,
        "continuation": CONTINUATION,
        "memory_tokens": SIZE,
        "lora": LORA,
        "init": {"run": "base"},
        "budget": {"steps": 1},
        "batch_tokens": SAMPLES * LENGTH,
    }
    return IcaeRun.model_validate(fields).spec()


# --- both sides ------------------------------------------------------------------------------------------------------


def resident(field: str) -> float:
    """MiB of this process, `VmRSS` now or `VmHWM` at its peak."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) / 1024


def prepared() -> float:
    """Load what is not the models' memory, and say what the process has then."""
    import peft  # noqa: F401
    import torch
    import torch._dynamo  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401

    import seedbed.objectives.icae.objective  # noqa: F401
    from seedbed.hardware import keep_freed_memory

    keep_freed_memory()
    torch.manual_seed(0)
    return resident("VmRSS")


def timed(step, parameters: list, steps: int, before: float) -> dict:
    """Samples per second of `step`, which leaves gradients, with the optimizer."""
    import torch

    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    for number in range(WARM + steps):
        if number == WARM:
            started = time.perf_counter()
        step(number)
        torch.nn.utils.clip_grad_norm_(parameters, 2.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    rate = steps * SAMPLES / (time.perf_counter() - started)
    return {"rate": rate, "memory": resident("VmHWM") - before}


def autocast():
    import torch

    from seedbed.hardware import bf16_is_fast

    return torch.autocast("cpu", torch.bfloat16, enabled=bf16_is_fast())


def ours(data: Path, steps: int) -> dict:
    """The objective, in the micro-batches that are chosen for a CPU."""
    before = prepared()
    from seedbed.hardware import bf16_is_fast
    from seedbed.objectives.icae.config import IcaeRun
    from seedbed.objectives.icae.objective import InContextAutoencoding
    from seedbed.train.execution import Execution, cpu_micro_batch

    spec = run_spec()
    objective = InContextAutoencoding(
        spec,
        {
            "tokens": data / "contexts" / "index.json",
            "tokenizer": data / "tokenizer" / "tokenizer.json",
            "init": data / "base",
        },
    )
    objective.prepare("bf16" if bf16_is_fast() else "fp32")
    objective.loss_module.train()
    size = cpu_micro_batch(IcaeRun.unit(spec), Execution(), LENGTH, MODEL["hidden_size"])

    def step(number: int) -> None:
        for first in range(number * SAMPLES, (number + 1) * SAMPLES, size):
            with autocast():
                loss = objective.loss_module(objective.batch(range(first, first + size)))
            (loss * size / SAMPLES).backward()

    trained = [weight for weight in objective.loss_module.parameters() if weight.requires_grad]
    return timed(step, trained, steps, before) | {"micro_batch": size}


def single(data: Path, steps: int) -> dict:
    """One sample after the other: an encoder with LoRA, and another copy of the base as the decoder."""
    before = prepared()
    import torch
    from peft import LoraConfig, get_peft_model
    from torch.nn.functional import cross_entropy
    from transformers import AutoModelForCausalLM

    from seedbed.data.contexts import Contexts

    config = LoraConfig(
        task_type="CAUSAL_LM", r=LORA["r"], lora_alpha=LORA["alpha"], target_modules=["q_proj", "v_proj"]
    )
    encoder = get_peft_model(AutoModelForCausalLM.from_pretrained(data / "base", dtype=torch.float32), config)
    decoder = AutoModelForCausalLM.from_pretrained(data / "base", dtype=torch.float32).requires_grad_(False)
    embed = decoder.get_input_embeddings()
    table = torch.nn.Parameter(torch.randn(SIZE + 2, MODEL["hidden_size"]) * 0.02)
    contexts = Contexts(data / "contexts", "train", LENGTH, CONTINUATION, 0)

    def loss_of(number: int) -> torch.Tensor:
        window, reconstructing = torch.from_numpy(contexts.window(number)), number % 2
        context = window[:LENGTH]
        decoded = torch.cat([context, torch.tensor([2])]) if reconstructing else window[LENGTH:]
        read = torch.cat([embed(context), table[:SIZE]])[None]
        options = {"attention_mask": torch.ones(1, read.shape[1], dtype=torch.int64), "output_hidden_states": True}
        memory = encoder(inputs_embeds=read, **options).hidden_states[-1][0, LENGTH:]
        ask = table[SIZE : SIZE + 1] if reconstructing else table[SIZE + 1 :]
        asked = torch.cat([memory, ask, embed(decoded)])[None]
        labels = torch.cat([torch.full((SIZE + 1,), -100), decoded])
        if not reconstructing:
            labels[SIZE + 1 : SIZE + 9] = -100
        logits = decoder(inputs_embeds=asked, attention_mask=torch.ones(1, asked.shape[1], dtype=torch.int64)).logits
        return cross_entropy(logits[0, :-1].float(), labels[1:], ignore_index=-100)

    def step(number: int) -> None:
        for sample in range(number * SAMPLES, (number + 1) * SAMPLES):
            with autocast():
                loss = loss_of(sample)
            (loss / SAMPLES).backward()

    trained = [table, *(weight for weight in encoder.parameters() if weight.requires_grad)]
    return timed(step, trained, steps, before)


if __name__ == "__main__":
    main()
