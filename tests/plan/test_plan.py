import pytest
from support import changed, first_study

from seedbed.config.load import check
from seedbed.errors import SeedbedError
from seedbed.plan import Plan
from seedbed.plan.forecast import derived
from seedbed.plan.specs import evaluation_spec, model_spec, study_spec, tokenizer_spec

DEFAULT = first_study()


def plan_of(path: str, value: object) -> Plan:
    return Plan(check(changed(DEFAULT, path, value)))


def vary(**values: object) -> Plan:
    return plan_of("studies.batch-size.vary", {key.replace("__", "."): value for key, value in values.items()})


def test_a_variant_is_named_by_what_it_changes() -> None:
    assert list(Plan(check(DEFAULT)).runs) == ["tiny", "tiny+batch_tokens=4Ki", "tiny+batch_tokens=8Ki"]


def test_values_equal_to_the_base_are_not_in_the_name() -> None:
    plan = vary(batch_tokens=["2Ki", "8Ki"], model__num_hidden_layers=[4, 5])
    assert [variant.run for variant in plan.studies["batch-size"]] == [
        "tiny",
        "tiny+model.num_hidden_layers=5",
        "tiny+batch_tokens=8Ki",
        "tiny+batch_tokens=8Ki+model.num_hidden_layers=5",
    ]
    assert plan.runs["tiny+model.num_hidden_layers=5"].model.num_hidden_layers == 5


def test_equal_runs_of_two_studies_are_one_node() -> None:
    raw = changed(DEFAULT, "runs.bigger", {**DEFAULT["runs"]["tiny"], "batch_tokens": 4096})
    plan = Plan(check(raw))
    assert list(plan.runs) == ["tiny", "bigger", "tiny+batch_tokens=8Ki"]
    assert [variant.run for variant in plan.studies["batch-size"]] == ["tiny", "bigger", "tiny+batch_tokens=8Ki"]


def test_mappings_are_varied_under_a_label() -> None:
    schedules = {"flat": {"kind": "constant"}, "wsd": {"kind": "wsd", "stable_ratio": 0.5}}
    plan = vary(schedule=schedules)
    assert list(plan.runs) == ["tiny", "tiny+schedule=flat", "tiny+schedule=wsd"]
    assert plan.runs["tiny+schedule=wsd"].schedule.stable_ratio == 0.5


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("runs.tiny.model", "tin", "runs.tiny.model: no model is called 'tin'; did you mean 'tiny'"),
        ("runs.tiny.corpus", "old", "runs.tiny.corpus: no corpus is called 'old'; valid: news"),
        ("runs.tiny.tokenizer", "news-8k", "no tokenizer is called 'news-8k'; did you mean 'news-4k'"),
        ("tokenizers.news-4k.corpus", "new", "tokenizers.news-4k.corpus: no corpus is called 'new'"),
        ("studies.batch-size.base", "tinny", "studies.batch-size.base: no run is called 'tinny'; did you mean 'tiny'"),
        ("studies.batch-size.evaluate", ["perplex"], "no evaluation is called 'perplex'; did you mean 'perplexity'"),
        ("runs.tiny.init", {"run": "tinny"}, "runs.tiny.init.run: no run is called 'tinny'"),
        ("runs.tiny.init", {"run": "tiny"}, "cyclic: tiny -> tiny"),
        (
            "runs.tiny+batch_tokens=4Ki",
            {**DEFAULT["runs"]["tiny"], "seed": 9},
            "two different runs would be called 'tiny+batch_tokens=4Ki'",
        ),
        (
            "runs.big",
            {
                **DEFAULT["runs"]["tiny"],
                "seq_len": 128,
                "init": {"run": "tiny"},
                "model": {**DEFAULT["models"]["tiny"], "num_hidden_layers": 5},
            },
            "'tiny' has a different model",
        ),
        ("corpora.news.split", {"valid": 0, "test": 0.1}, "needs the valid split; corpora.news.split.valid is 0"),
        ("corpora.news.split", {"valid": 0.1, "test": 0}, "needs the test split"),
        ("studies.batch-size.vary", {"schedule": {"a b": {"kind": "linear"}}}, "studies.batch-size.vary.schedule"),
        ("studies.batch-size.vary", {"budget.tokens": ["1 Mi"]}, "'tiny+budget.tokens=1 Mi' is not a valid name"),
        ("runs.tiny.budget", {"tokens": 100}, "100 is less than a batch of 2048"),
        ("models.tiny.max_position_embeddings", 128, "seq_len 256 does not fit the 128 positions"),
        ("studies.batch-size.vary", {"batch_token": [1]}, "batch_token: unknown key; did you mean 'batch_tokens'"),
        ("studies.batch-size.vary", {"batch_tokens": [100]}, "vary.batch_tokens: batch_tokens 100 does not divide"),
        ("studies.batch-size.vary", {"schedule": [{"kind": "linear"}]}, "needs a label"),
        ("studies.batch-size.vary", {"seq_len.x": [1]}, "seq_len is not a mapping"),
        (
            "studies.batch-size.plots",
            [{"kind": "cmmlu", "evaluation": "forgetting"}],
            "'forgetting' is of kind 'forgetting'",
        ),
        (
            "studies.batch-size.plots",
            [{"kind": "forgetting", "evaluation": "none"}],
            "no evaluation of this study is called 'none'",
        ),
    ],
)
def test_what_leads_nowhere_is_one_line(path: str, value: object, told: str) -> None:
    with pytest.raises(SeedbedError) as caught:
        plan_of(path, value)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_learned_positions_limit_what_starts_from_them() -> None:
    raw = changed(DEFAULT, "models.tiny", {"family": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2})
    raw["runs"]["longer"] = raw["runs"]["tiny"] | {"init": {"run": "tiny"}, "seq_len": 512}
    with pytest.raises(SeedbedError, match="seq_len 512 does not fit the 256 positions that 'tiny' has learned"):
        Plan(check(raw))


