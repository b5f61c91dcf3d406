"""Quantization-aware training of a bridged model: TFMOT's model, its first ranges, and what it has learnt."""

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kdfuse.bridge.annotate import Kept, annotate
from kdfuse.bridge.configs import scope, tfmot_module
from kdfuse.bridge.imports import guests
from kdfuse.bridge.layout import kernels_before_relu
from kdfuse.bridge.replay import Pair
from kdfuse.bridge.to_tf_keras import Bridged

ORIGINAL = "ori_weights_vars_tf"  # what is trained in the place of a kernel that keeps its clusters
OBSERVERS = ("MovingAvgQuantize", "AllValuesQuantize")
_lock = threading.Lock()


class Quantized(NamedTuple):
    """A model that trains as if it were quantized.

    Attributes:
        model: the tf_keras model.
        pairs: the Keras 3 variables with its tf.Variables.
        written: tf.Variables that its forward pass writes, and no optimizer may.
        kernels: by layer name, the Keras 3 variable of each kernel that is quantized.
        left: the layers that stay in float, by name with their class.
    """

    model: Any
    pairs: list[Pair]
    written: list[tf.Variable]
    kernels: dict[str, Any]
    left: dict[str, str]


def quantized(bridged: Bridged, kept: Mapping[str, Kept], skip: frozenset[str] = frozenset()) -> Quantized:
    """TFMOT's quantization-aware form of a bridged model.

    Args:
        bridged: it is not to be used afterwards.
        kept: by the names of tf_keras layers, what their kernels have to keep.
        skip: names of tf_keras layers that stay in float.
    """
    places = {
        id(weight): (layer.name, place, _last(weight))
        for layers in bridged.layers.values()
        for layer in layers
        for place, weight in enumerate(layer.weights)
    }
    with scope():
        annotated, left = annotate(bridged.model, kept, skip)
        with kernels_before_relu():
            model = guests().tfmot.quantization.keras.quantize_apply(annotated)
    wrapped = {one.layer.name: one for one in wrappers(model)}
    plain = {layer.name: layer for layer in model.layers}
    pairs, written, kernels = [], [], {}
    for mine, theirs in bridged.pairs:
        if theirs is not mine.value:
            name, place, last = places[id(theirs)]
            if name in wrapped:
                inside = {_last(weight): weight for weight in wrapped[name].weights if weight.name.startswith(f"{name}/")}
                theirs = inside[last]
                if any(theirs is weight for weight, _, _ in wrapped[name]._weight_vars):
                    kernels[name] = mine
                    for weight in wrapped[name].weights:
                        if _last(weight) == ORIGINAL:
                            written.append(theirs)
                            theirs = weight
            else:
                theirs = plain[name].weights[place]
        pairs.append((mine, theirs))
    return Quantized(model, pairs, written, kernels, left)


def wrappers(model: Any) -> list[Any]:
    """The wrappers that quantize a layer's weights, activation or output."""
    return [layer for layer in model.layers if type(layer).__name__.startswith("QuantizeWrapper")]


def calibrate(model: Any, batches: Iterable[list[Any]]) -> None:
    """Set the first ranges of all activations to those of the float model, each the mean of the batches' ends.

    TFMOT begins with -6 to 6 and moves by a thousandth a step: a short training would never leave that, and inputs keep it
    for good.

    Args:
        model: of `quantized`; its weights stay.
        batches: flat lists of inputs.
    """
    ranges: dict[int, tuple[Any, Any, bool, list[tuple[float, float]]]] = {}
    with _observed(ranges):
        for batch in batches:
            model(batch if len(batch) > 1 else batch[0], training=False)
    for least, most, widest, ends in ranges.values():
        low, high = np.asarray(ends, dtype="float64").T
        least.assign(min(0.0, low.min() if widest else low.mean()))
        most.assign(max(0.0, high.max() if widest else high.mean(), least.numpy() + 1e-6))


def settle(net: Quantized) -> list[tuple[Any, np.ndarray]]:
    """Bring the ranges of all kernels up to date with their present values.

    Returns:
        The Keras 3 variable of each quantized kernel, and its values as they are quantized.
    """
    found = []
    for wrapper in wrappers(net.model):
        for weight, quantizer, state in wrapper._weight_vars:
            quantizer(weight, True, weights=state)
            found.append((net.kernels[wrapper.layer.name], np.asarray(quantizer(weight, False, weights=state))))
    return found


@contextlib.contextmanager
def _observed(ranges: dict[int, Any]) -> Iterator[None]:
    """Inside, activations go through unchanged, and the ends of their ranges are written down."""
    module = tfmot_module("quant_ops")

    def observer(widest: bool) -> Any:
        def observe(inputs: Any, min_var: Any, max_var: Any, **settings: Any) -> Any:
            if tf.executing_eagerly():
                entry = ranges.setdefault(id(min_var), (min_var, max_var, widest, []))
                entry[3].append((float(tf.reduce_min(inputs)), float(tf.reduce_max(inputs))))
            return inputs

        return observe

    with _lock:
        before = {name: getattr(module, name) for name in OBSERVERS}
        try:
            for name in OBSERVERS:
                setattr(module, name, observer(name == "AllValuesQuantize"))
            yield
        finally:
            for name, function in before.items():
                setattr(module, name, function)


def _last(weight: Any) -> str:
    return str(weight.name).partition(":")[0].rpartition("/")[2]
