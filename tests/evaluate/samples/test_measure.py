import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from support import of_type, saved_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from seedbed.checksums import sha256
from seedbed.config.fields import dump
from seedbed.config.load import check
from seedbed.errors import SeedbedError
from seedbed.evaluate.job import measured
from seedbed.evaluate.samples.config import Samples
from seedbed.evaluate.samples.measure import FIGURES, measure
from seedbed.evaluate.samples.result import Result
from seedbed.files import read_json, sha256_of, write_json
from seedbed.objectives.lm.subject import CausalLM

RAW = {"kind": "samples", "prompts": ["今天", "北京，"], "max_new_tokens": 12}
SAMPLED = {"temperature": 0.8, "top_p": 0.95, "seed": 3}


def spec(**changes: object) -> dict:
    return dump(Samples.model_validate(RAW | changes))


SPEC = spec()


def greedy(subject: CausalLM, prompt: str, most: int) -> str:
    ids = [1, *subject.tokenizer(prompt).input_ids]
    made = []
    while len(made) < most and (not made or made[-1] != 2):
        made.append(int(subject.logits(torch.tensor([ids + made]))[0, -1].argmax()))
    return subject.tokenizer.decode(made, skip_special_tokens=True)


class Scripted(CausalLM):
    """Continues whatever it is asked with `script`, as far as it may, and keeps what it was asked."""

    script: list[int] = []

    def continuation(self, ids: list[int], most: int, decoding: str | dict = "greedy") -> list[int]:
        self.asked = ids, most, decoding
        return self.script[:most]


def test_each_token_is_the_likeliest(model_folder: Path, tokens: Path) -> None:
    subject = CausalLM(model_folder, tokens, 32)
    _, rows = measure(SPEC, subject)
    assert [row["continuation"] for row in rows] == [greedy(subject, row["prompt"], 12) for row in rows]
    assert all(row["tokens"] == 12 or row["ended"] for row in rows)


def test_a_prompt_follows_what_the_model_saw_at_the_start_of_a_text(
    tokenizer: Path, tokens: Path, tmp_path: Path
) -> None:
    for bos, begin in ((1, 1), (None, 2)):
        folder = saved_model(tokenizer, tmp_path / str(bos))
        write_json(folder / "config.json", read_json(folder / "config.json") | {"bos_token_id": bos})
        subject = Scripted(folder, tokens, 32)
        result, _ = measure(SPEC, subject)
        assert result["begin"]["id"] == begin
        assert subject.asked == ([begin, *subject.tokenizer("北京，").input_ids], 12, "greedy")


def test_every_prompt_is_continued_with_every_setting(model_folder: Path, tokens: Path) -> None:
    result, rows = measure(spec(decoding=["greedy", SAMPLED, {}]), CausalLM(model_folder, tokens, 32))
    of_type(result, Result)
    labels = ["greedy", "temperature 0.8, top-p 0.95, seed 3", "temperature 1.0, top-p 1.0, seed 0"]
    assert [setting["label"] for setting in result["settings"]] == labels
    assert [setting["decoding"] for setting in result["settings"]] == spec(decoding=["greedy", SAMPLED, {}])["decoding"]
    assert rows == [{"label": one["label"], **sample} for one in result["settings"] for sample in one["samples"]]
    assert [(row["label"], row["prompt"]) for row in rows] == [
        (label, prompt) for label in labels for prompt in RAW["prompts"]
    ]
    assert len({row["continuation"] for row in rows}) == 6


def test_a_text_does_not_depend_on_the_others_in_the_list(model_folder: Path, tokens: Path) -> None:
    subject = CausalLM(model_folder, tokens, 32)
    _, rows = measure(spec(decoding=["greedy", {"seed": 1}, SAMPLED], prompts=["中国", "今天"]), subject)
    _, [alone] = measure(spec(decoding=[SAMPLED], prompts=["今天"]), CausalLM(model_folder, tokens, 32))
    assert rows[-1] == alone


@pytest.mark.parametrize(
    ("script", "figures"),
    [
        ([], (0, False, None, None, None, None)),
        ([7, 7, 7], (3, False, None, 1 / 3, 1 / 2, 1)),
        ([7, 8, 9, 10], (4, False, 0, 1, 1, 1)),
        ([7, 8, 9, 10, 7, 8, 9, 10, 7], (9, False, 2 / 6, 4 / 9, 4 / 8, 4 / 7)),
        ([7] * 7 + [2], (7, True, 3 / 4, 1 / 7, 1 / 6, 1 / 5)),
        ([2], (0, True, None, None, None, None)),
    ],
)
def test_figures_are_of_the_n_grams_before_the_end(
    model_folder: Path, tokens: Path, script: list[int], figures: tuple
) -> None:
    subject = Scripted(model_folder, tokens, 32)
    subject.script = script
    _, [row] = measure(spec(prompts=["今天"]), subject)
    expected = dict(zip(("tokens", "ended", *FIGURES), figures, strict=True))
    assert {key: row[key] for key in expected} == pytest.approx(expected)


def test_means_are_of_the_samples_that_have_a_figure(model_folder: Path, tokens: Path) -> None:
    scripts = iter([[7, 7, 7], [], [7] * 5, [7, 8, 9, 10]])

    class Several(CausalLM):
        def continuation(self, ids: list[int], most: int, decoding: str | dict = "greedy") -> list[int]:
            return next(scripts)

    result, _ = measure(spec(prompts=["今", "天", "中", "国"]), Several(model_folder, tokens, 32))
    [setting] = result["settings"]
    expected = {"repetition": (1 / 2 + 0) / 2, "distinct_1": (1 / 3 + 1 / 5 + 1) / 3}
    expected |= {"distinct_2": (1 / 2 + 1 / 4 + 1) / 3, "distinct_3": (1 + 1 / 3 + 1) / 3}
    assert {figure: setting[figure] for figure in FIGURES} == pytest.approx(expected)
    silent = Scripted(model_folder, tokens, 32)
    result, _ = measure(SPEC, silent)
    of_type(result, Result)
    assert [result["settings"][0][figure] for figure in FIGURES] == [None] * 4


