from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT, changed, default_config, first_study

from seedbed.config.load import check, load
from seedbed.config.schema import schema_text
from seedbed.data.config import Split
from seedbed.errors import SeedbedError
from seedbed.objectives.icae.config import IcaeRun
from seedbed.objectives.lm.config import LanguageModelRun
from seedbed.plan import Plan
from seedbed.plan.specs import corpus_spec

DEFAULT, FIRST = default_config(), first_study()


def message(raw: dict) -> str:
    with pytest.raises(SeedbedError) as caught:
        check(raw)
    text = str(caught.value)
    assert "\n" not in text
    return text


MISTAKES = [
    ("runz", {}, ["runz", "unknown key", "'runs'"]),
    ("runs.tiny.batch_token", 4096, ["runs.tiny.batch_token", "unknown key", "'batch_tokens'"]),
    ("corpora.news.source.sha25", "", ["corpora.news.source.sha25", "'sha256'"]),
    ("runs.tiny.seq_len", "long", ["runs.tiny.seq_len", "whole number", "'long'"]),
    ("runs.tiny.seq_len", True, ["runs.tiny.seq_len", "True"]),
    ("runs.tiny.optimizer.lr", -1, ["runs.tiny.optimizer.lr", "greater than 0", "-1"]),
    ("runs.tiny.optimizer.lr", float("nan"), ["runs.tiny.optimizer.lr", "nan"]),
    ("runs.tiny.schedule", {"kind": "cosin"}, ["runs.tiny.schedule.kind", "'cosin'", "did you mean 'cosine'"]),
    (
        "runs.tiny.schedule",
        {"kind": "linear", "warmup_steps": 1, "warmup_ratio": 0.1},
        ["runs.tiny.schedule", "found both"],
    ),
    ("runs.tiny.precision", "fp8", ["runs.tiny.precision", "'fp8'", "fp32"]),
    ("runs.tiny.budget", {}, ["runs.tiny.budget", "exactly one of tokens, steps, epochs"]),
    ("runs.tiny.batch_tokens", 5000, ["runs.tiny", "5000", "seq_len 256", "4864 or 5120"]),
    ("runs", 3, ["runs: expected a mapping; found 3"]),
    ("corpora.news.source", {"path": "x"}, ["corpora.news.source", "package, url, files, hub"]),
    ("corpora.news.split", {"valid": 0.5, "test": 0.5}, ["corpora.news.split", "nothing for training"]),
    ("corpora.news.split", {"valid": 2}, ["corpora.news.split.valid: ", "less than or equal to 1; found 2"]),
    ("corpora.news.split", {"valid": None}, ["corpora.news.split.valid: ", "number"]),
    ("corpora.news.split", {"valid": "x.txt"}, ["corpora.news.split.valid: ", "number", "'x.txt'"]),
    ("corpora.news.split", {"valid": {"hub": "x"}}, ["corpora.news.split.valid.split: missing"]),
    ("corpora.news.split", {"valid": {"hub": "x", "revision": "y"}}, ["corpora.news.split.valid.split: missing"]),
    ("corpora.news.split", {"test": {"hub": "x", "split": "test"}}, ["corpora.news.split.test.revision: missing"]),
    (
        "corpora.news.split",
        {"valid": {"hub": "x", "split": "test", "revison": "y"}},
        ["corpora.news.split.valid.revison: unknown key; did you mean 'revision'"],
    ),
    (
        "corpora.news.split",
        {"valid": {"url": "https://example.org/x", "sha256": "0" * 64}},
        ["corpora.news.split.valid: expected a mapping with exactly one of the keys files, hub"],
    ),
    ("corpora.news.split", {"valid": {"files": "x"}, "test": 1}, ["corpora.news.split", "nothing for training: 1.0;"]),
    ("corpora.news.split", {"valid": {"files": []}}, ["corpora.news.split.valid.files"]),
    ("tokenizers.news-4k.vocab_size", 10, ["tokenizers.news-4k.vocab_size", "260"]),
    ("evaluations.perplexity.window", 0, ["evaluations.perplexity.window", "0"]),
    ("evaluations.forgetting.lengths", [], ["evaluations.forgetting.lengths"]),
    ("runs.tiny.optimizer.betas", [0.9, 1.0], ["runs.tiny.optimizer.betas", "less than 1"]),
    ("runs.tiny.budget", {"tokens": "1e400"}, ["runs.tiny.budget.tokens", "whole number"]),
    *(
        ("corpora.news.text", text, ["corpora.news.text: ", "name of a field, or a template", repr(text)])
        for text in (
            *("{title.x}", "{a[0]}", "{a.__class__}", "{a!z}", "{a!r}", "{a:>10}", "{a:{b}}", "{}", "{0}", "{a b}"),
            *("{", "}", "{a!}", "{{title}}", ""),
        )
    ),
    ("corpora.news.max_record_bytes", 0, ["corpora.news.max_record_bytes", "greater than or equal to 1", "0"]),
    ("corpora.news.max_record_bytes", "a lot", ["corpora.news.max_record_bytes", "whole number"]),
    ("corpora.news.source.package", "--pre==1", ["corpora.news.source.package"]),
    ("corpora.news.source", {"files": []}, ["corpora.news.source"]),
    ("results", "my results; rm", ["results", "letters, digits"]),
    ("evaluations.forgetting.repeats", 5, ["evaluations.forgetting.repeats", "6"]),
    ("studies.batch-size.date", "soon", ["studies.batch-size.date", "'soon'"]),
    ("studies.batch-size.runs", ["tiny"], ["studies.batch-size", "either base"]),
    ("studies.batch-size.vary", {"batch_tokens": []}, ["vary.batch_tokens", "at least one value"]),
]


