"""Batches and losses of language modelling; those with recurrence against the same written out."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import change, inputs_of

from seedbed.data.tokens import TokenSplit
from seedbed.errors import SeedbedError
from seedbed.models.recurrence import SegmentCache, hidden_states
from seedbed.objectives.lm.config import LanguageModelRun
from seedbed.objectives.lm.objective import LanguageModelling

ROWS, SEQ_LEN, WORK = 4, 16, 4
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
# Weights large enough for what is in the cache to matter.
MODEL = {"family": "llama", "initializer_range": 0.2} | SMALL
MEMORY = {"work_size": WORK, "cache_size": 6}
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture
def objective(tokens: Path, tokenizer: Path) -> Callable[..., LanguageModelling]:
    """An objective of ordered data, some keys of its run changed; its weights are always the same."""
    inputs = inputs_of(tokens, tokenizer)

    def made(**changes: object) -> LanguageModelling:
        fields = {
            "corpus": "news",
            "tokenizer": "small",
            "model": MODEL,
            "seq_len": SEQ_LEN,
            "data": "order",
            "budget": {"steps": 10},
            "batch_tokens": ROWS * SEQ_LEN,
            "validation": {"tokens": 100},
        }
        torch.manual_seed(0)
        return LanguageModelling(LanguageModelRun.model_validate(fields | changes).spec(), inputs)

    return made


def step(number: int) -> range:
    """Numbers of the sequences of a whole batch."""
    return range(number * ROWS, (number + 1) * ROWS)


def losses(objective: LanguageModelling, numbers: range) -> list[torch.Tensor]:
    """Losses of the parts of a micro-batch, without their gradients."""
    with torch.no_grad():
        return list(objective.losses(objective.loss_module, objective.batch(numbers), numbers))


def segment_loss(objective: LanguageModelling, segment: torch.Tensor, cache: SegmentCache) -> torch.Tensor:
    hidden = hidden_states(objective.model, segment[:, :-1], cache)
    return F.cross_entropy(F.linear(hidden, objective.loss_module.head).flatten(0, 1), segment[:, 1:].flatten())


def segment_losses(objective: LanguageModelling, tokens: torch.Tensor, cache: SegmentCache) -> list[torch.Tensor]:
    """Losses of the segments of windows [rows, length + 1], one after the other."""
    starts = range(0, tokens.shape[1] - 1, WORK)
    with torch.no_grad():
        return [segment_loss(objective, tokens[:, start : start + WORK + 1], cache) for start in starts]


def plain_loss(objective: LanguageModelling, tokens: torch.Tensor) -> torch.Tensor:
    """The loss by the model's own head, without cache or chunks."""
    with torch.no_grad():
        logits = objective.model(tokens[:, :-1]).logits
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


# --- the order of the data --------------------------------------------------------------------------------------------


def test_rows_of_ordered_data_go_on_where_they_stopped(objective: Callable, tokens: Path) -> None:
    ordered = objective()
    steps = ordered.epoch_samples // ROWS
    batches = [ordered.batch(step(number)) for number in range(steps)]
    assert steps > 2 and batches[0].shape == (ROWS, SEQ_LEN + 1) and batches[0].dtype == torch.int64
    for before, after in zip(batches, batches[1:], strict=False):
        assert torch.equal(before[:, -1], after[:, 0])
    rows = torch.cat([batches[0][:, :1], *(batch[:, 1:] for batch in batches)], 1)
    split = TokenSplit(tokens, "train")
    stream, share = torch.from_numpy(split.read(0, len(split))), (len(split) - 1) // ROWS
    # Each row is a piece of the stream, and the pieces lie side by side: no token is predicted in two of them.
    for row in range(ROWS):
        assert torch.equal(rows[row], stream[row * share : row * share + rows.shape[1]])
    assert rows.shape[1] - 1 <= share < rows.shape[1] - 1 + SEQ_LEN


def test_every_epoch_of_ordered_data_starts_anew(objective: Callable) -> None:
    ordered = objective()
    epoch = ordered.epoch_samples
    assert epoch % ROWS == 0
    for number in (0, 1, ROWS, epoch - 1):
        assert torch.equal(
            ordered.batch(range(number, number + 1)), ordered.batch(range(epoch + number, epoch + number + 1))
        )
    assert not torch.equal(ordered.batch(step(0)), ordered.batch(step(1)))


