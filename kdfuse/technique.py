"""The one law: a technique takes a model and data, and returns a model and a report."""

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import keras

from kdfuse import recording, runtime
from kdfuse.data import Data
from kdfuse.graph.fingerprint import fingerprint, leaf
from kdfuse.home import home
from kdfuse.measure.measure import Measured, agreement_with, measure
from kdfuse.report import Report, figure
from kdfuse.settings import field_names, flatten, settings

_made_by: WeakKeyDictionary[keras.Model, str] = WeakKeyDictionary()
"""The run that made a model, by its id."""


@dataclasses.dataclass
class Result:
    """What `Technique.apply` returns: the model, and what only the technique knows about it.

    Attributes:
        model: the new model.
        history: curves, one value an epoch.
        metrics: figures beyond those that every model is measured by.
        tables: rows under a name.
        files: files that belong to the result, by kind.
        notes: sentences a reader should know.
        baselines: models to measure beside the result: `teacher`, `control`.
        heads: declared heads, of the result under `model` and of baselines under their names; the others are detected.
    """

    model: keras.Model
    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    files: dict[str, Path] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    baselines: dict[str, keras.Model] = dataclasses.field(default_factory=dict)
    heads: dict[str, Any] = dataclasses.field(default_factory=dict)


@settings
class Technique:
    """A way to make a model from a model and data.

    A subclass is decorated with `@settings`, has few fields, and writes `apply` (and `check`). Calling it opens a run,
    checks, applies, measures, records and reports.
    """

    row: ClassVar[str] = "model"
    """What the result is called in the report's table of models."""

    def __call__(self, model: keras.Model, data: Data, *, name: str | None = None) -> tuple[keras.Model, Report]:
        """Apply the technique.

        Args:
            model: any Keras 3 model. It stays as it is.
            data: what to train, choose and test on.
            name: the run's name; by default that of the technique.

        Returns:
            The new model and the report. The validation split chooses; the test split is read once, at the end.

        Raises:
            TypeError, ValueError: a setting, the model or the data do not fit; nothing was trained.
        """
        check_call(type(self).__name__, model, data)
        self.check(model, data)
        flat = flatten(self, leaf=leaf)
        key = run_key(type(self).__name__, flat, model, data)
        with (
            runtime.new_models_expected(),
            recording.run(name or type(self).__name__, type(self).__name__, flat, key, self.tags(model, data)) as run,
        ):
            begun = time.perf_counter()
            result = self.apply(model, data)
            report = self.report(result, data, run)
            report.seconds = time.perf_counter() - begun
            run.report = report
            run.model(result.model, data.example(8))
            _made_by[result.model] = run.id
        forget(key)
        return result.model, report

    def apply(self, model: keras.Model, data: Data) -> Result:
        """Make the new model from a private copy of `model`. What a subclass writes."""
        raise TypeError(f"{type(self).__name__} is a family of techniques, not one: call a subclass that has `apply`.")

    def check(self, model: keras.Model, data: Data) -> None:
        """Raise if the settings, the model and the data do not fit, before anything is trained."""

    def tags(self, model: keras.Model, data: Data) -> dict[str, str]:
        """Tags of the run: its data, and the runs that made its input model and the models among its settings."""
        given = {"model": model, **{name: getattr(self, name) for name in field_names(self)}}
        made = {f"{name}_run": _made_by[value] for name, value in given.items() if isinstance(value, keras.Model) and value in _made_by}
        return {"data": data.name, "data_fingerprint": data.fingerprint or "not indexable", **made}

    def report(self, result: Result, data: Data, run: recording.Run) -> Report:
        """Measure the model and its baselines, each split once, and say it all in a report."""
        measured = measure(result.model, data, head=result.heads.get("model", "auto"))
        report = Report(
            technique=type(self).__name__,
            settings=dict(run.settings),
            metrics={**measured.metrics, **result.metrics},
            history=result.history,
            tables={**measured.tables, **result.tables},
            files=dict(result.files),
            notes=list(result.notes),
            children=list(run.children),
            name=run.name,
        )
        beside = {name: measure(other, data, head=result.heads.get(name, "auto")) for name, other in result.baselines.items()}
        rows: list[dict[str, Any]] = [{"model": name, **other.metrics} for name, other in beside.items()]
        for name, other in beside.items():
            report.metrics.update(differences(name, measured, other))
        if "teacher" in beside:
            report.metrics.update(agreement_with(measured, beside["teacher"]))
            for row in rows:
                row.update(agreement_with(beside[row["model"]], beside["teacher"]))
        own = {name: value for name, value in report.metrics.items() if not name.startswith("delta/")}
        report.tables["models"] = [{"model": self.row, **own}, *rows]
        return report


