"""The one law: a technique takes a model (or models, or a builder) and data, and returns a model (or models) and a report."""

import dataclasses
import itertools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self
from weakref import WeakKeyDictionary

import keras

from kdfuse import recording, runtime
from kdfuse.calls import check_call, check_inputs
from kdfuse.data import Data
from kdfuse.finished import Finished, keeping, kept
from kdfuse.graph.fingerprint import leaf
from kdfuse.keys import forget, named_models, run_key, state_folder
from kdfuse.matching import matched
from kdfuse.measure.lite import is_lite, measure_lite
from kdfuse.measure.measure import Measured, mean_agreement, measure
from kdfuse.report import Report, best, differences, means, paired, without_deltas
from kdfuse.settings import field_names, flatten, settings

_made_by: WeakKeyDictionary[keras.Model, str] = WeakKeyDictionary()
"""The run that made a model, by its id."""


@dataclasses.dataclass
class Result:
    """What `Technique.apply` returns: the model or models, and what only the technique knows about them.

    Attributes:
        model: the new model, or a tuple of them.
        history: curves, one value an epoch.
        metrics: figures beyond those that every model is measured by.
        tables: rows under a name.
        files: files that belong to the result, by kind.
        notes: sentences a reader should know.
        baselines: models to measure beside the result: `teacher` (`teacher A`, `teacher B` ...), `control`.
            Of several models, `control 2` belongs to the second.
        heads: declared heads, of the result under `model` and of baselines under their names; the others are detected. Of several
            models each one's may stand under its row.
        rows: what several models are called in the report's table; by default numbered from 1.
        chosen: which of several models the report's figures are of: its place, or None for the best on validation.
        reports: by row, the reports of child runs that have measured a model already: it is not measured again.
    """

    model: Any
    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    files: dict[str, Path] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    baselines: dict[str, keras.Model] = dataclasses.field(default_factory=dict)
    heads: dict[str, Any] = dataclasses.field(default_factory=dict)
    rows: tuple[str, ...] = ()
    chosen: int | None = None
    reports: dict[str, Report] = dataclasses.field(default_factory=dict)

    def models(self, row: str) -> dict[str, keras.Model]:
        """The models by their rows; a single one under `row`."""
        if not isinstance(self.model, tuple):
            return {row: self.model}
        return dict(zip(self.rows or [f"{row} {place + 1}" for place in range(len(self.model))], self.model, strict=True))


