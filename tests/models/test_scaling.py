"""The formulas of DeepSeek LLM (arXiv 2401.02954), and what becomes of `auto`."""

import pytest
from support import changed, first_study

from seedbed.config.load import check
from seedbed.errors import SeedbedError
from seedbed.models.config import NewModel
from seedbed.models.scaling import flops_per_token, nearest_round, optimal_batch_tokens, optimal_lr
from seedbed.plan import Plan

DEFAULT = first_study()

# Table 2 of the paper: layers, width, heads, KV heads, positions; batch in sequences and learning rate at 2 T tokens.
PUBLISHED = {
    "7b": (
        NewModel(
            family="llama", hidden_size=4096, intermediate_size=11008, num_hidden_layers=30, num_attention_heads=32
        ),
        2304,
        4.2e-4,
    ),
    "67b": (
        NewModel(
            family="llama",
            hidden_size=8192,
            intermediate_size=22016,
            num_hidden_layers=95,
            num_attention_heads=64,
            num_key_value_heads=8,
        ),
        4608,
        3.2e-4,
    ),
}
SMALL = NewModel(family="llama", hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4)


def plan(**run: object) -> Plan:
    """The default configuration with a run of the small model, and no study."""
    fields = DEFAULT["runs"]["tiny"] | {"model": SMALL.model_dump(), "seq_len": 128} | run
    return Plan(check({**DEFAULT, "runs": {"small": fields}, "studies": {}}))


def flops(tokens: int) -> float:
    """Of the small model at 128 positions: 6 per weight of a layer, 12 per layer, width and position."""
    layer = 4 * 64 * 64 + 3 * 64 * 96 + 2 * 64
    return tokens * (6 * (3 * layer + 64) + 12 * 3 * 64 * 128)


def test_the_compute_of_a_token_is_counted_without_embeddings() -> None:
    assert flops_per_token(SMALL.facts, 128) == flops(1) == 924_288
    # The paper's 72 layers width^2 + 12 layers width length is for blocks of 12 width^2 weights, as GPT-2 has them.
    shape = NewModel(family="gpt2", n_embd=768, n_layer=12, n_head=12)
    assert flops_per_token(shape.facts, 1024) == pytest.approx(72 * 12 * 768**2 + 12 * 12 * 768 * 1024, rel=2e-3)


def test_the_formulas_at_figures_computed_by_hand() -> None:
    # 10^-2.125 is 0.00749894, 10^-2.5 is 0.00316228
    assert optimal_lr(1e17) == pytest.approx(0.3118 * 0.00749894, rel=1e-5)
    assert optimal_lr(1e20) == pytest.approx(9.8600e-4, rel=1e-4)
    # 10^5.5607 is 363 664, 10^6.542 is 3 483 373
    assert optimal_batch_tokens(1e17) == pytest.approx(0.292 * 363_664, rel=1e-4)
    assert optimal_batch_tokens(1e20) == pytest.approx(1_017_145, rel=1e-4)


@pytest.mark.parametrize("name", PUBLISHED)
def test_they_give_what_the_paper_trained_with(name: str) -> None:
    model, sequences, lr = PUBLISHED[name]
    compute = 2e12 * flops_per_token(model.facts, 4096)
    assert optimal_lr(compute) == pytest.approx(lr, rel=0.02)
    assert optimal_batch_tokens(compute) == pytest.approx(4096 * sequences, rel=0.05)


def test_auto_is_replaced_by_numbers() -> None:
    run = plan(budget={"tokens": "4M"}, batch_tokens="auto", optimizer={"lr": "auto"}).runs["small"]
    assert run.optimizer.lr == pytest.approx(optimal_lr(flops(4_000_000)), rel=0.005)
    # 0.292 x (3.69e12)^0.3271 is 3 779 tokens, 29.5 sequences: 32 is nearer than 24.
    assert optimal_batch_tokens(flops(4_000_000)) / 128 == pytest.approx(29.5, abs=0.1)
    assert run.batch_tokens == 32 * 128
    assert run.optimizer.name == "adamw" and run.optimizer.weight_decay == 0.1


def test_one_may_be_auto_without_the_other() -> None:
    run = plan(budget={"tokens": "4M"}, batch_tokens="auto", optimizer={"lr": 1e-3}).runs["small"]
    assert (run.batch_tokens, run.optimizer.lr) == (4096, 1e-3)
    run = plan(budget={"tokens": "4M"}, batch_tokens=1280, optimizer={"name": "muon", "momentum": 0.9, "lr": "auto"})
    run = run.runs["small"]
    assert (run.batch_tokens, run.optimizer.name, run.optimizer.momentum) == (1280, "muon", 0.9)
    assert run.optimizer.lr == pytest.approx(optimal_lr(flops(4_000_000)), rel=0.005)
    steps = plan(budget={"steps": 100}, batch_tokens=1280, optimizer={"lr": "auto"}).runs["small"]
    assert steps.optimizer.lr == pytest.approx(optimal_lr(flops(128_000)), rel=0.005)


