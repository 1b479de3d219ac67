"""The loss in chunks against the loss of all logits at once."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seedbed.models import cross_entropy
from seedbed.models.cross_entropy import linear_cross_entropy, linear_scores

ROWS, LENGTH, WIDTH, VOCABULARY = 3, 7, 16, 50
# Logits of a chunk: less than one position, one, several that do not divide 21 positions, all of them and more.
CHUNKS = [1, VOCABULARY, 2 * VOCABULARY + 9, 8 * VOCABULARY, 21 * VOCABULARY, 10**6]


def problem(scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states, a head and targets."""
    generator = torch.Generator().manual_seed(0)
    hidden = scale * torch.randn(ROWS, LENGTH, WIDTH, generator=generator)
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator)
    return hidden, weight, torch.randint(VOCABULARY, (ROWS, LENGTH), generator=generator)


def usual(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    logits = F.linear(hidden, weight).flatten(0, -2)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(wide, targets.flatten())


def shares() -> torch.Tensor:
    """What each target counts for, one of them for nothing."""
    made = torch.rand(ROWS, LENGTH, generator=torch.Generator().manual_seed(1))
    made[1, 2] = 0
    return made


def weighed(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The usual loss of each target times its share."""
    losses = F.cross_entropy(F.linear(hidden, weight).flatten(0, -2), targets.flatten(), reduction="none")
    return losses @ shares().flatten().to(losses.dtype)


def gradients(loss: object, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, scale: float = 1.0):
    """The loss and the gradients of hidden states and head after scaling it."""
    leaves = [part.detach().clone().requires_grad_() for part in (hidden, weight)]
    made = loss(*leaves, targets)
    (scale * made).backward()
    return made.detach(), *(leaf.grad for leaf in leaves)


def chunk(monkeypatch: pytest.MonkeyPatch, logits: int) -> None:
    monkeypatch.setattr(cross_entropy, "CHUNK_LOGITS", {"cpu": logits, "cuda": 1})
    monkeypatch.setattr(cross_entropy, "LEAST_POSITIONS", 1)


class Watch(TorchDispatchMode):
    """Sizes of the tensors that operations make, and how many matrices are multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.largest, self.products = 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        made = function(*args, **(kwargs or {}))
        self.largest = max([self.largest, *(part.numel() for part in tree_leaves(made) if torch.is_tensor(part))])
        self.products += "mm" in function.name()
        return made


@pytest.mark.parametrize("logits", CHUNKS)
@pytest.mark.parametrize("scale", [1.0, -3.7, 1e-3])
def test_loss_and_gradients_are_those_of_all_logits_at_once(
    logits: int, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunk(monkeypatch, logits)
    found = gradients(linear_cross_entropy, *problem(), scale)
    for one, other in zip(found, gradients(usual, *problem(), scale), strict=True):
        torch.testing.assert_close(one, other, atol=2e-7 * abs(scale), rtol=1e-5)


@pytest.mark.parametrize("logits", CHUNKS)
def test_under_autocast_it_is_as_near_as_the_usual_way(logits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chunk(monkeypatch, logits)
    hidden, weight, targets = problem()
    exact = gradients(usual, hidden.double(), weight.double(), targets, 0.5)
    with torch.autocast("cpu", torch.bfloat16):
        found, theirs = (gradients(loss, hidden, weight, targets, 0.5) for loss in (linear_cross_entropy, usual))
    assert {part.dtype for part in found} == {torch.float32}
    assert float(found[0]) != float(exact[0].float()), "the product was not in bf16"
    for ours, other, right in zip(found, theirs, exact, strict=True):
        error, others = ((part - right).norm() for part in (ours, other))
        assert error <= 2 * others + 1e-3 * right.norm()
        assert error <= 0.02 * right.norm()


def test_bf16_hidden_states_have_bf16_gradients_and_an_fp32_loss() -> None:
    hidden, weight, targets = problem()
    with torch.autocast("cpu", torch.bfloat16):
        loss, grad_hidden, grad_weight = gradients(linear_cross_entropy, hidden.bfloat16(), weight, targets)
    assert (loss.dtype, grad_hidden.dtype, grad_weight.dtype) == (torch.float32, torch.bfloat16, torch.float32)
    exact = gradients(usual, hidden.bfloat16().double(), weight.double(), targets)
    for found, right in zip((loss, grad_hidden, grad_weight), exact, strict=True):
        assert (found - right).norm() <= 0.02 * right.norm()


@pytest.mark.parametrize("learning", [(True, False), (False, True)])
@pytest.mark.parametrize("logits", [2 * VOCABULARY, 10**6])
def test_only_one_of_both_may_learn(learning: tuple, logits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chunk(monkeypatch, logits)
    hidden, weight, targets = problem()
    expected = gradients(usual, hidden, weight, targets)[1:]
    leaves = [part.requires_grad_(needed) for part, needed in zip((hidden, weight), learning, strict=True)]
    linear_cross_entropy(*leaves, targets).backward()
    for leaf, needed, grad in zip(leaves, learning, expected, strict=True):
        if needed:
            torch.testing.assert_close(leaf.grad, grad, atol=1e-6, rtol=1e-5)
        else:
            assert leaf.grad is None


def test_a_head_that_is_also_the_embedding_gets_both_gradients() -> None:
    _, weight, targets = problem()
    grads = []
    for loss in (linear_cross_entropy, usual):
        shared = weight.clone().requires_grad_()
        loss(F.embedding(targets, shared), shared, targets.roll(1)).backward()
        grads.append(shared.grad)
    torch.testing.assert_close(*grads, atol=1e-6, rtol=1e-5)


def test_gradients_of_several_losses_add_up() -> None:
    hidden, weight, targets = problem()
    weight.requires_grad_()
    for part, target in zip(hidden, targets, strict=True):
        (linear_cross_entropy(part, weight, target) / ROWS).backward()
    torch.testing.assert_close(weight.grad, gradients(usual, hidden, weight, targets)[2], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("bf16", [False, True])
def test_logits_of_more_than_a_chunk_are_never_held(bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    chunk(monkeypatch, 4 * VOCABULARY + 3)
    seen, log_softmax = [], torch.log_softmax

    def spy(logits: torch.Tensor, *args: object, **options: object) -> torch.Tensor:
        seen.append(tuple(logits.shape))
        made = log_softmax(logits, *args, **options)
        assert made.dtype == torch.float32
        return made

    monkeypatch.setattr(torch, "log_softmax", spy)
    hidden, weight, targets = problem()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16), Watch() as watch:
        gradients(linear_cross_entropy, hidden, weight, targets)
    assert seen == [(4, VOCABULARY)] * 5 + [(1, VOCABULARY)]
    assert watch.largest == max(4 * VOCABULARY, VOCABULARY * WIDTH)
    with Watch() as watch:  # that the watch would have seen them
        gradients(usual, hidden, weight, targets)
    assert watch.largest == ROWS * LENGTH * VOCABULARY


def test_gradients_cost_no_second_pass_over_the_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    chunk(monkeypatch, 7 * VOCABULARY)
    with Watch() as watch:
        gradients(linear_cross_entropy, *problem())
    assert watch.products == 3 * 3  # logits and two gradients of three chunks


def test_without_gradients_there_is_only_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    chunk(monkeypatch, 7 * VOCABULARY)
    hidden, weight, targets = problem()
    with Watch() as watch:
        loss = linear_cross_entropy(hidden, weight, targets)
    assert watch.products == 3 and not loss.requires_grad
    torch.testing.assert_close(loss, usual(hidden, weight, targets))


def test_under_no_grad_the_gradients_of_a_model_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    chunk(monkeypatch, 7 * VOCABULARY)
    hidden, weight, targets = problem()
    weight.requires_grad_()  # as the weights of a model that is only evaluated do
    with torch.no_grad(), Watch() as watch:
        loss = linear_cross_entropy(hidden, weight, targets)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, usual(hidden, weight, targets).detach())
    assert watch.products == 3, "validation pays for gradients that nobody reads"


@pytest.mark.parametrize("bf16", [False, True])
def test_extreme_logits_stay_finite_and_right(bf16: bool) -> None:
    hidden, weight, targets = problem(3000.0)
    assert F.linear(hidden, weight).abs().max() > 1e4
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        found = gradients(linear_cross_entropy, hidden, weight, targets)
    rounded = [part.bfloat16().double() if bf16 else part.double() for part in (hidden, weight)]
    exact = gradients(usual, *rounded, targets)
    assert all(part.isfinite().all() for part in found)
    torch.testing.assert_close(found[0].double(), exact[0], rtol=0.01 if bf16 else 1e-5, atol=0)
    if not bf16:  # rounded logits of 1e4 may prefer another token
        for ours, right in zip(found[1:], exact[1:], strict=True):
            torch.testing.assert_close(ours.double(), right, rtol=1e-4, atol=1e-4 * float(right.abs().max()))


def test_a_sure_prediction_costs_nothing_and_a_sure_mistake_costs_its_distance() -> None:
    weight = torch.eye(4, requires_grad=True)
    hidden = torch.tensor([[1e4, 0.0, 0.0, 0.0]])
    assert linear_cross_entropy(hidden, weight, torch.tensor([0])).item() == 0
    wrong = linear_cross_entropy(hidden, weight, torch.tensor([2]))
    assert wrong.item() == 1e4
    wrong.backward()
    assert weight.grad[:, 0].tolist() == [1e4, 0, -1e4, 0]


def test_every_position_is_in_exactly_one_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    for logits in CHUNKS:
        chunk(monkeypatch, logits)
        made = cross_entropy.chunks(21, VOCABULARY, "cpu")
        assert [row for part in made for row in range(part.start, part.stop)] == list(range(21))
    # A device that nobody thought of has the chunks of a GPU.
    assert len(cross_entropy.chunks(21, VOCABULARY, "xpu")) == 21


def test_a_large_vocabulary_is_not_fetched_for_a_few_positions() -> None:
    assert [part.stop - part.start for part in cross_entropy.chunks(300, 10**6, "cpu")] == [128, 128, 44]


# --- with shares ------------------------------------------------------------------------------------------------------


def shared_out(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return linear_cross_entropy(hidden, weight, targets, shares())


@pytest.mark.parametrize("logits", CHUNKS)
@pytest.mark.parametrize("scale", [1.0, -3.7])
def test_every_target_counts_for_its_share(logits: int, scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    chunk(monkeypatch, logits)
    found = gradients(shared_out, *problem(), scale)
    for one, other in zip(found, gradients(weighed, *problem(), scale), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert not found[1][1, 2].any()
    with torch.no_grad():
        torch.testing.assert_close(shared_out(*problem()), found[0])


def test_equal_shares_are_the_mean() -> None:
    hidden, weight, targets = problem()
    equal = torch.full(targets.shape, 1 / targets.numel())
    found = gradients(lambda *parts: linear_cross_entropy(*parts, equal), hidden, weight, targets)
    for one, other in zip(found, gradients(linear_cross_entropy, hidden, weight, targets), strict=True):
        torch.testing.assert_close(one, other)


def test_shares_under_autocast_keep_to_fp32() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(shared_out, *problem())
    assert {part.dtype for part in found} == {torch.float32}
    for ours, right in zip(found, gradients(weighed, *problem()), strict=True):
        assert not torch.equal(ours, right) and (ours - right).norm() <= 0.02 * right.norm()


@pytest.mark.parametrize("weigh", [False, True])
def test_the_gradient_of_a_frozen_head_is_not_computed(weigh: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    chunk(monkeypatch, 7 * VOCABULARY)
    hidden, weight, targets = problem()
    expected = gradients(weighed if weigh else usual, hidden, weight, targets)
    hidden.requires_grad_()
    with Watch() as watch:
        loss = linear_cross_entropy(hidden, weight, targets, shares() if weigh else None)
        loss.backward()
    assert weight.grad is None
    assert watch.products == 2 * 3  # logits and one gradient of three chunks
    torch.testing.assert_close(loss.detach(), expected[0])
    torch.testing.assert_close(hidden.grad, expected[1], atol=1e-6, rtol=1e-5)


# --- scores -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("logits", CHUNKS)
def test_scores_are_the_loss_of_each_target_and_whether_it_is_the_likeliest(
    logits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunk(monkeypatch, logits)
    hidden, weight, targets = (part.flatten(0, -2) if part.ndim == 3 else part for part in problem())
    targets = targets.flatten()
    every = F.linear(hidden, weight)
    targets[::2] = every.argmax(-1)[::2]
    weight.requires_grad_()
    losses, hits = linear_scores(hidden, weight, targets)
    torch.testing.assert_close(losses, F.cross_entropy(every, targets, reduction="none"), atol=1e-6, rtol=1e-5)
    assert torch.equal(hits, (every.argmax(-1) == targets).float()) and 0.5 < hits.mean() < 1
    assert losses.dtype == hits.dtype == torch.float32 and not losses.requires_grad


def test_scores_under_autocast_are_those_of_the_loss() -> None:
    hidden, weight, targets = problem()
    with torch.autocast("cpu", torch.bfloat16):
        losses, _ = linear_scores(hidden.flatten(0, 1), weight, targets.flatten())
        mean = linear_cross_entropy(hidden, weight, targets)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses.mean(), mean)
    assert not torch.equal(mean, usual(hidden, weight, targets))
