"""Which weights stay: criteria, targets and scope put together into the masks of all kernels."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kdfuse.compress import masks
from kdfuse.compress.criteria.weights import Measured, WeightCriterion
from kdfuse.compress.kernels import Kernel, Spared
from kdfuse.compress.layer_targets import Target
from kdfuse.compress.patterns import Block, NofM
from kdfuse.settings import flatten

Share = Callable[[float], float]
Arrays = list[np.ndarray]


@dataclasses.dataclass(eq=False)
class Selection:
    """The kernels of one model and the rule by which their weights stay.

    Attributes:
        kernels: what is pruned.
        targets: of each.
        criterion: scores the weights.
        scope: `layer`, `global` or `output`: among which weights the lowest go.
        measured: what the criterion measured of each kernel.
        absent: of each kernel `[positions, inputs, outputs]`, the weights that were zero already: they stay so.
    """

    kernels: Sequence[Kernel]
    targets: Sequence[Target]
    criterion: WeightCriterion
    scope: str
    measured: Measured
    absent: Arrays = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.keep_absent(self.weights())

    def weights(self) -> Arrays:
        """The kernels' present values."""
        return [np.asarray(kernel.variable.numpy()) for kernel in self.kernels]

    def keep_absent(self, weights: Sequence[np.ndarray]) -> None:
        """What is zero now stays zero; a kernel of zeros alone was not pruned, it begins so."""
        zeros = [kernel.view(array) == 0 for kernel, array in zip(self.kernels, weights, strict=True)]
        self.absent = [one if not one.all() else np.zeros_like(one) for one in zeros]

    def masks(self, weights: Sequence[np.ndarray], share: Share) -> Arrays:
        """Booleans of the kernels' shapes: which weights stay.

        Args:
            weights: of each kernel, in its shape.
            share: the sparsity of the moment for a final one.
        """
        marks: dict[int, np.ndarray] = {}
        together: dict[int, np.ndarray] = {}
        views = [kernel.view(array) for kernel, array in zip(self.kernels, weights, strict=True)]
        for place, (view, target) in enumerate(zip(views, self.targets, strict=True)):
            units = self._units(place, view)
            if self._is_global(target):
                together[place] = units
            else:
                marks[place] = self._marks(units, view, target, share)
        if together:
            joined = np.concatenate([units.reshape(-1) for units in together.values()])
            final = next(self.targets[place].sparsity for place in together)
            marked = masks.largest(joined, masks.keep_count(joined.size, share(final or 0.0)))
            ends = np.cumsum([units.size for units in together.values()])[:-1]
            parts = zip(together.items(), np.split(marked, ends), strict=True)
            marks |= {place: part.reshape(units.shape) for (place, units), part in parts}
        return [self._whole(place, marks[place], view.shape) for place, view in enumerate(views)]

    def short(self, weights: Sequence[np.ndarray]) -> list[str]:
        """What has more weights than its target allows, in words; empty where all is reached."""
        found: list[str] = []
        pool, allowed = 0, 0
        for kernel, target, array in zip(self.kernels, self.targets, weights, strict=True):
            there = kernel.view(array) != 0
            if isinstance(target.pattern, NofM):
                most = int(masks.groups(there, target.pattern.m, False).sum(2).max())
                if most > target.pattern.n:
                    found.append(f"{kernel.layer}/{kernel.name} has {most} weights in a group of {target.pattern.m}")
            elif target.sparsity is not None:
                units = masks.pool(there.astype("float32"), target.pattern) > 0 if isinstance(target.pattern, Block) else there
                if self._is_global(target):
                    pool, allowed = pool + int(units.sum()), allowed + units.size
                elif int(units.sum()) > self._allowed(units, target):
                    found.append(f"{kernel.layer}/{kernel.name} has a sparsity of {1 - units.mean():.4f} instead of {target.sparsity:.4f}")
        final = next((target.sparsity for target in self.targets if self._is_global(target)), None)
        if final is not None and pool > masks.keep_count(allowed, final) + masks.slack(allowed):
            found.append(f"all kernels together have a sparsity of {1 - pool / allowed:.4f} instead of {final:.4f}")
        return found

    def table(self, weights: Sequence[np.ndarray], spared: Sequence[Spared] = ()) -> list[dict[str, Any]]:
        """A row for each kernel, then one for each weight that is not pruned, with the reason."""
        rows: list[dict[str, Any]] = []
        for place, (kernel, target, array) in enumerate(zip(self.kernels, self.targets, weights, strict=True)):
            zeros = array.size - int(np.count_nonzero(array))
            note = self.criterion.note(kernel, self.measured[place]) if zeros < array.size else "all its weights are zero"
            figures = {"weights": array.size, "zeros": zeros, "sparsity": zeros / array.size}
            rows.append({"layer": kernel.layer, "weight": kernel.name, **figures, "target": self._text(target), "note": note})
        return rows + [{"layer": one.layer, "weight": one.name, "weights": one.weights, "note": one.why} for one in spared]

    def sparsity(self, weights: Sequence[np.ndarray]) -> float:
        """The share of zeros in all kernels together."""
        return 1.0 - sum(int(np.count_nonzero(array)) for array in weights) / sum(array.size for array in weights)

    def _units(self, place: int, view: np.ndarray) -> np.ndarray:
        scores, block = self.criterion.scores(view, self.measured[place]), self.targets[place].pattern
        absent = self.absent[place]
        if isinstance(block, Block):
            return masks.pool(np.where(absent, np.zeros_like(scores), scores), block)
        return np.where(absent, -np.ones_like(scores), scores) if absent.any() else scores

    def _marks(self, units: np.ndarray, view: np.ndarray, target: Target, share: Share) -> np.ndarray:
        if isinstance(target.pattern, NofM):
            return masks.n_of_m(units, target.pattern)
        if target.sparsity is None:
            return units >= np.float32(self.criterion.cut(view) or 0.0)
        if self.scope == "output":
            return masks.largest_per_output(units, masks.keep_count(units[..., 0].size, share(target.sparsity)))
        return masks.largest(units, masks.keep_count(units.size, share(target.sparsity)))

    def _whole(self, place: int, marks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        block = self.targets[place].pattern
        marks = masks.spread(marks, block, shape) if isinstance(block, Block) else marks
        return self.kernels[place].unview(marks & ~self.absent[place])

    def _is_global(self, target: Target) -> bool:
        return self.scope == "global" and not target.own and target.sparsity is not None and not isinstance(target.pattern, NofM)

    def _allowed(self, units: np.ndarray, target: Target) -> int:
        assert target.sparsity is not None
        if self.scope == "output":
            return masks.keep_count(units[..., 0].size, target.sparsity) * units.shape[-1]
        return masks.keep_count(units.size, target.sparsity) + masks.slack(units.size)

    def _text(self, target: Target) -> Any:
        if isinstance(target.pattern, NofM):
            return f"{target.pattern.n} of {target.pattern.m}"
        text = target.sparsity if target.sparsity is not None else " ".join(map(str, flatten(self.criterion).values()))
        return f"{text} in blocks of {target.pattern.inputs} x {target.pattern.outputs}" if isinstance(target.pattern, Block) else text