def test_a_run_without_auto_is_left_alone_whatever_its_budget() -> None:
    run = plan(budget={"epochs": 2}).runs["small"]
    assert (run.batch_tokens, run.optimizer.lr) == (2048, 4e-3)


def test_specs_have_numbers() -> None:
    spec = plan(budget={"tokens": "4M"}, batch_tokens="auto", optimizer={"lr": "auto"}).runs["small"].spec()
    assert isinstance(spec["batch_tokens"], int) and isinstance(spec["optimizer"]["lr"], float)


def test_a_variant_has_numbers_of_its_own() -> None:
    raw = changed(DEFAULT, "runs.tiny.optimizer.lr", "auto")
    raw = changed(raw, "runs.tiny.batch_tokens", "auto")
    raw = changed(raw, "runs.tiny.budget", {"tokens": "1M"})
    raw = changed(raw, "studies.batch-size.vary", {"budget.tokens": ["1M", "100M"]})
    runs = Plan(check(raw)).runs
    assert list(runs) == ["tiny", "tiny+budget.tokens=100M"]
    short, long = runs.values()
    # A hundred times the compute: lr x 100^-0.125, batch x 100^0.3271 = 4.51, to the next round number.
    assert long.optimizer.lr / short.optimizer.lr == pytest.approx(0.5623, rel=0.01)
    assert 3.3 < long.batch_tokens / short.batch_tokens < 6.1


def test_a_variant_may_say_auto_where_its_base_has_a_number_and_the_other_way_round() -> None:
    raw = changed(DEFAULT, "studies.batch-size.vary", {"optimizer.lr": ["auto", 1e-3]})
    runs = Plan(check(raw)).runs
    assert list(runs) == ["tiny", "tiny+optimizer.lr=auto", "tiny+optimizer.lr=0.001"]
    assert runs["tiny+optimizer.lr=0.001"].optimizer.lr == 1e-3
    tiny = runs["tiny"]
    expected = optimal_lr(tiny.budget.tokens * flops_per_token(tiny.model.facts, tiny.seq_len))
    assert runs["tiny+optimizer.lr=auto"].optimizer.lr == pytest.approx(expected, rel=0.005)


@pytest.mark.parametrize(
    "run",
    [
        {"budget": {"epochs": 1}, "optimizer": {"lr": "auto"}},
        {"budget": {"epochs": 1}, "batch_tokens": "auto"},
        {"budget": {"steps": 100}, "batch_tokens": "auto"},
        {"budget": {"steps": 100}, "batch_tokens": "auto", "optimizer": {"lr": "auto"}},
    ],
)
def test_auto_without_known_tokens_is_one_line(run: dict) -> None:
    with pytest.raises(SeedbedError) as caught:
        plan(**run)
    told = str(caught.value)
    assert told == "config: runs.small: auto follows from the tokens of a run: expected budget.tokens"


def test_a_variant_without_known_tokens_is_told_as_the_study() -> None:
    raw = changed(DEFAULT, "runs.tiny.optimizer.lr", "auto")
    raw = changed(raw, "studies.batch-size.vary", {"budget": {"long": {"epochs": 3}}})
    with pytest.raises(SeedbedError, match=r"^config: studies\.batch-size\.vary: auto follows from the tokens"):
        Plan(check(raw)).runs  # noqa: B018


def test_the_batch_is_a_number_of_sequences_that_many_processes_divide() -> None:
    round_numbers = {factor * 2**power for power in range(20) for factor in (1, 3)}
    for tokens in ("100k", "1M", "10M", "1G", "100G"):
        run = plan(budget={"tokens": tokens}, batch_tokens="auto").runs["small"]
        sequences, rest = divmod(run.batch_tokens, 128)
        assert not rest and sequences in round_numbers
        wanted = optimal_batch_tokens(flops(run.budget.tokens)) / 128
        assert wanted / 1.34 < sequences < wanted * 1.34  # neighbours are 3/2 or 4/3 apart


@pytest.mark.parametrize(
    ("number", "found"), [(0.01, 1), (1, 1), (1.6, 2), (2.6, 3), (5.1, 6), (7.2, 8), (10.1, 12), (100, 96), (113, 128)]
)
def test_the_nearest_round_number(number: float, found: int) -> None:
    assert nearest_round(number, most=1000) == found
    assert nearest_round(number, most=5) == min(found, 4)


def test_a_batch_found_by_itself_never_exceeds_the_budget() -> None:
    # The formula wants more than these few tokens; the nearest round number to their 5.5 sequences is 6.
    large = NewModel(
        family="llama", hidden_size=2048, intermediate_size=8192, num_hidden_layers=24, num_attention_heads=16
    )
    run = plan(model=large.model_dump(), budget={"tokens": 704}, batch_tokens="auto").runs["small"]
    assert run.batch_tokens == 4 * 128
