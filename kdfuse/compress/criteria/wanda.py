"""Wanda: weights by what they carry, their magnitude times the size of their input."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np

from kdfuse.compress.criteria.weights import Measured, WeightCriterion
from kdfuse.compress.kernels import Kernel
from kdfuse.data import Data
from kdfuse.fitting.batch_norm import batches
from kdfuse.graph.trace import Call, layer_calls
from kdfuse.settings import settings

BATCH = 64
layers = keras.layers
READ = (layers.Dense, layers.EinsumDense, layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.Conv1DTranspose, layers.Conv2DTranspose,
        layers.Conv3DTranspose)  # fmt: skip


@settings
class Wanda(WeightCriterion):
    """The score of a weight is `|w|` times the L2 norm of its input feature over calibration rows.

    Weights compete within each output, as in the paper, unless `Prune(scope=...)` says otherwise. An input feature is one of a
    Dense layer's inputs, at all places of a sequence, and one input channel of a convolution, at all places of the image. Norms are
    measured once, on the model as it is given (of `IterativeSparsity`: before each round). Recurrent kernels, and the pointwise half
    of separable convolutions, have inputs inside their layer: their weights score by magnitude alone.

    Sun et al. 2023 (arXiv 2306.11695).

    Attributes:
        rows: calibration rows, drawn from the training split, at least 1.
        seed: of the draw.
    """

    rows: int = 256
    seed: int = 0

    scope: ClassVar[str] = "output"

    def __post_init__(self) -> None:
        for name, value, least in (("rows", self.rows, 1), ("seed", self.seed, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"`{name}` of Wanda: expected an integer of at least {least}. Received: {name}={value!r}.")

    def measure(self, model: keras.Model, kernels: Sequence[Kernel], data: Data) -> Measured:
        squares: dict[int, Any] = {}
        measurable = {id(kernel.owner): kernel for kernel in kernels if _read(kernel)}
        for x in batches(data, self.rows, BATCH, self.seed):
            _, calls = layer_calls(model, keras.tree.map_structure(keras.ops.convert_to_tensor, x))
            for call in calls:
                kernel = measurable.get(id(call.layer))
                if kernel is not None:
                    squares[id(call.layer)] = squares.get(id(call.layer), 0.0) + _squares(kernel, call)
        return [np.sqrt(squares[id(one.owner)]).astype("float32") if _read(one) and id(one.owner) in squares else None for one in kernels]

    def scores(self, weights: np.ndarray, measured: np.ndarray | None) -> np.ndarray:
        magnitudes = np.abs(weights)
        return magnitudes if measured is None else magnitudes * measured

    def note(self, kernel: Kernel, measured: Any) -> str:
        return "by magnitude: its inputs are inside the layer" if measured is None else ""


def _read(kernel: Kernel) -> bool:
    """Whether the layer's input is what this kernel reads."""
    return kernel.name == "kernel" and isinstance(kernel.owner, READ) and not kernel.asked


def _squares(kernel: Kernel, call: Call) -> np.ndarray:
    """Sums of squares over rows and places of one call, to be broadcast to `[positions, inputs, outputs]`."""
    tensor = call.args[0] if call.args else call.kwargs["inputs"]
    given = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32")), dtype=np.float64) ** 2
    owner: Any = kernel.owner
    if isinstance(owner, layers.EinsumDense):
        return _einsum(kernel, given, owner.equation)
    channel = 1 if getattr(owner, "data_format", "") == "channels_first" else given.ndim - 1
    found = given.sum(tuple(axis for axis in range(given.ndim) if axis != channel))
    groups = getattr(owner, "groups", 1)
    if groups == 1:
        return found[None, :, None]
    return np.repeat(found.reshape(groups, -1), owner.filters // groups, axis=0).T[None]  # an output reads the channels of its group


def _einsum(kernel: Kernel, squares: np.ndarray, equation: str) -> np.ndarray:
    read, weights = equation.replace(".", "").split("->")[0].split(",")
    leading = squares.ndim - len(read)  # an ellipsis stands for them
    wanted = [weights[axis] for axis in (*kernel.axes[0], *kernel.axes[1])]
    summed = squares.sum(tuple(axis for axis in range(squares.ndim) if axis < leading or read[axis - leading] not in wanted))
    order = [label for label in read if label in wanted]
    shape = [int(np.prod([kernel.variable.shape[axis] for axis in part], dtype=np.int64)) for part in kernel.axes[:2]]
    return summed.transpose([order.index(label) for label in wanted]).reshape([*shape, 1])
