"""What tests make for themselves: texts, specs, models."""

import json
import random
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from seedbed.checksums import described, described_files
from seedbed.config.fields import dump, without
from seedbed.config.load import Corpus
from seedbed.data.formats import STATS, CorpusStats
from seedbed.files import read_json, write_json, write_text
from seedbed.objectives.icae.config import IcaeRun
from seedbed.objectives.thinker.config import ThinkerRun
from seedbed.records import SEAL, sealed, write_record
from seedbed.runs import SUMMARIES, Provenance

ROOT = Path(__file__).parents[1]
WORDS = "中国 北京 经济 发展 今天 记者 报道 企业 改革 人民 工作 社会 问题 国家 建设 群众 科技 教育 农村 市场".split()


COSTS = {
    "run": "a",
    "identity": "f" * 64,
    "unit": "tokens",
    "parameters": 1234,
    "trained_parameters": 1234,
    "epochs": 0.5,
    "steps": 4,
    "tokens": 40,
    "own_tokens": 40,
    "spikes": [],
    "tokens_per_second": 20.0,
    "seconds": 75.0,
    "devices": 1,
    "device_hours": 0.5,
    "peak_memory_bytes": {"host": 2**30},
}
PROVENANCE = {
    "run": "a",
    "identity": "f" * 64,
    "execution": {"processes": 2, "micro_batch": 1, "accumulation": 1, "zero_stage": 0},
    "precision": "fp32",
    "git": None,
    "machine": {"processor": "x"},
    "software": {"torch": "1"},
    "inputs": {"tokens": "e" * 64},
}


def leave_run(run: Path, lines: list[dict], spec: dict, **changes: object) -> Path:
    """What a finished run leaves beside its model, with these lines of metrics; some keys of its summary changed."""
    write_record(run / "summary.json", SUMMARIES, COSTS | {"loss": 5.0, "valid_loss": 5.0} | changes)
    write_text(run / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    write_record(run / "run.json", Provenance, PROVENANCE | {"spec": spec, "files": described_files(run)})
    return run


def change_metrics(run: Path, lines: list[dict]) -> None:
    """Let a finished run have other lines of metrics."""
    write_text(run / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    change(run / "run.json", files=without(described_files(run), "run.json"))


def change_summary(run: Path, **changes: object) -> None:
    """Let a finished run have other values in its summary."""
    change(run / "summary.json", **changes)
    change(run / "run.json", files=without(described_files(run), "run.json"))


def contents(path: Path) -> dict:
    """What a JSON file between stages has, without its checksum."""
    return without(read_json(path), SEAL)


def change(path: Path, **changes: object) -> None:
    """Change some keys of such a file, as if a stage had written it so."""
    write_json(path, sealed(contents(path) | changes))


def corpus_of(folder: Path, splits: dict[str, list[list[str]]]) -> Path:
    """A corpus as one is built, with a shard for each list of texts."""
    (folder / "documents").mkdir(parents=True)
    stats = {"read": 0, "too_short": 0, "duplicates": 0, "splits": {}}
    for split, parts in splits.items():
        shards = []
        for number, texts in enumerate(parts):
            path = folder / "documents" / f"{split}-{number:05d}-of-{len(parts):05d}.jsonl"
            lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts]
            path.write_text("".join(lines), encoding="utf-8")
            shards.append({"file": path.name} | described(path))
        every = [text for texts in parts for text in texts]
        counts = {"documents": len(every), "characters": sum(map(len, every)), "words": 0, "length_quantiles": {}}
        counts["bytes"] = sum(len(text.encode()) for text in every)
        stats["splits"][split] = counts | {"shards": shards}
    write_record(folder / STATS, CorpusStats, stats)
    return folder


def spec_file(folder: Path, spec: dict) -> str:
    """A spec as the workflow gives it to a script."""
    path = folder / "spec.json"
    path.write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")
    return str(path)


def default_config() -> dict:
    """The configuration that comes with Seedbed."""
    return yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))


def first_study() -> dict:
    """Its first study alone, with the run that this starts from."""
    default = default_config()
    return default | {key: dict([next(iter(default[key].items()))]) for key in ("runs", "studies")}


def sentences(seed: int, count: int) -> str:
    """Text with some structure to learn: words of a small vocabulary, each preferring a few successors."""
    generator = random.Random(seed)
    word, made = generator.choice(WORDS), []
    for number in range(1, count + 1):
        word = WORDS[(WORDS.index(word) * 3 + generator.choice([1, 2, 5])) % len(WORDS)]
        made.append(word + ("。\n" if number % 11 == 0 else "，" if number % 4 == 0 else ""))
    return "".join(made).strip()


def corpus_spec(**changes: object) -> dict:
    """The spec of a corpus with local files, some keys changed."""
    fields = {"source": {"files": "unused"}, "split": {"valid": 0.1, "test": 0.1}, "shards": 2} | changes
    return dump(Corpus.model_validate(fields))


