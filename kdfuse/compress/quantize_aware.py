"""QuantizeAware: train a model as if it were int8 already, and write the int8 file."""

import collections
import dataclasses
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdfuse.bridge.annotate import CLUSTERED, Kept
from kdfuse.bridge.quantized import Quantized, calibrate, quantized, settle
from kdfuse.bridge.stand_in import standing_in
from kdfuse.bridge.to_tf_keras import Bridged
from kdfuse.compress import bridged as way
from kdfuse.compress import held
from kdfuse.compress.training import innermost
from kdfuse.data import Data
from kdfuse.export.lite_model import LiteModel
from kdfuse.export.lite_weights import stored_weights
from kdfuse.export.litert import save_litert, to_litert
from kdfuse.graph.heads import detect_head, known_head
from kdfuse.settings import settings
from kdfuse.technique import Result, Technique
from kdfuse.train import Train, Trainer

MOST_VALUES = 128
"""How many values a clustered kernel has at most: int8 itself leaves 255."""
MODES = {(False, False): "QAT", (True, False): "PQAT", (False, True): "CQAT", (True, True): "PCQAT"}


@settings
class QuantizeAware(Technique):
    """Train with weights and activations rounded as int8 rounds them (TFMOT), and give back the model and its `.tflite` file.

    The Keras model that comes back has the given architecture, BatchNorm layers unfolded, and kernels with the values that int8
    leaves them, as floats; its activations are not rounded. That is what agrees best with the file, in which a BatchNorm after a 2D
    convolution is folded into the scales of its kernel. The file is what the report measures as `tflite/...`.

    Convolutions (1D, 2D, depthwise, transposed, separable as two), Dense, pooling, sums, products, concatenation, reshaping, common
    activations are int8; rescaling, LayerNorm and a BatchNorm that is not folded compute in float between int8 numbers. Attention,
    recurrent layers, embeddings and what is opaque stay float, named in the report's table `quantization`. A recurrent model converts
    with a batch of one row.

    Zeros and clusters that the model's kernels have are kept: plain training loses them. Jacob et al.: Quantization and Training of
    Neural Networks for Efficient Integer-Arithmetic-Only Inference, 2018 (arXiv 1712.05877).

    Attributes:
        training: how to fit, `Train(...)` or `Distill(teacher)`; in float32 on one device, with losses on outputs alone. The default is
            three epochs at a tenth of Adam's usual rate.
        skip: layers that stay in float: names, paths in nested models (`trunk/dense`), or patterns with `*`.
        keep_sparsity: whether zeros of kernels that have at least 1 % of them stay zero.
        keep_clusters: whether values of kernels that have at most 128 of them stay shared (of a 2D convolution within each output
            channel, since each has its own scale).
        calibration: training rows that the first ranges of activations are measured on; 0 for TFMOT's own -6 to 6, which a short
            training hardly leaves.
        opaque: names of layers that cross the bridge as they are, in float; `auto` for all that tf_keras lacks.
    """

    training: Trainer = Train(epochs=3, learning_rate=1e-4)
    skip: tuple[str, ...] = ()
    keep_sparsity: bool = True
    keep_clusters: bool = True
    calibration: int = 512
    opaque: tuple[str, ...] | str = "auto"

    keeps_structure = True

    def __post_init__(self) -> None:
        way.check_bridge_training(self.training)
        way.check_opaque(self.opaque)
        if not isinstance(self.skip, tuple) or not all(isinstance(name, str) for name in self.skip):
            raise TypeError(f"`skip`: expected names of layers, such as ['dense_2']. Received: {self.skip!r}.")
        for argument in ("keep_sparsity", "keep_clusters"):
            if not isinstance(getattr(self, argument), bool):
                raise ValueError(f"`{argument}`: expected True or False. Received: {getattr(self, argument)!r}.")
        if isinstance(self.calibration, bool) or not isinstance(self.calibration, int) or self.calibration < 0:
            raise ValueError(f"`calibration`: expected a number of rows, from 0. Received: {self.calibration!r}.")

    def check(self, model: keras.Model, data: Data) -> None:
        bridge = way.check_crossing(model, data, self.opaque)
        self.training.check(model, data)  # type: ignore[attr-defined]
        way.named(self.skip, bridge.layers, "skip")

    def apply(self, model: keras.Model, data: Data) -> Result:
        student = self.training.private(model, data)
        bridge = way.cross(student, data, self.opaque)
        plan = _Plan(self, student, bridge)
        net = quantized(bridge, plan.kept, plan.skipped)
        path = way.lite_path(student)
        example = data.example(256)
        head = innermost(self.training).head
        detected = detect_head(student, data.task, data.example(64), head)
        standing = standing_in(student, net.model, net.pairs, net.written)
        # Rounded to 8 bits, the rows of a softmax do not sum to 1.
        with known_head(student, detected), standing, held.constrained(plan.constraints()):
            settle(net)
            if self.calibration:
                calibrate(net.model, _batches(student, data, self.calibration))
            fitted = self.training.fit(student, data)
            found = settle(net)
            emulated = student(_tensors(example), training=False)
            written = to_litert(student, quantize="dynamic")
            if _missing(written, net):  # TensorFlow leaves a Dense over sequences or images in float where the batch is open
                written = min(written, to_litert(student, quantize="dynamic", batch_size=1), key=lambda one: len(_missing(one, net)))
            save_litert(written, path)
        missing = _missing(written, net)
        for variable, array in found:
            variable.assign(array)
        plan.assert_kept()
        lite = LiteModel(path)
        table = plan.table(net, missing)
        notes = [*fitted.notes, *plan.notes(net), *way.bridge_notes(bridge)]
        if missing:
            told = [row["layer"] for row in table if row["type"] == "float, trained as int8"]
            notes.append(f"Trained as int8, but the file has them in float: {', '.join(told)}.")
        result = Result(self.training.public(student, data), fitted.history, plan.figures(lite, example, emulated), notes=notes)
        result.tables["quantization"], result.files["tflite"] = table, path
        result.heads = {"model": head, "before": head}
        if model.built:
            result.baselines["before"] = model
        return result