@settings
class Technique:
    """A way to make a model from a model and data.

    A subclass is decorated with `@settings`, has few fields, and writes `apply` (and `check`). Calling it opens a run,
    checks, applies, measures, records and reports.
    """

    row: ClassVar[str] = "model"
    """What the result is called in the report's table of models."""
    takes_models: ClassVar[bool] = False
    """Whether it takes a list of models, not one."""
    gives_models: ClassVar[bool] = False
    """Whether it gives a tuple of models, not one."""
    keeps_structure: ClassVar[bool] = False
    """Whether the model it gives has the layers of the one it was given: a chain then checks the next step before this one trains."""

    def __call__(self, model: Any, data: Data, *, name: str | None = None) -> tuple[Any, Report]:
        """Apply the technique.

        Args:
            model: any Keras 3 model, or a list of them where the technique takes several. It stays as it is.
            data: what to train, choose and test on.
            name: the run's name; by default that of the technique.

        Returns:
            The new model, or a tuple of them where the technique gives several, and the report. The validation split chooses; the
            test split is read once, at the end.

        Raises:
            TypeError, ValueError: a setting, the model or the data do not fit; nothing was trained.
        """
        model = self.given(model, data)
        data = matched(model if isinstance(model, tuple) else (model,), data)
        self.check(model, data)
        flat = flatten(self, leaf=leaf)
        key, shelf = run_key(type(self).__name__, flat, model, data), kept()
        done = shelf.take(key) if shelf is not None and key is not None else None
        tags = {**self.tags(model, data), **(done[2] if done is not None else {})}
        with (
            runtime.new_models_expected(),
            recording.run(name or type(self).__name__, type(self).__name__, flat, key, tags) as run,
            keeping(None),
        ):
            if done is not None:
                forget(key)  # where it was killed between keeping the result and dropping its state
                made, run.report = done[0], done[1]
                _made_by.update({one: done[2]["kept_from_run"] for one in (made if isinstance(made, tuple) else (made,))})
                return made, done[1]
            begun = time.perf_counter()
            result = self.apply(model, data)
            report = self.report(result, data, run)
            report.seconds = time.perf_counter() - begun
            run.report = report
            self.record(result, data, run)
        if shelf is not None and key is not None and all(isinstance(one, keras.Model) for one in result.models(self.row).values()):
            shelf.put(key, result.model, report, {"kept_from_run": run.id})
        forget(key)
        return result.model, report

    def __sklearn_clone__(self) -> Self:
        """Itself, for scikit-learn's `clone`: it cannot change, and the models in it are not to be copied."""
        return self

    def given(self, model: Any, data: Data) -> Any:
        """What was given as `model`, checked: one model, or a tuple of them where the technique takes several."""
        if not self.takes_models:
            check_call(type(self).__name__, model, data)
            check_inputs(type(self).__name__, model, data)
            return model
        if not isinstance(model, list | tuple) or not model:
            raise TypeError(f"`model` of {type(self).__name__}: expected a list of models, such as [a, b]. Received: {model!r}.")
        for one in model:
            check_call(type(self).__name__, one, data)
        return tuple(model)

    def apply(self, model: Any, data: Data) -> Result:
        """Make the new model from a private copy of `model`. What a subclass writes."""
        raise TypeError(f"{type(self).__name__} is a family of techniques, not one: call a subclass that has `apply`.")

    def check(self, model: Any, data: Data) -> None:
        """Raise if the settings, the model's structure and the data do not fit, before anything is trained."""

    def tags(self, model: Any, data: Data) -> dict[str, str]:
        """Tags of the run: its data, and the runs that made its input models and the models among its settings."""
        given = {"model": model, **{name: getattr(self, name) for name in field_names(self)}}
        made = {f"{name}_run": _made_by[one] for name, one in named_models(given) if one in _made_by}
        return {"data": data.name, "data_fingerprint": data.fingerprint or "not indexable", **made}

    def record(self, result: Result, data: Data, run: recording.Run) -> None:
        """Record the models. Of several, those that a run inside this one recorded are only named by that run."""
        for row, model in result.models(self.row).items():
            name = row.replace(" ", "_") if isinstance(result.model, tuple) else "model"
            if isinstance(result.model, tuple) and model in _made_by:
                run.tag({f"{name}_run": _made_by[model]})
                continue
            run.model(model, data.example(8), name)
            _made_by[model] = run.id

    def report(self, result: Result, data: Data, run: recording.Run) -> Report:
        """Measure the models and their baselines, each split once, and say it all in a report."""
        found: dict[str, Measured | Report] = {}
        for row, model in result.models(self.row).items():
            found[row] = result.reports.get(row) or measure(model, data, head=result.heads.get(row, result.heads.get("model", "auto")))
        place, how = result.chosen, "the last" if result.chosen == -1 else "the one chosen"
        if place is None:
            place, how = best([one.metrics for one in found.values()])
        chosen, measured = list(found.items())[place]
        report = Report(
            technique=type(self).__name__,
            settings=dict(run.settings),
            metrics={**measured.metrics, **result.metrics},
            history=result.history,
            tables={**{name: rows for name, rows in measured.tables.items() if name.startswith("confusion/")}, **result.tables},
            files=dict(result.files),
            notes=list(result.notes),
            children=list(run.children),
            name=run.name,
        )
        if "tflite" in result.files and "size/tflite_bytes" not in result.metrics:
            head = result.heads.get(chosen, result.heads.get("model", "auto"))
            figures, notes = measure_lite(result.files["tflite"], result.models(self.row)[chosen], data, head=head, measured=measured)
            report.metrics, report.notes = {**report.metrics, **figures}, report.notes + notes
        beside = {name: measure(other, data, head=result.heads.get(name, "auto")) for name, other in result.baselines.items()}
        rows: list[dict[str, Any]] = []
        for name, other in beside.items():
            rows.append({"model": name, **other.metrics})
            report.metrics.update(differences(paired(name, chosen), measured.metrics, other.metrics))
        teachers = [other for name, other in beside.items() if name.partition(" ")[0] == "teacher"]
        if teachers and isinstance(measured, Measured):
            report.metrics.update(mean_agreement(measured, teachers))
            for line in rows:
                line.update(mean_agreement(beside[line["model"]], teachers))
        every = [{"model": row, **without_deltas(one.metrics if row != chosen else report.metrics)} for row, one in found.items()]
        report.tables["models"] = [*every, *rows]
        if isinstance(result.model, tuple):
            report.metrics.update(means([one.metrics for one in found.values()]))
            report.notes.insert(0, f"The figures are those of {chosen}, {how} of {len(found)} models; `mean/` is over all of them.")
        if isinstance(measured, Measured):
            self.compare(report, measured, beside)
        return report

    def compare(self, report: Report, measured: Measured, beside: Mapping[str, Measured]) -> None:
        """Add to the report what only this family of techniques says of its result beside the baselines. By default nothing."""


