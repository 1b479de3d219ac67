import os
from pathlib import Path

import pytest
import torch
from support import saved_model

from seedbed.errors import SeedbedError
from seedbed.files import read_json, write_json
from seedbed.models import recurrence
from seedbed.models.recurrence import SegmentCache
from seedbed.objectives.lm.subject import CausalLM


def subject(folder: Path, tokens: Path, **config: object) -> CausalLM:
    path = folder / "config.json"
    write_json(path, read_json(path) | config)
    return CausalLM(folder, tokens, 32)


@pytest.fixture
def folder(tokenizer: Path, tmp_path: Path) -> Path:
    return saved_model(tokenizer, tmp_path / "model")


IDS = torch.randint(3, 300, (2, 40), generator=torch.Generator().manual_seed(0))


def test_a_recurrent_model_is_read_in_its_segments_with_its_cache(folder: Path, tokens: Path) -> None:
    whole = subject(folder, tokens).logits(IDS)
    memory = {"work_size": 8, "cache_size": 8}
    made = subject(folder, tokens, recurrence=memory)
    with torch.no_grad():
        expected = recurrence.logits(made.model, IDS, 8, SegmentCache(8))
    assert torch.equal(made.logits(IDS), expected)
    torch.testing.assert_close(made.logits(IDS)[:, :8], whole[:, :8], atol=1e-5, rtol=0)
    assert not torch.allclose(made.logits(IDS)[:, 30:], whole[:, 30:], atol=1e-3)


HOLDS_ALL = {"work_size": 7, "cache_size": 99}
SAMPLED = {"temperature": 0.3, "top_p": 0.9, "seed": 0}


@pytest.mark.parametrize("decoding", ["greedy", SAMPLED])
def test_a_cache_that_holds_all_continues_as_an_ordinary_model(
    tokenizer: Path, tokens: Path, tmp_path: Path, decoding: str | dict
) -> None:
    folder = saved_model(tokenizer, tmp_path / "model", initializer_range=0.3)  # what it has read matters to it
    ids = IDS[0].tolist()
    expected = subject(folder, tokens).continuation(ids, 12, decoding)
    assert len(expected) == 12
    assert subject(folder, tokens, recurrence=HOLDS_ALL).continuation(ids, 12, decoding) == expected
    forgetful = subject(folder, tokens, recurrence={"work_size": 7, "cache_size": 3})
    assert forgetful.continuation(ids, 12, decoding) != expected


def test_a_prompt_is_read_in_the_segments_of_the_training(tokenizer: Path, tokens: Path, tmp_path: Path) -> None:
    folder, memory = (
        saved_model(tokenizer, tmp_path / "model", initializer_range=0.3),
        {"work_size": 8, "cache_size": 3},
    )
    made = subject(folder, tokens, recurrence=memory)
    prompts = torch.randint(3, 300, (8, 21), generator=torch.Generator().manual_seed(1))
    expected = made.logits(prompts)[:, -1:].argmax(-1).tolist()
    assert [made.continuation(ids, 1) for ids in prompts.tolist()] == expected


@pytest.mark.parametrize("decoding", ["greedy", SAMPLED])
@pytest.mark.parametrize("memory", [None, HOLDS_ALL])
def test_a_continuation_stops_at_the_end_of_the_sequence(
    folder: Path, tokens: Path, memory: dict | None, decoding: str | dict
) -> None:
    made = subject(folder, tokens, recurrence=memory)
    whole = made.continuation(IDS[0].tolist(), 9, decoding)
    assert whole[4] not in whole[:4]
    made.tokenizer.eos_token = made.tokenizer.convert_ids_to_tokens(whole[4])
    assert made.continuation(IDS[0].tolist(), 9, decoding) == whole[:5]
    assert made.continuation(IDS[0].tolist(), 3, decoding) == whole[:3]


