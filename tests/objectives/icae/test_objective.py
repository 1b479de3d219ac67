"""Samples and losses of in-context autoencoding against one sample at a time, read by plain transformers models."""

import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import change, learned_icae, saved_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from seedbed.data.contexts import Contexts
from seedbed.errors import SeedbedError
from seedbed.objectives.icae.batch import Batch, Sample, batch_of
from seedbed.objectives.icae.geometry import AE, LM
from seedbed.objectives.icae.layouts import LAYOUTS
from seedbed.objectives.icae.model import DECODER, ENCODER
from seedbed.objectives.icae.objective import InContextAutoencoding

EOS = 2
QV, ALL = ({"r": 4, "alpha": 8, "targets": targets} for targets in ("q,v", "all-linear"))
LORAS = {"all weights": None, "q,v": QV, "all-linear": ALL}
KINDS = ("frozen", "trained", "shared")
CLOSE = {"atol": 2e-6, "rtol": 1e-5}


@pytest.fixture
def objective(contexts: Path, tokenizer: Path, model_folder: Path) -> Callable[..., InContextAutoencoding]:
    """An objective on a base, some keys of its run changed; contexts have 4 to 24 tokens, one or two segments."""

    def made(base: Path | None = model_folder, **changes: object) -> InContextAutoencoding:
        return learned_icae(contexts, tokenizer, base, **{"min_seq_len": 4} | changes)

    return made


def trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def loss_and_gradients(made: InContextAutoencoding, batch: Batch) -> dict[str, torch.Tensor]:
    """Of one micro-batch, the gradients by the names of the weights."""
    made.model.zero_grad()
    (loss,) = made.losses(made.loss_module, batch, range(len(batch)))
    loss.backward()
    return {"loss": loss.detach()} | {name: weight.grad.clone() for name, weight in trained(made.model).items()}


def mixture(made: InContextAutoencoding) -> list[Sample]:
    """Eight samples of both tasks, of several lengths and of one, two and three segments."""
    window = made.train.split.read(0, 200)
    sizes = [(AE, 24), (LM, 5), (LM, 36), (AE, 4), (AE, 13), (LM, 24), (AE, 30), (LM, 12)]
    samples = [made.cut(window[7 * place :], length, task) for place, (task, length) in enumerate(sizes)]
    assert {len(made.geometry.parts(len(sample.context))) for sample in samples} == {1, 2, 3}
    return samples


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["default", "spread"])
@pytest.mark.parametrize("decoder", KINDS)
@pytest.mark.parametrize("lora", LORAS)
def test_a_batch_is_the_mean_of_its_samples(objective: Callable, lora: str, decoder: str, layout: str) -> None:
    made = objective(lora=LORAS[lora], decoder=decoder, layout=layout)
    samples = mixture(made)
    together = loss_and_gradients(made, batch_of(made.geometry, samples))
    alone = [loss_and_gradients(made, batch_of(made.geometry, [sample])) for sample in samples]
    assert len({float(one["loss"]) for one in alone}) == 8
    assert set(together) == {"loss", *trained(made.model)}
    for name, found in together.items():
        torch.testing.assert_close(found, torch.stack([one[name] for one in alone]).mean(0), **CLOSE)


def test_scores_of_a_batch_are_those_of_each_sample(objective: Callable) -> None:
    made = objective()
    samples = mixture(made)
    loss, accuracy = made.loss_module(batch_of(made.geometry, samples), scored=True)
    for place, sample in enumerate(samples):
        alone = made.loss_module(batch_of(made.geometry, [sample]), scored=True)
        torch.testing.assert_close(torch.stack([loss[place], accuracy[place]]), torch.cat(alone), **CLOSE)
    found = made.validate(made.loss_module, batch_of(made.geometry, samples))
    assert set(found) == {"loss", "accuracy"}
    torch.testing.assert_close(
        found["loss"], loss_and_gradients(made, batch_of(made.geometry, samples))["loss"], **CLOSE
    )
    torch.testing.assert_close(found["accuracy"], accuracy.mean())
    assert not found["loss"].requires_grad


# --- one sample by plain models ---------------------------------------------------------------------------------------


