"""What a report shows of samples."""

from seedbed.evaluate.samples.result import Result
from seedbed.report.contract import Report


def columns(result: Result) -> dict:
    keys = ("repetition", "distinct_1", "distinct_2", "distinct_3")
    return {f"{one['label']}.{key}": one[key] for one in result["settings"] for key in keys}


REPORT = Report(columns)
