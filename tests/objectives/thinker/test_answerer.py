"""What was exported answers as it was trained."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import change, contents, drawn_thinker_spec, leave_run, shaken_thinker, thinker_spec

from seedbed.errors import SeedbedError
from seedbed.files import write_json
from seedbed.objectives.thinker import load
from seedbed.objectives.thinker.answerer import Answerer
from seedbed.objectives.thinker.batch import Batch
from seedbed.objectives.thinker.compute import measured
from seedbed.objectives.thinker.objective import Thinking, question_of
from seedbed.objectives.thinker.tasks import Problems, generate

ADDITION = {"name": "addition", "base": 10}


def exported(folder: Path, spec: dict) -> Answerer:
    """A Thinker of no particular weights as a run leaves it."""
    made = Thinking(spec, {})
    made.model.load_state_dict(shaken_thinker(spec).state_dict())
    with torch.no_grad():  # so that answers depend on what is asked
        made.model.head.bias.zero_()
        made.model.symbols.weight *= 5
    made.export(folder / "model", folder / "model", dict(made.loss_module.named_parameters()))
    return load(folder / "model")


@pytest.mark.parametrize("flow", [None, "always", "read-once-answer-last", "random"], ids=str)
@pytest.mark.parametrize("seed", range(6))
def test_answers_one_by_one_are_those_given_its_own_answers_before(tmp_path: Path, seed: int, flow: str | None) -> None:
    decoding = "output_ar" if flow or seed % 2 else "full_ar"
    given = {"decoding": decoding, "tie_word_embeddings": False} | ({"flow": flow, "read_step": None} if flow else {})
    spec = drawn_thinker_spec(seed, **given)
    found = exported(tmp_path, spec)
    problems = problems_of(spec)
    (answers,) = found.answers(problems)
    batch = Batch.of(problems)
    batch.targets = torch.from_numpy(np.ascontiguousarray(answers.T))
    most = spec["n_latent"] and spec["n_latent"][-1]
    compute = measured(spec, most, spec["n_step"][-1], 6)
    with torch.no_grad():
        scores = found.model(question_of(found.model, batch, compute.places), compute.rows, most)[-1]
    assert torch.equal(scores.argmax(0), batch.targets)
    assert len(set(map(tuple, answers.tolist()))) > 1


def problems_of(spec: dict) -> Problems:
    return generate(Thinking(spec, {}).task, "test", 0, range(9), 2, 6)


@pytest.mark.parametrize("seed", range(6))
def test_all_answers_at_once_are_those_of_the_model_at_every_step(tmp_path: Path, seed: int) -> None:
    spec = drawn_thinker_spec(seed, decoding="parallel")
    found, problems = exported(tmp_path, spec), problems_of(spec)
    steps = found.answers(problems, n_step=4, every=True)
    assert steps.shape == (4, 9, 6)
    for n_step in (1, 2, 3, 4) if spec["model"]["read_step"] != 2 else (2, 3, 4):
        assert np.array_equal(steps[n_step - 1], found.answers(problems, n_step=n_step)[0])
    assert np.array_equal(found.answers(problems)[-1], found.answers(problems, n_step=spec["n_step"][-1])[-1])


def test_an_answer_is_as_long_as_its_sequence(tmp_path: Path) -> None:
    found = exported(tmp_path, thinker_spec(n_latent=[1, 3], n_step=[1, 3]))
    for sequence in ([1], [1, 2, 3], [7, 0, 7, 0, 7, 0]):
        answer = found.answer("copy", sequence)
        assert len(answer) == len(sequence) and all(0 <= symbol < 8 for symbol in answer)
        assert answer == found.answer("copy", sequence, n_latent=3, n_step=3)
    sequence = [1, 2, 3, 4, 5, 6]
    answers = {str(found.answer("copy", sequence, n_latent, n_step)) for n_latent in (1, 2, 3) for n_step in (1, 2, 5)}
    assert len(answers) > 1


@pytest.mark.parametrize("decoding", ["parallel", "output_ar"])
def test_sums_are_asked_for_as_they_were_trained(tmp_path: Path, decoding: str) -> None:
    model = {"decoding": decoding}
    fixed = exported(tmp_path / "fixed", thinker_spec(task=ADDITION, length=4, model=model))
    assert len(fixed.answer("addition", [12, 3])) == 5  # the digits of four, and one carried
    variable = exported(
        tmp_path / "variable", thinker_spec(task=ADDITION | {"width": "variable"}, length=4, model=model)
    )
    with torch.no_grad():
        variable.model.head.weight.zero_()
        variable.model.head.bias.zero_()
        variable.model.head.bias[7] = 1
        assert variable.answer("addition", [12, 3]) == [7] * 3  # there is no end
        variable.model.head.bias[10] = 2
        assert variable.answer("addition", [12, 3]) == []


def test_a_task_of_the_users_goes_with_its_model(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("def mirrored(x, lengths):\n    return x\n", encoding="utf-8")
    spec = thinker_spec(task={"python": f"{mine}:mirrored", "symbols": 8})
    made = Thinking(spec, {"task": mine})
    made.export(tmp_path / "model", tmp_path / "model", dict(made.loss_module.named_parameters()))
    assert (tmp_path / "model" / "task.py").read_bytes() == mine.read_bytes()
    mine.unlink()
    assert len(load(tmp_path / "model").answer("mirrored", [1, 2, 3])) == 3


WRONG = [
    ({}, ("flip", [1, 2]), "answers 'copy'; found the task 'flip'"),
    ({}, ("copy", [1, 8]), "expected symbols from 0 to 7"),
    ({}, ("copy", [1] * 7), "has 6 positions; the sequence needs 7"),
    ({}, ("copy", [1, 2], 4), "has 3 latents; found n_latent 4"),
    ({"n_latent": None, "model": {"latents": "position"}}, ("copy", [1, 2], 4), "has as many latents as positions"),
    ({"task": ADDITION}, ("addition", [1]), "expected two numbers to add"),
    ({"task": ADDITION}, ("addition", [1, 10**6]), "has 14 positions; the sequence needs 16"),
]


@pytest.mark.parametrize(("changes", "asked", "told"), WRONG, ids=[told for *_, told in WRONG])
def test_what_it_cannot_answer_is_told_in_one_line(tmp_path: Path, changes: dict, asked: tuple, told: str) -> None:
    with pytest.raises(SeedbedError) as caught:
        exported(tmp_path, thinker_spec(**changes)).answer(*asked)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_positions_without_a_table_are_not_bounded(tmp_path: Path) -> None:
    found = exported(tmp_path, thinker_spec(model={"positions": "rope"}))
    assert len(found.answer("copy", [1] * 20)) == 20


def test_what_is_no_thinker_is_told(tmp_path: Path) -> None:
    with pytest.raises(SeedbedError, match="config.json"):
        load(tmp_path)
    write_json(tmp_path / "config.json", {"model_type": "llama"})
    with pytest.raises(SeedbedError, match="is not of a Thinker; expected model_type 'thinker'"):
        load(tmp_path)


def test_weights_that_are_not_what_its_run_wrote_are_told(tmp_path: Path) -> None:
    exported(tmp_path, thinker_spec())
    leave_run(tmp_path, [], {})
    load(tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(SeedbedError, match=f"{file}: damaged: found sha256"):
        load(tmp_path / "model")


@pytest.mark.parametrize("tied", [False, True])
def test_every_weight_has_to_be_there(tmp_path: Path, tied: bool) -> None:
    found = exported(tmp_path, thinker_spec(model={"tie_word_embeddings": tied}))
    assert torch.equal(found.model.head.weight, found.model.symbols.weight) == tied
    file = tmp_path / "model" / "model.safetensors"
    tensors = load_file(file)
    assert ("head.weight" in tensors) != tied
    for name in ("symbols.weight", "head.bias"):
        save_file({other: tensors[other] for other in tensors if other != name}, file)
        with pytest.raises(SeedbedError, match=f"{file}: has other weights .*{name}"):
            load(tmp_path / "model").model  # noqa: B018


@pytest.mark.parametrize("model", [{}, {"hidden_size": "16"}, {"hidden_size": -1}, {"num_layers": None}], ids=str)
def test_a_config_of_another_version_is_one_line(tmp_path: Path, model: dict) -> None:
    exported(tmp_path, thinker_spec())
    path = tmp_path / "model" / "config.json"
    change(path, model=contents(path)["model"] | model if model else {})
    with pytest.raises(SeedbedError, match=f"{path}: describes no Thinker"):
        load(tmp_path / "model").model  # noqa: B018
