"""Record of exported ICAEs against one sample at a time, read by plain transformers models."""

import csv
import json
import shutil
from collections.abc import Callable
from itertools import product
from math import exp
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from peft import PeftModel
from safetensors.torch import load_file
from support import contents, learned_icae, leave_run, of_type, saved_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from seedbed.checksums import sha256
from seedbed.config.fields import dump
from seedbed.data.contexts import Contexts
from seedbed.data.tokens import TokenSplit
from seedbed.errors import SeedbedError
from seedbed.evaluate.intervals import bootstrap_mean
from seedbed.evaluate.job import measured, subject_of
from seedbed.evaluate.reconstruction import measure as reconstruction
from seedbed.evaluate.reconstruction.config import Reconstruction
from seedbed.evaluate.reconstruction.measure import bleu, compared, decoded, measure, windows
from seedbed.evaluate.reconstruction.result import Result
from seedbed.files import read_json, write_json
from seedbed.objectives.icae.geometry import AE, LM, Geometry
from seedbed.objectives.icae.layouts import decoder_positions, encoder_positions, first_decoded
from seedbed.objectives.icae.subject import IcaeSubject
from seedbed.train.state import parameter_names

EOS, FIRST, LAST = 2, 3, 299  # the end, and the ids that are no special tokens
QV, ALL = ({"r": 4, "alpha": 8, "targets": targets} for targets in ("q,v", "all-linear"))


def spec(**changes: object) -> dict:
    return dump(Reconstruction.model_validate({"kind": "reconstruction", "samples": 7, "generated": 0, **changes}))


