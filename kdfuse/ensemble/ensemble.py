"""What every technique of this room is: models in, one model out, reported beside its members."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kdfuse.data import Data
from kdfuse.ensemble.diversity import disagreements, diversity, error_correlation
from kdfuse.ensemble.members import check_members
from kdfuse.measure.calibration import judged, reliability_of
from kdfuse.measure.measure import Measured
from kdfuse.report import Report, best, differences
from kdfuse.settings import settings
from kdfuse.technique import Technique

MOST_IN_TABLE = 20
OTHERS = ("model", "ensemble", "soup", "chain", "exits", "teacher", "control", "before", "whole", "last")
"""What rows and columns of reports are called that are no members."""


@settings
class Ensemble(Technique):
    """A technique that makes one model of several. A subclass writes `apply` and gives its members as `beside(models)`.

    The report's table `models` has a row for each member, under its model's name where no other has it, else as `member 2`; `diversity`
    tells how often each two decide differently, `reliability` how often the ensemble is right at each confidence;
    `delta/best member/...` is the difference to the member that is the best on validation.
    """

    row = "ensemble"
    takes_models = True

    def check(self, model: Sequence[keras.Model], data: Data) -> None:
        check_members(type(self).__name__, model, data)

    def compare(self, report: Report, measured: Measured, beside: Mapping[str, Measured]) -> None:
        members = {name: one for name, one in beside.items() if name not in OTHERS}
        if members:
            _beside_the_best(report, measured, members)
            _disagreement(report, members)
        curve = reliability_of(measured)
        if curve:
            report.tables["reliability"] = curve


def beside(models: Sequence[keras.Model], names: Sequence[str] | None = None) -> dict[str, Any]:
    """The members as baselines of a `Result`: measured beside the ensemble, each under its name.

    `member 1`, `member 2` ... stand for names that several have, or that other rows of a report have.

    Args:
        models: the members.
        names: what they are called; by default as the models are.
    """
    called = list(names or [model.name for model in models])
    counted = Counter(called)

    def own(name: str) -> bool:
        return counted[name] == 1 and name.partition(" ")[0] not in (*OTHERS, "member")

    return {name if own(name) else f"member {place + 1}": model for place, (name, model) in enumerate(zip(called, models, strict=True))}


def _beside_the_best(report: Report, measured: Measured, members: Mapping[str, Measured]) -> None:
    """Differences to the best member alone, not to each."""
    place, _ = best([one.metrics for one in members.values()])
    name = list(members)[place]
    theirs = tuple(f"delta/{one}/" for one in members)
    report.metrics = {key: value for key, value in report.metrics.items() if not key.startswith(theirs)}
    report.metrics.update(differences("best member", report.metrics, members[name].metrics))
    number = name.removeprefix("member ")
    report.notes.append(f"The best member is {name if number == name else f'{number} ({members[name].name})'}.")


def _disagreement(report: Report, members: Mapping[str, Measured]) -> None:
    """Diversity, where all members were measured on the same rows; means over several outputs."""
    every = list(members.values())
    split = next((split for split in ("test", "validation") if all(split in one.parts for one in every)), None)
    if split is None or len(every) < 2 or len({one.marks[split] for one in every}) > 1:
        return
    figures: list[dict[str, float]] = []
    for parts in zip(*(one.parts[split] for one in every), strict=True):
        found = [judged(part) for part in parts]
        if None not in found:
            decided = np.stack([one.decided for one in found if one])
            figures.append(diversity(np.stack([one.right for one in found if one]), decided))
            if len(every) <= MOST_IN_TABLE:
                label = parts[0].label
                report.tables[f"diversity/{label}" if label else "diversity"] = disagreements(list(members), decided)
        elif parts[0].task == "regression":
            errors = [np.asarray(part.values, "float64").reshape(-1) - np.asarray(part.targets, "float64").reshape(-1) for part in parts]
            figures.append(error_correlation(np.stack(errors)))
    for name in {name for one in figures for name in one}:
        report.metrics[name] = float(np.mean([one[name] for one in figures if name in one]))