@dataclasses.dataclass
class _Kernel:
    """A kernel as it came.

    Attributes:
        variable: the Keras 3 variable.
        path: of its Keras 3 layer.
        layer: the name of its tf_keras layer.
        before: its values.
        mask: what is not zero; None where it is not to be held.
        clusters: whether its values are to stay shared.
        fixed: whether TFMOT cannot keep them, so that it is not trained.
    """

    variable: Any
    path: str
    layer: str
    before: np.ndarray
    mask: np.ndarray | None
    clusters: bool
    fixed: bool


class _Plan:
    """What of a model is quantized and what must be kept, and how that went."""

    def __init__(self, technique: QuantizeAware, model: keras.Model, bridge: Bridged) -> None:
        self.model = model
        homes = way.layer_names(bridge)
        skipped = way.named(technique.skip, bridge.layers, "skip")
        self.skipped = frozenset(layer.name for path in skipped for layer in bridge.layers[path])
        masks = {id(variable): mask for variable, mask in held.zeros_of(model.weights)} if technique.keep_sparsity else {}
        self.kernels: list[_Kernel] = []
        for mine, _ in bridge.pairs:
            if held.is_kernel(mine):
                path, layer = homes[id(mine)]
                before = np.asarray(mine.numpy())
                clusters = technique.keep_clusters and _is_clustered(before)
                fixed = clusters and (type(layer).__name__ not in CLUSTERED or layer.name in self.skipped)
                self.kernels.append(_Kernel(mine, path, layer.name, before, masks.get(id(mine)), clusters, fixed))

    @property
    def kept(self) -> dict[str, Kept]:
        return {one.layer: Kept(one.clusters and not one.fixed, one.mask is not None) for one in self.kernels}

    def constraints(self) -> list[tuple[Any, keras.constraints.Constraint]]:
        """Zeros are held by the optimizer in every kind of layer; where TFMOT cannot keep clusters the kernel stays as it is."""
        found: list[tuple[Any, keras.constraints.Constraint]] = []
        for one in self.kernels:
            if one.fixed:
                found.append((one.variable, held.Fixed(one.before)))
            elif one.mask is not None:
                found.append((one.variable, held.Masked(one.mask, one.variable.constraint)))
        return found

    def assert_kept(self) -> None:
        """Raise where zeros or clusters got lost: that would be a fault of the bridge."""
        for one in self.kernels:
            now = np.asarray(one.variable.numpy())
            if one.mask is not None and np.any(now[~one.mask]):
                raise RuntimeError(f"QuantizeAware: zeros of {one.path!r} got lost. Give keep_sparsity=False to go without them.")
            if one.clusters and _most_values(now) > way.values(one.before):
                raise RuntimeError(f"QuantizeAware: clusters of {one.path!r} got lost. Give keep_clusters=False to go without them.")

    def table(self, net: Quantized, missing: set[int]) -> list[dict[str, Any]]:
        """A row for each kernel; `missing` are those that the file does not have as integers, by `id`."""
        rows = []
        for one in self.kernels:
            now = np.asarray(one.variable.numpy())
            rows.append({
                "layer": one.path, "weight": one.variable.name, "weights": now.size,
                "type": "float" if all(one.variable is not mine for mine in net.kernels.values())
                        else "float, trained as int8" if id(one.variable) in missing else "int8",
                "sparsity": float(np.mean(now == 0)), "values_before": way.values(one.before), "values": way.values(now),
            })  # fmt: skip
        return rows

    def notes(self, net: Quantized) -> list[str]:
        mode = MODES[any(one.mask is not None for one in self.kernels), any(one.clusters and not one.fixed for one in self.kernels)]
        notes = [f"Trained with {mode}."]
        if net.left:
            notes.append("In float: " + ", ".join(f"{name} ({kind})" for name, kind in net.left.items()) + ".")
        fixed = [one.path for one in self.kernels if one.fixed]
        if fixed:
            notes.append(f"Not trained, as TFMOT cannot keep their clusters: {', '.join(fixed)}.")
        return notes

    def figures(self, lite: LiteModel, example: Any, emulated: Any) -> dict[str, float]:
        """How far the file is from the model that was trained: the mean absolute difference of outputs."""
        given = [np.asarray(value) for value in keras.tree.flatten(emulated)]
        made = [np.asarray(value) for value in keras.tree.flatten(lite(example))]
        gaps = [float(np.mean(np.abs(one - other))) for one, other in zip(given, made, strict=True)]
        return {"quantization/difference": max(gaps)}


