"""Tasks against the plainest Python, and problems that follow from their number alone."""

import os
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from seedbed.errors import SeedbedError
from seedbed.objectives.thinker.tasks import LEAST_SPACE, SPLITS, OnNumbers, Problems, Task, generate, task_of

SYMBOLS = 7


def plain(name: str, **parameters: int) -> Task:
    return task_of({"name": name, "symbols": SYMBOLS} | parameters)


def summed(x: list[int]) -> list[int]:
    return [sum(x[: place + 1]) % SYMBOLS for place in range(len(x))]


def rolled(x: list[int], shift: int) -> list[int]:
    found = list(x)
    for place, symbol in enumerate(x):
        found[(place + shift) % len(x)] = symbol
    return found


SOLVED = {
    "copy": ({}, list),
    "flip": ({}, lambda x: x[::-1]),
    "sort": ({}, sorted),
    "cumsum": ({}, summed),
    **{f"roll {n}": ({"shift": n}, lambda x, n=n: rolled(x, n)) for n in (1, 3, 40)},
    **{f"roll_num {n}": ({"add": n}, lambda x, n=n: [(one + n) % SYMBOLS for one in x]) for n in (2, 9)},
    **{f"jump {n}": ({"stride": n}, lambda x, n=n: [x[i * n % len(x)] for i in range(len(x))]) for n in (1, 2, 5, 30)},
}


def rows(problems: Problems) -> list[tuple[list[int], list[int]]]:
    """Inputs and targets up to their lengths."""
    return [
        (problems.inputs[row, : problems.input_lengths[row]].tolist(), target[: problems.target_lengths[row]].tolist())
        for row, target in enumerate(problems.targets)
    ]


@pytest.mark.parametrize("task", SOLVED)
def test_a_task_is_what_it_says_at_every_length(task: str) -> None:
    parameters, solution = SOLVED[task]
    problems = generate(plain(task.split()[0], **parameters), "train", 3, range(500), 1, 12)
    assert set(problems.input_lengths) == set(range(1, 13))
    for x, y in rows(problems):
        assert y == solution(x)


@pytest.mark.parametrize("task", SOLVED)
def test_what_lies_beyond_a_length_does_not_matter(task: str) -> None:
    made = plain(task.split()[0], **SOLVED[task][0])
    lengths = np.array([1, 4, 9])
    x = np.random.default_rng(0).integers(0, SYMBOLS, (3, 9))
    padded = np.where(np.arange(9) < lengths[:, None], x, 0)
    for row, length in enumerate(lengths):
        assert made.solve(x, lengths)[row, :length].tolist() == made.solve(padded, lengths)[row, :length].tolist()


def test_padding_is_zero() -> None:
    problems = generate(plain("copy"), "train", 0, range(200), 1, 9)
    assert not problems.inputs[np.arange(9) >= problems.input_lengths[:, None]].any()
    assert problems.inputs[:, -1].any()


# --- addition ---------------------------------------------------------------------------------------------------------


def added(problems: Problems, base: int, variable: bool) -> list[tuple[int, int, int]]:
    """Both numbers and what is given as their sum, read back from the layout."""

    def number(digits: list[int]) -> int:
        assert all(0 <= digit < base for digit in digits)
        assert digits == [0] or not variable or digits[-1], "a leading zero"
        return sum(digit * base**place for place, digit in enumerate(digits))

    found = []
    for x, y in rows(problems):
        plus = x.index(base)
        assert x[-1] == base + 1
        if variable:
            assert y.pop() == base
        found.append((number(x[:plus]), number(x[plus + 1 : -1]), number(y)))
    return found


