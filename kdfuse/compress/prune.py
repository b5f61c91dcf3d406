"""Prune: most weights of a model become zero, and what is left learns to do without them."""

from typing import Any

import keras

from kdfuse.compress import kernels as found_kernels
from kdfuse.compress.criteria.magnitude import Magnitude
from kdfuse.compress.criteria.threshold import Threshold
from kdfuse.compress.criteria.weights import Measured, WeightCriterion
from kdfuse.compress.kernels import Spared
from kdfuse.compress.layer_targets import check_layers, check_sparsity, resolve
from kdfuse.compress.patterns import Block, NofM, Pattern
from kdfuse.compress.pruner import CURVE, Pruner, StepwisePruner
from kdfuse.compress.schedules import NEVER, ConstantSparsity, IterativeSparsity, Plan, PolynomialSparsity, Schedule, make_schedule
from kdfuse.compress.selection import Arrays, Selection
from kdfuse.compress.training import check_training, innermost, needs_steps_apart, refuse_tfmot, run_steps
from kdfuse.data import Data
from kdfuse.fitting.batch_norm import batch_norms, reestimate
from kdfuse.graph.copy import copy_model
from kdfuse.settings import choose, settings
from kdfuse.technique import Result, Technique
from kdfuse.train import Fitted, Train, Trainer

SCOPES = ("auto", "layer", "global", "output")
SETTLED = 0.01


