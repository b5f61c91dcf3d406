"""Quantize: a trained model in fewer bits, without training."""

from collections.abc import Callable

import keras
import numpy as np

from kdfuse.compress.bridged import lite_path
from kdfuse.compress.quantize_kernels import halve, write_back
from kdfuse.compress.quantize_search import four_bits, search
from kdfuse.data import Data
from kdfuse.export.edge_quantizer import calibrate, requantize, weighted_operations
from kdfuse.export.lite_model import LiteModel
from kdfuse.export.litert import save_litert, to_litert
from kdfuse.graph.copy import copy_model
from kdfuse.graph.heads import detect_head
from kdfuse.measure.quality import quality
from kdfuse.settings import choose, settings
from kdfuse.technique import Result, Technique

KINDS = ("int8", "dynamic", "float16", "int4", "mixed")


@settings
class Quantize(Technique):
    """Quantize after training, to a `.tflite` file that the report measures, and the Keras model with the file's weights as floats.

    Jacob et al., 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", arXiv 1712.05877.

    Attributes:
        kind: `"int8"`: weights and activations; `"dynamic"`: int8 weights, float activations; `"float16"`: weights; `"int4"`: weights
            of Dense and convolutions in 4 bits, activations in int8; `"mixed"`: 4, 8 or float weights, chosen for each operation.
        samples: rows drawn from the training split that ranges of activations are found with, at least 1; unused by dynamic and float16.
        max_drop: for mixed: how much validation accuracy (R2 for a regression) may be lost, from 0.
        target_bytes: for mixed: the size of the file to reach, in place of `max_drop`; None for none.
    """

    kind: str = "int8"
    samples: int = 256
    max_drop: float = 0.005
    target_bytes: int | None = None

    keeps_structure = True

    def __post_init__(self) -> None:
        choose("kind", self.kind, KINDS)
        if isinstance(self.samples, bool) or not isinstance(self.samples, int) or self.samples < 1:
            raise ValueError(f"`samples`: expected an integer of at least 1. Received: samples={self.samples!r}.")
        if isinstance(self.max_drop, bool) or not isinstance(self.max_drop, int | float) or not 0 <= self.max_drop < 1:
            raise ValueError(f"`max_drop`: expected a number in [0, 1). Received: max_drop={self.max_drop!r}.")
        target = self.target_bytes
        if target is not None and (isinstance(target, bool) or not isinstance(target, int) or target < 1 or self.kind != "mixed"):
            raise ValueError(f"`target_bytes`: expected None, or a positive integer with kind='mixed'. Received: {target!r}.")

    def check(self, model: keras.Model, data: Data) -> None:
        if not model.built:
            raise ValueError(f"`model`: expected a built model. Received: {model.name!r}, which has no weights yet. Call it on a batch.")
        if self.kind == "mixed" and data.validation is None and self.target_bytes is None:
            raise ValueError("`data`: expected a validation split for kind='mixed', to choose by. Received: none. Give validation=0.1.")

    def apply(self, model: keras.Model, data: Data) -> Result:
        student = copy_model(model, data.example(2))
        path = lite_path(student)
        result = Result(student, files={"tflite": path}, baselines={"before": model})
        if self.kind in ("int4", "mixed"):
            written = self._by_operation(student, data, result)
        else:
            rows = data.sample(self.samples) if self.kind == "int8" else None
            written = to_litert(student, quantize=self.kind, representative=rows, example=data.example(2))
        save_litert(written, path)
        if self.kind == "float16":
            beyond = halve(student)
            if beyond:
                result.notes.append(f"The Keras model keeps {', '.join(beyond)} in float32: they are beyond the numbers of float16.")
            return result
        changed, left = write_back(student, written)
        if left:
            result.notes.append(
                f"The Keras model keeps the float weights of {', '.join(left)}: the file has them in another form, or in float."
            )
        if not changed:
            result.notes.append("The file's quantized weights could not be told by layer: the Keras model is as it was.")
        return result

    def _by_operation(self, model: keras.Model, data: Data, result: Result) -> bytes:
        plain = to_litert(model, example=data.example(2))
        example = data.sample(self.samples)
        if not weighted_operations(plain):
            raise ValueError(
                f"`model`: expected Dense layers or convolutions for kind={self.kind!r}. Received: {model.name!r} without any."
            )
        ranges = calibrate(plain, example)
        if self.kind == "int4":
            return requantize(plain, four_bits(plain), ranges)
        score = _score(model, data)
        best = score(LiteModel(plain)) if data.validation is not None else 0.0
        found = search(plain, ranges, example, score, best - self.max_drop, self.target_bytes)
        result.tables["sensitivity"] = found.table
        used = {bits: sum(one == bits for one in found.bits.values()) for bits in (4, 8, 32)}
        result.notes.append(
            f"Of {len(found.bits)} operations with weights {used[4]} have them in 4 bits, {used[8]} in 8 bits, {used[32]} in float; "
            f"validation {best:.4f} in float, {found.score:.4f} in this file."
        )
        if self.target_bytes is None and found.score < best - self.max_drop:
            result.notes.append("Even int8 activations with float weights lose more than `max_drop`.")
        return found.data


def _score(model: keras.Model, data: Data) -> Callable[[LiteModel], float]:
    """Accuracy on the validation split, or R2; the mean over several outputs."""
    if data.validation is None:
        return lambda lite: 0.0
    x, y, weights = data.validation.head(data.validation.rows or 10_000)
    heads = keras.tree.flatten(detect_head(model, data.task, data.example(8), "auto"))
    targets, tasks = keras.tree.flatten(y), keras.tree.flatten(data.task)
    shared = weights if weights is None or not keras.tree.is_nested(weights) else None

    def score(lite: LiteModel) -> float:
        outputs = [np.asarray(one) for one in keras.tree.flatten(lite(x))]
        figures = [quality(output, target, head, task, shared)
                   for output, target, head, task in zip(outputs, targets, heads, tasks, strict=True)]  # fmt: skip
        return float(np.mean([one.get("accuracy", one.get("r2", 0.0)) for one in figures]))

    return score
