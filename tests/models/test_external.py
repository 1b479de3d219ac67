from pathlib import Path

import pytest
import torch
from support import saved_model
from transformers import AutoModelForCausalLM

from seedbed.errors import SeedbedError
from seedbed.files import read_json, write_json
from seedbed.models.external import adopt_model
from seedbed.objectives.lm.subject import CausalLM


def spec(source: object, revision: str | None = None) -> dict:
    return {"from": str(source), "revision": revision}


@pytest.mark.parametrize("fields", [{"family": "gpt2"}, {"family": "llama", "recurrence": {"work_size": 4}}])
def test_a_directory_is_adopted_with_what_is_needed(tokenizer: Path, tmp_path: Path, fields: dict) -> None:
    source = saved_model(tokenizer, tmp_path / "source", **fields)
    (source / "run_me.py").write_text("raise SystemExit('never')")
    (source / "optimizer.pt").write_bytes(b"pickled")
    adopt_model(spec(source), tmp_path / "adopted")
    names = {path.name for path in (tmp_path / "adopted").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    assert not names & {"run_me.py", "optimizer.pt"}
    assert (
        CausalLM.of_model(source).identity()["sha256"] == CausalLM.of_model(tmp_path / "adopted").identity()["sha256"]
    )


def test_a_source_that_is_too_long_for_a_path_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SeedbedError, match="model xxx"):
        adopt_model(spec("x" * 300), tmp_path / "adopted")


@pytest.mark.parametrize("name", ["tokenizer.model", "merges.txt"])
def test_tokenizers_that_are_no_json_count_for_the_identity(tokenizer: Path, tmp_path: Path, name: str) -> None:
    source = saved_model(tokenizer, tmp_path / "source")
    (source / name).write_text("a")
    adopt_model(spec(source), tmp_path / "adopted")
    assert name in CausalLM.of_model(tmp_path / "adopted").identity()["sha256"]


def test_weights_in_several_files_count_for_the_identity(tokenizer: Path, tmp_path: Path) -> None:
    source = saved_model(tokenizer, tmp_path / "source")
    model = AutoModelForCausalLM.from_pretrained(source)
    (source / "model.safetensors").unlink()
    model.save_pretrained(source, max_shard_size="20KB")
    adopt_model(spec(source), tmp_path / "adopted")
    adopted = CausalLM.of_model(tmp_path / "adopted")
    assert sum(name.endswith(".safetensors") for name in adopted.identity()["sha256"]) > 1
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(adopted.logits(ids), model(ids).logits)


def broken(folder: Path, how: str) -> None:
    match how:
        case "no weights":
            (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        case "another name":
            (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
        case "no config":
            (folder / "config.json").unlink()
        case "unknown type":
            write_json(folder / "config.json", read_json(folder / "config.json") | {"model_type": "lama"})
        case "no tokenizer":
            for path in folder.glob("tokenizer*"):
                path.unlink()
        case "encoder and decoder":
            write_json(folder / "config.json", {"model_type": "t5", "is_encoder_decoder": True})
        case "a decoder of one":  # whose type has a causal LM, too
            write_json(folder / "config.json", {"model_type": "bart"})
        case "encoder alone":
            write_json(folder / "config.json", {"model_type": "vit"})


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("no weights", "no weights as .*safetensors"),
        ("another name", "source: found 'consolidated.safetensors'; expected model.safetensors, or .*index.json that"),
        ("no config", "config.json"),
        ("unknown type", "lama"),
        ("no tokenizer", "model .*source: "),
        ("encoder and decoder", "found t5, an encoder-decoder; expected a causal language model"),
        ("a decoder of one", "found bart, an encoder-decoder; expected a causal language model"),
        ("encoder alone", "found the type 'vit'; expected a causal language model"),
    ],
)
def test_what_is_no_model_is_told_in_one_line(tokenizer: Path, tmp_path: Path, how: str, told: str) -> None:
    source = saved_model(tokenizer, tmp_path / "source")
    broken(source, how)
    with pytest.raises(SeedbedError, match=told) as error:
        adopt_model(spec(source), tmp_path / "adopted")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "adopted").exists()


def test_the_hub_is_asked_for_the_revision(monkeypatch: pytest.MonkeyPatch, tokenizer: Path, tmp_path: Path) -> None:
    source, asked = saved_model(tokenizer, tmp_path / "source"), {}

    def download(
        name: str, revision: str | None, allow_patterns: list[str], ignore_patterns: list[str], local_dir: Path
    ) -> None:
        asked.update(name=name, revision=revision, patterns=allow_patterns, ignored=ignore_patterns)
        local_dir.mkdir(parents=True)
        for path in source.iterdir():
            (local_dir / path.name).write_bytes(path.read_bytes())
        (local_dir / ".cache").mkdir()

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    adopt_model(spec("someone/model", "abc"), tmp_path / "adopted")
    assert (asked["name"], asked["revision"]) == ("someone/model", "abc")
    assert not any("bin" in pattern or "py" in pattern for pattern in asked["patterns"])
    assert asked["ignored"] == ["*/*"]
    assert not (tmp_path / "adopted" / ".cache").exists()


def test_no_network_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SeedbedError, match="model someone/model: no such directory, and the hub says: ") as error:
        adopt_model(spec("someone/model"), tmp_path / "adopted")
    assert "\n" not in str(error.value)
