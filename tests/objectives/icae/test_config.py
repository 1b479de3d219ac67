"""What a configuration may say of in-context autoencoders, and how a plan takes it."""

import json

import pytest
from support import changed, default_config

from seedbed.config.load import check
from seedbed.errors import SeedbedError
from seedbed.plan import Plan
from seedbed.plan.forecast import forecast
from seedbed.plan.specs import contexts_spec, evaluation_spec

DEFAULT = default_config()

LORA = {"r": 8, "alpha": 16}
ADAPTED = changed(changed(DEFAULT, "runs.icae.init", {"run": "tiny"}), "runs.icae.lora", LORA)
ELSEWHERE = changed(DEFAULT, "models.qwen", {"from": "someone/qwen", "revision": "abc"})
ELSEWHERE["runs"]["icae"] = DEFAULT["runs"]["icae"] | {"model": "qwen", "tokenizer": "qwen", "lora": LORA}
GPT2 = {"family": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 1, "n_positions": 64}

MISTAKES = [
    (DEFAULT, "runs.icae.objective", "icea", ["runs.icae", "objective", "'icea'", "did you mean 'icae'"]),
    (DEFAULT, "runs.icae.memory_token", 8, ["runs.icae.memory_token", "unknown key", "'memory_tokens'"]),
    (DEFAULT, "runs.icae.corpus", "news", ["runs.icae.corpus", "unknown key"]),
    (DEFAULT, "runs.tiny.layout", "spread", ["runs.tiny.layout", "unknown key"]),
    (DEFAULT, "runs.icae.layout", "spred", ["runs.icae.layout", "'spred'", "'spread'"]),
    (DEFAULT, "runs.icae.memory_tokens", 64, ["runs.icae", "32 tokens is shorter than its memory of 64"]),
    (DEFAULT, "runs.icae.min_seq_len", 4, ["runs.icae", "4 tokens is shorter than its memory of 8"]),
    (DEFAULT, "runs.icae.min_seq_len", 64, ["min_seq_len 64 is more than seq_len 32"]),
    (DEFAULT, "runs.icae.leave_tokens_for_lm", 32, ["leave_tokens_for_lm 32 leaves nothing", "32 tokens"]),
    (DEFAULT, "runs.icae.continuation", 1, ["leave_tokens_for_lm 8 leaves nothing", "1 tokens"]),
    (DEFAULT, "runs.icae.optimizer.lr", "auto", ["runs.icae", "auto is a formula for language models"]),
    (DEFAULT, "runs.icae.contexts", "new", ["runs.icae.contexts", "'new'", "did you mean 'news'"]),
    (DEFAULT, "runs.icae.lora", LORA, ["runs.icae.lora", "never trained", "lora: null"]),
    (DEFAULT, "runs.icae.decoder", "frozen", ["runs.icae.decoder", "never trained", "shared or trained"]),
    (DEFAULT, "contexts.news.max_chars", 100, ["contexts.news", "max_chars 100 is less than min_chars 1024"]),
    (DEFAULT, "contexts.news", {"hub": "x"}, ["contexts.news", "corpus, control"]),
    (DEFAULT, "contexts.news.corpus", "new", ["contexts.news.corpus", "'new'", "'news'"]),
    (
        DEFAULT,
        "evaluations.reconstruction.lengths",
        [4],
        ["reconstruction.lengths", "4 tokens", "'icae+layout=default', 8"],
    ),
    (DEFAULT, "evaluations.reconstruction.contexts", "new", ["reconstruction.contexts", "'news'"]),
    (
        DEFAULT,
        "studies.icae-positions.evaluate",
        ["perplexity"],
        ["evaluations.perplexity: measures models of kind 'causal-lm'; 'icae", "is of kind 'icae'"],
    ),
    (DEFAULT, "studies.batch-size.evaluate", ["reconstruction"], ["measures models of kind 'icae'; 'tiny'"]),
    (ADAPTED, "runs.icae.init.step", 3, ["runs.icae.init.step", "unknown key"]),
    (
        ADAPTED,
        "runs.icae.init.run",
        "icae",
        ["runs.icae.init", "'icae' is of kind 'icae'; expected 'causal-lm'"],
    ),
    (ADAPTED, "runs.icae.lora.targets", "qv", ["runs.icae.lora.targets", "'qv'"]),
    (ELSEWHERE, "runs.icae.tokenizer", "news-4k", ["runs.icae.tokenizer", "expected that of its model, 'qwen'"]),
    (ELSEWHERE, "runs.icae.init", {"run": "tiny"}, ["runs.icae", "'qwen' is a base already"]),
]