def test_learned_positions_are_not_left(tokenizer: Path, tokens: Path, tmp_path: Path) -> None:
    subject = CausalLM(saved_model(tokenizer, tmp_path / "gpt2", "gpt2", n_positions=8), tokens, 8)
    assert len(subject.tokenizer("abcdef").input_ids) == 6
    _, rows = measure(spec(prompts=["abc", "abcdef", "abcdefg", "今天记者报道企业改革人民工作"]), subject)
    assert [(row["tokens"], row["ended"]) for row in rows] == [(4, False), (1, False), (0, False), (0, False)]
    assert [row["fits"] for row in rows] == [True, True, False, False]
    assert [row["continuation"] for row in rows[2:]] == ["", ""]


def test_special_tokens_are_counted_but_are_no_text(model_folder: Path, tokens: Path) -> None:
    subject = Scripted(model_folder, tokens, 32)
    subject.script = [1, *subject.tokenizer("ab").input_ids, 1]
    _, [row] = measure(spec(prompts=["今天"]), subject)
    assert (row["continuation"], row["tokens"]) == ("ab", 4)


def test_a_space_that_a_continuation_begins_with_is_kept(model_folder: Path, tokens: Path) -> None:
    """SentencePiece marks words by the space before them, and its decoder drops the first one."""
    words = Tokenizer(models.WordLevel({"<s>": 0, "▁one": 1, "▁two": 2, "▁three": 3}, unk_token="<s>"))
    words.pre_tokenizer, words.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    subject = Scripted(model_folder, tokens, 32)
    subject.tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<s>")
    subject.script = [2, 3]
    _, [row] = measure(spec(prompts=["one"]), subject)
    assert row["continuation"] == " two three"


@pytest.mark.parametrize("text", ['今\t天\n"北京"\r\n\t', "今\r天", "\r"])
def test_tabs_and_line_ends_of_a_text_stay_in_its_cell(
    model_folder: Path, tokens: Path, tmp_path: Path, text: str
) -> None:
    subject = Scripted(model_folder, tokens, 32)
    subject.script = subject.tokenizer(text).input_ids
    measured("samples", spec(max_new_tokens=99), subject, tmp_path / "samples.json")
    with (tmp_path / "samples.tsv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, dialect="excel-tab"))
    assert [(row["prompt"], row["continuation"]) for row in rows] == [(prompt, text) for prompt in RAW["prompts"]]
    assert float(rows[0]["distinct_1"]) > 0


@pytest.mark.parametrize(
    ("decoding", "told"),
    [
        ([], "decoding: "),
        ("greedy", "decoding: "),
        (["gredy"], "decoding.0: expected greedy, or a mapping with any of temperature, top_p, seed; found 'gredy'"),
        ([3], "decoding.0: expected greedy, or a mapping with any of temperature, top_p, seed; found 3"),
        (["greedy", {"temperature": 0}], "decoding.1.temperature: expected a value greater than 0; found 0"),
        ([{"top_p": 0}], "decoding.0.top_p: expected a value greater than 0; found 0"),
        ([{"top_p": 1.5}], "decoding.0.top_p: expected a value less than or equal to 1; found 1.5"),
        ([{"seed": -1}], "decoding.0.seed: expected a whole number"),
        ([{"topp": 1}], "decoding.0.topp: unknown key; did you mean 'top_p'?"),
        ([{"temperature": 1}, {}], "decoding: expected every setting once; found"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(decoding: Any, told: str) -> None:
    with pytest.raises(SeedbedError) as caught:
        check({"evaluations": {"said": RAW | {"decoding": decoding}}})
    assert str(caught.value).startswith(f"config: evaluations.said.{told}")
    assert "\n" not in str(caught.value) and "more)" not in str(caught.value)


def test_a_setting_has_defaults() -> None:
    assert SPEC["decoding"] == ["greedy"]
    assert spec(decoding=[{}])["decoding"] == [{"temperature": 1.0, "top_p": 1.0, "seed": 0}]


def test_what_is_written_carries_the_identity_of_model_and_data(
    model_folder: Path, tokens: Path, tmp_path: Path
) -> None:
    measured("samples", SPEC, CausalLM(model_folder, tokens, 32), tmp_path / "samples.json")
    found = read_json(tmp_path / "samples.json")
    assert found["model"]["sha256"]["model.safetensors"] == sha256(model_folder / "model.safetensors")
    assert found["data"] == {"prompts": sha256_of(SPEC["prompts"])}
    assert found["spec"] == SPEC
    with (tmp_path / "samples.tsv").open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream, dialect="excel-tab")
    figures = ["repetition", "distinct_1", "distinct_2", "distinct_3"]
    assert header == ["label", "prompt", "continuation", "fits", "tokens", "ended", *figures]
    assert len(rows) == len(SPEC["prompts"])


def test_a_model_with_too_small_a_vocabulary_is_told(tokenizer: Path, tokens: Path, tmp_path: Path) -> None:
    subject = CausalLM(model_folder_of(tokenizer, tmp_path), tokens, 32)
    with pytest.raises(SeedbedError, match="vocabulary of 200 is smaller than the 300"):
        subject.split("valid")


def model_folder_of(tokenizer: Path, tmp_path: Path) -> Path:
    from transformers import AutoModelForCausalLM

    folder = saved_model(tokenizer, tmp_path / "small")
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(200)
    model.save_pretrained(folder)
    return folder
