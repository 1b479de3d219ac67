"""The table of a study: a row per run."""

import pandas as pd

from seedbed.report.gather import Gathered


def study_table(study: Gathered) -> pd.DataFrame:
    """What was varied, what it cost and what came out, one run per row; columns of evaluations carry their name."""
    return pd.DataFrame([row(study, variant) for variant in study.spec["variants"]])


def row(study: Gathered, variant: dict) -> dict:
    run, summary = variant["run"], study.summary(variant["run"])
    facts = {"run": run} | {key: value for key, value in variant["values"].items() if key != "run"}
    for key in ("parameters", "steps", "tokens", "loss", "valid_loss", "tokens_per_second", "seconds", "device_hours"):
        facts[key] = summary[key]
    facts["peak_memory_bytes"] = summary["peak_memory_bytes"].get("device", summary["peak_memory_bytes"]["host"])
    for name in study.of_kind("perplexity"):
        for split, scores in study.evaluation(run, name)["splits"].items():
            facts |= {
                f"{name}.{split}.{key}": scores[key]
                for key in ("perplexity", "loss", "unigram_loss", "bits_per_byte", "word_loss")
            }
    for name in study.of_kind("forgetting"):
        for text, curve in study.evaluation(run, name)["curves"].items():
            facts |= {f"{name}.{text}.{zone}": length for zone, length in curve["zones"].items()}
    for name in study.of_kind("cmmlu"):
        for shots, scores in study.evaluation(run, name)["shots"].items():
            facts |= {f"{name}.{shots}-shot.{key}": scores[key] for key in ("micro", "macro")}
            facts |= {
                f"{name}.{shots}-shot.{side}": value
                for side, value in zip(("low", "high"), scores["interval"], strict=True)
            }
    return facts