@pytest.mark.parametrize("largest", [None, 1000], ids=str)
@pytest.mark.parametrize("base", [2, 10, 16])
@pytest.mark.parametrize("width", ["fixed", "variable"])
def test_sums_are_those_of_python(width: str, base: int, largest: int | None) -> None:
    longest = 40
    task = task_of({"name": "addition", "base": base, "largest": largest, "width": width})
    problems = generate(task, "train", 1, range(400), 1, longest)
    sums = added(problems, base, width == "variable")
    assert all(a + b == total for a, b, total in sums)
    assert max(max(a, b) for a, b, _ in sums) <= (largest or base**longest - 1)
    assert max(a for a, _, _ in sums) > (largest or base**longest) * 0.5
    if width == "fixed":
        assert set(problems.input_lengths) == {2 * longest + 2} and set(problems.target_lengths) == {longest + 1}
    read, answered = task.sizes(longest)
    assert problems.inputs.shape[1] <= read and problems.targets.shape[1] <= answered
    assert problems.inputs.max() < task.inputs and problems.targets.max() < task.outputs


def test_a_length_bounds_the_numbers() -> None:
    for largest in (None, 2**62 - 1):
        task = OnNumbers(10, largest, True)
        for length in (1, 3, 18):
            sums = added(generate(task, "train", 0, range(300), length, length), 10, True)
            assert max(len(str(max(a, b))) for a, b, _ in sums) == length
        sums = added(generate(task, "train", 0, range(300), 1, 6), 10, True)
        assert sum(a < 10 and b < 10 for a, b, _ in sums) == pytest.approx(300 / 6, rel=0.5)


def test_the_largest_number_itself_is_drawn() -> None:
    sums = added(generate(OnNumbers(2, 5, True), "train", 0, range(300), 6, 6), 2, True)
    assert {number for a, b, _ in sums for number in (a, b)} == set(range(6))


@pytest.mark.parametrize("width", ["fixed", "variable"])
def test_a_person_states_a_sum_as_it_is_generated(width: str) -> None:
    task = OnNumbers(10, None, width == "variable")
    assert added(task.read([12, 30]), 10, width == "variable") == [(12, 30, 42)]
    assert added(task.read([0, 10**30]), 10, width == "variable") == [(0, 10**30, 10**30)]
    for wrong in ([1], [1, 2, 3], [-1, 2]):
        with pytest.raises(SeedbedError, match="expected two numbers to add"):
            task.read(wrong)


def test_a_person_states_a_sequence_of_known_symbols() -> None:
    assert rows(plain("copy").read([6, 0, 3]))[0][0] == [6, 0, 3]
    for wrong in ([], [7], [-1]):
        with pytest.raises(SeedbedError, match="expected symbols from 0 to 6"):
            plain("copy").read(wrong)


# --- generation -------------------------------------------------------------------------------------------------------

