"""The table of a study: a row per run, and per model that was trained elsewhere."""

import pandas as pd

from seedbed.report.results import StudyResults

COSTS = ("parameters", "steps", "tokens", "loss", "valid_loss", "tokens_per_second", "seconds", "device_hours")


def study_table(study: StudyResults) -> pd.DataFrame:
    """What was varied, what it cost and what came out; columns of evaluations carry their name."""
    runs = [costs(study, variant) | figures(study, variant["run"]) for variant in study.spec["variants"]]
    return pd.DataFrame(runs + [{"run": model} | figures(study, model) for model in study.spec["models"]])


def costs(study: StudyResults, variant: dict) -> dict:
    summary = study.summary(variant["run"])
    varied = {key: value for key, value in variant["values"].items() if key != "run"}
    peaks = summary["peak_memory_bytes"]
    memory = {"peak_memory_bytes": peaks.get("device", peaks["host"])}
    return {"run": variant["run"]} | varied | {key: summary[key] for key in COSTS} | memory


def figures(study: StudyResults, subject: str) -> dict:
    """The figures of all evaluations of a run or model."""
    found = {}
    for name, kind in study.spec["evaluations"].items():
        for key, value in FIGURES[kind](study.evaluation(subject, name)).items():
            found[f"{name}.{key}"] = value
    return found


def perplexity(result: dict) -> dict:
    keys = ("perplexity", "loss", "unigram_loss", "bits_per_byte", "word_loss")
    return {f"{split}.{key}": scores[key] for split, scores in result["splits"].items() for key in keys}


def forgetting(result: dict) -> dict:
    return {f"{text}.{zone}": end for text, curve in result["curves"].items() for zone, end in curve["zones"].items()}


def history(result: dict) -> dict:
    gain = result["overall"]["gain"]
    return {"gain": gain["loss"], "low": gain["interval"][0], "high": gain["interval"][1]}


def cmmlu(result: dict) -> dict:
    found = {}
    for shots, scores in result["shots"].items():
        named = {"micro": scores["micro"], "macro": scores["macro"], "margin": scores["margin"]}
        named |= dict(zip(("low", "high"), scores["interval"], strict=True))
        named |= {category: facts["macro"] for category, facts in scores["categories"].items()}
        found |= {f"{shots}-shot.{key}": value for key, value in named.items()}
    return found


def samples(result: dict) -> dict:
    keys = ("repetition", "distinct_1", "distinct_2", "distinct_3")
    return {f"{one['label']}.{key}": one[key] for one in result["settings"] for key in keys}


def reconstruction(result: dict) -> dict:
    found = {}
    for one in result["settings"]:
        named = {"bleu": one["bleu"], "exact": one["exact"], "ratio": one["ratio"]}
        for task in ("ae", "lm"):
            named |= {f"{task}_loss.{view}": figures["loss"] for view, figures in one[task].items()}
        named |= {f"ae_accuracy.{view}": figures["accuracy"] for view, figures in one["ae"].items()}
        gain = one["gain"]["none"]
        named |= {"gain": gain["mean"], "low": gain["interval"][0], "high": gain["interval"][1]}
        setting = f"{one['text']}-{one['length']}-rate-{one['rate']}"
        found |= {f"{setting}.{key}": value for key, value in named.items()}
    return found


FIGURES = {
    "perplexity": perplexity,
    "forgetting": forgetting,
    "history": history,
    "cmmlu": cmmlu,
    "samples": samples,
    "reconstruction": reconstruction,
}
