"""Depth: remove whole residual blocks and layers."""

from typing import Any, ClassVar

import keras
import numpy as np

from kdfuse.compress.calibration import calibration, tensors
from kdfuse.compress.criteria.units import check_integers
from kdfuse.compress.held import zeros_held
from kdfuse.compress.training import check_afterwards
from kdfuse.data import Data
from kdfuse.fitting.batch_norm import reestimate
from kdfuse.fitting.compiled import carry_compile
from kdfuse.graph.blocks import Block, find_blocks, run_without, without_blocks
from kdfuse.graph.copy import copy_model, is_sequential
from kdfuse.graph.nodes import graph_of
from kdfuse.graph.renew import renew
from kdfuse.settings import settings, suggest
from kdfuse.technique import Result, Technique
from kdfuse.train import Train


@settings
class ShrinkDepth(Technique):
    """Remove residual blocks, and layers whose output has their input's shape, and train what is left.

    The block goes whose removal changes the model's outputs least on calibration rows, `sum |y' - y|^2 / sum |y|^2`; then the next,
    measured without those that are gone. The table `depth` of the report tells the change for each.

    Attributes:
        remove: how many blocks, at least 1; or their names: that of a residual block is the name of its addition.
        training: how to train afterwards: `Train`, `Distill` or another trainer. `auto` is `Train()`. None for none: then BatchNorm
            statistics are measured again on training rows.
        rows: calibration rows, at least 1.
        seed: of their draw.
        control: also trains the same shallower model from new random weights under the same training, and reports the difference.
    """

    remove: int | tuple[str, ...] = 1
    training: Any = "auto"
    rows: int = 256
    seed: int = 0
    control: bool = False

    row: ClassVar[str] = "model"

    def __post_init__(self) -> None:
        if isinstance(self.remove, tuple):
            if not self.remove or not all(isinstance(name, str) for name in self.remove):
                raise TypeError(f"`remove`: expected a number of blocks or a list of their names. Received: {self.remove!r}.")
        elif isinstance(self.remove, str):
            raise TypeError(
                f"`remove`: expected a number of blocks or a list of their names. Received: {self.remove!r}. Give [{self.remove!r}]."
            )
        else:
            check_integers(remove=self.remove)
        check_integers(rows=self.rows, seed=self.seed)
        check_afterwards(self.training, self.control)

    @property
    def _trainer(self) -> Any:
        return Train() if self.training == "auto" else self.training

    def check(self, model: keras.Model, data: Data) -> None:
        unbuilt = is_sequential(model) and graph_of(model) is None
        names = [block.name for block in find_blocks(copy_model(model, data.example(2)) if unbuilt else model)]
        (self._trainer or Train()).check(model, data)
        if not names:
            raise ValueError(
                f"`model`: {model.name!r} has no block whose output has its input's shape; a model inside it counts as one layer. Use "
                "kdfuse.Shrink, or remove blocks before models are joined."
            )
        if isinstance(self.remove, tuple):
            for name in self.remove:
                if name not in names:
                    raise ValueError(f"`remove`: {model.name!r} has no block {name!r}. {suggest(name, names)}")
        elif self.remove > len(names):
            raise ValueError(
                f"`remove`: expected at most {len(names)}, for {model.name!r} has as many blocks. Received: remove={self.remove}."
            )

    def apply(self, model: keras.Model, data: Data) -> Result:
        trainer, plain = self._trainer, self._trainer or Train()
        model = plain.private(model, data)  # built
        rows = self._order(model, data)
        small = without_blocks(model, [row["block"] for row in rows])
        carry_compile(model, small)
        student = plain.private(small, data)
        result = Result(small, baselines={"before": model}, tables={"depth": rows})
        if trainer is not None:
            with zeros_held(student, result.notes):
                fitted = trainer.fit(student, data)
            result.history = fitted.history
            result.notes += fitted.notes
        elif reestimate(student, data):
            result.notes.append("The statistics of BatchNorm layers were measured again.")
        result.model = plain.public(student, data)
        result.heads = dict.fromkeys(("model", "before", "control"), getattr(plain, "head", "auto"))
        if self.control:
            fresh = renew(result.model, seed=1, example=data.example(2))
            carry_compile(result.model, fresh)
            result.baselines["control"], _ = trainer(fresh, data, name="control")
        return result

    def _order(self, model: keras.Model, data: Data) -> list[dict[str, Any]]:
        """The blocks to remove, in the order in which they go, with the change of the outputs."""
        blocks = {block.name: block for block in find_blocks(model)}
        batches = [tensors(x) for x, _, _ in calibration(data, self.rows, self.seed)]
        whole = [_outputs(model, batch, []) for batch in batches]
        gone: list[Block] = []
        rows: list[dict[str, Any]] = []

        def change(block: Block) -> float:
            apart = [_outputs(model, batch, [*gone, block]) for batch in batches]
            differences = sum(
                float(((a - b) ** 2).sum()) for one, other in zip(apart, whole, strict=True) for a, b in zip(one, other, strict=True)
            )
            return differences / max(sum(float((b**2).sum()) for other in whole for b in other), 1e-12)

        count = len(self.remove) if isinstance(self.remove, tuple) else self.remove
        for place in range(count):
            names = [self.remove[place]] if isinstance(self.remove, tuple) else _left(blocks, gone)
            if not names:
                raise ValueError(
                    f"`remove`: the blocks of {model.name!r} lie in each other, and {place} of them are all that can go apart."
                )
            changes = {name: change(blocks[name]) for name in names}
            least = min(changes, key=lambda name: changes[name])
            gone.append(blocks[least])
            rows.append({"block": least, "change": changes[least], "layers": ", ".join(blocks[least].layers)})
        return rows


def _left(blocks: dict[str, Block], gone: list[Block]) -> list[str]:
    """The names of blocks that have a layer which is still there."""
    layers = {layer for block in gone for layer in block.layers}
    return [name for name, block in blocks.items() if block not in gone and not set(block.layers) <= layers]


def _outputs(model: keras.Model, batch: Any, blocks: list[Block]) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(one) for one in run_without(model, batch, blocks)]
