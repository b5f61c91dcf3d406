"""The kernels of a model: which weights are pruned, under what name, and along which axes they read inputs and make outputs."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

layers = keras.layers
Axes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

NORMALISATION = (layers.BatchNormalization, layers.LayerNormalization, layers.GroupNormalization, layers.RMSNormalization,
                 layers.UnitNormalization, layers.SpectralNormalization, layers.Normalization)  # fmt: skip
CELLS = ("SimpleRNNCell", "LSTMCell", "GRUCell", "ConvLSTMCell")


@dataclasses.dataclass(frozen=True, eq=False)
class Kernel:
    """A weight that can be pruned.

    Attributes:
        layer: the path of its layer through nested models and layers, such as `trunk/conv1`.
        name: of the weight: `kernel`, `recurrent_kernel`.
        owner: its layer.
        variable: the weight itself.
        axes: those of positions (of a convolution's window), of inputs and of outputs.
        asked: why it is pruned only where its layer is named; empty for a kernel that is pruned by default.
    """

    layer: str
    name: str
    owner: keras.Layer
    variable: Any
    axes: Axes
    asked: str = ""

    @property
    def size(self) -> int:
        """How many weights it has."""
        return int(np.prod(self.variable.shape))

    @property
    def inputs(self) -> int:
        """How many inputs one of its outputs reads at one position."""
        return int(np.prod([self.variable.shape[axis] for axis in self.axes[1]], dtype=np.int64))

    def view(self, array: np.ndarray) -> np.ndarray:
        """An array of the kernel's shape as `[positions, inputs, outputs]`."""
        return array.transpose(self._order).reshape([int(np.prod([array.shape[a] for a in part], dtype=np.int64)) for part in self.axes])

    def unview(self, array: np.ndarray) -> np.ndarray:
        """What `view` gives, back in the kernel's shape."""
        shape = [int(self.variable.shape[axis]) for axis in self._order]
        return np.ascontiguousarray(array.reshape(shape).transpose(np.argsort(self._order)))

    @property
    def _order(self) -> list[int]:
        return [axis for part in self.axes for axis in part]


@dataclasses.dataclass(frozen=True)
class Spared:
    """Weights of two axes or more that are no kernel, and a layer whose weights are all of other kinds: why they stay."""

    layer: str
    name: str
    weights: int
    why: str


def parts(layer: keras.Layer, prefix: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, keras.Layer]]:
    """Every layer inside a model, each once, with its path."""
    seen = set() if seen is None else seen
    for inner in layer._flatten_layers(include_self=False, recursive=False):
        if id(inner) not in seen:
            seen.add(id(inner))
            yield prefix + inner.name, inner
            yield from parts(inner, f"{prefix}{inner.name}/", seen)


def find(model: keras.Model) -> tuple[list[Kernel], list[Spared]]:
    """The kernels of a built model, and what else has weights.

    Kernels are those of Dense, EinsumDense (attention is made of them), convolutions and their transposes, the pointwise half of
    separable convolutions, the input and recurrent kernels of recurrent cells, and what a layer's own `get_prunable_weights()` gives.
    Depthwise kernels, embeddings and the weights of a layer of the user's own are pruned only where their layer is named.
    """
    kernels: list[Kernel] = []
    spared: list[Spared] = []
    taken: set[int] = set()
    for path, layer in [("", model), *parts(model)]:
        own = [variable for variable in _own(layer) if id(variable) not in taken]
        taken.update(map(id, own))
        if not own:
            continue
        known = {id(variable): (axes, asked) for variable, axes, asked in _kernels(layer, own)}
        rest = 0
        for variable in own:
            axes, asked = known.get(id(variable), (None, ""))
            why = asked or _why(layer, variable)
            if axes is not None:
                kernels.append(Kernel(path or model.name, variable.name, layer, variable, axes, asked))
            elif len(variable.shape) > 1:
                spared.append(Spared(path or model.name, variable.name, int(np.prod(variable.shape)), why))
            elif not known:
                rest += int(np.prod(variable.shape))
        if rest and isinstance(layer, NORMALISATION):
            spared.append(Spared(path or model.name, "", rest, "normalisation"))
    return kernels, spared