def plain(made: InContextAutoencoding, name: str) -> PreTrainedModel:
    """Encoder or decoder as a model of its own, the update of LoRA added to its weights."""
    model, spec = AutoModelForCausalLM.from_pretrained(made.inputs["init"], dtype=torch.float32), made.spec
    frozen = name == DECODER and spec["decoder"] == "frozen"
    source = name if spec["decoder"] == "trained" else ENCODER
    weights = dict(made.model.named_parameters())
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if not spec["lora"] and not frozen:
                weight.copy_(weights[f"{source}.{key}"])
                continue
            low = f"{ENCODER}.{key.removesuffix('weight')}lora_"
            if not frozen and f"{low}A.{source}.weight" in weights:
                update = weights[f"{low}B.{source}.weight"] @ weights[f"{low}A.{source}.weight"]
                weight += spec["lora"]["alpha"] / spec["lora"]["r"] * update
    return model


def memory_of_segment(layout: str, length: int, k: int, r: int) -> list[float]:
    match layout:
        case "uniform":
            return [(r + 1) / 2 + r * i for i in range(k)]
        case "uniform-int":
            return [(r + 1) // 2 + r * i for i in range(k)]
        case "spread":
            return [float(np.rint(0.5 + length / k / 2 + length / k * i)) for i in range(k)]


def reading(model: PreTrainedModel, pieces: list[torch.Tensor], positions: list[float]) -> torch.Tensor:
    """Hidden states [n, d] of rows of embeddings, all of which the later ones may look at."""
    embeddings = torch.cat(pieces)[None]
    given = torch.tensor([positions], dtype=torch.float32)
    return model.model(
        inputs_embeds=embeddings,
        position_ids=given if given.frac().any() else given.long(),
        attention_mask=torch.ones(1, len(positions), dtype=torch.int64),
    ).last_hidden_state[0]


def expected_loss(
    spec: dict,
    table: torch.Tensor,
    encoder: PreTrainedModel,
    decoder: PreTrainedModel,
    task: str,
    context: np.ndarray,
    after: np.ndarray,
) -> torch.Tensor:
    """The loss of one sample, written out."""
    k, r, layout = spec["memory_tokens"], spec["rate"], spec["layout"]
    ids, length = torch.from_numpy(context), len(context)
    count = -(-length // (k * r))
    memory, places = [], []
    for number in range(count):
        start, stop = length * number // count, length * (number + 1) // count
        if layout == "default":
            positions = list(range(stop - start + k))
            places += range(number * k, (number + 1) * k)
        else:
            own = [start + place for place in memory_of_segment(layout, stop - start, k, r)]
            positions = [*range(start + 1, stop + 1), *own]
            places += own
        memory.append(reading(encoder, [encoder.model.embed_tokens(ids[start:stop]), table[:k]], positions)[-k:])
    if task == AE:
        asking, first = [table[k : k + 1]], count * k if layout == "default" else 0
        targets = torch.cat([ids, torch.tensor([EOS])])
    else:
        asking = [table[k + 1 : k + 2]] if spec["add_special_token_for_lm"] else []
        first, targets = count * k if layout == "default" else length, torch.from_numpy(after[: spec["continuation"]])
    follow = first + 1 if asking or layout != "default" else first
    positions = [*places, *([first] if asking else []), *range(follow, follow + len(targets) - 1)]
    pieces = [*memory, *asking, decoder.model.embed_tokens(targets[:-1])]
    logits = decoder.lm_head(reading(decoder, pieces, positions))[-len(targets) :]
    if task == LM:
        logits, targets = (part[spec["leave_tokens_for_lm"] :] for part in (logits, targets))
    return F.cross_entropy(logits, targets)


def assert_as_expected(made: InContextAutoencoding) -> None:
    window, parts = made.train.split.read(100, 200), (plain(made, ENCODER), plain(made, DECODER))
    for task, length in product((AE, LM), (5, 12, 23, 30)):
        sample = made.cut(window, length, task)
        (found,) = made.losses(made.loss_module, batch_of(made.geometry, [sample]), range(1))
        texts = window[:length], window[length:]
        expected = expected_loss(made.spec, made.model.table.weight, *parts, task, *texts)
        torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize(("asked", "left"), [(True, 0), (True, 3), (False, 0), (False, 3)])
@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_the_loss_is_that_of_one_sample_written_out(objective: Callable, layout: str, asked: bool, left: int) -> None:
    assert_as_expected(objective(layout=layout, add_special_token_for_lm=asked, leave_tokens_for_lm=left))


@pytest.mark.parametrize("decoder", KINDS)
@pytest.mark.parametrize("lora", LORAS)
@torch.no_grad()
def test_encoder_and_decoder_have_the_weights_that_were_asked_for(objective: Callable, lora: str, decoder: str) -> None:
    assert_as_expected(objective(lora=LORAS[lora], decoder=decoder))


def test_bf16_keeps_to_fp32(objective: Callable) -> None:
    made = objective(lora=ALL, decoder="frozen")
    batch = batch_of(made.geometry, mixture(made))
    exact = loss_and_gradients(made, batch)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss_and_gradients(made, batch)
    assert found["loss"].dtype == torch.float32 and not torch.equal(found["loss"], exact["loss"])
    torch.testing.assert_close(found["loss"], exact["loss"], rtol=0.01, atol=0)
    for name, expected in exact.items():
        assert (found[name] - expected).norm() < 0.1 * expected.norm()


# --- which samples ----------------------------------------------------------------------------------------------------


def same(one: Sample, other: Sample) -> bool:
    return one.task == other.task and all(
        np.array_equal(*pair) for pair in ((one.context, other.context), (one.decoded, other.decoded))
    )


def test_a_sample_is_a_function_of_its_number_and_the_seed(objective: Callable) -> None:
    one, other, another = objective(), objective(lora=QV, decoder="trained"), objective(seed=1)
    numbers = [0, 5, 17, one.epoch_samples + 5, 10**6]
    expected = [one.sample(number) for number in numbers]
    torch.manual_seed(1)
    for number, sample in reversed(list(zip(numbers, expected, strict=True))):
        assert same(other.sample(number), sample)
    drawn = [[made.drawn(number) for number in range(200)] for made in (one, another)]
    assert sum(a[0] == b[0] for a, b in zip(*drawn, strict=True)) < 30  # of 21 lengths
    assert len({chance for _, chance in drawn[0] + drawn[1]}) == 400
    batch = one.batch(range(3, 6))
    assert torch.equal(batch.targets, batch_of(one.geometry, [one.sample(number) for number in range(3, 6)]).targets)


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_as_many_samples_are_continued_as_asked(objective: Callable, ratio: float) -> None:
    made = objective(lm_ratio=ratio)
    shares = [made.sample(number).task == LM for number in range(2000)]
    assert np.mean(shares) == pytest.approx(ratio, abs=0.04)
    assert ratio == 0.3 or set(shares) == {ratio == 1}


def test_the_task_says_nothing_of_the_length(objective: Callable) -> None:
    made = objective(lm_ratio=0.5)
    samples = [made.sample(number) for number in range(4000)]
    mean = {task: np.mean([len(sample.context) for sample in samples if sample.task == task]) for task in (AE, LM)}
    assert abs(mean[AE] - mean[LM]) < 0.8  # four standard deviations


def test_lengths_are_from_the_shortest_to_the_longest(objective: Callable) -> None:
    made = objective(min_seq_len=5, seq_len=9, batch_tokens=72)
    lengths = [len(made.sample(number).context) for number in range(1000)]
    counts = np.bincount(lengths)
    assert counts[:5].sum() == 0 and len(counts) == 10
    assert all(abs(count - 200) < 60 for count in counts[5:].tolist())
    made = objective(min_seq_len=None)
    assert {len(made.sample(number).context) for number in range(100)} == {24}


def test_a_sample_is_the_beginning_of_its_context_and_what_follows_it(objective: Callable) -> None:
    made = objective()
    tasks = set()
    for number in range(60):
        sample, window = made.sample(number), made.train.window(number)
        length = len(sample.context)
        tasks.add((sample.task, length < 24))
        assert np.array_equal(sample.context, window[:length])
        expected = [*window[:length], EOS] if sample.task == AE else window[length : length + 8].tolist()
        assert sample.decoded.tolist() == expected
    assert tasks >= {(AE, True), (LM, True)}


def test_validation_reconstructs_held_out_contexts_of_full_length(objective: Callable, contexts: Path) -> None:
    made = objective(lm_ratio=1.0)
    assert made.validation_numbers() == range(480 // 24)
    held_out = Contexts(contexts, "held_out", 24, 8, seed=0)
    batch = made.validation_batch(range(5, 8))
    expected = [*(token for place in (5, 6, 7) for token in [*held_out.at(place)[:24], EOS])]
    assert batch.targets.tolist() == expected
    assert set(batch.special.tolist()) == {made.spec["memory_tokens"]}  # all are asked to be reconstructed
    assert torch.equal(batch.targets, objective(seed=1).validation_batch(range(5, 8)).targets)
    assert objective(validation={"tokens": 1}).validation_numbers() == range(1)
    assert objective(validation={"tokens": 10**9}).validation_numbers() == range(held_out.per_epoch)


@pytest.mark.parametrize("continuation", [8, 60])
def test_the_largest_batch_is_as_large_as_any(objective: Callable, continuation: int) -> None:
    made = objective(continuation=continuation)
    largest = made.largest_batch(16)
    assert len(largest) == 16
    for first in range(0, 160, 16):
        batch = made.batch(range(first, first + 16))
        for name in ("encoder_ids", "decoder_ids", "targets", "memory_at"):
            assert getattr(batch, name).numel() <= getattr(largest, name).numel()


def test_nothing_is_remembered_between_batches(objective: Callable) -> None:
    made = objective()
    made.load_state_dict({}, [range(8)], torch.device("cpu"))
    assert (made.losses_per_batch, made.state_dict(), made.diagnostics()) == (1, {}, {})


def test_a_new_model_has_positions_for_what_it_reads(objective: Callable) -> None:
    gpt2 = {"family": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2}
    for layout, continuation in (("default", 8), ("spread", 8), ("spread", 60)):
        made = objective(None, model=gpt2, layout=layout, continuation=continuation)
        learned = made.model.config.n_positions
        batches = [made.batch(range(first, first + 8)) for first in range(0, 400, 8)]
        used = max(int(max(batch.encoder_positions.max(), batch.decoder_positions.max())) for batch in batches)
        assert used == learned - 1
        assert made.model.config.vocab_size == 300


# --- what does not fit ------------------------------------------------------------------------------------------------


def told(objective: Callable, *args: object, **changes: object) -> str:
    with pytest.raises(SeedbedError) as caught:
        objective(*args, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_vocabulary_smaller_than_that_of_the_contexts_is_told(
    contexts: Path, tokenizer: Path, model_folder: Path, tmp_path: Path
) -> None:
    larger = tmp_path / "contexts"
    shutil.copytree(contexts, larger)
    change(larger / "index.json", vocab_size=301)
    with pytest.raises(SeedbedError) as caught:
        learned_icae(larger, tokenizer, model_folder)
    assert str(caught.value) == f"{model_folder}: its vocabulary of 300 is smaller than the data's, 301"


def test_a_base_with_too_few_learned_positions_is_told(objective: Callable, tokenizer: Path, tmp_path: Path) -> None:
    base = saved_model(tokenizer, tmp_path / "gpt2", "gpt2")
    enough = {"seq_len": 56, "batch_tokens": 8 * 56, "continuation": 8}
    for layout in ("spread", "uniform-int"):
        objective(base, layout=layout, **enough)
        more = told(objective, base, layout=layout, **enough | {"continuation": 9})
        assert more == (
            f"layout {layout} needs 65 positions for a context of 56 and a continuation of 9 tokens; "
            "the base has learned 64"
        )
    # Five segments of four vectors, then [AE], the context.
    assert told(objective, base, layout="default", **enough) == (
        "layout default needs 77 positions for a context of 56 and a continuation of 8 tokens; the base has learned 64"
    )


def test_learned_positions_have_nothing_between_them(objective: Callable, tokenizer: Path, tmp_path: Path) -> None:
    base = saved_model(tokenizer, tmp_path / "gpt2", "gpt2")
    assert told(objective, base, layout="uniform") == (
        "layout uniform puts memory between whole positions, which needs rotary ones; gpt2 has learned positions; "
        "nearest layout: uniform-int"
    )


def test_lora_targets_that_are_not_there_are_told(objective: Callable, tokenizer: Path, tmp_path: Path) -> None:
    unknown = told(objective, lora=QV | {"targets": ["q_proj", "query"]})
    assert unknown.startswith("lora.targets: no linear layer 'query' in llama; valid: down_proj, ")
    mamba = saved_model(tokenizer, tmp_path / "mamba", "mamba")
    assert told(objective, mamba, layout="default", lora=QV) == (
        "lora.targets: the q,v layers of 'mamba' are not known; expected all-linear or a list of names"
    )


def test_contexts_longer_than_the_documents_are_told(objective: Callable, contexts: Path) -> None:
    assert told(objective, seq_len=800, batch_tokens=800).startswith(
        f"{contexts}: train: no document is long enough: the longest of "
    )
