"""Configurations near valid ones: a few keys and values changed, as a person or a program might get them wrong."""

import json
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import yaml
from hypothesis import strategies as st
from support import ROOT, default_config

from seedbed.config.fields import without

Place = tuple[Any, ...]  # the keys that lead to a value


def nested(depth: int) -> list:
    made = []
    for _ in range(depth):
        made = [made]
    return made


def endless() -> list:
    """A list that is an item of itself, as an anchor of YAML may be."""
    made = []
    made.append(made)
    return made


VALUES = [
    *(None, True, False, 0, -1, 1, 2, 7, 2**63, -(10**30), 10**4000, 3 * 10**8, 10**18),
    *(1e18, 3e8, 1e-300, 0.5, -0.0, float("nan"), float("inf"), -float("inf")),
    *("", " ", "auto", "x" * 10**5, "\ud800", "a\x00b", "\x1b[31m\n\r\u2028\u202e", "中" * 300, "a.b", "../..", "-rf"),
    *("64Ki", "1e6", "1e-3", "0x10", "1_000", "9" * 5000, "1e400", "nan", "٣", "{title}", "{", "{0.__class__}", "on"),
    *(date(2026, 1, 1), datetime(2026, 1, 1, 12), b"bytes"),
    *([], [None], [[]], [1, "a"], [1] * 1000, lambda: nested(100), lambda: nested(5000), endless),
    *({}, {"a": 1}, {1: 2}, {None: None}, {"first": 1, "last": 3e8}, {"first": 1, "last": 10**18, "step": 1}),
    *({"run": "tiny"}, {"run": "tiny", "step": 3}, {"kind": "x"}, {"name": None}, {"family": "llama"}, {"from": "x"}),
]
KEYS = [
    None,
    True,
    1,
    1.5,
    float("nan"),
    "",
    "x" * 10**4,
    "\ud800",
    "a\x00\n",
    "<number>",
    "a b",
    "from_",
    date(2026, 1, 1),
]


def whole() -> dict:
    """The default configuration with one of each that it has not: external models, LoRA, trunks, a task in a file."""
    made = default_config()
    tiny, icae, thinker = (made["runs"][name] for name in ("tiny", "icae", "thinker"))
    spikes = {"window": 8, "quantile": 0.9, "factor": 2, "every": 8, "max_rollbacks": 2}
    memory = {"recurrence": {"work_size": 64, "cache_size": 64, "stop_gradient_step": 2}, "data": "order"}
    lora = {"r": 4, "alpha": 8, "dropout": 0.1, "targets": "all-linear"}
    table = [{"read_input": True, "mem_write": True}, {"mem_lookup": True, "output": True}]
    model = without(thinker["model"], "flow") | {"flow": table}
    made["models"] |= {
        "other": {"from": "nowhere", "revision": "main"},
        "gpt": {"family": "gpt2", "n_layer": 2, "n_embd": 64, "n_head": 2, "n_inner": 128},
    }
    made["tokenizers"]["given"] = {"from": "nowhere", "revision": None, "eos_token": "</s>"}
    made["contexts"]["control"] = {"control": "random", "documents": 50, "tokens": 100, "held_out": 9, "seed": 0}
    made["corpora"]["own"] = {
        "source": {"files": ["*.txt"]},
        "split": {"valid": {"files": "v"}, "test": {"hub": "h", "split": "test", "revision": "r"}},
    }
    made["corpora"]["web"] = {
        "source": {"url": "https://a/b.zip", "sha256": "0" * 64, "member": "*.txt"},
        "text": "{a}: {b}",
    }
    made["runs"] |= {
        "wsd": tiny | {"schedule": {"kind": "wsd", "stable_ratio": 0.5}, "spikes": spikes, "model": "gpt"},
        "next": tiny | {"init": {"run": "tiny", "step": 4, "optimizer": True}, "optimizer": {"name": "muon"}},
        "rows": tiny | memory | {"schedule": {"kind": "plateau"}, "optimizer": {"lr": "auto"}, "batch_tokens": "auto"},
        "lora": icae
        | {"lora": lora, "decoder": "frozen", "init": {"run": "tiny"}, "contexts": "control", "layout": "default"},
        "outside": icae | {"lora": {}, "decoder": "shared", "model": "other", "tokenizer": "other"},
        "sums": thinker | {"task": {"name": "addition", "base": 10, "largest": 999}, "loss": {"kind": "all"}},
        "own": thinker | {"task": {"python": "task.py:answers", "symbols": 8, "parameters": {"a": 1}}},
        "table": thinker | {"model": model, "n_step": 2, "curriculum": {"kind": "uniform", "first": 2}},
    }
    plots = made["studies"]["batch-size"]["plots"]
    made["studies"] |= {
        "decay": {
            "date": date(2026, 1, 1),
            "title": "t",
            "base": "wsd",
            "vary": {"schedule.stable_ratio": [0.5, 0.7, 0.9], "seed": {"a": 1}},
            "evaluate": ["perplexity"],
            "plots": plots[:1],
        },
        "listed": {
            "date": date(2026, 1, 1),
            "title": "t",
            "runs": ["tiny", "next"],
            "models": ["other"],
            "evaluate": ["questions"],
        },
    }
    return made