@pytest.fixture(scope="module")
def base(contexts: Path, tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that prefers the ids of the held-out text, so that it is right now and then."""
    folder = saved_model(tokenizer, tmp_path_factory.mktemp("base") / "model")
    model, text = AutoModelForCausalLM.from_pretrained(folder), TokenSplit(contexts, "held_out")
    with torch.no_grad():
        model.lm_head.weight[np.unique(text.read(0, len(text)))] *= 20
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def subject(base: Path, contexts: Path, tokenizer: Path, tmp_path: Path) -> Callable[..., IcaeSubject]:
    """ICAEs as after some training, some keys of their runs changed; contexts of 24 tokens have two segments."""

    def made(init: Path = base, **changes: object) -> IcaeSubject:
        objective = learned_icae(contexts, tokenizer, init, **changes)
        weights = {name: weight.detach() for weight, name in parameter_names(objective.loss_module).items()}
        run = tmp_path / f"run-{len(list(tmp_path.glob('run-*')))}"
        run.mkdir()
        objective.export(run / "model", run / "model", weights)
        return IcaeSubject(run, contexts)

    return made


@pytest.fixture
def held_out(contexts: Path) -> Callable[..., np.ndarray]:
    """The first held-out contexts of a length with their continuations."""

    def read(count: int = 7, length: int = 24, continuation: int = 8) -> np.ndarray:
        found = Contexts(contexts, "held_out", length, continuation, seed=0)
        return np.stack([found.at(place) for place in range(count)])

    return read


# --- losses ----------------------------------------------------------------------------------------------------------


class Plain:
    """An export as transformers and PEFT read it, one sample at a time; `rate` in place of its own."""

    def __init__(self, subject: IcaeSubject, rate: int | None = None) -> None:
        self.facts = read_json(subject.folder / "icae.json")
        self.geometry = Geometry.of(self.facts | ({"rate": rate} if rate else {}))
        self.table = load_file(subject.folder / "memory.safetensors")["table"]
        self.encoder, self.decoder = (self.part(subject.folder, name) for name in ("encoder", "decoder"))

    def part(self, folder: Path, name: str) -> PreTrainedModel:
        kept = self.facts["kept"][name]
        if kept and not self.facts["lora"]:
            return AutoModelForCausalLM.from_pretrained(folder / kept)
        model = AutoModelForCausalLM.from_pretrained(folder / self.facts["base"]["path"])
        return PeftModel.from_pretrained(model, folder / kept).eval().get_base_model() if kept else model

    def memory(self, context: np.ndarray) -> torch.Tensor:
        size, found = self.geometry.memory_tokens, []
        for part in self.geometry.parts(len(context)):
            positions = encoder_positions(self.geometry.layout, part, size, self.geometry.rate)
            rows = [embedded(self.encoder, context[part.start : part.stop]), self.table[:size]]
            found.append(hidden(self.encoder, rows, positions)[-size:])
        return torch.cat(found)

    def asked(self, memory: torch.Tensor | None, task: str, length: int, ids: np.ndarray) -> torch.Tensor:
        """Logits [n, vocabulary] that ids [n] are predicted by, asked of the memory of a context of some length."""
        geometry, parts = self.geometry, self.geometry.parts(length)
        asks = task == AE or geometry.add_special_token_for_lm
        places = (
            [] if memory is None else decoder_positions(geometry.layout, parts, geometry.memory_tokens, geometry.rate)
        )
        ask = first_decoded(geometry.layout, parts, geometry.memory_tokens, task == AE)
        first = ask + 1 if asks or geometry.layout != "default" else ask
        special = [self.table[geometry.memory_tokens + (task == LM)][None]] if asks else []
        rows = [*([] if memory is None else [memory]), *special, embedded(self.decoder, ids[:-1])]
        positions = [*places, *([ask] if asks else []), *range(first, first + len(ids) - 1)]
        return self.decoder.lm_head(hidden(self.decoder, rows, positions))[-len(ids) :]

    def continued(self, ids: np.ndarray, first: int) -> torch.Tensor:
        """Logits that ids[first:] are predicted by as plain text."""
        return self.decoder(torch.from_numpy(ids)[None]).logits[0, first - 1 : -1]

    def row(self, window: np.ndarray, other: np.ndarray, length: int) -> dict[str, float]:
        """All figures of one sample, whose other memory is that of the context `other`."""
        context, after = window[:length], window[length:]
        left = max(1, self.geometry.leave_tokens_for_lm)
        memory, ended = self.memory(context), np.append(context, EOS)
        return (
            figures("ae", "memory", self.asked(memory, AE, length, ended), ended)
            | figures("ae", "other", self.asked(self.memory(other[:length]), AE, length, ended), ended)
            | figures("ae", "none", self.asked(None, AE, length, ended), ended)
            | figures("lm", "memory", self.asked(memory, LM, length, after)[left - len(after) :], after[left:])
            | figures("lm", "full", self.continued(window, length + left), after[left:])
            | figures("lm", "none", self.continued(after, left), after[left:])
        )

    def written(self, context: np.ndarray) -> list[int]:
        """The likeliest ids, everything read anew for each of them."""
        memory, made = self.memory(context), []
        while len(made) < len(context):
            token = int(self.asked(memory, AE, len(context), np.array([*made, 0]))[-1].argmax())
            if token == EOS:
                break
            made.append(token)
        return made


def embedded(model: PreTrainedModel, ids: np.ndarray) -> torch.Tensor:
    return model.get_input_embeddings()(torch.from_numpy(ids))


def hidden(model: PreTrainedModel, rows: list[torch.Tensor], positions: list[float]) -> torch.Tensor:
    places = torch.tensor([positions])
    mask = torch.ones_like(places)
    return model.model(inputs_embeds=torch.cat(rows)[None], position_ids=places, attention_mask=mask)[0][0]


def figures(task: str, view: str, logits: torch.Tensor, ids: np.ndarray) -> dict[str, float]:
    targets = torch.from_numpy(ids)
    loss, hits = F.cross_entropy(logits, targets), (logits.argmax(-1) == targets).float()
    return {f"{task}_loss_{view}": loss.item(), f"{task}_accuracy_{view}": hits.mean().item()}


def assert_rows(rows: list[dict], plain: Plain, texts: np.ndarray, length: int = 24) -> None:
    with torch.no_grad():
        for place, (row, text) in enumerate(zip(rows, texts, strict=True)):
            expected = plain.row(text, texts[(place + 1) % len(texts)], length)
            assert set(row) == {"text", "length", "rate", "sample", "exact", *expected}
            assert {key: row[key] for key in expected} == pytest.approx(expected, abs=1e-5)
            assert (row["length"], row["rate"], row["sample"]) == (length, plain.geometry.rate, place)


@pytest.mark.parametrize(
    "changes",
    [
        {"decoder": "shared"},
        {"decoder": "trained", "layout": "default"},
        {"decoder": "frozen", "layout": "uniform-int"},
        {"decoder": "shared", "lora": ALL},
        {"decoder": "trained", "lora": ALL, "layout": "default"},
        {"decoder": "frozen", "lora": QV},
        {"leave_tokens_for_lm": 5},
        {"leave_tokens_for_lm": 0},
        {"leave_tokens_for_lm": 1, "layout": "default"},
        {"leave_tokens_for_lm": 0, "add_special_token_for_lm": False},
        {"leave_tokens_for_lm": 0, "add_special_token_for_lm": False, "layout": "default"},
    ],
    ids=str,
)
def test_rows_are_those_of_one_sample_at_a_time(subject: Callable, held_out: Callable, changes: dict) -> None:
    made = subject(**changes)
    result, rows = measure(spec(), made)
    of_type(result, Result)
    assert_rows(rows, Plain(made), held_out())
    assert len({row["ae_loss_memory"] for row in rows}) == 7
    (setting,) = result["settings"]
    for task, views in (("ae", ("memory", "none", "other")), ("lm", ("memory", "full", "none"))):
        assert set(setting[task]) == set(views)
        for view, figure in product(views, ("loss", "accuracy")):
            mean = np.mean([row[f"{task}_{figure}_{view}"] for row in rows])
            assert setting[task][view][figure] == pytest.approx(mean, abs=1e-6)


def test_accuracies_are_not_all_the_same(subject: Callable) -> None:
    """Otherwise the test above would say nothing of them."""
    _, rows = measure(spec(samples=40), subject())
    for key in (key for key in rows[0] if "accuracy" in key):
        assert len({row[key] for row in rows}) > 1


@pytest.mark.parametrize("lora", [None, ALL], ids=["all weights", "lora"])
def test_batches_do_not_change_the_result(
    subject: Callable, monkeypatch: pytest.MonkeyPatch, lora: dict | None
) -> None:
    made, sizes, scored = subject(lora=lora), [], reconstruction.scored

    def counted(subject: IcaeSubject, geometry: Geometry, windows: np.ndarray, *rest: object) -> dict:
        sizes.append(len(windows))
        return scored(subject, geometry, windows, *rest)

    monkeypatch.setattr(reconstruction, "scored", counted)
    asked = spec(generated=5, shown=5)
    result, rows = measure(asked, made)
    for made.batch_tokens, expected in ((1, [1] * 7), (3 * 24, [3, 3, 1]), (4 * 24 + 23, [4, 3])):
        sizes.clear()
        other, other_rows = measure(asked, made)
        assert sizes == expected
        assert other_rows == [pytest.approx(row, abs=1e-5) for row in rows]
        found, whole = other["settings"][0], result["settings"][0]
        assert found["gain"]["other"]["mean"] == pytest.approx(whole["gain"]["other"]["mean"], abs=1e-5)
        assert (found["shown"], found["bleu"]) == (whole["shown"], whole["bleu"])


def test_bf16_keeps_to_fp32(subject: Callable) -> None:
    made = subject(lora=ALL)
    _, rows = measure(spec(), made)
    found, other = measure(spec(generated=2), IcaeSubject(made.run, made.data, precision="bf16"))
    losses = [key for key in rows[0] if "loss" in key]
    assert [row[key] for row in other for key in losses] == pytest.approx(
        [row[key] for row in rows for key in losses], rel=0.02
    )
    assert [row["ae_loss_memory"] for row in other] != [row["ae_loss_memory"] for row in rows]
    assert found["settings"][0]["generated"] == 2


def test_an_icae_that_never_continued_is_not_asked_to(subject: Callable, tmp_path: Path) -> None:
    made = subject(lm_ratio=0)
    found = measured("held", spec(), made, tmp_path / "held.json")
    (setting,) = found["settings"]
    assert setting["lm"] == {view: {"loss": None, "accuracy": None} for view in ("memory", "full", "none")}
    assert setting["gain"]["continuation"] is None and setting["gain"]["none"]["mean"] != 0
    header = (tmp_path / "held.tsv").read_text().splitlines()[0]
    assert "ae_loss_other" in header and "lm_" not in header
    _, rows = measure(spec(), subject())
    assert [float(row["ae_loss_memory"]) for row in read_rows(tmp_path / "held.tsv")] == pytest.approx(
        [row["ae_loss_memory"] for row in rows]
    )


def read_rows(path: Path) -> list[dict]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, dialect="excel-tab"))


# --- what memory is worth --------------------------------------------------------------------------------------------


def test_gain_is_the_mean_of_paired_differences(subject: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    sure, unsure = np.array([1, 2, 3, 1, 2, 3, 9], np.float32), np.array([2, -2, 2, -2, 2, -2, 0], np.float32)
    found = {f"ae_{figure}_{view}": np.arange(7.0) for figure in ("loss", "accuracy") for view in ("memory", "none")}
    found |= {"ae_loss_none": found["ae_loss_memory"] + sure, "ae_loss_other": found["ae_loss_memory"] + unsure}
    monkeypatch.setattr(reconstruction, "scores", lambda *_: found)
    made = subject()
    gain = measure(spec(), made)[0]["settings"][0]["gain"]
    assert gain["continuation"] is None
    assert gain["none"]["mean"] == 3 and gain["other"]["mean"] == 0
    assert gain["none"]["interval"] == pytest.approx(bootstrap_mean(sure.astype(np.float64)))
    low, high = gain["none"]["interval"]
    assert 1 <= low < 3 < high < 9
    assert gain["none"]["p"] == pytest.approx(2 / 2**7, abs=0.005)  # only all signs alike are as far from 0
    assert gain["other"]["p"] == 1
    found["lm_loss_memory"], found["lm_loss_none"] = np.zeros(7), np.full(7, 0.5)
    gain = measure(spec(), made)[0]["settings"][0]["gain"]
    assert gain["continuation"] == {"mean": 0.5, "interval": (0.5, 0.5), "p": pytest.approx(2 / 2**7, abs=0.005)}


# --- contexts --------------------------------------------------------------------------------------------------------


def test_held_out_contexts_are_of_the_held_out_split(subject: Callable, contexts: Path) -> None:
    made = subject()
    found = windows(spec(samples=50), made, "held-out", 24)
    stream = {name: text.read(0, len(text)) for name in ("held_out", "train") for text in [TokenSplit(contexts, name)]}
    assert found.shape == (50, 24 + 8) and EOS not in found
    within = {name: [places(window, text) for window in found] for name, text in stream.items()}
    assert all(within["held_out"])
    assert sum(map(bool, within["train"])) < 5  # there by chance
    assert len({place for found in within["held_out"] for place in found}) >= 50
    assert np.array_equal(found, windows(spec(samples=50, seed=1), made, "held-out", 24))


def places(window: np.ndarray, stream: np.ndarray) -> list[int]:
    """Where a window begins in a stream."""
    return [int(at) for at in np.flatnonzero(stream == window[0]) if np.array_equal(stream[at : at + 32], window)]


def test_patterned_contexts_have_the_next_ordinary_id(subject: Callable, held_out: Callable) -> None:
    made, texts = subject(), held_out(30)
    assert np.array_equal(made.ordinary, np.arange(FIRST, LAST + 1))
    found = windows(spec(samples=30), made, "patterned", 24)
    assert np.array_equal(found, np.where(texts == LAST, FIRST, texts + 1))


def test_random_contexts_hang_on_the_seed_alone(subject: Callable) -> None:
    made, other = subject(), subject(seed=5, layout="default")
    found = windows(spec(samples=50), made, "random", 40)
    assert found.shape == (50, 40 + 8)
    assert found.min() == FIRST and found.max() == LAST
    assert all(len(set(window)) > 30 for window in found.tolist())
    assert np.array_equal(found, windows(spec(samples=50), other, "random", 40))
    assert not np.array_equal(found, windows(spec(samples=50, seed=1), made, "random", 40))


def test_each_text_is_measured(subject: Callable) -> None:
    made, texts = subject(), ["random", "held-out", "patterned"]
    result, rows = measure(spec(texts=texts), made)
    assert [one["text"] for one in result["settings"]] == texts
    assert [row["text"] for row in rows] == [text for text in texts for _ in range(7)]
    for text, one in zip(texts, result["settings"], strict=True):
        assert_rows([row for row in rows if row["text"] == text], Plain(made), windows(spec(), made, text, 24))
        assert one["samples"] == 7


def test_fewer_contexts_than_samples_are_counted(subject: Callable, contexts: Path) -> None:
    made = subject(lm_ratio=0)
    there = Contexts(contexts, "held_out", 300, 8, seed=0).per_epoch
    assert there < 30
    result, rows = measure(spec(samples=30, lengths=[300], texts=["held-out", "patterned", "random"]), made)
    of_type(result, Result)
    assert [one["samples"] for one in result["settings"]] == [there, there, 30]
    assert len(rows) == 2 * there + 30


def test_lengths_and_rates_decide_how_many_vectors_a_context_has(subject: Callable, held_out: Callable) -> None:
    made = subject(memory_tokens=8, rate=4, seq_len=32, batch_tokens=8 * 32)
    result, rows = measure(spec(lengths=[64, 32], rates=[4, 8]), made)
    shown = [tuple(one[key] for key in ("length", "rate", "vectors", "ratio")) for one in result["settings"]]
    assert shown == [(64, 4, 16, 4), (64, 8, 8, 8), (32, 4, 8, 4), (32, 8, 8, 4)]
    for number, (length, rate, _, _) in enumerate(shown):
        own = rows[number * 7 : number * 7 + 7]
        assert_rows(own, Plain(made, rate), held_out(length=length), length)
    assert (result["seq_len"], result["rate"], result["memory_tokens"]) == (32, 4, 8)


def test_without_lengths_and_rates_it_is_measured_as_trained(subject: Callable) -> None:
    result, _ = measure(spec(), subject())
    (setting,) = result["settings"]
    assert {key: setting[key] for key in ("text", "length", "rate", "samples", "vectors", "ratio")} == {
        "text": "held-out", "length": 24, "rate": 3, "samples": 7, "vectors": 8, "ratio": 3
    }  # fmt: skip
    assert {key: result[key] for key in result if key != "settings"} == {
        "memory_tokens": 4, "rate": 3, "layout": "spread", "decoder": "shared", "lora": None, "seq_len": 24,
        "lm_ratio": 0.5, "continuation": 8, "leave_tokens_for_lm": 2,
    }  # fmt: skip


# --- what is written -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"layout": "default", "lora": ALL, "decoder": "trained"}], ids=str)
def test_what_is_written_is_the_likeliest_each_time(subject: Callable, held_out: Callable, changes: dict) -> None:
    made = subject(**changes)
    made.batch_tokens = 2 * 20
    for rate in (3, 5):
        contexts = held_out(5, length=20)[:, :20]
        with torch.no_grad():
            expected = [Plain(made, rate).written(context) for context in contexts]
        assert decoded(made, made.geometry_at(rate, 20), contexts) == expected
        assert len({tuple(ids) for ids in expected}) > 1


def with_writer(monkeypatch: pytest.MonkeyPatch, write: Callable[[list[int]], list[int]]) -> None:
    """Have contexts be reconstructed by a function."""
    monkeypatch.setattr(reconstruction, "decoded", lambda _, __, contexts: [write(ids) for ids in contexts.tolist()])


@pytest.mark.parametrize(
    ("write", "exact", "expected"),
    [
        (lambda ids: ids, 1, 1),
        (lambda ids: [LAST + 1] * len(ids), 0, 0),
        (lambda ids: [], 0, 0),
        (lambda ids: ids[:12], 0, exp(1 - 24 / 12)),  # all of it right, but too short
        (lambda ids: ids[:-1], 0, exp(1 - 24 / 23)),
    ],
    ids=["all", "nothing", "silence", "half", "almost"],
)
def test_what_is_written_is_compared_with_the_context(
    subject: Callable, monkeypatch: pytest.MonkeyPatch, write: Callable, exact: int, expected: float
) -> None:
    with_writer(monkeypatch, write)
    result, rows = measure(spec(generated=5), subject())
    (setting,) = result["settings"]
    assert (setting["generated"], setting["exact"]) == (5, exact)
    assert setting["bleu"] == pytest.approx(expected)
    assert [row["exact"] for row in rows] == [exact] * 5 + [""] * 2


def test_exact_is_the_share_of_those_that_were_written_out(subject: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = iter([True, False, True, True])
    with_writer(monkeypatch, lambda ids: ids if next(turn) else ids[::-1])
    result, rows = measure(spec(generated=4), subject())
    assert result["settings"][0]["exact"] == 0.75
    assert 0.5 < result["settings"][0]["bleu"] < 1
    assert [row["exact"] for row in rows] == [1, 0, 1, 1, "", "", ""]


def test_bleu_is_over_tokens_and_all_texts_together() -> None:
    first, second = [1, 2, 3, 4, 5, 6, 7, 8], [11, 12, 13, 14, 15, 16, 17, 18]
    written = [first, [11, 12, 13, 14, 15, 16, 17, 99]]
    shares = 15 / 16, 13 / 14, 11 / 12, 9 / 10
    assert bleu(np.array([first, second]), written) == pytest.approx(np.prod(shares) ** (1 / 4))


def test_nothing_need_be_written(subject: Callable) -> None:
    result, rows = measure(spec(generated=0), subject())
    of_type(result, Result)
    (setting,) = result["settings"]
    assert (setting["generated"], setting["bleu"], setting["exact"], setting["shown"]) == (0, None, None, [])
    assert {row["exact"] for row in rows} == {""}


def test_no_more_is_written_than_there_is(subject: Callable) -> None:
    result, rows = measure(spec(generated=32, samples=6), subject())
    assert result["settings"][0]["generated"] == 6
    assert {row["exact"] for row in rows} == {0}


# --- what is shown ---------------------------------------------------------------------------------------------------


def joined(pieces: list[dict]) -> str:
    return "".join(piece["text"] for piece in pieces)


@pytest.mark.parametrize(
    ("original", "written", "same"),
    [
        ("今天记者报道", "今天记者报道", ["今天记者报道"]),
        ("今天记者报道", "今天农村报道", ["今天", "报道"]),
        ("今天记者报道", "今天报道", ["今天", "报道"]),
        ("今天报道", "今天记者报道", ["今天", "报道"]),
        ("今天", "", []),
        ("", "今天", []),
        ("", "", []),
        ("中国" * 200 + "今" + "中国" * 200, "中国" * 200 + "天" + "中国" * 200, ["中国" * 200] * 2),
    ],
)
def test_what_differs_is_marked(original: str, written: str, same: list[str]) -> None:
    found = compared(original, written)
    assert (joined(found["original"]), joined(found["written"])) == (original, written)
    for pieces in found.values():
        assert [piece["text"] for piece in pieces if piece["same"]] == same
    assert len(found["original"]) == len(found["written"])
    assert all(
        a["same"] == b["same"] == (a["text"] == b["text"])
        for a, b in zip(found["original"], found["written"], strict=True)
    )


@pytest.mark.parametrize(("generated", "shown", "expected"), [(5, 3, 3), (2, 3, 2), (5, 0, 0), (0, 3, 0)])
def test_a_few_are_shown(
    subject: Callable, held_out: Callable, monkeypatch: pytest.MonkeyPatch, generated: int, shown: int, expected: int
) -> None:
    with_writer(monkeypatch, lambda ids: [*ids[:12], *ids[14:]])
    made = subject()
    result, _ = measure(spec(generated=generated, shown=shown), made)
    of_type(result, Result)
    found = result["settings"][0]["shown"]
    assert len(found) == expected
    decode = made.compressor.tokenizer.decode
    for example, window in zip(found, held_out(), strict=False):
        assert joined(example["original"]) == decode(window[:24])
        assert joined(example["written"]) == decode([*window[:12], *window[14:24]])


# --- what is left ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"lora": ALL, "decoder": "trained"}], ids=["all weights", "lora"])
def test_what_is_written_is_plain_and_names_what_was_measured(
    subject: Callable, contexts: Path, tmp_path: Path, changes: dict
) -> None:
    made, asked = subject(**changes), spec(generated=2, texts=["held-out", "random"])
    found = measured("held", asked, made, tmp_path / "held.json")
    assert json.loads(json.dumps(found, allow_nan=False)) == contents(tmp_path / "held.json")
    found = contents(tmp_path / "held.json")
    assert (found["evaluation"], found["spec"]) == ("held", asked)
    assert found["data"] == {"path": str(contexts), "sha256": sha256(contexts / "index.json")}
    weights = {"encoder/model.safetensors"}
    if changes:
        weights = {f"{part}/adapter_model.safetensors" for part in ("encoder", "decoder")}
    weights |= {"memory.safetensors", "icae.json", "tokenizer.json"}
    assert found["model"]["path"] == str(made.folder) and weights <= set(found["model"]["sha256"])
    for name, checksum in found["model"]["sha256"].items():
        assert checksum == sha256(made.folder / name)
    rows = read_rows(tmp_path / "held.tsv")
    assert len(rows) == 14 and None not in rows[-1].values()


def test_the_same_is_measured_each_time(subject: Callable) -> None:
    made = subject()
    asked = spec(generated=3, texts=["held-out", "random"])
    assert measure(asked, made) == measure(asked, IcaeSubject(made.run, made.data))


def test_learned_positions_may_have_no_room_for_the_full_context(
    subject: Callable, tokenizer: Path, tmp_path: Path
) -> None:
    gpt2 = saved_model(tokenizer, tmp_path / "gpt2", "gpt2")
    sizes = {"seq_len": 44, "continuation": 20, "rate": 12, "batch_tokens": 8 * 44, "layout": "default"}
    made = subject(gpt2, **sizes)
    asked = spec(lengths=[45, 44])
    found = measured("held", asked, made, tmp_path / "held.json")
    longer, fitting = found["settings"]
    assert longer["lm"]["full"] == {"loss": None, "accuracy": None}
    assert fitting["lm"]["full"]["loss"] > 0 and longer["lm"]["memory"]["loss"] > 0 and longer["lm"]["none"]["loss"] > 0
    assert longer["gain"]["continuation"] is not None
    rows = read_rows(tmp_path / "held.tsv")
    assert [row["lm_loss_full"] != "" for row in rows] == [False] * 7 + [True] * 7
    assert float(rows[-1]["lm_loss_full"]) > 0
    _, rows = measure(asked, made)
    assert len({tuple(row) for row in rows}) == 1


# --- what does not fit -----------------------------------------------------------------------------------------------


def told(work: Callable, *args: object) -> str:
    with pytest.raises(SeedbedError) as caught:
        work(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_learned_positions_are_not_left(subject: Callable, tokenizer: Path, tmp_path: Path) -> None:
    gpt2 = saved_model(tokenizer, tmp_path / "gpt2", "gpt2")
    made = subject(gpt2)
    measure(spec(lengths=[56], generated=1), made)
    assert told(measure, spec(lengths=[57]), made) == (
        f"{made.run}: layout spread needs 65 positions for a context of 57 and a continuation of 8 tokens; "
        "the base has learned 64"
    )
    made = subject(gpt2, lm_ratio=0)
    measure(spec(lengths=[63], generated=1), made)
    assert "needs 65 positions for a context of 64" in told(measure, spec(lengths=[64]), made)


def test_layouts_between_positions_are_measured(subject: Callable) -> None:
    result, _ = measure(spec(lengths=[24, 60], generated=2), subject(layout="uniform", rate=4))
    assert [one["vectors"] for one in result["settings"]] == [8, 16]


def test_a_run_that_is_no_icae_is_told(model_folder: Path, contexts: Path, tmp_path: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "lm" / "model")
    assert told(IcaeSubject.of_run, tmp_path / "lm", contexts) == (
        f"{tmp_path / 'lm'}: has no model/icae.json; expected the run of an in-context autoencoder"
    )
    message = f"{model_folder}: an external model is no in-context autoencoder; expected a run of one"
    assert told(subject_of, spec(), None, model_folder, contexts, 0) == message


def test_what_is_measured_is_the_icae_of_the_run(subject: Callable, contexts: Path) -> None:
    run = leave_run(subject().run, [], {"objective": "icae"})
    made = subject_of(spec(precision="bf16"), run, None, contexts, 99)
    assert (made.batch_tokens, made.precision, made.data) == (99, "bf16", contexts)
    assert made.model.head.dtype == torch.bfloat16


def test_missing_contexts_are_told(subject: Callable) -> None:
    run = leave_run(subject().run, [], {"objective": "icae"})
    expected = f"{run}: no contexts to measure it on; expected a directory with index.json"
    assert told(subject_of, spec(), run, None, None, 0) == expected


def test_documents_too_short_for_a_length_are_told(subject: Callable, contexts: Path) -> None:
    message = told(measure, spec(lengths=[24, 800]), subject())
    assert message.startswith(f"{contexts}: held_out: no document is long enough: the longest of 20 has ")
    assert message.endswith("expected at least 808, for a context of 800 and a continuation of 8")


@pytest.mark.parametrize("text", ["held-out", "patterned", "random"])
@pytest.mark.parametrize("change", [lambda facts: facts.pop("eos_token"), lambda facts: facts.update(eos_token=None)])
def test_a_tokenizer_without_an_end_is_told(subject: Callable, change: Callable, text: str) -> None:
    made = subject()
    facts = read_json(made.folder / "tokenizer_config.json")
    change(facts)
    write_json(made.folder / "tokenizer_config.json", facts)
    assert told(measure, spec(texts=[text]), made) == (
        f"{made.folder}: its tokenizer has no EOS, which ends a reconstruction"
    )