@pytest.mark.parametrize(
    ("base", "path", "value", "told"), MISTAKES, ids=[f"{path}={value}" for _, path, value, _ in MISTAKES]
)
def test_a_mistake_is_one_line_before_anything_runs(base: dict, path: str, value: object, told: list) -> None:
    with pytest.raises(SeedbedError) as caught:
        Plan(check(changed(base, path, value)))
    assert "\n" not in str(caught.value)
    assert all(part in str(caught.value) for part in told), caught.value


@pytest.mark.parametrize(("layout", "told"), [("uniform", "needs rotary ones"), ("default", "needs 41 positions")])
def test_learned_positions_have_to_suffice(layout: str, told: str) -> None:
    raw = changed(changed(DEFAULT, "models.tiny", GPT2 | {"n_positions": 40}), "runs.icae.layout", layout)
    raw = changed(raw | {"studies": {}}, "runs.tiny.seq_len", 32)
    with pytest.raises(SeedbedError, match=told):
        Plan(check(raw))


def test_the_spec_has_no_names_of_its_inputs() -> None:
    spec = Plan(check(ADAPTED)).runs["icae"].spec()
    assert not {"contexts", "tokenizer"} & spec.keys()
    assert spec["init"] == {}
    assert spec["lora"] == {"r": 8, "alpha": 16.0, "dropout": 0.0, "targets": "q,v"}
    assert Plan(check(ELSEWHERE)).runs["icae"].spec()["model"] is None
    assert contexts_spec(Plan(check(DEFAULT)), "news") == {"min_chars": 1024, "max_chars": 4096, "held_out": 48}
    assert "contexts" not in evaluation_spec(Plan(check(DEFAULT)), "reconstruction")


def test_runs_and_evaluations_read_contexts() -> None:
    plan = Plan(check(changed(DEFAULT, "contexts.other", {"control": "random", "documents": 2000, "tokens": 64})))
    assert plan.runs["icae"].tokens == "contexts/news/news-4k"
    evaluation = plan.config.evaluations["reconstruction"]
    inputs = {"tokens": "contexts/news/news-4k/index.json"}
    assert evaluation.inputs("reconstruction", "icae", plan) == inputs
    inputs = {"tokens": "contexts/other/news-4k/index.json"}
    assert evaluation.model_copy(update={"contexts": "other"}).inputs("reconstruction", "icae", plan) == inputs


def test_layouts_and_targets_name_variants() -> None:
    vary = {"layout": ["default", "spread"], "lora.targets": ["q,v", "all-linear"]}
    runs = Plan(check(changed(ADAPTED, "studies.icae-positions.vary", vary))).studies["icae-positions"]
    assert [variant.run for variant in runs] == [
        "icae+layout=default",
        "icae+layout=default+lora.targets=all-linear",
        "icae",
        "icae+lora.targets=all-linear",
    ]


def test_a_dry_run_counts_the_weights_that_follow_from_the_configuration() -> None:
    lines = {line.split()[0]: line.split()[1] for line in forecast(Plan(check(DEFAULT))).splitlines()}
    # Two models and ten embeddings: eight of memory, and those that ask.
    assert lines["icae"] == f"{2 * 1_377_408 + 10 * 128:,}"
    assert forecast(Plan(check(ADAPTED))).splitlines()[2].split()[:2] == ["icae", "?"]
    assert forecast(Plan(check(ELSEWHERE))).splitlines()[2].split()[:2] == ["icae", "?"]


def test_specs_are_plain() -> None:
    for raw in (DEFAULT, ADAPTED, ELSEWHERE):
        assert json.loads(json.dumps(Plan(check(raw)).runs["icae"].spec())) == Plan(check(raw)).runs["icae"].spec()