def nucleus(logits: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """Probabilities [vocabulary] of what may be drawn."""
    left = (logits.double() / temperature).softmax(0)
    order, held = left.argsort(descending=True).tolist(), 0.0
    for token in order:
        left[token], held = (left[token] if held < top_p else 0.0), held + float(left[token])
    return left / left.sum()


@pytest.mark.parametrize("memory", [None, HOLDS_ALL])
@pytest.mark.parametrize(("temperature", "top_p", "least", "most"), [(0.03, 0.8, 5, 40), (1.0, 1.0, 300, 300)])
def test_tokens_are_drawn_from_the_nucleus_of_the_tempered_distribution(
    folder: Path, tokens: Path, memory: dict | None, temperature: float, top_p: float, least: int, most: int
) -> None:
    ids, draws = IDS[0, :9].tolist(), 1500
    made = subject(folder, tokens, recurrence=memory)
    expected = nucleus(made.logits(IDS[:1, :9])[0, -1], temperature, top_p)
    assert least <= (expected > 0).sum() <= most
    settings = [{"temperature": temperature, "top_p": top_p, "seed": seed} for seed in range(draws)]
    drawn = torch.tensor([made.continuation(ids, 1, setting)[0] for setting in settings])
    counts = torch.bincount(drawn, minlength=300)
    assert not counts[expected == 0].any()
    chi_square = ((counts - draws * expected) ** 2 / (draws * expected))[expected > 0].sum()
    freedom = int((expected > 0).sum()) - 1
    assert abs(chi_square - freedom) < 4 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("memory", [None, HOLDS_ALL])
def test_what_is_drawn_depends_on_seed_and_ids_alone(folder: Path, tokens: Path, memory: dict | None) -> None:
    made = subject(folder, tokens, recurrence=memory)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = made.continuation(IDS[0].tolist(), 12, SAMPLED)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    made.continuation(IDS[1].tolist(), 3, SAMPLED)
    assert made.continuation(IDS[0].tolist(), 12, SAMPLED) == first
    assert made.continuation(IDS[0].tolist(), 12, SAMPLED | {"seed": 1}) != first


def test_other_prompts_are_not_continued_with_the_same_luck(folder: Path, tokens: Path) -> None:
    """Of a model that hardly looks at its input, the same random numbers would draw the same tokens."""
    made = subject(folder, tokens)
    drawn = {made.continuation([1, other], 1, SAMPLED | {"temperature": 1.0})[0] for other in range(3, 13)}
    assert len(drawn) > 5


@pytest.mark.parametrize("decoding", ["greedy", SAMPLED])
def test_what_a_model_says_of_its_own_generation_is_left_out(folder: Path, tokens: Path, decoding: str | dict) -> None:
    expected = subject(folder, tokens).continuation(IDS[0].tolist(), 8, decoding)
    penalties = {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1, "min_new_tokens": 9, "suppress_tokens": expected}
    drawing = {"do_sample": True, "temperature": 9.0, "top_k": 2, "top_p": 0.1, "min_p": 0.9, "num_beams": 2}
    write_json(folder / "generation_config.json", penalties | drawing | {"eos_token_id": [2, expected[3]]})
    foreign = subject(folder, tokens)
    assert foreign.model.generation_config.repetition_penalty == 5.0
    assert foreign.continuation(IDS[0].tolist(), 8, decoding) == expected


@pytest.mark.parametrize("memory", [None, {"work_size": 8, "cache_size": 8}, {"work_size": 7, "cache_size": 99}])
@pytest.mark.parametrize("read", [3, 16, 20])
def test_rows_go_on_from_a_prefix_that_was_read_once(
    folder: Path, tokens: Path, memory: dict | None, read: int
) -> None:
    made = subject(folder, tokens, recurrence=memory)
    shared = IDS[:1, :read].expand(2, -1)
    whole = torch.cat([shared, IDS[:, read:]], dim=1)
    prefix = made.read(shared[0].tolist())
    assert prefix.length == (read if memory is None else read - read % memory["work_size"])
    rest = whole[:, prefix.length :]
    expected = made.logits(whole)[:, prefix.length :]
    torch.testing.assert_close(made.logits(rest, after=prefix), expected, atol=1e-5, rtol=0)
    places = torch.tensor([[0, rest.shape[1] - 1], [5, 2]])
    found = made.logits(rest, at=places, after=prefix)
    torch.testing.assert_close(found, expected[torch.arange(2)[:, None], places], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "gptj"])
def test_other_families_go_on_from_a_prefix_too(tokenizer: Path, tokens: Path, tmp_path: Path, family: str) -> None:
    made = CausalLM(saved_model(tokenizer, tmp_path / "model", family), tokens, 32)
    prefix = made.read(IDS[0, :9].tolist())
    whole = torch.cat([IDS[:1, :9].expand(2, -1), IDS[:, 9:]], dim=1)
    expected = made.logits(whole)[:, 9:]
    assert prefix.length == 9
    torch.testing.assert_close(made.logits(whole[:, 9:], after=prefix), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["mamba", "mistral"])