@pytest.mark.parametrize(("path", "value", "told"), MISTAKES, ids=[f"{path}={value}" for path, value, _ in MISTAKES])
def test_a_mistake_is_one_line_with_path_and_what_fits(path: str, value: Any, told: list[str]) -> None:
    text = message(changed(DEFAULT, path, value))
    assert all(part in text for part in told), text


@pytest.mark.parametrize("name", ["a/b", "../up", ".hidden", "-x", "a b", "a;b", ""])
def test_a_name_that_would_not_do_as_a_file_is_refused(name: str) -> None:
    raw = deepcopy(DEFAULT)
    raw["runs"][name] = raw["runs"]["tiny"]
    assert f"runs.{name}: a name has" in message(raw)


@pytest.mark.parametrize("results", ["x" * 300, "x/" * 600, "中" * 100], ids=len)
def test_a_place_that_no_file_system_takes_is_refused(results: str) -> None:
    told = "config: results: expected a directory of at most 1000 bytes, 255 between slashes; found 'x"
    assert message(DEFAULT | {"results": results}).startswith(told.replace("'x", f"'{results[0]}"))


def test_values_that_nest_without_end_are_refused() -> None:
    endless = []
    endless.append(endless)
    raw = changed(DEFAULT, "runs.tiny.seq_len", 1)
    raw["runs"]["tiny"]["seq_len"] = endless
    assert message(raw) == "config: runs.tiny.seq_len.0.0: values nest deeper than 100"


def test_a_missing_key_is_named() -> None:
    raw = deepcopy(DEFAULT)
    del raw["runs"]["tiny"]["seq_len"]
    assert "runs.tiny.seq_len: missing" in message(raw)


def test_numbers_that_yaml_reads_as_text_are_numbers() -> None:
    raw = yaml.safe_load("lr: 1e-3")
    assert raw == {"lr": "1e-3"}
    assert check(changed(DEFAULT, "runs.tiny.optimizer", raw)).runs["tiny"].optimizer.lr == 0.001


def test_files_that_are_no_configuration_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SeedbedError, match="no such file"):
        load(tmp_path / "absent.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("runs: [", encoding="utf-8")
    with pytest.raises(SeedbedError, match="not valid YAML") as caught:
        load(broken)
    assert "\n" not in str(caught.value)


def test_a_split_may_have_a_source_of_its_own() -> None:
    hub = {"hub": "deepmind/pg19", "split": "validation", "revision": "abc"}
    raw = changed(DEFAULT, "corpora.news.split", {"valid": hub, "test": {"files": ["a", "b"]}})
    assert corpus_spec(Plan(check(raw)), "news")["split"] == {
        "valid": hub | {"name": None},
        "test": {"files": ["a", "b"]},
    }
    split = check(raw).corpora["news"].split
    assert Split(valid=split.valid, test=split.test) == split
    raw["corpora"]["news"]["split"]["test"] = "0.2"
    assert corpus_spec(Plan(check(raw)), "news")["split"]["test"] == 0.2
    raw["corpora"]["news"]["split"]["test"] = 0
    with pytest.raises(SeedbedError, match="needs the test split; corpora.news.split.test is 0"):
        Plan(check(raw))


def test_a_split_that_is_the_source_itself_is_refused() -> None:
    source = {"hub": "deepmind/pg19", "split": "train", "revision": "abc"}
    raw = changed(DEFAULT, "corpora.news.source", source)
    raw["corpora"]["news"]["split"] = {"test": source}
    assert "corpora.news: split.test is the source itself" in message(raw)
    raw["corpora"]["news"]["split"] = {"test": source | {"split": "test"}}
    assert check(raw).corpora["news"].split.test.split == "test"


def test_templates_and_names_of_fields_are_kept_as_written() -> None:
    for text in ("text", "a.b", "post title", "{title}: {text}", "{{{title}}}", "{标题}\n{text}"):
        assert check(changed(DEFAULT, "corpora.news.text", text)).corpora["news"].text == text


def test_a_record_has_a_largest_size() -> None:
    raw = deepcopy(DEFAULT)
    assert raw["corpora"]["news"].pop("max_record_bytes") == "64M"
    assert corpus_spec(Plan(check(raw)), "news")["max_record_bytes"] == 64_000_000


def test_the_default_explains_every_key_of_a_run() -> None:
    assert set(DEFAULT["runs"]["tiny"]) == set(LanguageModelRun.model_fields) - {"init"}
    said = set(DEFAULT["runs"]["icae"]) | set(DEFAULT["runs"]["tiny"])
    assert set(IcaeRun.model_fields) - said == {"init", "min_seq_len"}


def test_the_schema_is_in_step() -> None:
    assert (ROOT / "workflow" / "schemas" / "config.schema.json").read_text(encoding="utf-8") == schema_text()