def test_a_longer_circle_of_init_is_found() -> None:
    raw = changed(DEFAULT, "runs.a", {**DEFAULT["runs"]["tiny"], "init": {"run": "b"}})
    raw["runs"]["b"] = {**DEFAULT["runs"]["tiny"], "init": {"run": "a"}}
    with pytest.raises(SeedbedError, match="cyclic: a -> b -> a"):
        Plan(check(raw))


def test_a_spec_says_nothing_of_names_or_of_other_stages() -> None:
    before, after = Plan(check(DEFAULT)), plan_of("evaluations.forgetting.lengths", [1, 2])
    assert before.runs["tiny"].spec() == after.runs["tiny"].spec()
    assert evaluation_spec(before, "forgetting") != evaluation_spec(after, "forgetting")
    assert not {"corpus", "tokenizer"} & set(before.runs["tiny"].spec())


def test_facts_follow_from_the_configuration() -> None:
    plan = plan_of("results", "/nowhere")
    facts = derived(plan, plan.runs["tiny"])
    assert facts["steps"] == 384
    assert facts["amount"] == 768 * 1024
    assert facts["parameters"] == 1_377_408
    assert facts["checkpoint_bytes"] == 12 * 1_377_408


ELSEWHERE = changed(DEFAULT, "models.qwen", {"from": "someone/qwen", "revision": "abc"})
ELSEWHERE = changed(ELSEWHERE, "studies.batch-size.models", ["qwen"])
for name in ("perplexity", "forgetting", "history"):
    ELSEWHERE = changed(ELSEWHERE, f"evaluations.{name}.corpus", "news")


def test_models_that_were_trained_elsewhere_are_measured_beside_runs() -> None:
    plan = Plan(check(ELSEWHERE))
    assert plan.subjects("batch-size") == [*plan.runs, "qwen"]
    assert study_spec(plan, "batch-size")["models"] == ["qwen"]
    assert plan.tokenizer_of("qwen") == "qwen"
    assert tokenizer_spec(plan, "qwen") == {"from": "someone/qwen", "revision": "abc", "eos_token": None}
    assert model_spec(plan, "qwen") == {"from": "someone/qwen", "revision": "abc"}
    assert plan.training_corpora("qwen") == []
    assert "corpus" not in evaluation_spec(plan, "perplexity")


def test_an_evaluation_may_name_its_corpus() -> None:
    raw = changed(DEFAULT, "corpora.other", DEFAULT["corpora"]["news"])
    plan = Plan(check(changed(raw, "evaluations.perplexity.corpus", "other")))
    evaluations = plan.config.evaluations
    read = {
        name: evaluation.inputs(name, "tiny", plan)
        for name, evaluation in evaluations.items()
        if evaluation.subject == "causal-lm"
    }
    assert read["perplexity"] == {"tokens": "tokens/other/news-4k/index.json"}
    assert read["forgetting"] == {"tokens": "tokens/news/news-4k/index.json"}
    assert read["samples"] == {}


def test_what_a_run_started_from_has_been_learned_from_too() -> None:
    raw = changed(DEFAULT, "corpora.other", DEFAULT["corpora"]["news"])
    raw = changed(raw, "runs.next", {**DEFAULT["runs"]["tiny"], "corpus": "other", "init": {"run": "tiny"}})
    assert Plan(check(raw)).training_corpora("next") == ["other", "news"]


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (
            "evaluations.perplexity.corpus",
            None,
            "evaluations.perplexity.corpus: missing; 'qwen' has no corpus of its own",
        ),
        ("evaluations.forgetting.corpus", "new", "evaluations.forgetting.corpus: no corpus is called 'new'"),
        ("corpora.news.split", {"valid": 0.1, "test": 0}, "evaluations.perplexity: needs the test split"),
        (
            "runs.tiny.model",
            "qwen",
            "runs.tiny.model: 'qwen' is an external model; expected one with a family",
        ),
        ("studies.batch-size.models", ["tiny"], "studies.batch-size.models: no external model is called 'tiny'"),
        ("models.tiny+batch_tokens=4Ki", {"from": "x"}, "models.tiny.batch_tokens=4Ki: a run has this name"),
        ("models.news-4k", {"from": "x"}, "models.news-4k: a tokenizer has this name"),
        ("models.qwen", {"from": "x", "family": "llama"}, "exactly one of the keys family, from"),
        ("studies.batch-size.plots", [{"kind": "history", "evaluation": "forgetting"}], "needs an evaluation of kind"),
    ],
)
def test_mistakes_about_models_from_elsewhere_are_told(path: str, value: object, told: str) -> None:
    with pytest.raises(SeedbedError, match=told):
        Plan(check(changed(ELSEWHERE, path, value)))


def test_a_study_of_models_alone_draws_no_training() -> None:
    study = {"date": "2026-01-01", "title": "Models", "models": ["qwen"], "evaluate": ["questions"]}
    plan = Plan(check(changed(ELSEWHERE, "studies.models", study)))
    assert plan.subjects("models") == ["qwen"]
    assert plan.studies["models"] == []
    with pytest.raises(SeedbedError, match="plots.0: a plot of the loss needs runs"):
        Plan(check(changed(ELSEWHERE, "studies.models", {**study, "plots": [{"kind": "loss"}]})))
