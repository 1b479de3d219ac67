"""An exported ICAE in use: it is the one that was trained, finds its base, and turns text to memory and back."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import learned_icae, leave_run, saved_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from seedbed.errors import SeedbedError
from seedbed.files import read_json, write_json
from seedbed.objectives.icae import load
from seedbed.objectives.icae.batch import Sample, batch_of
from seedbed.objectives.icae.compressor import Compressor
from seedbed.objectives.icae.geometry import AE, LM, Geometry
from seedbed.objectives.icae.layouts import LAYOUTS
from seedbed.objectives.icae.model import DECODER, ENCODER
from seedbed.objectives.icae.objective import Autoencoding, InContextAutoencoding
from seedbed.train.state import parameter_names

QV, ALL = ({"r": 4, "alpha": 8, "targets": targets} for targets in ("q,v", "all-linear"))
LORAS = {"all weights": None, "q,v": QV, "all-linear": ALL}
KINDS = ("frozen", "trained", "shared")
SIZE = 4  # memory vectors of a segment, which stand for three tokens each


@pytest.fixture
def trained(contexts: Path, tokenizer: Path, model_folder: Path) -> Callable[..., InContextAutoencoding]:
    """What a training ends with, some keys of its run changed."""

    def made(base: Path | None = model_folder, **changes: object) -> InContextAutoencoding:
        made = learned_icae(contexts, tokenizer, base, **changes)
        made.loss_module.eval()
        return made

    return made


@pytest.fixture
def exported(tokenizer: Path, tmp_path: Path) -> Callable[..., Path]:
    """Exports what was trained."""

    def write(made: InContextAutoencoding, folder: Path = tmp_path / "run" / "model") -> Path:
        weights = {name: weight.detach() for weight, name in parameter_names(made.loss_module).items()}
        folder.parent.mkdir(parents=True, exist_ok=True)
        made.export(folder, folder, weights)
        return folder

    return write


@pytest.fixture
def compressor(trained: Callable, exported: Callable) -> Compressor:
    return Compressor(exported(trained()))


def some_text(made: Compressor, tokens: int) -> str:
    """A text of so many tokens."""
    text = ("abcdefghijklmnopqrstuvwxyz" * 3)[:tokens]
    assert len(made.tokenizer(text, add_special_tokens=False).input_ids) == tokens
    return text


# --- it is the one that was trained -----------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", KINDS)
@pytest.mark.parametrize("lora", LORAS)
@torch.no_grad()
def test_an_export_computes_what_was_trained(trained: Callable, exported: Callable, lora: str, decoder: str) -> None:
    made = trained(lora=LORAS[lora], decoder=decoder)
    found = Compressor(exported(made))
    assert found.geometry == made.geometry
    batch = made.validation_batch(made.validation_numbers())
    assert torch.equal(found.model.compress(batch), made.model.compress(batch))
    ours, theirs = (made.validate(module, batch) for module in (Autoencoding(found.model), made.loss_module))
    assert ours == theirs
    window = made.train.window(0)
    continued = batch_of(made.geometry, [made.cut(window, 20, LM)])
    assert torch.equal(Autoencoding(found.model)(continued), made.loss_module(continued))
    assert not any(weight.requires_grad for weight in found.model.parameters())
    assert not any(module.training for module in found.model.modules())


@pytest.mark.parametrize(("lora", "size"), [(None, 1), (QV, 0)], ids=["all weights", "q,v"])
@pytest.mark.parametrize(("decoder", "parts"), [("frozen", 1), ("trained", 2), ("shared", 1)])
def test_an_export_has_what_was_trained_and_no_more(
    trained: Callable, exported: Callable, model_folder: Path, lora: dict | None, size: int, decoder: str, parts: int
) -> None:
    folder = exported(trained(lora=lora, decoder=decoder))
    files = {path.relative_to(folder) for path in folder.rglob("*.safetensors")}
    name = "adapter_model.safetensors" if lora else "model.safetensors"
    expected = {Path(part) / name for part in (ENCODER, DECODER)[:parts]}
    assert files == expected | {Path("memory.safetensors")}
    base = load_file(model_folder / "model.safetensors")
    for file in expected:
        assert len(base.keys() & load_file(folder / file).keys()) == size * len(base)
    assert set(load_file(folder / "memory.safetensors")) == {"table"}
    assert not (folder / "stats.json").exists() and (folder / "tokenizer.json").exists()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("decoder", KINDS)
def test_parts_without_lora_are_whole_models(
    trained: Callable, exported: Callable, tokenizer: Path, tmp_path: Path, decoder: str, tied: bool
) -> None:
    made = trained(saved_model(tokenizer, tmp_path / "base", tie_word_embeddings=tied), decoder=decoder)
    folder = exported(made)
    for name in (ENCODER, DECODER)[: 1 + (decoder == "trained")]:
        found = AutoModelForCausalLM.from_pretrained(folder / name)
        for key, weight in made.model.part(name).named_parameters():
            assert torch.equal(found.get_parameter(key), weight)


def test_a_frozen_head_that_is_not_there_at_the_end_is_that_of_the_base(
    trained: Callable, exported: Callable, model_folder: Path
) -> None:
    made = trained(decoder="trained")
    expected = made.model.encoder.lm_head.weight.clone()
    made.model.encoder.lm_head.weight.data = torch.empty(0)  # as where ZeRO has shared it out
    found = AutoModelForCausalLM.from_pretrained(exported(made) / ENCODER)
    assert torch.equal(found.lm_head.weight, expected)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("lora", [QV, ALL], ids=["q,v", "all-linear"])
@pytest.mark.parametrize("decoder", ["frozen", "trained"])
@torch.no_grad()
def test_adapters_are_those_of_peft(
    trained: Callable, exported: Callable, tokenizer: Path, tmp_path: Path, decoder: str, lora: dict, family: str
) -> None:
    from peft import PeftModel

    made = trained(saved_model(tokenizer, tmp_path / "base", family), lora=lora, decoder=decoder)
    folder = exported(made)
    ids = torch.arange(3, 23)[None]
    options = {"attention_mask": torch.ones_like(ids), "position_ids": torch.arange(20)[None]}
    for name in {name for name in made.model.adapters.values() if name}:
        base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
        untouched = base.base_model(input_ids=ids, **options).last_hidden_state
        theirs = PeftModel.from_pretrained(base, folder / name).eval()
        found = theirs.base_model.model.base_model(input_ids=ids, **options).last_hidden_state
        ours = made.model.read(name, made.model.embedded(name, ids), options["position_ids"])
        torch.testing.assert_close(found, ours, atol=1e-6, rtol=1e-5)
        assert not torch.allclose(found, untouched, atol=1e-3)
        assert read_json(folder / name / "adapter_config.json")["base_model_name_or_path"] == str(tmp_path / "base")


def test_an_export_may_be_read_in_bf16(trained: Callable, exported: Callable) -> None:
    folder = exported(trained(lora=ALL))
    exact, found = (Compressor(folder, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    assert {weight.dtype for weight in found.model.parameters()} == {torch.bfloat16}
    text = some_text(exact, 20)
    one, other = exact.compress(text), found.compress(text)
    assert other.dtype == torch.bfloat16 and (one - other).norm() < 0.05 * one.norm()
    found.reconstruct(other)


# --- its base ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_base(tokenizer: Path, tmp_path: Path) -> Path:
    return saved_model(tokenizer, tmp_path / "results" / "runs" / "base" / "model")


def test_a_base_is_found_when_both_have_moved(
    trained: Callable, exported: Callable, own_base: Path, tmp_path: Path
) -> None:
    text = "some text of many tokens"
    expected = Compressor(exported(trained(own_base, lora=QV), tmp_path / "results" / "runs" / "icae")).compress(text)
    (tmp_path / "results").rename(tmp_path / "moved")
    assert torch.equal(Compressor(tmp_path / "moved" / "runs" / "icae").compress(text), expected)


def test_a_base_is_found_behind_a_symbolic_link(
    trained: Callable, exported: Callable, own_base: Path, tmp_path: Path
) -> None:
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    folder = exported(trained(own_base, lora=QV), tmp_path / "link" / "model")
    assert read_json(folder / "icae.json")["base"]["path"] == "../../../results/runs/base/model"
    Compressor(folder)
    Compressor(tmp_path / "far" / "away" / "model")


NEEDY = [{"lora": QV, "decoder": "shared"}, {"lora": None, "decoder": "frozen"}]


@pytest.mark.parametrize("changes", NEEDY, ids=["lora", "frozen decoder"])
def test_a_base_that_is_missing_or_another_is_told(
    trained: Callable, exported: Callable, own_base: Path, tokenizer: Path, tmp_path: Path, changes: dict
) -> None:
    folder = exported(trained(own_base, **changes))
    elsewhere = shutil.copytree(own_base, tmp_path / "elsewhere")
    saved_model(tokenizer, own_base, initializer_range=0.1)
    with pytest.raises(SeedbedError) as caught:
        Compressor(folder)
    assert str(caught.value) == f"{folder}: {own_base} is another base than it was trained on"
    with pytest.raises(SeedbedError, match=f"{own_base} is another base than it was trained on"):
        Compressor(folder, own_base)
    shutil.rmtree(own_base)
    with pytest.raises(SeedbedError) as caught:
        Compressor(folder)
    assert str(caught.value) == f"{folder}: its base model is not at {own_base}; pass its directory as `base`"
    assert load(str(folder), str(elsewhere)).geometry == Geometry(SIZE, 3, "spread", True, 2)


@pytest.mark.parametrize("decoder", ["trained", "shared"])
def test_an_export_of_all_weights_needs_no_base(
    trained: Callable, exported: Callable, own_base: Path, decoder: str
) -> None:
    folder = exported(trained(own_base, decoder=decoder))
    shutil.rmtree(own_base)
    Compressor(folder)


def test_a_model_that_began_anew_has_no_base(trained: Callable, exported: Callable) -> None:
    folder = exported(trained(None, decoder="trained"))
    assert read_json(folder / "icae.json")["base"] is None
    Compressor(folder)


# --- from memory to ids -----------------------------------------------------------------------------------------------


def contexts_of(made: InContextAutoencoding, count: int, length: int) -> list[np.ndarray]:
    return [made.train.split.read(start * 40, start * 40 + length) for start in range(count)]


def memories(found: Compressor, contexts: list[np.ndarray], geometry: Geometry) -> torch.Tensor:
    samples = [Sample(AE, context, np.array([0])) for context in contexts]
    with torch.no_grad():
        return found.model.compress(batch_of(geometry, samples)).unflatten(0, (len(contexts), -1))


@torch.no_grad()
def written_without_cache(found: Compressor, memory: torch.Tensor, length: int, geometry: Geometry) -> list[int]:
    """The likeliest ids, the whole prompt read anew for each of them."""
    made = []
    while len(made) < length:
        batch = batch_of(geometry, [Sample(AE, np.zeros(length, np.int64), np.array([*made, 0]))])
        (last,) = found.model.decode(batch, memory)[:, -1]
        token = int((found.model.head @ last).argmax())
        if token == found.end:
            break
        made.append(token)
    return made


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("lora", "decoder"), [(None, "shared"), (ALL, "trained"), (ALL, "frozen")], ids=["all weights", "trained", "frozen"]
)
def test_a_cache_does_not_change_what_is_written(
    trained: Callable, exported: Callable, layout: str, lora: dict | None, decoder: str
) -> None:
    made = trained(layout=layout, lora=lora, decoder=decoder)
    found = Compressor(exported(made))
    for length in (11, 24, 30):
        given = memories(found, contexts_of(made, 3, length), found.geometry)
        expected = [written_without_cache(found, memory, length, found.geometry) for memory in given]
        assert found.reconstructed(given, length) == expected
        assert lora or len({token for ids in expected for token in ids}) > 3


def test_a_reconstruction_stops_at_its_end_whatever_the_others_do(
    trained: Callable, compressor: Compressor, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = memories(compressor, contexts_of(trained(), 4, 24), compressor.geometry)
    whole = compressor.reconstructed(given, 24)
    assert [len(ids) for ids in whole] == [24] * 4
    # What some of them write in the middle is now an end.
    end = next(token for token in whole[0][5:] if any(token not in ids for ids in whole) and token not in whole[0][:5])
    monkeypatch.setattr(Compressor, "end", end)
    expected = [ids[: ids.index(end)] if end in ids else ids for ids in whole]
    assert len(set(map(len, expected))) > 1
    assert compressor.reconstructed(given, 24) == expected
    # When all have ended nothing more is read.
    reads, read = [], compressor.model.read
    monkeypatch.setattr(compressor.model, "read", lambda *args: reads.append(args) or read(*args))
    assert compressor.reconstructed(given[:1], 24) == expected[:1]
    assert len(reads) == 1 + len(expected[0])


def test_memory_of_another_size_is_told(compressor: Compressor) -> None:
    with pytest.raises(SeedbedError, match="a memory of 5 vectors; a text of 20 tokens has 8"):
        compressor.reconstructed(torch.zeros(1, 5, 32), 20)


def test_segments_of_another_rate_are_read_as_asked(trained: Callable, compressor: Compressor) -> None:
    geometry = replace(compressor.geometry, rate=5)
    given = memories(compressor, contexts_of(trained(), 2, 20), geometry)
    assert given.shape == (2, SIZE, 32)
    expected = [written_without_cache(compressor, memory, 20, geometry) for memory in given]
    assert compressor.reconstructed(given, 20, geometry) == expected


# --- text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tokens", "segments"), [(4, 1), (12, 1), (13, 2), (60, 5)])
def test_text_becomes_memory_and_text_again(compressor: Compressor, tokens: int, segments: int) -> None:
    text = some_text(compressor, tokens)
    memory = compressor.compress(text)
    assert memory.shape == (segments * SIZE, 32) and memory.length == tokens
    assert not memory.requires_grad
    context = np.array(compressor.tokenizer(text, add_special_tokens=False).input_ids)
    torch.testing.assert_close(memory, memories(compressor, [context], compressor.geometry)[0])
    (expected,) = compressor.reconstructed(memory[None], tokens)
    assert compressor.reconstruct(memory) == compressor.tokenizer.decode(expected) != ""
    # A memory that comes from elsewhere does not know how long its text was.
    plain = memory.clone()
    assert compressor.reconstruct(plain, tokens) == compressor.reconstruct(memory)
    (longest,) = compressor.reconstructed(memory[None], 12 * segments)
    assert compressor.reconstruct(plain) == compressor.tokenizer.decode(longest)


def test_a_text_shorter_than_its_memory_is_told(compressor: Compressor) -> None:
    with pytest.raises(SeedbedError, match="a text of 3 tokens is shorter than its memory of 4 vectors"):
        compressor.compress(some_text(compressor, 3))


def test_a_tokenizer_without_an_end_is_told(trained: Callable, exported: Callable) -> None:
    folder = exported(trained())
    config = folder / "tokenizer_config.json"
    write_json(config, {key: value for key, value in json.loads(config.read_text()).items() if key != "eos_token"})
    assert AutoTokenizer.from_pretrained(folder).eos_token_id is None
    found = Compressor(folder)
    with pytest.raises(SeedbedError, match="its tokenizer has no EOS, which ends a reconstruction"):
        found.compress(some_text(found, 20))


# --- its files --------------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_what_its_run_wrote_is_told(trained: Callable, exported: Callable, tmp_path: Path) -> None:
    folder = exported(trained(lora=QV))
    leave_run(folder.parent, [], {})
    Compressor(folder)
    for name in ("memory.safetensors", "encoder/adapter_model.safetensors", "tokenizer.json"):
        file = folder / name
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(SeedbedError, match=f"{file}: damaged: found sha256"):
            Compressor(folder)
        file.write_bytes(content)


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"tabel": torch.zeros(6, 32)}, r"'table': found no such tensor; expected weights \[6, 32\]"),
        ({"table": torch.zeros(5, 32)}, r"'table': found torch.float32 \[5, 32\]; expected weights \[6, 32\]"),
        ({"table": torch.zeros(6, 32, dtype=torch.int32)}, r"'table': found torch.int32"),
    ],
    ids=["name", "shape", "type"],
)
def test_tensors_that_do_not_fit_are_told(trained: Callable, exported: Callable, tensors: dict, told: str) -> None:
    folder = exported(trained(lora=QV))
    save_file(tensors, folder / "memory.safetensors")
    with pytest.raises(SeedbedError, match=f"{folder}/memory.safetensors: {told}"):
        Compressor(folder)


def test_a_missing_layer_of_an_adapter_is_told(trained: Callable, exported: Callable) -> None:
    folder = exported(trained(lora=QV))
    file = folder / "encoder" / "adapter_model.safetensors"
    first, *rest = sorted(tensors := load_file(file))
    save_file({name: tensors[name] for name in rest}, file)
    with pytest.raises(SeedbedError, match=f"{file}: '{first}': found no such tensor"):
        Compressor(folder)


@pytest.mark.parametrize("content", [b"null", b"\xff", b""], ids=str)
def test_a_tokenizer_that_cannot_be_read_is_one_line(trained: Callable, exported: Callable, content: bytes) -> None:
    folder = exported(trained())
    (folder / "tokenizer_config.json").write_bytes(content)
    with pytest.raises(SeedbedError, match=str(folder)):
        Compressor(folder).tokenizer  # noqa: B018
