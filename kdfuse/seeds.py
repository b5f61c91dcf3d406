"""Any technique over several seeds: mean and spread of every figure."""

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from kdfuse import recording
from kdfuse.calls import check_call
from kdfuse.data import Data
from kdfuse.report import Report, figure
from kdfuse.settings import flatten, named, replace, settings
from kdfuse.technique import Result, Technique


def repeat(technique: Technique, seeds: Iterable[int] = (0, 1, 2)) -> "Repeat":
    """A technique that runs another one once for each seed.

    Args:
        technique: any technique.
        seeds: at least two different integers from 0.

    Returns:
        See `Repeat`.

    Example:
        students, report = kdfuse.repeat(kdfuse.Distill(teacher, control=True))(kdfuse.models.mlp, data)
    """
    return Repeat(technique, tuple(seeds))


class _ForSeeds(tuple[Any, ...]):
    """What `Repeat.given` gives: a model for each seed, not several models for one call."""


@settings
class Repeat(Technique):
    """Runs a technique once for each seed and reports mean and spread, of its baselines too.

    Every setting of the technique that is called `seed` is set: of training, and of whatever else draws. Called as
    `models, report = repeat(technique)(builder, data)`: a builder makes each run's model as `builder(data, seed=seed)`. A model
    in its place is used with its own weights in every run. Where the technique takes several models, give a list.

    The report's figures are means over the runs, `sd/<name>` their sample standard deviation (n - 1). Its table `models` has
    the means of the model and of each baseline, `spread` every value. Each run is a child, with its own report. A technique that
    gives several models gives a tuple of them for each seed.

    Attributes:
        technique: what is run.
        seeds: at least two different integers from 0.
    """

    technique: Technique
    seeds: tuple[int, ...] = (0, 1, 2)

    gives_models = True

    @property
    def takes_models(self) -> bool:  # type: ignore[override]
        return self.technique.takes_models

    def __post_init__(self) -> None:
        if not isinstance(self.technique, Technique) or isinstance(self.technique, Repeat):
            raise TypeError(f"`technique`: expected a technique, such as kdfuse.Train(). Received: {self.technique!r}.")
        wrong = [seed for seed in self.seeds if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0]
        if wrong or len(set(self.seeds)) < max(2, len(self.seeds)):
            raise ValueError(f"`seeds`: expected at least two different integers from 0. Received: seeds={self.seeds!r}.")

    def given(self, model: Any, data: Data) -> Any:
        """A model for each seed; a tuple of tuples where the technique takes several. Given again, it stays as it is."""
        if isinstance(model, _ForSeeds):
            return model
        built = [_built(self.technique, model, data, seed) for seed in self.seeds]
        if not self._seeded() and not _builders(model):
            raise ValueError(
                f"`technique`: {type(self.technique).__name__} has no setting `seed`, and every run would begin with the same model: all "
                "would be alike. Give a builder, such as kdfuse.models.mlp."
            )
        return _ForSeeds(self.technique.given(one, data) for one in built)

    def check(self, model: Any, data: Data) -> None:
        for one, seed in zip(model, self.seeds, strict=True):
            self._at(seed).check(one, data)

    def apply(self, model: Any, data: Data) -> Result:
        made, reports = [], []
        for one, seed in zip(model, self.seeds, strict=True):
            result, report = self._at(seed)(one, data, name=f"seed {seed}")
            made.append(result)
            reports.append(report)
        notes = [f"Mean and standard deviation over the seeds {', '.join(map(str, self.seeds))}."]
        if len({id(one) for one in _flat(model)}) < len(_flat(model)):
            notes.append("A given model was used with its own weights in every run; a builder gives each run weights of its own.")
        if not self._seeded():
            notes.append(f"{type(self.technique).__name__} has no setting `seed`: the runs differ in the weights they begin with.")
        metrics, tables = summary(reports, self.seeds)
        return Result(tuple(made), metrics=metrics, tables=tables, notes=notes, rows=tuple(f"seed {seed}" for seed in self.seeds))

    def report(self, result: Result, data: Data, run: recording.Run) -> Report:
        """The runs were measured as they ended: nothing is measured again."""
        return Report(type(self).__name__, dict(run.settings), result.metrics, tables=result.tables, notes=result.notes,
                      children=list(run.children), name=run.name)  # fmt: skip

    def record(self, result: Result, data: Data, run: recording.Run) -> None:
        """Each run has recorded its models."""

    def _seeded(self) -> list[str]:
        flat = flatten(self.technique, leaf=lambda value: "model" if isinstance(value, keras.Model) else None)
        return [name for name, value in flat.items() if name.rpartition("__")[2] == "seed" and (value is None or type(value) is int)]

    def _at(self, seed: int) -> Technique:
        return replace(self.technique, dict.fromkeys(self._seeded(), seed))


def summary(reports: Sequence[Report], seeds: Sequence[int]) -> tuple[dict[str, float], dict[str, list[dict[str, Any]]]]:
    """Means under the figures' own names with `sd/<name>`, and the tables `models` and `spread`, of the runs' reports."""
    metrics = _moments([report.metrics for report in reports])
    models: list[dict[str, Any]] = []
    spread: list[dict[str, Any]] = []
    for row in dict.fromkeys(line["model"] for report in reports for line in report.rows()):
        lines = [line for report in reports for line in report.rows() if line["model"] == row]
        models.append({"model": row, **_moments(lines)})
        for name in [name for name in models[-1] if name != "model" and not name.startswith("sd/")]:
            values = {f"seed {seed}": line[name] for seed, line in zip(seeds, lines, strict=True)} if len(lines) == len(seeds) else {}
            spread.append({"of": row, "figure": name, "mean": models[-1][name], "sd": models[-1].get(f"sd/{name}"), **values})
    return metrics, {"models": models, "spread": spread}


def _moments(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean and sample standard deviation of every figure that all rows have."""
    found: dict[str, float] = {}
    for name in rows[0]:
        values = [row.get(name) for row in rows]
        numbers = [float(value) for value in values if isinstance(value, int | float)]
        if figure(name) is None or len(numbers) < len(values):
            continue
        mean = math.fsum(numbers) / len(numbers)
        found[name] = mean
        if len(numbers) > 1:
            found[f"sd/{name}"] = math.sqrt(math.fsum((value - mean) ** 2 for value in numbers) / (len(numbers) - 1))
    return found


def _built(technique: Technique, model: Any, data: Data, seed: int) -> Any:
    """The model of one run; of a list, each builder in it is called, with a seed of its own."""
    if isinstance(model, list | tuple):
        count = len(model)
        return [_built(technique, one, data, seed * count + place) for place, one in enumerate(model)]
    if not _builders(model):
        return model
    owner = f"repeat({type(technique).__name__})"
    if not isinstance(data, Data):
        check_call(owner, keras.Sequential(), data)
    parameters = inspect.signature(model).parameters.values()
    if not any(one.name == "seed" or one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
        raise TypeError(
            f"`model` of {owner}: expected a builder that is called as builder(data, seed=seed). Received: {named(model)}, which takes no "
            "`seed`. Give it one, and make the initializers depend on it."
        )
    built = model(data, seed=seed)
    check_call(owner, built, data)
    return built


def _builders(model: Any) -> list[Callable[..., Any]]:
    """The builders in what was given as model."""
    parts = model if isinstance(model, list | tuple) else [model]
    return [one for one in parts if callable(one) and not isinstance(one, keras.Layer)]


def _flat(models: Any) -> list[keras.Model]:
    return [one for part in models for one in _flat(part)] if isinstance(models, tuple) else [models]