@settings
class Chain(Technique):
    """Techniques one after another: each one's model is the next one's input, and each is a child run.

    A step that does not fit is refused before anything is trained, where those before it keep the model's structure; else at its turn.
    A chain that was killed goes on at the first step that had not finished when it is made again: same settings, model and data (arrays).

    Attributes:
        techniques: at least one.
    """

    techniques: tuple[Technique, ...] = ()

    def __post_init__(self) -> None:
        wrong = [step for step in self.techniques if not isinstance(step, Technique)]
        if wrong or not self.techniques:
            received = wrong or self.techniques
            raise TypeError(f"`techniques`: expected one or more techniques, such as [kdfuse.Train()]. Received: {received!r}.")
        for step, following in itertools.pairwise(self.techniques):
            if step.gives_models != following.takes_models:
                takes, gives = ("several models", "one") if following.takes_models else ("one model", "several")
                said = f"{type(following).__name__} takes {takes}, and {type(step).__name__} before it gives {gives}"
                raise TypeError(f"`techniques`: {said}. Put between them a technique that fits both.")

    @property
    def takes_models(self) -> bool:  # type: ignore[override]
        return self.techniques[0].takes_models

    @property
    def gives_models(self) -> bool:  # type: ignore[override]
        return self.techniques[-1].gives_models

    @property
    def keeps_structure(self) -> bool:  # type: ignore[override]
        return all(step.keeps_structure for step in self.techniques)

    def given(self, model: Any, data: Data) -> Any:
        return self.techniques[0].given(model, data)

    def check(self, model: Any, data: Data) -> None:
        for step in self.techniques:
            step.check(step.given(model, data), data)
            if not (step.keeps_structure and model.built):
                break

    def apply(self, model: Any, data: Data) -> Result:
        rows: list[dict[str, Any]] = []
        files: dict[str, Path] = {}
        run = recording.current()
        finished = Finished(state_folder(run.key) / "steps") if run is not None and run.key is not None else None
        for place, step in enumerate(self.techniques):
            with keeping(finished):
                model, report = step(model, data, name=f"{place + 1}. {type(step).__name__}")
            rows.append({"model": report.name, **report.metrics})
            files = {kind: path for kind, path in files.items() if kind != "tflite"} | report.files  # that one is of an earlier model
        metrics = {name: value for name, value in report.metrics.items() if "tflite" in files and is_lite(name)}
        again = ", ".join(finished.taken) if finished is not None else ""
        notes = [f"Finished before this call was interrupted, and not made again: {again}."] if again else []
        return Result(model, metrics=metrics, tables={"steps": rows}, files=files, notes=notes)


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
    check_inputs("evaluate", model, data)
    begun, measured = time.perf_counter(), measure(model, matched((model,), data), head=head)
    seconds = time.perf_counter() - begun
    return Report("evaluate", metrics=measured.metrics, tables=measured.tables, seconds=seconds, name=model.name)