@settings
class Chain(Technique):
    """Techniques one after another: each one's model is the next one's input, and each is a child run.

    Attributes:
        techniques: at least one.
    """

    techniques: tuple[Technique, ...] = ()

    def __post_init__(self) -> None:
        wrong = [step for step in self.techniques if not isinstance(step, Technique)]
        if wrong or not self.techniques:
            received = wrong or self.techniques
            raise TypeError(f"`techniques`: expected one or more techniques, such as [kdfuse.Train()]. Received: {received!r}.")

    def check(self, model: keras.Model, data: Data) -> None:
        self.techniques[0].check(model, data)

    def apply(self, model: keras.Model, data: Data) -> Result:
        rows: list[dict[str, Any]] = []
        files: dict[str, Path] = {}
        for place, step in enumerate(self.techniques):
            model, report = step(model, data, name=f"{place + 1}. {type(step).__name__}")
            rows.append({"model": report.name, **report.metrics})
            files.update(report.files)
        return Result(model, tables={"steps": rows}, files=files)


def evaluate(model: keras.Model, data: Data, *, head: Any = "auto") -> Report:
    """Measure a model as a technique's result is measured: quality on validation and test, size, MACs, latency.

    Args:
        model: any Keras 3 model; it stays as it is.
        data: where quality is measured.
        head: what its outputs are, one of `kdfuse.graph.heads.HEADS` or `auto`.

    Returns:
        The report. Nothing is recorded.
    """
    check_call("evaluate", model, data)
    begun = time.perf_counter()
    measured = measure(model, data, head=head)
    report = Report("evaluate", metrics=measured.metrics, tables=measured.tables, name=model.name)
    report.seconds = time.perf_counter() - begun
    return report


def check_call(owner: str, model: Any, data: Any) -> None:
    """Raise unless a technique was given a Keras 3 model and a `Data`."""
    if isinstance(model, type) or (callable(model) and not isinstance(model, keras.Layer)):
        raise TypeError(f"`model` of {owner}: expected a keras.Model. Received the builder {model!r}. Call it first: builder(data).")
    if not isinstance(model, keras.Model):
        legacy = " It is a Keras 2 (tf_keras) model: build or load it with Keras 3." if "tf_keras" in type(model).__module__ else ""
        received = f"{type(model).__module__}.{type(model).__name__}"
        raise TypeError(f"`model` of {owner}: expected a keras.Model of Keras 3. Received: {received}.{legacy}")
    if not isinstance(data, Data):
        raise TypeError(
            f"`data` of {owner}: expected a kdfuse.Data. Received: {type(data).__name__}. "
            "Wrap it: kdfuse.Data(train=(x, y), validation=0.1, test=(x_test, y_test))."
        )


def run_key(owner: str, flat: dict[str, Any], model: keras.Model, data: Data) -> str | None:
    """What makes two runs the same; None where the data cannot be fingerprinted or the model is not built."""
    if data.fingerprint is None or not model.built:
        return None
    parts = [owner, flat, fingerprint(model), data.fingerprint, keras.__version__]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def state_folder(key: str) -> Path:
    """Where an unfinished run keeps what it needs to go on."""
    return home("state", key[:40])


def forget(key: str | None) -> None:
    """Drop the state of a run that finished."""
    if key is not None:
        shutil.rmtree(state_folder(key), ignore_errors=True)


def differences(baseline: str, ours: Measured, other: Measured) -> dict[str, float]:
    """`delta/<baseline>/<name>` for every figure both have, except latencies, which are told as they are."""
    names: Sequence[str] = [name for name in ours.metrics if name in other.metrics and not name.startswith("latency/")]
    return {f"delta/{baseline}/{name}": ours.metrics[name] - other.metrics[name] for name in names if figure(name) is not None}