KINDS = {
    "copy": {"name": "copy", "symbols": SYMBOLS},
    "addition": {"name": "addition", "base": 3, "largest": None, "width": "fixed"},
    "variable": {"name": "addition", "base": 3, "largest": None, "width": "variable"},
    "largest": {"name": "addition", "base": 3, "largest": 500, "width": "fixed"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_means_one_problem_in_any_micro_batch(kind: str) -> None:
    task = task_of(KINDS[kind])
    whole = generate(task, "train", 5, range(64), 1, 9)
    for size in (1, 16):
        parts = [generate(task, "train", 5, range(first, first + size), 1, 9) for first in range(0, 64, size)]
        for name, together in vars(whole).items():
            assert np.array_equal(together, np.concatenate([vars(part)[name] for part in parts])), name


def test_seeds_and_splits_differ() -> None:
    made = [
        str(generate(plain("copy"), split, seed, range(64), 12, 12).inputs) for split in SPLITS for seed in range(3)
    ]
    assert len(set(made)) == 9


def test_lengths_and_symbols_are_uniform() -> None:
    problems = generate(plain("copy"), "train", 0, range(40_000), 5, 12)
    lengths = Counter(problems.input_lengths.tolist())
    assert sorted(lengths) == list(range(5, 13))
    assert max(abs(count - 5000) for count in lengths.values()) < 5 * 5000**0.5
    for place in range(5):
        symbols = Counter(problems.inputs[:, place].tolist())
        assert sorted(symbols) == list(range(SYMBOLS))
        assert max(abs(count * SYMBOLS / 40_000 - 1) for count in symbols.values()) < 0.07


def test_neighbouring_numbers_and_places_have_nothing_in_common() -> None:
    x = generate(plain("copy"), "train", 0, range(20_000), 10, 10).inputs
    same = {
        "rows": (x[1:] == x[:-1]).mean(),
        "columns": (x[:, 1:] == x[:, :-1]).mean(),
        "seeds": (x == generate(plain("copy"), "train", 1, range(20_000), 10, 10).inputs).mean(),
    }
    assert all(abs(share - 1 / SYMBOLS) < 0.005 for share in same.values()), same


# --- splits -----------------------------------------------------------------------------------------------------------


def sets_of(task: Task, count: int, length: int) -> dict[str, set]:
    """The unordered problems of each split, over several seeds, that are not shared."""
    found = {}
    for split in SPLITS:
        found[split] = set()
        for seed in range(3):
            problems = generate(task, split, seed, range(count), length, length)
            found[split] |= {
                tuple(x) for (x, _), shared in zip(rows(problems), problems.shared, strict=True) if not shared
            }
    return found


@pytest.mark.parametrize("length", [10, 12])
def test_splits_divide_all_sequences(length: int) -> None:
    found = sets_of(task_of({"name": "copy", "symbols": 2}), 20_000, length)
    assert sum(map(len, found.values())) == 2**length
    assert set.union(*found.values()) == set(product((0, 1), repeat=length))
    for split in ("valid", "test"):
        assert len(found[split]) == pytest.approx(2**length / 16, rel=0.3)


@pytest.mark.parametrize("width", ["fixed", "variable"])
@pytest.mark.parametrize("shortest", [1, 2])
def test_splits_divide_all_sums_and_a_plus_b_goes_with_b_plus_a(width: str, shortest: int) -> None:
    task = task_of({"name": "addition", "base": 16, "largest": 40, "width": width})
    found = {}
    for split in SPLITS:
        problems = [generate(task, split, seed, range(12_000), shortest, 2) for seed in range(3)]
        found[split] = {
            frozenset([a, b])
            for part in problems
            for (a, b, _), shared in zip(added(part, 16, width == "variable"), part.shared, strict=True)
            if not shared
        }
    everything = {frozenset([a, b]) for a in range(41) for b in range(a, 41)}
    # Sums of one digit are 136, too few to be divided, at whatever length they are drawn.
    assert set.union(*found.values()) == {pair for pair in everything if max(pair) >= 16}
    assert sum(map(len, found.values())) == len(set.union(*found.values()))


@pytest.mark.parametrize("kind", ["copy", "variable"])
def test_what_is_not_shared_occurs_in_no_other_split_at_any_length(kind: str) -> None:
    task = task_of(KINDS[kind])
    made = {split: generate(task, split, 0, range(10_000), 1, 7) for split in SPLITS}
    all_of = {split: {tuple(x) for x, _ in rows(problems)} for split, problems in made.items()}
    for split, problems in made.items():
        own = {tuple(x) for (x, _), shared in zip(rows(problems), problems.shared, strict=True) if not shared}
        assert own and not any(own & all_of[other] for other in SPLITS if other != split)


def test_small_spaces_are_shared_and_counted() -> None:
    for length, shared in ((7, True), (8, False)):
        assert (2**length < LEAST_SPACE) == shared
        problems = generate(task_of({"name": "copy", "symbols": 2}), "valid", 0, range(3000), length, length)
        assert problems.shared.all() == shared and problems.shared.any() == shared
        assert (len({tuple(x) for x in problems.inputs.tolist()}) == 2**length) == shared
    problems = generate(task_of({"name": "copy", "symbols": 2}), "valid", 0, range(3000), 5, 10)
    assert np.array_equal(problems.shared, problems.input_lengths < 8)


# --- a task of the user's ---------------------------------------------------------------------------------------------

MINE = """
import numpy as np
def swapped(x, lengths, by=1):
    return (x + by) % 7
def mutating(x, lengths):
    x[:] = 0
    return x
def raising(x, lengths):
    raise ValueError("no such\\nthing")
def silent(x, lengths):
    raise ValueError
def short(x, lengths):
    return x[:, :1]
def floats(x, lengths):
    return x * 1.0
def large(x, lengths):
    return x + 1
def negative(x, lengths):
    return x - 1
def nothing(x, lengths):
    pass
def ragged(x, lengths):
    return [[1], [1, 2]]
def padding(x, lengths):
    return np.where(np.arange(x.shape[1]) < lengths[:, None], x, 99)
number = 3
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE, encoding="utf-8")
    return path


def custom(path: Path, function: str, **parameters: int) -> Problems:
    spec = {"python": f"{path}:{function}", "symbols": SYMBOLS, "parameters": parameters}
    return generate(task_of(spec), "train", 0, range(50), 1, 6)


def test_a_function_in_a_file_is_a_task(mine: Path) -> None:
    for parameters in ({}, {"by": 3}):
        problems = custom(mine, "swapped", **parameters)
        assert all(y == [(one + parameters.get("by", 1)) % 7 for one in x] for x, y in rows(problems))
    assert custom(mine, "mutating").inputs.any()
    assert all(x == y for x, y in rows(custom(mine, "padding")))


WRONG = {
    "raising": ["ValueError: no such"],
    "silent": ["ValueError"],
    "short": ["[50, 1], expected whole numbers [50, 6]"],
    "floats": ["returned float64", "expected whole numbers"],
    "large": ["symbols from 0 to 7, expected 0 to 6"],
    "negative": ["symbols from -1 to 5, expected 0 to 6"],
    "nothing": ["returned object []", "expected whole numbers"],
    "ragged": ["ValueError"],
    "swaped": ["has no function 'swaped'; did you mean 'swapped'?"],
    "number": ["has no function 'number'"],
}


@pytest.mark.parametrize("function", WRONG)
def test_a_function_that_is_none_is_told_in_one_line(mine: Path, function: str) -> None:
    with pytest.raises(SeedbedError) as caught:
        custom(mine, function)
    assert "\n" not in str(caught.value)
    assert all(part in str(caught.value) for part in ["mine.py", *WRONG[function]]), caught.value


def test_the_code_that_runs_is_that_of_the_file(mine: Path) -> None:
    before = custom(mine, "swapped").targets.tolist()
    times = mine.stat()
    changed = mine.read_text().replace("def swapped(x, lengths, by=1):", "def swapped(x, lengths, by=0):")
    mine.write_text(changed)
    os.utime(mine, ns=(times.st_atime_ns, times.st_mtime_ns))  # as old as it was, and as long
    assert custom(mine, "swapped").targets.tolist() != before
    assert not list(mine.parent.glob("__pycache__"))


def test_a_file_that_ends_the_process_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise SystemExit(0)\n")
    with pytest.raises(SeedbedError, match=r"mine\.py: cannot be imported"):
        custom(tmp_path / "mine.py", "f")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "no such file"),
        ("def f(x", "cannot be imported: '(' was never closed"),
        ("import absent_module", "cannot be imported: No module named 'absent_module'"),
        ("def f(x, n): return x", "has no function 'swapped'"),
    ],
)
def test_a_file_that_is_none_is_told_in_one_line(tmp_path: Path, text: str | None, told: str) -> None:
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(SeedbedError) as caught:
        custom(path, "swapped")
    assert "\n" not in str(caught.value)
    assert told in str(caught.value) and str(path) in str(caught.value)