def icae_spec(**changes: object) -> dict:
    """The spec of an ICAE's run of 12 steps of 8 samples, all weights of one model trained; some keys changed.

    Contexts of its 24 tokens have two segments of memory.
    """
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    fields = {
        "objective": "icae",
        "contexts": "news",
        "tokenizer": "small",
        "model": {"family": "llama", **sizes},
        "seq_len": 24,
        "continuation": 8,
        "leave_tokens_for_lm": 2,
        "memory_tokens": 4,
        "rate": 3,
        "layout": "spread",
        "lora": None,
        "decoder": "shared",
        "budget": {"steps": 12},
        "batch_tokens": 192,
        "precision": "fp32",
        "optimizer": {"lr": 1e-2},
        "validation": {"every": 5, "tokens": 480},
        "log_every": 1,
    }
    return IcaeRun.model_validate(fields | changes).spec()


def thinker_spec(**changes: object) -> dict:
    """The spec of a Thinker's run of 12 steps of 16 samples; some keys changed, those of `model` one by one."""
    fields = {
        "objective": "thinker",
        "task": {"name": "copy", "symbols": 8},
        "length": 6,
        "n_latent": 3,
        "n_step": 2,
        "budget": {"steps": 12},
        "batch": 16,
        "optimizer": {"lr": 1e-2},
        "validation": {"every": 5, "samples": 40},
        "log_every": 1,
    }
    model = {"hidden_size": 16, "num_attention_heads": 4, "intermediate_size": 24} | changes.pop("model", {})
    return ThinkerRun.model_validate(fields | changes | {"model": model}).spec()


def drawn_thinker_spec(seed: int, **model: object) -> dict:
    """The spec of a Thinker of any kind that a configuration allows, some keys of its model given."""
    draw = random.Random(seed)
    width, heads = draw.choice([(16, 4), (24, 2), (16, 8)])
    keys = {
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_layers": draw.choice([1, 1, 2]),
        "output_layers": draw.choice([1, 1, 2]),
        "norm": draw.choice(["pre", "post"]),
        "positions": draw.choice(["learned", "sinusoidal", "rope", "none"]),
        "latents": draw.choice(["learned", "position"]),
        "read_step": draw.choice([None, 1, 2]),
        "n_memory": draw.choice([None, 1, 2]),
        "static_memory": draw.choice([0, 2]),
        "output_step": draw.choice([1, 2]),
        "decoding": draw.choice(["parallel", "output_ar", "full_ar"]),
        "tie_word_embeddings": draw.choice([False, True]),
        "window": draw.choice([None, 1, 3]),
    } | model
    if keys["decoding"] == "full_ar":
        keys |= {"latents": "learned", "output_step": 1, "output_layers": 1, "window": None}
    elif keys["latents"] == "learned":
        keys["window"] = None
    own = keys["latents"] == "position" or keys["decoding"] == "full_ar"
    return thinker_spec(model=keys, n_latent=None if own else draw.choice([1, 3]), n_step=draw.choice([1, 2, 3, 4]))


def shaken_thinker(spec: dict):
    """A Thinker as after some training: none of its weights is what it begins with; always the same."""
    import torch

    from seedbed.objectives.thinker.geometry import Geometry
    from seedbed.objectives.thinker.model import Thinker

    torch.manual_seed(0)
    made = Thinker(Geometry.of(spec), spec["model"]).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight += 0.3 * torch.randn(weight.shape)
    return made


def inputs_of(data: Path, tokenizer: Path, init: Path | None = None) -> dict[str, Path]:
    """What a run over tokens reads, by name."""
    found = {"tokens": data / "index.json", "tokenizer": tokenizer / "tokenizer.json"}
    return found | ({"init": init} if init else {})


def learned_icae(contexts: Path, tokenizer: Path, base: Path | None = None, **changes: object):
    """An objective as after some training: none of its trained weights is what it begins with; always the same."""
    import torch

    from seedbed.objectives.icae.objective import InContextAutoencoding

    torch.manual_seed(0)
    spec = icae_spec(init=base and {"run": "base"}, **changes)
    made = InContextAutoencoding(spec, inputs_of(contexts, tokenizer, base))
    with torch.no_grad():
        for weight in made.model.parameters():
            if weight.requires_grad:
                weight += 0.1 * torch.randn(weight.shape)
    return made


def saved_model(tokenizer: Path, folder: Path, family: str = "llama", **fields: object) -> Path:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from seedbed.models.causal_lm import export

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    shapes = {
        "llama": sizes,
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64},
        "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "rotary_dim": 8},
        "mistral": {**sizes, "num_key_value_heads": 2, "sliding_window": 8},
        "gpt_neox": {**sizes, "max_position_embeddings": 96},
        "opt": {**sizes, "max_position_embeddings": 48, "ffn_dim": 64, "word_embed_proj_dim": 32},
        "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    }
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = AutoConfig.for_model(family, vocab_size=300, **special, **shapes[family] | fields)
    folder.mkdir(parents=True, exist_ok=True)
    export(AutoModelForCausalLM.from_config(config), tokenizer, folder)
    return folder


def of_type(result: dict, type_: type) -> dict:
    """The result of an evaluation; raises where its JSON is not what its type says."""
    TypeAdapter(type_).validate_json(json.dumps(result), strict=True)
    return result


def changed(config: dict, path: str, value: Any) -> dict:
    """A copy of a configuration with the value at a dotted path replaced."""
    made = deepcopy(config)
    *parents, last = path.split(".")
    inner = made
    for key in parents:
        inner = inner[key]
    inner[last] = value
    return made