def from_files() -> dict[str, dict]:
    paths = [ROOT / "config.yaml", *sorted((ROOT / "studies").rglob("*.yaml"))]
    return {str(path.relative_to(ROOT)): unaliased(yaml.safe_load(path.read_text(encoding="utf-8"))) for path in paths}


def unaliased(value: Any) -> Any:
    """A copy in which no mapping or list is in two places, as an anchor of YAML may be."""
    if isinstance(value, dict):
        return {key: unaliased(inner) for key, inner in value.items()}
    return [unaliased(inner) for inner in value] if isinstance(value, list) else value


BASES = {"whole": unaliased(whole())} | from_files()
SCHEMA = json.loads((ROOT / "workflow" / "schemas" / "config.schema.json").read_text(encoding="utf-8"))


def known_keys(schema: Any) -> set[str]:
    """Every key that a configuration may have somewhere."""
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    own = set(schema.get("properties", ())) if isinstance(schema, dict) else set()
    return own.union(*map(known_keys, inner))


KNOWN = sorted(known_keys(SCHEMA))


@dataclass
class Mutated:
    """A configuration and how it came out of a valid one."""

    base: str
    edits: list[str] = field(default_factory=list)
    raw: Any = None

    def __repr__(self) -> str:
        return f"{self.base}: {'; '.join(self.edits)}"