def test_a_model_with_another_memory_shares_no_prefix(
    tokenizer: Path, tokens: Path, tmp_path: Path, family: str
) -> None:
    made = CausalLM(saved_model(tokenizer, tmp_path / "model", family), tokens, 32)
    assert made.read(IDS[0].tolist()).length == 0
    at = torch.tensor([[3], [39]])
    torch.testing.assert_close(made.logits(IDS, at=at)[1, 0], made.logits(IDS)[1, 39])


@pytest.mark.parametrize(("family", "most"), [("llama", None), ("gpt2", 64), ("gpt_neox", None), ("opt", 48)])
def test_only_tables_of_positions_limit_the_input(
    tokenizer: Path, tokens: Path, tmp_path: Path, family: str, most: int | None
) -> None:
    made = CausalLM.of_model(saved_model(tokenizer, tmp_path / "model", family), tokens)
    assert made.most_positions == most
    assert made.trained_length == {"llama": 2048, "gpt2": 64, "gpt_neox": 96, "opt": 48}[family]


def test_a_text_begins_with_bos_or_what_stands_for_it(folder: Path, tokens: Path) -> None:
    assert subject(folder, tokens).begin == {"id": 1, "token": "<|bos|>", "is": "bos"}
    assert subject(folder, tokens, bos_token_id=None).begin == {"id": 2, "token": "<|eos|>", "is": "eos"}
    made = subject(folder, tokens)
    made.tokenizer.bos_token = None
    assert made.begin == {"id": 2, "token": "<|eos|>", "is": "eos"}
    made = subject(folder, tokens)
    made.tokenizer.bos_token = made.tokenizer.eos_token = None
    with pytest.raises(SeedbedError, match="neither a BOS nor an EOS"):
        _ = made.begin


@pytest.mark.parametrize("memory", [None, {"work_size": 8, "cache_size": 8}])
def test_weights_may_be_bf16_and_logits_are_fp32(folder: Path, tokens: Path, memory: dict | None) -> None:
    whole = subject(folder, tokens, recurrence=memory)
    half = CausalLM(folder, tokens, 32, precision="bf16")
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.bfloat16}
    prefix = half.read(IDS[0, :8].tolist())
    found = half.logits(IDS[:1, 8:], after=prefix)
    assert found.dtype == torch.float32
    expected = whole.logits(IDS[:1])[:, 8:]
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0.05)


def test_ids_beyond_the_vocabulary_are_told(folder: Path, tokens: Path) -> None:
    made, told = subject(folder, tokens), "found the id 300 in an input, beyond its vocabulary of 300"
    with pytest.raises(SeedbedError, match=told):
        made.read([5, 300])
    with pytest.raises(SeedbedError, match=told):
        made.continuation([5, 300], 4)
    with pytest.raises(SeedbedError, match=told):
        made.logits(torch.tensor([[5, 300]]))


def test_what_is_missing_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SeedbedError, match=r"none: has no config.json; expected a transformers directory"):
        CausalLM.of_model(tmp_path / "none")
    with pytest.raises(SeedbedError, match="no tokens to measure it on; expected a directory with index.json"):
        CausalLM.of_model(folder).split("test")


def test_its_identity_is_that_of_weights_config_and_tokenizer(folder: Path, tokens: Path) -> None:
    before = subject(folder, tokens).identity()
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(before["sha256"])
    assert subject(folder, tokens, rms_norm_eps=0.5).identity()["sha256"] != before["sha256"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.json", '{"model_type": "lama"}'), ("tokenizer.json", "{}"), ("tokenizer_config.json", "null")],
)
def test_a_file_that_transformers_cannot_read_is_one_line(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(SeedbedError) as caught:
        CausalLM.of_model(folder).tokenizer  # noqa: B018
    assert str(folder) in str(caught.value) and name in str(caught.value)


def test_a_pipe_in_place_of_a_tokenizer_is_told(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    os.mkfifo(folder / "tokenizer.json")
    with pytest.raises(SeedbedError, match=f"{folder}: tokenizer.json: found a pipe, expected a regular file"):
        CausalLM.of_model(folder).tokenizer  # noqa: B018