def _missing(written: bytes, net: Quantized) -> set[int]:
    """The kernels trained as int8 for which the file has no integers of their number, by `id`."""
    there = collections.Counter(integers.size for _, integers in stored_weights(written))
    missing = set()
    for variable in net.kernels.values():
        size = math.prod(variable.shape)
        if there[size]:
            there[size] -= 1
        else:
            missing.add(id(variable))
    return missing


def _is_clustered(array: np.ndarray) -> bool:
    """Whether the values that are not zero are shared: those of a kernel trained freely differ, nearly all of them."""
    there = array[array != 0]
    return 1 < way.values(array) <= MOST_VALUES and 4 * way.values(there) <= 3 * there.size


def _most_values(array: np.ndarray) -> int:
    """The most values within one channel, for a kernel with a scale for each; else those of all."""
    if array.ndim != 4:
        return way.values(array)
    return max(way.values(array[..., channel]) for channel in range(array.shape[-1]))


def _batches(model: keras.Model, data: Data, rows: int) -> Any:
    functional = model._functional if isinstance(model, keras.Sequential) else model
    x, _, _ = data.train.head(rows)
    count = len(keras.tree.flatten(x)[0])
    for start in range(0, count, 64):
        part = keras.tree.map_structure(lambda array, at=start: tf.convert_to_tensor(array[at : at + 64]), x)
        yield functional._standardize_inputs(part)


def _tensors(example: Any) -> Any:
    return keras.tree.map_structure(tf.convert_to_tensor, example)
