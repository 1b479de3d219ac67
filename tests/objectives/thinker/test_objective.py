"""Batches, losses and what a step counts, against one sample at a time."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from support import drawn_thinker_spec, shaken_thinker, thinker_spec
from torch import Tensor

from seedbed.objectives.thinker import objective
from seedbed.objectives.thinker.batch import Batch
from seedbed.objectives.thinker.compute import drawn, measured, places
from seedbed.objectives.thinker.flow import always, plain
from seedbed.objectives.thinker.model import Question, Thought
from seedbed.objectives.thinker.objective import Thinking, question_of
from seedbed.objectives.thinker.tasks import generate

CLOSE = {"atol": 1e-5, "rtol": 1e-4}
UNIFORM = {"curriculum": {"kind": "uniform", "first": 1}}
PROGRESSIVE = {"kind": "progressive", "first": 2, "delta": 2, "threshold": 0.5, "window": 2}


def thinking(**changes: object) -> Thinking:
    return of_spec(thinker_spec(**changes))


def of_spec(spec: dict) -> Thinking:
    made = Thinking(spec, {})
    made.loss_module.model.load_state_dict(shaken_thinker(spec).state_dict())
    return made


def gradients(made: Thinking, numbers: range) -> tuple[Tensor, list[Tensor]]:
    made.model.zero_grad()
    (loss,) = made.losses(made.loss_module, made.batch(numbers), numbers)
    loss.backward()
    return loss.detach(), [weight.grad.clone() for weight in made.model.parameters() if weight.grad is not None]


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, UNIFORM], ids=str)
def test_a_batch_has_the_problems_of_its_numbers(changes: dict) -> None:
    made = thinking(**changes)
    problems = generate(made.task, "train", 0, range(5, 15), 1 if changes else 6, 6)
    batch = made.batch(range(5, 15))
    assert (batch.hidden is None) == (not changes)
    for row, length in enumerate(problems.input_lengths):
        assert batch.symbols[:length, row].tolist() == problems.inputs[row, :length].tolist()
        assert batch.targets[:length, row].tolist() == problems.targets[row, :length].tolist()
        assert batch.real[:, row].tolist() == [place < length for place in range(len(batch.targets))]
        if changes:
            assert batch.hidden[:, row].tolist() == [place >= length for place in range(len(batch.symbols))]


def test_inputs_and_targets_have_padding_of_their_own() -> None:
    task = {"name": "addition", "base": 10, "width": "variable"}
    made = thinking(task=task, length=3)
    batch = made.batch(range(40))
    for row in range(40):
        inputs = batch.symbols[~batch.hidden[:, row], row].tolist()
        targets = batch.targets[batch.real[:, row], row].tolist()
        assert inputs.index(11) == len(inputs) - 1 and targets.index(10) == len(targets) - 1


def test_validation_is_held_out_and_the_same_for_every_seed() -> None:
    one, two = (thinking(length=8, seed=seed, **UNIFORM) for seed in (0, 1))
    found = [made.validation_batch(made.validation_numbers()) for made in (one, two)]
    assert torch.equal(found[0].symbols, found[1].symbols) and found[0].symbols.shape == (8, 40)
    assert found[0].hidden is None
    expected = generate(one.task, "valid", 0, range(40), 8, 8)
    assert np.array_equal(found[0].symbols.T, expected.inputs)
    assert not torch.equal(one.batch(range(16)).targets[:1], two.batch(range(16)).targets[:1])


def test_a_step_computes_as_much_on_every_process_and_in_every_micro_batch() -> None:
    spec = thinker_spec(n_latent=[1, 2, 3], n_step={"first": 1, "last": 4}, model={"flow": "random"})
    draws = [drawn(spec, step, 6) for step in range(300)]
    for step, compute in enumerate(draws):
        again = drawn(spec, step, 6)
        assert (again.n_latent, again.rows, again.before, again.until) == (
            compute.n_latent,
            compute.rows,
            compute.before,
            compute.until,
        )
        assert 0 <= compute.before < compute.until <= len(compute.rows)
    assert len({str(compute.rows) for compute in draws if len(compute.rows) == 3}) > 20
    for n_latent in (1, 2, 3):
        assert sum(compute.n_latent == n_latent for compute in draws) == pytest.approx(100, rel=0.3)
    for n_step in (1, 2, 3, 4):
        assert sum(len(compute.rows) == n_step for compute in draws) == pytest.approx(75, rel=0.4)
    other = thinker_spec(n_latent=[1, 2, 3], n_step={"first": 1, "last": 4}, seed=1)
    assert [drawn(other, step, 6).n_latent for step in range(50)] != [one.n_latent for one in draws[:50]]


def test_the_compute_is_that_of_the_step_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(objective, "drawn", lambda *given: asked.append(given[1]) or drawn(*given))
    made = thinking()
    for numbers in (range(0, 16), range(8, 16), range(16, 24), range(24, 32), range(160, 176)):
        list(made.losses(made.loss_module, made.batch(numbers), numbers))
    assert asked == [0, 0, 1, 1, 10]


def test_random_positions_are_ordered_samples_of_the_table() -> None:
    spec = thinker_spec(model={"positions": "random", "position_range": 20})
    draws = [drawn(spec, step, 6).places.tolist() for step in range(200)]
    assert all(one == sorted(set(one)) and len(one) == 6 for one in draws)
    assert {place for one in draws for place in one} == set(range(20))
    assert len({tuple(one) for one in draws}) > 150
    assert places(thinker_spec()["model"], 6, None).tolist() == list(range(6))


def test_positions_are_looked_up_where_they_are_drawn() -> None:
    made = thinking(model={"positions": "random", "position_range": 20})
    numbers = range(16)
    with torch.no_grad():
        made.model.input_positions.weight[:] = made.model.queries.weight[:] = 0
        drawn_places = drawn(made.spec, 0, 6).places
        unused = [place for place in range(20) if place not in drawn_places]
        (before,) = made.losses(made.loss_module, made.batch(numbers), numbers)
        made.model.input_positions.weight[unused] = made.model.queries.weight[unused] = torch.arange(16.0)
        (same,) = made.losses(made.loss_module, made.batch(numbers), numbers)
        made.model.input_positions.weight[drawn_places[-1]] = torch.arange(16.0)
        (other,) = made.losses(made.loss_module, made.batch(numbers), numbers)
    assert before == same != other


# --- losses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_a_batch_is_the_mean_of_its_samples(seed: int) -> None:
    spec = drawn_thinker_spec(seed) | {"curriculum": {"kind": "uniform", "first": 1}}
    made = of_spec(spec)
    loss, together = gradients(made, range(16))
    assert made.batch(range(16)).beyond is not None
    for parts in ([range(0, 8), range(8, 16)], [range(one, one + 1) for one in range(16)]):
        shares = [gradients(made, numbers) for numbers in parts]
        torch.testing.assert_close(loss, torch.stack([share for share, _ in shares]).mean(), **CLOSE)
        for whole, *alone in zip(together, *(found for _, found in shares), strict=True):
            torch.testing.assert_close(whole, torch.stack(alone).mean(0), **CLOSE)


def entropy(scores: Tensor, batch: Batch) -> Tensor:
    """Of one sample after the other."""
    losses = []
    for row in range(scores.shape[2]):
        real = batch.real[:, row]
        losses.append(F.cross_entropy(scores[:, real, row].T, batch.targets[real, row]))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("curriculum", [{}, UNIFORM], ids=str)
@pytest.mark.parametrize("kind", ["last", "all", "scaled"])
def test_the_loss_weighs_the_answers_of_its_kind(kind: str, curriculum: dict) -> None:
    made = thinking(loss={"kind": kind}, n_step=3, **curriculum)
    batch, compute = made.batch(range(16)), drawn(made.spec, 0, 6)
    weights = {"last": [0, 0, 1], "all": [1, 1, 1], "scaled": [1, 2, 3]}[kind]
    assert [row.output for row in compute.rows] == [weight > 0 for weight in weights]
    found, _ = made.loss_module(batch, compute)
    answers = [made.model(question(made, batch), plain(steps), 3)[-1] for steps in (1, 2, 3)]
    manual = sum(weight * entropy(scores, batch) for weight, scores in zip(weights, answers, strict=True))
    torch.testing.assert_close(found, manual / sum(weights))


def test_the_last_of_several_answers_is_the_one_that_counts() -> None:
    made = thinking(model={"flow": "always"}, n_step=3)
    batch, compute = made.batch(range(16)), drawn(made.spec, 0, 6)
    answers = made.model(question(made, batch), compute.rows, 3)
    assert len(answers) == 3
    torch.testing.assert_close(made.loss_module(batch, compute)[0], entropy(answers[-1], batch))


def question(made: Thinking, batch: Batch) -> Question:
    return Question(batch.symbols, batch.hidden, len(batch.targets), None, torch.arange(made.positions))


def test_a_progressive_loss_is_a_share_of_an_answer_after_some_steps() -> None:
    made = thinking(loss={"kind": "progressive", "alpha": 0.25}, n_step=4, **UNIFORM)
    batch = made.batch(range(16))
    for step in range(10):
        compute = drawn(made.spec, step, 6)
        found, hits = made.loss_module(batch, compute)
        last, until = (made.model(question(made, batch), plain(n), 3)[-1] for n in (4, compute.until))
        torch.testing.assert_close(found, 0.75 * entropy(last, batch) + 0.25 * entropy(until, batch))
        assert torch.equal(hits, (last.argmax(0) == batch.targets) & batch.real)


def test_the_share_of_a_progressive_loss_has_no_gradient_from_before() -> None:
    made = thinking(loss={"kind": "progressive", "alpha": 1.0}, n_step=4)
    computes = [drawn(made.spec, step, 6) for step in range(20)]
    assert {compute.before > 0 for compute in computes} == {False, True}
    for compute in computes:
        made.model.zero_grad()
        made.loss_module(made.batch(range(16)), compute)[0].backward()
        latents = made.model.latents.weight.grad
        assert bool(latents.any()) == (compute.before == 0)  # the first latents are only in the first step


def test_the_right_answers_before_each_are_given_and_the_start_first() -> None:
    made = thinking(model={"decoding": "output_ar"})
    batch = made.batch(range(16))
    previous = question_of(made.model, batch, torch.arange(6)).previous
    assert torch.equal(previous[1:], batch.targets[:-1]) and set(previous[0].tolist()) == {8}


def test_validation_is_per_sample_with_the_most_compute() -> None:
    made = thinking(n_latent=[1, 3], n_step=[1, 4])
    made.loss_module.eval()
    batch = made.batch(range(16))
    targets = batch.targets.clone()
    scores = made.model(question(made, batch), plain(4), 3)[-1]
    batch.targets = scores.argmax(0)
    batch.targets[:3, :4] = (batch.targets[:3, :4] + 1) % 8
    batch.beyond = torch.zeros_like(targets, dtype=torch.bool)
    batch.beyond[3:, 0] = batch.beyond[:3, 1] = True  # one sample has wrong symbols alone, one has right ones alone
    batch.targets[5, 4] = (batch.targets[5, 4] + 1) % 8  # one has a single wrong symbol of six
    found = made.validate(made.loss_module, batch)
    assert float(found["exact"]) == 12 / 16
    assert float(found["accuracy"]) == pytest.approx((0 + 1 + 0.5 + 0.5 + 5 / 6 + 11) / 16)
    torch.testing.assert_close(found["loss"], entropy(scores, batch))


def test_validation_of_a_progressive_loss_takes_all_steps_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = thinking(loss={"kind": "progressive", "alpha": 0.5}, n_step=4, **UNIFORM)
    batch = made.batch(range(16))
    monkeypatch.setattr(Thought, "after", None)
    found = made.validate(made.loss_module.eval(), batch)
    torch.testing.assert_close(found["loss"], entropy(made.model(question(made, batch), plain(4), 3)[-1], batch))


@pytest.mark.parametrize("flow", ["always", "random", None])
def test_a_model_of_random_plans_is_measured_in_the_plain_loop(flow: str | None) -> None:
    spec = thinker_spec(model={"flow": flow})
    compute = measured(spec, 3, 2, 6)
    assert compute.rows == (always(2) if flow == "always" else plain(2))


# --- what a step counts -----------------------------------------------------------------------------------------------


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "get_world_size", lambda: 1)


def test_accuracy_counts_real_positions_over_all_micro_batches(alone: None) -> None:
    made = thinking(**UNIFORM)
    hits = count = 0
    for numbers in (range(0, 8), range(8, 16)):
        batch = made.batch(numbers)
        list(made.losses(made.loss_module, batch, numbers))
        found = made.model(question(made, batch), plain(2), 3)[-1].argmax(0)
        hits += int(((found == batch.targets) & batch.real).sum())
        count += int(batch.real.sum())
    made.step_done()
    assert 0 < hits < count < 6 * 16
    assert made.diagnostics() == {"accuracy": pytest.approx(hits / count)}
    made.step_done()
    assert float(made.diagnostics()["accuracy"]) == 0.0


def test_a_growing_target_changes_the_batches_after_it(alone: None) -> None:
    made = thinking(curriculum=PROGRESSIVE)
    assert not made.reads_ahead and thinking().reads_ahead and thinking(**UNIFORM).reads_ahead
    targets = []
    for step in range(6):
        batch = made.batch(range(16 * step, 16 * step + 64))
        assert len(batch.symbols) == made.curriculum.target
        made.hits = torch.tensor([9.0, 10.0], dtype=torch.float64)
        made.step_done()
        targets.append(float(made.diagnostics()["target_length"]))
    assert targets == [2, 4, 4, 6, 6, 6]


def test_the_state_is_the_curriculum_and_the_last_accuracy(alone: None) -> None:
    made, again = (thinking(curriculum=PROGRESSIVE) for _ in range(2))
    for right in (9, 8, 3):
        made.hits = torch.tensor([right, 10.0], dtype=torch.float64)
        made.step_done()
    assert made.diagnostics() != again.diagnostics()
    again.load_state_dict(made.state_dict(), [], torch.device("cpu"))
    assert again.diagnostics() == made.diagnostics()
    assert again.curriculum == made.curriculum
    assert again.state_dict().keys() == made.state_dict().keys()


def test_the_accuracy_is_that_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", lambda hits: hits.add_(torch.tensor([10.0, 10.0])))
    for curriculum in ({"kind": "fixed"}, PROGRESSIVE):
        made = thinking(curriculum=curriculum)
        made.hits = torch.tensor([0.0, 10.0], dtype=torch.float64)
        made.step_done()
        assert float(made.diagnostics()["accuracy"]) == 0.5
        assert made.curriculum.recent == ([0.5] if curriculum is PROGRESSIVE else [])


# --- what is left -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
def test_another_run_starts_from_what_is_exported(tmp_path: Path, tied: bool) -> None:
    made = thinking(model={"tie_word_embeddings": tied})
    weights = {name: weight.detach().clone() for name, weight in made.loss_module.named_parameters()}
    made.export(tmp_path / "model", tmp_path / "model", weights)
    again = Thinking(thinker_spec(model={"tie_word_embeddings": tied}), {"init": tmp_path / "model"})
    for name, weight in again.loss_module.named_parameters():
        assert torch.equal(weight, weights[name])
    batch = made.batch(range(16))
    compute = drawn(made.spec, 0, 6)
    assert torch.equal(again.loss_module(batch, compute)[0], made.loss_module(batch, compute)[0])


def test_sizes_are_those_of_the_model() -> None:
    made = thinking(task={"name": "addition", "base": 10}, length=3, model={"num_layers": 2, "output_layers": 3})
    sizes = made.sizes()
    assert sizes.parameters == sizes.trained_parameters == made.geometry.parameters
    assert (sizes.layers, sizes.width, sizes.positions) == (5, 16, 8 + 4)
    largest = made.largest_batch(5)
    assert len(largest) == 5 and len(largest.symbols) + len(largest.targets) == sizes.positions
