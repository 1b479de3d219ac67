"""Answer CMMLU by lm-evaluation-harness; `cmmlu.py` runs this with an interpreter that has it.

    python benchmarks/harness.py MODEL DATA OUT SHOTS BATCH_SIZE THREADS SUBJECT...

Writes to OUT, as JSON: the seconds of its `loglikelihood`, and for each question by subject the four log-probabilities
with the `acc` and `acc_norm` that the task makes of them. The task is the harness's own, its questions the local ones.
"""

import csv
import json
import sys
import tempfile
import time
from pathlib import Path

import lm_eval
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager


def as_parquet(source: Path, target: Path) -> str:
    """A CSV file with every cell as the text that it is: read as CSV, `1.0` would become a number."""
    with source.open(encoding="utf-8", newline="") as stream:
        header, *records = csv.reader(stream)
    columns = [pa.array(cells, pa.string()) for cells in zip(*records, strict=True)]
    target.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns, header), target)
    return str(target)


def local_tasks(data: Path, subjects: list[str], folder: Path) -> dict:
    """The harness's tasks of those subjects, with local questions."""
    shipped = Path(lm_eval.__file__).parent / "tasks" / "cmmlu"
    for subject in subjects:
        files = {
            split: as_parquet(data / split / f"{subject}.csv", folder / split / f"{subject}.parquet")
            for split in ("dev", "test")
        }
        changes = {"task": f"local_{subject}", "dataset_path": "parquet", "dataset_name": None}
        changes |= {"include": str(shipped / f"cmmlu_{subject}.yaml"), "dataset_kwargs": {"data_files": files}}
        (folder / f"{subject}.yaml").write_text(yaml.safe_dump(changes), encoding="utf-8")
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    tasks = manager.load([f"local_{subject}" for subject in subjects])["tasks"]
    return {subject: tasks[f"local_{subject}"] for subject in subjects}


def main() -> None:
    model, data, out = map(Path, sys.argv[1:4])
    shots, batch_size, threads = map(int, sys.argv[4:7])
    torch.set_num_threads(threads)
    lm = HFLM(str(model), dtype="float32", device="cpu", batch_size=batch_size)
    requests, asked = [], []
    with tempfile.TemporaryDirectory() as folder:
        for subject, task in local_tasks(data, sys.argv[7:], Path(folder)).items():
            task.set_config("num_fewshot", shots)
            task.build_all_requests()
            requests += task.instances
            asked += [(subject, task, task.instances[start]) for start in range(0, len(task.instances), 4)]
    started = time.perf_counter()
    found = lm.loglikelihood(requests, disable_tqdm=True)
    seconds = time.perf_counter() - started
    answers = {}
    for number, (subject, task, instance) in enumerate(asked):
        four = found[4 * number : 4 * number + 4]
        scores = task.process_results(instance.doc, four)
        answers.setdefault(subject, []).append(
            {"log_p": [log_p for log_p, _ in four], "acc": scores["acc"], "acc_norm": scores["acc_norm"]}
        )
    facts = {"version": lm_eval.__version__, "seconds": seconds, "answers": answers}
    out.write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main()
