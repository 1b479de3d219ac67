from pathlib import Path

import pytest
import torch
from support import saved_model

from seedbed.config import Samples
from seedbed.evaluate import evaluate
from seedbed.evaluate.samples import measure
from seedbed.evaluate.subject import Subject
from seedbed.files import read_json, sha256
from seedbed.plan import dump

SPEC = dump(Samples.model_validate({"kind": "samples", "prompts": ["今天", "北京，"], "max_new_tokens": 12}))


def greedy(subject: Subject, prompt: str, most: int) -> str:
    ids = [2, *subject.tokenizer(prompt).input_ids]
    made = []
    while len(made) < most and (not made or made[-1] != 2):
        made.append(int(subject.logits(torch.tensor([ids + made]))[0, -1].argmax()))
    return subject.tokenizer.decode(made, skip_special_tokens=True)


def test_each_token_is_the_likeliest(model_folder: Path, tokens: Path) -> None:
    subject = Subject(model_folder, tokens, 32)
    result, rows = measure(SPEC, subject)
    assert result["samples"] == rows
    assert [row["continuation"] for row in rows] == [greedy(subject, row["prompt"], 12) for row in rows]


def test_learned_positions_are_not_left(tokenizer: Path, tokens: Path, tmp_path: Path) -> None:
    subject = Subject(saved_model(tokenizer, tmp_path / "gpt2", "gpt2", n_positions=8), tokens, 8)
    result, _ = measure(SPEC | {"prompts": ["今", "今天记者报道企业改革人民工作"]}, subject)
    assert result["samples"][1]["continuation"] == ""


def test_what_is_written_carries_the_identity_of_model_and_data(
    model_folder: Path, tokens: Path, tmp_path: Path
) -> None:
    evaluate("samples", SPEC, Subject(model_folder, tokens, 32), tmp_path / "samples.json")
    found = read_json(tmp_path / "samples.json")
    assert found["model"]["sha256"]["model.safetensors"] == sha256(model_folder / "model.safetensors")
    assert found["data"]["sha256"] == sha256(tokens / "index.json")
    assert found["spec"] == SPEC
    header, *rows = (tmp_path / "samples.tsv").read_text(encoding="utf-8").splitlines()
    assert header == "prompt\tcontinuation"
    assert rows


def test_a_model_with_too_small_a_vocabulary_is_told(tokenizer: Path, tokens: Path, tmp_path: Path) -> None:
    from seedbed.errors import SeedbedError

    subject = Subject(model_folder_of(tokenizer, tmp_path), tokens, 32)
    with pytest.raises(SeedbedError, match="vocabulary of 200 is smaller than the 300"):
        subject.split("valid")


def model_folder_of(tokenizer: Path, tmp_path: Path) -> Path:
    from transformers import AutoModelForCausalLM

    folder = saved_model(tokenizer, tmp_path / "small")
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(200)
    model.save_pretrained(folder)
    return folder