def places(tree: Any, most: int = 8) -> list[Place]:
    """Where values are, those below others included."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [
        place for key, inner in items if most for place in [(key,), *((key, *rest) for rest in places(inner, most - 1))]
    ]


def at(tree: Any, place: Place) -> Any:
    for key in place:
        tree = tree[key]
    return tree


def said(value: Any) -> str:
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        text = f"a {type(value).__name__} of no repr"
    return text if len(text) < 60 else f"{text[:40]}... ({len(text)})"


@st.composite
def mutated(draw: st.DrawFn, most: int = 3) -> Mutated:
    """A valid configuration with one to `most` edits."""
    made = Mutated(draw(st.sampled_from(sorted(BASES, reverse=True))))
    made.raw = unaliased(BASES[made.base])
    for _ in range(draw(st.integers(1, most))):
        edit = draw(
            st.sampled_from((replaced, replaced, replaced, added, varied, referred, swapped, renamed, copied, dropped))
        )
        if found := edit(draw, made.raw):
            made.edits.append(f"{edit.__name__} {found}")
    return made


def chosen(draw: st.DrawFn, raw: dict) -> tuple[Place, Any, Any]:
    """A place, what holds it, and its key there."""
    place = draw(st.sampled_from(places(raw) or [("runs",)]))
    return place, at(raw, place[:-1]), place[-1]


def value_of(draw: st.DrawFn, raw: dict) -> Any:
    plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    drawn = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)
    if draw(st.integers(0, 9)) == 0:
        return draw(drawn)
    value = draw(st.sampled_from(VALUES))
    return value() if callable(value) else unaliased(value)


def replaced(draw: st.DrawFn, raw: dict) -> str:
    place, inner, key = chosen(draw, raw)
    value = value_of(draw, raw)
    if isinstance(inner, dict) or isinstance(key, int) and key < len(inner):
        inner[key] = value
    return f"{said(place)} by {said(value)}"


def added(draw: st.DrawFn, raw: dict) -> str:
    mappings = [(), *(place for place in places(raw) if isinstance(at(raw, place), dict))]
    place, key, value = draw(st.sampled_from(mappings)), draw(st.sampled_from(KNOWN + KEYS)), value_of(draw, raw)
    at(raw, place)[key] = value
    return f"{said(key)}: {said(value)} to {said(place)}"


def varied(draw: st.DrawFn, raw: dict) -> str | None:
    """Let a study vary some key of its base."""
    studies = raw.get("studies")
    with_base = [
        one
        for one in (studies.values() if isinstance(studies, dict) else ())
        if isinstance(one, dict) and "base" in one
    ]
    if not with_base:
        return None
    study = draw(st.sampled_from(with_base))
    runs = raw.get("runs")
    base = runs.get(study["base"]) if isinstance(runs, dict) and isinstance(study["base"], str) else None
    keys = (
        [".".join(map(str, place)) for place in places(base)] + KNOWN + ["", ".", "model.x.y", "budget.steps.x", "seed"]
    )
    values = [value_of(draw, raw) for _ in range(draw(st.integers(1, 3)))]
    labelled = {f"l{number}": value for number, value in enumerate(values)} if draw(st.booleans()) else values
    key = draw(st.sampled_from(keys))
    before = study.get("vary")
    study["vary"] = (before if isinstance(before, dict) and draw(st.booleans()) else {}) | {key: labelled}
    return f"{key!r}: {said(labelled)}"


def referred(draw: st.DrawFn, raw: dict) -> str | None:
    """Let something that is a word be another name."""
    words = [place for place in places(raw) if isinstance(at(raw, place), str)]
    if not words:
        return None
    names = [key for section in raw.values() if isinstance(section, dict) for key in section]
    place, name = draw(st.sampled_from(words)), draw(st.sampled_from([*names, "nobody", "+", "x" * 201]))
    at(raw, place[:-1])[place[-1]] = name
    return f"{said(place)} to {said(name)}"


def swapped(draw: st.DrawFn, raw: dict) -> str:
    (first, one, key), (second, other, name) = chosen(draw, raw), chosen(draw, raw)
    if first[: len(second)] == second or second[: len(first)] == first:
        return ""
    one[key], other[name] = other[name], one[key]
    return f"{said(first)} and {said(second)}"


def renamed(draw: st.DrawFn, raw: dict) -> str | None:
    place, inner, key = chosen(draw, raw)
    if not isinstance(inner, dict):
        return None
    text = str(key)
    misspelt = [text + "s", text[:-1], text[::-1], text.upper(), text.replace("_", "-"), f" {text}", text + "\n"]
    name = draw(st.sampled_from(misspelt + KEYS + KNOWN))
    inner[name] = inner.pop(key)
    return f"{said(place)} to {said(name)}"


def copied(draw: st.DrawFn, raw: dict) -> str | None:
    place, inner, key = chosen(draw, raw)
    if isinstance(inner, list):
        inner.append(inner[key])
    else:
        inner[f"{key}2"] = inner[key]
    return said(place)


def dropped(draw: st.DrawFn, raw: dict) -> str:
    place, inner, key = chosen(draw, raw)
    inner.pop(key)
    return said(place)


NOISE = [
    "\t",
    "\x00",
    "\ud800",
    "&a [*a]",
    "&a",
    "*b",
    "{",
    "}",
    "[",
    "? ",
    "- ",
    ": ",
    "<<: 1",
    "%",
    "#",
    "'",
    "|",
    "\ufeff",
]
NOISE += [
    "!!python/name:os.system",
    "!!binary x",
    "0o8",
    "1:2:3",
    "2026-13-45",
    "2026-01-01",
    ".inf",
    "9" * 5000,
    "[" * 200,
]


@dataclass
class Text:
    """The text of a configuration, and how it came out of a valid one."""

    edits: str
    text: str

    def __repr__(self) -> str:
        return self.edits


@st.composite
def edited(draw: st.DrawFn) -> Text:
    """The text of a valid configuration with some lines changed."""
    name = draw(st.sampled_from([name for name in BASES if name != "whole"]))
    lines, edits = (ROOT / name).read_text(encoding="utf-8").splitlines(), []
    for _ in range(draw(st.integers(1, 3))):
        number, how = draw(st.integers(0, len(lines) - 1)), draw(st.sampled_from(LINES))
        line = lines[number]
        place, noise = draw(st.integers(0, len(line))), draw(st.sampled_from(NOISE))
        lines[number] = {
            "dropped": "",
            "twice": f"{line}\n{line}",
            "indented": f"  {line}",
            "dedented": line.removeprefix("  "),
            "with": line[:place] + noise + line[place:],
        }[how]
        edits.append(f"line {number + 1} {how}" + (f" {said(noise)} at {place}" if how == "with" else ""))
    return Text(f"{name}: {'; '.join(edits)}", "\n".join(lines))


LINES = ("dropped", "twice", "indented", "dedented", "with", "with")