@settings
class Prune(Technique):
    """Put most weights to zero while the model trains, and give back the same architecture with exact zeros.

    Kernels are pruned: of Dense, EinsumDense, convolutions (of separable ones the pointwise half), attention and recurrent layers.
    Biases, normalisation, embeddings and depthwise kernels are not; an embedding or depthwise layer is where `layers` names it.
    Masks and their timing are those of TFMOT (see `kdfuse.compress.pruner.Pruner`). What is zero in the model that is given stays
    zero. Random zeros make a model smaller to store, not faster: for speed in LiteRT use `pattern=Block(4, 1)` or `Block(16, 1)`.

    A run that does not reach its sparsity raises. The report's table `sparsity` has a row for each weight, with the reason where one
    is not pruned; `prune/sparsity` is the share of zeros in the pruned kernels, as a figure and as a curve. BatchNorm statistics are
    measured again at the end where too few steps followed the last masks to settle them.

    Attributes:
        sparsity: the share of zeros at the end, in [0, 1). None where a threshold or N of M decides.
        schedule: `polynomial` (from 0 up over the first 60 % of the run), `constant` (at the first step), `iterative`, or one of these
            with settings: `PolynomialSparsity(end=0.5)`. `auto`: polynomial, and constant for a threshold, N of M and no training.
        criterion: what decides which weights go: `Magnitude()`, `Wanda()`, `Threshold(1e-2)`.
        scope: among which weights the lowest scores go: `layer` (each kernel by itself), `global` (all kernels together), `output` (each
            output of a kernel by itself). `auto`: that of the criterion, `layer` but for Wanda, `output`.
        pattern: `NofM(2, 4)`, `Block(4, 1)`, or None for single weights.
        layers: by layer's name a sparsity, `NofM(...)`, `Block(...)`, or None to leave it out: `{"dense_2": None, "conv*": 0.5}`.
        training: how the model trains meanwhile: `Train(...)`, or `Distill(teacher)` to learn from a teacher. The default is ten epochs of
            Adam. None prunes at once, without training.
    """

    sparsity: float | None = None
    schedule: str | Schedule = "auto"
    criterion: WeightCriterion = Magnitude()
    scope: str = "auto"
    pattern: Pattern | None = None
    layers: dict[str, Any] | None = None
    training: Trainer | None = Train()

    keeps_structure = True

    def __post_init__(self) -> None:
        for argument in ("sparsity", "schedule", "criterion", "pattern"):
            refuse_tfmot(argument, getattr(self, argument))
        if self.training is not None:
            check_training(self.training)
        if not isinstance(self.criterion, WeightCriterion):
            raise TypeError(f"`criterion`: expected a criterion of weights, such as kdfuse.Magnitude(). Received: {self.criterion!r}.")
        if self.pattern is not None and not isinstance(self.pattern, Pattern):
            raise TypeError(f"`pattern`: expected kdfuse.NofM(2, 4), kdfuse.Block(4, 1) or None. Received: {self.pattern!r}.")
        choose("scope", self.scope, SCOPES)
        check_layers(self.layers)
        if self.sparsity is not None:
            check_sparsity("`sparsity`", self.sparsity)
        self._check_together()

    def _check_together(self) -> None:
        schedule, fixed = self._schedule(), self._fixed()
        if fixed and self.sparsity is not None:
            raise ValueError(f"`sparsity`: {fixed} decides how many weights go. Received: sparsity={self.sparsity!r}. Leave it out.")
        if not fixed and self.sparsity is None:
            raise ValueError("`sparsity`: expected the share of zeros at the end, such as kdfuse.Prune(0.9). Received: None.")
        if fixed and not isinstance(schedule, ConstantSparsity):
            raise ValueError(f"`schedule`: {fixed} has one sparsity. Received: {self.schedule!r}. Use 'constant'.")
        if self.training is None and not isinstance(schedule, ConstantSparsity):
            raise ValueError(f"`schedule`: without training all is pruned at once. Received: {self.schedule!r}. Use 'constant'.")
        if isinstance(self.criterion, Threshold) and isinstance(self.pattern, NofM):
            raise ValueError("`criterion`: N of M takes no threshold. Use kdfuse.Magnitude().")
        if (isinstance(self.pattern, Block) and self.scope == "output") or (isinstance(self.pattern, NofM) and self.scope != "auto"):
            raise ValueError(f"`scope`: expected 'auto' with this pattern. Received: scope={self.scope!r}, pattern={self.pattern!r}.")
        if isinstance(self.criterion, Threshold) and self.scope != "auto":
            raise ValueError(f"`scope`: a threshold is the same for all weights. Received: scope={self.scope!r}. Leave it out.")

    def check(self, model: keras.Model, data: Data) -> None:
        if self.training is not None:
            self.training.check(model, data)  # type: ignore[attr-defined]
            self._check_run(data)
        self._selection(model if model.built else copy_model(model, data.example(2)), data, measure=False)

    def _check_threshold(self, selection: Selection, value: float) -> None:
        weights = selection.weights()
        masks = selection.masks(weights, float)
        for kernel, target, mask in zip(selection.kernels, selection.targets, masks, strict=True):
            if target.sparsity is None and not mask.any():
                raise ValueError(
                    f"`criterion`: the threshold {value} takes all weights of {kernel.layer!r}. Lower it, or leave the layer out: "
                    f"layers={{{kernel.layer!r}: None}}."
                )
        if all(mask.all() for mask in masks):
            least = min(float(abs(array).min()) for array in weights)
            raise ValueError(f"`criterion`: no weight is below the threshold {value}; the smallest is {least:.3g}. Raise it.")

    def _check_run(self, data: Data) -> None:
        assert self.training is not None
        schedule, train = self._schedule(), innermost(self.training)
        if needs_steps_apart(train) and train.steps_per_execution not in ("auto", 1):
            raise ValueError(
                "`training`: pruning with XLA or on several devices needs steps_per_execution=1. "
                f"Received: {train.steps_per_execution!r}. Use 'auto'."
            )
        if isinstance(schedule, IterativeSparsity):
            return
        plan, epoch = schedule.plan(run_steps(self.training, data)), data.train.steps(train.batch_size)
        if train.stopping is not None and (epoch is None or plan.reached > epoch):
            raise ValueError(
                f"`training`: its `stopping` could end the run, or bring back an epoch, before the final sparsity (step {plan.reached}). "
                "Prune without it, and then train on under the same zeros: Chain([Prune(s), Prune(s, schedule='constant', "
                "training=Train(stopping=...))])."
            )

    def apply(self, model: keras.Model, data: Data) -> Result:
        training = self.training if self.training is not None else Train()
        student = training.private(model, data)
        selection, spared = self._selection(student, data)
        if isinstance(self.criterion, Threshold):
            self._check_threshold(selection, self.criterion.value)
        schedule = self._schedule()
        tables: dict[str, list[dict[str, Any]]] = {}
        pruner: Pruner
        if self.training is None:
            pruner = Pruner(selection, NEVER, selection.masks(selection.weights(), float))
            fitted = Fitted({}, ["Pruned at once, without training."])
        elif isinstance(schedule, IterativeSparsity):
            fitted, pruner, tables["rounds"] = self._rounds(student, data, selection, schedule)
        else:
            pruner = self._pruner(selection, schedule.plan(run_steps(self.training, data)))
            fitted = self._fit(student, data, pruner)
        pruner.finish()
        self._assert(selection)
        notes = [*fitted.notes, *self._settle(student, data, pruner)]
        weights = selection.weights()
        tables["sparsity"] = selection.table(weights, spared)
        dead = [row["layer"] for row in tables["sparsity"] if row.get("zeros") == row["weights"]]
        if dead:
            notes.append(f"All weights are zero in {', '.join(dead)}: give these layers a sparsity of their own in `layers`.")
        public = training.public(student, data)
        result = Result(public, fitted.history, {CURVE: selection.sparsity(weights)}, tables, notes=notes)
        result.heads = {"model": innermost(training).head, "before": innermost(training).head}
        if model.built:
            result.baselines["before"] = model
        return result

    def _rounds(
        self, student: keras.Model, data: Data, selection: Selection, schedule: IterativeSparsity
    ) -> tuple[Fitted, Pruner, list[dict[str, Any]]]:
        assert self.training is not None
        given, whole = student.get_weights(), Fitted({}, [])
        pruner = self._pruner(selection, NEVER)
        rows: list[dict[str, Any]] = []
        if schedule.rewind == "weights":
            _add(whole, self._fit(student, data, pruner), "Without masks: ")
        for number in range(1, schedule.rounds + 1):
            selection.measured = self.criterion.measure(student, selection.kernels, data)
            masks: Arrays = selection.masks(selection.weights(), lambda final, number=number: schedule.sparsity(number, final))  # type: ignore[misc]
            if schedule.rewind == "weights":
                student.set_weights(given)
            pruner = self._pruner(selection, NEVER, masks)
            pruner.hold()
            selection.keep_absent(selection.weights())
            fitted = self._fit(student, data, pruner)
            _add(whole, fitted, f"Round {number}: ")
            pruner.finish()
            last = {name: curve[-1] for name, curve in fitted.history.items() if curve and name.startswith("validation/")}
            rows.append({"round": number, "sparsity": selection.sparsity(selection.weights()), **last})
        return whole, pruner, rows

    def _fit(self, student: keras.Model, data: Data, pruner: Pruner) -> Fitted:
        assert self.training is not None
        try:
            fitted = self.training.fit(student, data, [pruner])
        finally:
            pruner.release()
        return Fitted({**fitted.history, CURVE: pruner.curve}, fitted.notes)

    def _pruner(self, selection: Selection, plan: Plan, masks: Arrays | None = None) -> Pruner:
        assert self.training is not None
        kind = StepwisePruner if needs_steps_apart(innermost(self.training)) else Pruner
        return kind(selection, plan, masks)

    def _selection(self, model: keras.Model, data: Data, measure: bool = True) -> tuple[Selection, list[Spared]]:
        kernels, spared = found_kernels.find(model)
        chosen, spared = resolve(kernels, spared, self.layers, self.sparsity, self.pattern)
        own = [kernel for kernel, _ in chosen]
        measured: Measured = self.criterion.measure(model, own, data) if measure else [None] * len(own)
        scope = self.criterion.scope if self.scope == "auto" else self.scope
        scope = "layer" if scope == "output" and isinstance(self.pattern, Block) else scope
        return Selection(own, [target for _, target in chosen], self.criterion, scope, measured), spared

    def _settle(self, student: keras.Model, data: Data, pruner: Pruner) -> list[str]:
        """Measure BatchNorm statistics again where the steps since the last masks have not forgotten what was before."""
        layers = batch_norms(student)
        step = int(pruner.step.numpy())
        since = step - pruner.plan.last(step)
        if not layers or max(layer.momentum for layer in layers) ** since < SETTLED:
            return []
        count = reestimate(student, data)
        return [f"The statistics of {count} BatchNorm layers were measured again, as only {since} steps had followed the last masks."]

    def _assert(self, selection: Selection) -> None:
        short = selection.short(selection.weights())
        if short:
            raise RuntimeError(
                f"Prune: the sparsity was not reached: {'; '.join(short)}. The run was shorter than the schedule (a stream that ended, a "
                "callback that stopped it). Give `schedule` an earlier `end`, or train for longer."
            )

    def _fixed(self) -> str:
        """What decides how many weights go, where no sparsity does."""
        return "N of M" if isinstance(self.pattern, NofM) else "a threshold" if isinstance(self.criterion, Threshold) else ""

    def _schedule(self, schedule: str | Schedule | None = None) -> Schedule:
        asked = self.schedule if schedule is None else schedule
        if asked == "auto":
            return ConstantSparsity() if self._fixed() or self.training is None else PolynomialSparsity()
        return make_schedule(asked)


def _add(whole: Fitted, part: Fitted, prefix: str) -> None:
    for name, curve in part.history.items():
        whole.history.setdefault(name, []).extend(curve)
    whole.notes.extend(prefix + note for note in part.notes)