def test_shuffled_data_are_windows_of_which_none_comes_twice(objective: Callable, tokens: Path) -> None:
    shuffled = objective(data="shuffle")
    split = TokenSplit(tokens, "train")
    assert shuffled.epoch_samples == (len(split) - 1) // SEQ_LEN
    seen = shuffled.batch(range(shuffled.epoch_samples))
    windows = split.read(0, len(split) - 1)[: shuffled.epoch_samples * SEQ_LEN].reshape(-1, SEQ_LEN)
    assert sorted(map(tuple, seen[:, :-1].tolist())) == sorted(map(tuple, windows.tolist()))


def test_validation_reads_whole_windows_within_its_budget(objective: Callable, tokens: Path) -> None:
    made = objective()
    assert made.validation_numbers() == range(100 // SEQ_LEN)
    split = TokenSplit(tokens, "valid")
    expected = split.read(0, 2 * SEQ_LEN + 1)
    assert made.validation_batch(range(2)).tolist() == [expected[: SEQ_LEN + 1].tolist(), expected[SEQ_LEN:].tolist()]
    assert objective(validation={"tokens": 1}).validation_numbers() == range(1)
    assert len(objective(validation={"tokens": 10**9}).validation_numbers()) == (len(split) - 1) // SEQ_LEN


def test_damaged_tokens_that_were_not_hashed_are_told_with_the_ids(
    objective: Callable, tokens: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEEDBED_VERIFY", "size")
    damaged = tmp_path / "tokens"
    shutil.copytree(tokens, damaged)
    for split in ("train", "valid"):
        shard = sorted((damaged / "shards").glob(f"{split}-*"))[0]
        ids = np.fromfile(shard, dtype="<u2")
        ids[SEQ_LEN // 2] = 300  # the first that is not in the vocabulary
        ids[:1] = 299
        ids.tofile(shard)
    made = LanguageModelling(objective().spec, inputs_of(damaged, tokenizer))
    for read in (made.batch, made.validation_batch):
        with pytest.raises(SeedbedError) as caught:
            read(range(1))
        assert "damaged tokens: found the id 300, expected less than the vocabulary, 300" in str(caught.value)
        assert str(damaged) in str(caught.value) and "\n" not in str(caught.value)
    assert made.batch(range(1, 2)).shape == (1, SEQ_LEN + 1)  # another row is whole


# --- without recurrence -----------------------------------------------------------------------------------------------


def test_the_loss_is_that_of_the_next_token(objective: Callable) -> None:
    for changes in ({}, {"model": {"family": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2}}, {"data": "shuffle"}):
        made = objective(**changes)
        (loss,) = losses(made, step(0))
        assert made.losses_per_batch == 1
        torch.testing.assert_close(loss, plain_loss(made, made.batch(step(0))), **CLOSE)
        torch.testing.assert_close(
            made.validate(made.loss_module, made.batch(step(1)))["loss"],
            plain_loss(made, made.batch(step(1))),
            **CLOSE,
        )
        assert made.state_dict() == {} and made.diagnostics() == {}


def test_the_new_model_is_the_one_of_the_spec(objective: Callable) -> None:
    config = objective(recurrence=MEMORY).model.config
    assert (config.vocab_size, config.max_position_embeddings, config.eos_token_id) == (300, SEQ_LEN, 2)
    assert config.recurrence == MEMORY
    assert objective().model.config.recurrence is None


def test_a_vocabulary_smaller_than_that_of_the_data_is_told(
    objective: Callable, model_folder: Path, tokens: Path, tokenizer: Path, tmp_path: Path
) -> None:
    assert (
        LanguageModelling(objective().spec, inputs_of(tokens, tokenizer, model_folder)).model.config.vocab_size == 300
    )
    larger = tmp_path / "tokens"
    shutil.copytree(tokens, larger)
    change(larger / "index.json", vocab_size=301)
    with pytest.raises(SeedbedError, match="its vocabulary of 300 is smaller than the data's, 301"):
        LanguageModelling(objective().spec, inputs_of(larger, tokenizer, model_folder))


def test_key_norm_is_among_the_diagnostics(objective: Callable) -> None:
    made = objective(model=MODEL | {"key_norm": True})
    assert made.diagnostics() == {}  # nothing has run yet
    keys = []
    for layer in made.model.model.layers:
        layer.self_attn.k_proj.register_forward_hook(lambda module, args, out: keys.append(out.unflatten(-1, (2, -1))))
    losses(made, step(0))
    assert set(made.diagnostics()) == {"key_norm"}
    norm = torch.stack(keys).norm(dim=-1).mean()
    torch.testing.assert_close(made.diagnostics()["key_norm"], norm)


# --- with recurrence --------------------------------------------------------------------------------------------------


def test_parts_are_the_segments_one_after_the_other(objective: Callable) -> None:
    made = objective(recurrence=MEMORY)
    found = losses(made, step(0))
    expected = segment_losses(made, made.batch(step(0)), SegmentCache(6))
    assert len(found) == made.losses_per_batch == SEQ_LEN // WORK
    torch.testing.assert_close(torch.stack(found), torch.stack(expected), **CLOSE)


@pytest.mark.parametrize("stop", [1, 2, 4])
def test_the_mean_of_the_parts_is_the_mean_of_the_segments(stop: int, objective: Callable) -> None:
    made = objective(recurrence=MEMORY | {"stop_gradient_step": stop})
    found = losses(made, step(0))
    assert len(found) == made.losses_per_batch == SEQ_LEN // WORK // stop
    expected = torch.stack(segment_losses(made, made.batch(step(0)), SegmentCache(6)))
    torch.testing.assert_close(torch.stack(found), expected.unflatten(0, (-1, stop)).mean(1), **CLOSE)
    torch.testing.assert_close(torch.stack(found).mean(), expected.mean(), **CLOSE)


def test_ordered_data_carry_the_cache_from_batch_to_batch(objective: Callable) -> None:
    made, alone = objective(recurrence=MEMORY), objective(recurrence=MEMORY)
    cache = SegmentCache(6)
    for number in range(3):
        found = torch.stack(losses(made, step(number)))
        expected = torch.stack(segment_losses(alone, alone.batch(step(number)), cache))
        torch.testing.assert_close(found, expected, **CLOSE)
        empty = torch.stack(segment_losses(alone, alone.batch(step(number)), SegmentCache(6)))
        # What the batch before left is felt in the first segment at once.
        assert ((found[0] - empty[0]).abs() > 0.01) == (number > 0)


def test_every_micro_batch_has_the_cache_of_its_own_rows(objective: Callable) -> None:
    whole, cut = objective(recurrence=MEMORY), objective(recurrence=MEMORY)
    for number in range(3):
        expected = torch.stack(losses(whole, step(number))).mean()
        halves = [losses(cut, range(first, first + 2)) for first in (4 * number, 4 * number + 2)]
        found = torch.stack([torch.stack(half).mean() for half in halves]).mean()
        torch.testing.assert_close(found, expected, **CLOSE)


def test_the_cache_is_empty_at_the_start_of_an_epoch(objective: Callable) -> None:
    made = objective(recurrence=MEMORY)
    steps = made.epoch_samples // ROWS
    first = torch.stack(losses(made, step(0)))
    losses(made, step(steps - 1))
    torch.testing.assert_close(torch.stack(losses(made, step(steps))), first, **CLOSE)
    # The second batch of the second epoch has the first one behind it.
    cache = SegmentCache(6)
    segment_losses(made, made.batch(step(0)), cache)
    expected = torch.stack(segment_losses(made, made.batch(step(1)), cache))
    torch.testing.assert_close(torch.stack(losses(made, step(steps + 1))), expected, **CLOSE)


def test_shuffled_data_start_from_an_empty_cache(objective: Callable) -> None:
    made = objective(data="shuffle", recurrence=MEMORY)
    for number in (0, 1, 0):
        expected = torch.stack(segment_losses(made, made.batch(step(number)), SegmentCache(6)))
        torch.testing.assert_close(torch.stack(losses(made, step(number))), expected, **CLOSE)
    assert made.state_dict() == {}


def test_a_cache_for_everything_gives_the_loss_of_one_pass(objective: Callable) -> None:
    made = objective(recurrence={"work_size": WORK, "cache_size": 2 * SEQ_LEN})
    batches = [made.batch(step(number)) for number in (0, 1)]
    found = torch.stack([torch.stack(losses(made, step(number))).mean() for number in (0, 1)])
    torch.testing.assert_close(found[0], plain_loss(made, batches[0]), **CLOSE)
    both = torch.cat([batches[0], batches[1][:, 1:]], 1)
    torch.testing.assert_close(found.mean(), plain_loss(made, both), **CLOSE)


def test_windows_are_evaluated_by_themselves(objective: Callable) -> None:
    made = objective(recurrence=MEMORY)
    losses(made, step(0))
    before = made.state_dict()
    tokens = made.validation_batch(made.validation_numbers())
    expected = torch.stack(segment_losses(made, tokens, SegmentCache(6))).mean()
    for _ in range(2):
        torch.testing.assert_close(made.validate(made.loss_module, tokens)["loss"], expected, **CLOSE)
    assert all(torch.equal(made.state_dict()[row], before[row]) for row in before)


def gradients(objective: LanguageModelling) -> torch.Tensor:
    made = torch.cat([parameter.grad.flatten() for parameter in objective.model.parameters()])
    objective.model.zero_grad()
    return made


def trained_gradients(objective: LanguageModelling, steps: int) -> torch.Tensor:
    """Gradients of the last of so many batches, as the engine sums them up."""
    for number in range(steps):
        objective.model.zero_grad()
        for loss in objective.losses(objective.loss_module, objective.batch(step(number)), step(number)):
            (loss / objective.losses_per_batch).backward()
    return gradients(objective)


def unrolled_gradients(objective: LanguageModelling, steps: int, stop: int) -> torch.Tensor:
    """The same, segment by segment."""
    cache = SegmentCache(6)
    for number in range(steps):
        objective.model.zero_grad()
        tokens, group = objective.batch(step(number)), 0
        for index, start in enumerate(range(0, SEQ_LEN, WORK), 1):
            group = group + segment_loss(objective, tokens[:, start : start + WORK + 1], cache)
            if index % stop == 0:
                (group / (SEQ_LEN // WORK)).backward()
                cache.detach()
                group = 0
    return gradients(objective)


def test_gradients_cross_so_many_segments(objective: Callable) -> None:
    found = {}
    for stop in (1, 2, 4):
        made = objective(recurrence=MEMORY | {"stop_gradient_step": stop})
        found[stop] = trained_gradients(made, steps=2)
        expected = unrolled_gradients(made, 2, stop)
        assert (found[stop] - expected).norm() < 1e-4 * expected.norm()
    for one, other in ((1, 2), (2, 4)):
        assert (found[one] - found[other]).norm() > 0.01 * found[other].norm()


def test_bf16_keeps_to_fp32(objective: Callable) -> None:
    made = objective(recurrence=MEMORY)
    exact = torch.stack([torch.stack(losses(made, step(number))).mean() for number in (0, 1)])
    made.caches.clear()
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.stack([torch.stack(losses(made, step(number))).mean() for number in (0, 1)])
    assert found.dtype == torch.float32 and not torch.equal(found, exact)
    torch.testing.assert_close(found, exact, rtol=0.01, atol=0)


# --- checkpoints ------------------------------------------------------------------------------------------------------

CUTS = {"one": [(0, 4)], "two": [(0, 2), (2, 4)], "uneven": [(0, 1), (1, 4)], "four": [(0, 1), (1, 2), (2, 3), (3, 4)]}


def micro_batches(number: int, cut: str) -> list[range]:
    return [range(number * ROWS + first, number * ROWS + last) for first, last in CUTS[cut]]


def cut_losses(objective: LanguageModelling, number: int, cut: str) -> torch.Tensor:
    """The mean loss of a batch in these micro-batches."""
    parts = [(len(numbers), torch.stack(losses(objective, numbers)).mean()) for numbers in micro_batches(number, cut)]
    return torch.stack([rows * loss for rows, loss in parts]).sum() / ROWS


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(("saved", "loaded"), [("one", "one"), ("two", "one"), ("one", "four"), ("uneven", "two")])
def test_rows_go_on_however_micro_batches_are_cut(saved: str, loaded: str, bf16: bool, objective: Callable) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        whole, resumed = objective(recurrence=MEMORY), objective(recurrence=MEMORY)
        for number in (0, 1):
            cut_losses(whole, number, saved)
        state = whole.state_dict()
        assert sorted(state) == [str(row) for row in range(ROWS)]
        assert {tuple(rows.shape) for rows in state.values()} == {(2, 2, 2, 6, 16)}
        assert not any(rows.requires_grad for rows in state.values())
        resumed.load_state_dict(state, micro_batches(2, loaded), torch.device("cpu"))
        again = resumed.state_dict()
        assert again.keys() == state.keys() and all(torch.equal(again[row], state[row]) for row in state)
        for number in (2, 3):
            expected, found = cut_losses(whole, number, saved), cut_losses(resumed, number, loaded)
            if saved == loaded:
                assert torch.equal(found, expected)
            torch.testing.assert_close(found, expected, **({"atol": 1e-3, "rtol": 0} if bf16 else CLOSE))


def test_every_row_has_its_own_memory(objective: Callable) -> None:
    made = objective(recurrence=MEMORY)
    losses(made, step(0))
    state = made.state_dict()
    tokens = made.batch(step(0))
    for row in range(ROWS):
        cache = SegmentCache(6)
        segment_losses(made, tokens[row : row + 1], cache)
        torch.testing.assert_close(state[str(row)], cache.state()[:, :, 0], **CLOSE)
    # Taken up under other rows it is another memory: rows are told apart.
    turned = objective(recurrence=MEMORY)
    turned.load_state_dict(
        {str(row): state[str((row + 1) % ROWS)] for row in range(ROWS)}, [step(1)], torch.device("cpu")
    )
    assert not torch.allclose(torch.stack(losses(turned, step(1)))[0], torch.stack(losses(made, step(1)))[0])


def test_a_rank_takes_up_its_own_rows_alone(objective: Callable) -> None:
    whole, half = objective(recurrence=MEMORY), objective(recurrence=MEMORY)
    losses(whole, step(0))
    half.load_state_dict(whole.state_dict(), [range(6, 8)], torch.device("cpu"))
    assert sorted(half.state_dict()) == ["2", "3"]
    alone = objective(recurrence=MEMORY)
    losses(alone, range(2, 4))
    torch.testing.assert_close(torch.stack(losses(half, range(6, 8))), torch.stack(losses(alone, range(6, 8))), **CLOSE)


def test_nothing_remembered_is_nothing_to_take_up(objective: Callable) -> None:
    for changes in ({}, {"recurrence": MEMORY}, {"recurrence": MEMORY | {"cache_size": 0}}):
        made = objective(**changes)
        expected = torch.stack(losses(made, step(0)))
        made.load_state_dict({}, [step(0)], torch.device("cpu"))
        assert made.state_dict() == {}
        assert torch.equal(torch.stack(losses(made, step(0))), expected)


def test_what_is_remembered_is_forgotten_at_the_next_epoch_after_a_resume_too(objective: Callable) -> None:
    made = objective(recurrence=MEMORY)
    first = torch.stack(losses(made, step(0)))
    resumed = objective(recurrence=MEMORY)
    resumed.load_state_dict(made.state_dict(), [step(resumed.epoch_samples // ROWS)], torch.device("cpu"))
    torch.testing.assert_close(torch.stack(losses(resumed, step(resumed.epoch_samples // ROWS))), first, **CLOSE)


def test_rows_that_do_not_read_on_where_they_stopped_remember_nothing(objective: Callable) -> None:
    made, fresh = objective(recurrence=MEMORY), objective(recurrence=MEMORY)
    losses(made, step(0))
    skipped = torch.stack(losses(made, step(2)))
    assert torch.equal(skipped, torch.stack(losses(fresh, step(2))))
    resumed = objective(recurrence=MEMORY)
    resumed.load_state_dict(made.state_dict(), [step(3)], torch.device("cpu"))
    assert torch.equal(torch.stack(losses(resumed, step(5))), torch.stack(losses(fresh, step(5))))


def test_an_attention_that_a_family_has_not_is_told_in_one_line(objective: Callable, monkeypatch) -> None:
    monkeypatch.setattr("seedbed.models.causal_lm.backend", lambda name: name)
    gpt2 = {"family": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 2}
    with pytest.raises(SeedbedError, match="attention: flex_attention and gpt2 do not go together: ") as caught:
        objective(model=gpt2, attention="flex_attention")
    assert "\n" not in str(caught.value)
