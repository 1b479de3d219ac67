"""What a kind of evaluation shows of itself.

`report.py` in the package of a kind has it as `REPORT`, and `page.html` beside it is its part of a study's page: a
Jinja template that is given `name` of the evaluation, its `results` by run or model, the `labels` of those, and what
`names` adds.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from seedbed.report.results import StudyResults

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Plot(NamedTuple):
    """How the plot of one entry of `plots` is drawn, and what is written below it."""

    draw: Callable[[StudyResults, dict], "Figure"]
    caption: str


@dataclass(frozen=True)
class Report:
    """`columns` makes the table's columns of one result, `plots` has those that the config class says it has."""

    columns: Callable[[dict], dict]
    plots: dict[str, Plot] = field(default_factory=dict)
    # what the page part is given besides the results
    names: dict[str, Any] = field(default_factory=dict)
    # whether the page part comes before the plots of a study, not after them
    before_plots: bool = False