def _own(layer: keras.Layer) -> list[Any]:
    """The weights that a layer itself has, without those of layers inside it."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def _kernels(layer: Any, own: list[Any]) -> Iterator[tuple[Any, Axes, str]]:
    named = {variable.name: variable for variable in own if str(variable.dtype).startswith(("float", "bfloat"))}
    if callable(getattr(layer, "get_prunable_weights", None)):
        yield from ((variable, _last_two(variable), "") for variable in layer.get_prunable_weights() if len(variable.shape) > 1)
    elif isinstance(layer, NORMALISATION) or getattr(layer, "lora_enabled", False):
        return
    elif isinstance(layer, layers.Embedding):
        for variable in (one for name, one in named.items() if name == "embeddings"):
            yield variable, _last_two(variable), "embeddings are pruned only where the layer is named"
    elif isinstance(layer, layers.DepthwiseConv1D | layers.DepthwiseConv2D):
        rank = layer.rank
        for variable in (one for one in named.values() if len(one.shape) == rank + 2):
            yield variable, ((), tuple(range(rank)), (rank, rank + 1)), "depthwise kernels are pruned only where the layer is named"
    elif isinstance(layer, layers.SeparableConv1D | layers.SeparableConv2D):
        for variable in (one for name, one in named.items() if name == "pointwise_kernel"):
            yield variable, _last_two(variable), ""
    elif isinstance(layer, layers.EinsumDense):
        for variable in (one for name, one in named.items() if name == "kernel"):
            yield variable, einsum_axes(layer.equation), ""
    elif isinstance(layer, layers.Conv1DTranspose | layers.Conv2DTranspose | layers.Conv3DTranspose):
        for variable in (one for name, one in named.items() if name == "kernel"):
            rank = len(variable.shape) - 2
            yield variable, (tuple(range(rank)), (rank + 1,), (rank,)), ""
    elif isinstance(layer, layers.Dense | layers.Conv1D | layers.Conv2D | layers.Conv3D) or _is_cell(layer):
        for variable in (one for name, one in named.items() if name in ("kernel", "recurrent_kernel")):
            yield variable, _last_two(variable), ""
    elif type(layer).__module__.partition(".")[0] != "keras":
        for variable in (one for one in named.values() if len(one.shape) > 1):
            yield variable, _last_two(variable), f"{type(layer).__name__} is no layer of Keras: pruned only where it is named"


def _is_cell(layer: Any) -> bool:
    return any(base.__name__ in CELLS and base.__module__.startswith("keras.") for base in type(layer).__mro__)


def _last_two(variable: Any) -> Axes:
    rank = len(variable.shape)
    return tuple(range(rank - 2)), (rank - 2,), (rank - 1,)


def einsum_axes(equation: str) -> Axes:
    """The axes of the kernel of an EinsumDense: those it shares with inputs and outputs, those summed over, those it adds."""
    given, made = equation.replace(".", "").split("->")
    read, kernel = given.split(",")
    shared = tuple(place for place, label in enumerate(kernel) if label in made and label in read)
    outputs = tuple(place for place, label in enumerate(kernel) if label in made and label not in read)
    return shared, tuple(place for place in range(len(kernel)) if place not in (*shared, *outputs)), outputs


def _why(layer: Any, variable: Any) -> str:
    if isinstance(layer, NORMALISATION):
        return "normalisation"
    if getattr(layer, "lora_enabled", False):
        return "LoRA weights are added to this kernel: merge them first"
    if not str(variable.dtype).startswith(("float", "bfloat")):
        return f"quantized to {variable.dtype}"
    if variable.name == "depthwise_kernel":
        return "depthwise kernels are never pruned in a separable convolution"
    return "no kernel"
