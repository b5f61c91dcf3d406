"""Least squares: fit the next layers' weights so that they give what they gave before their inputs were removed."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from kdfuse.compress.calibration import calibration, tensors
from kdfuse.data import Data
from kdfuse.graph.channels import Channels, Member
from kdfuse.graph.trace import watching

RIDGE = 1e-6
KINDS = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D)


def reconstruct(
    model: keras.Model, small: keras.Model, channels: Channels, twins: dict[int, Any], gone: Sequence[int], data: Data, rows: int = 512
) -> list[str]:
    """Fit, in place and in the order of the graph, the kernel and bias of each Dense and plain Conv layer of `small` that lost inputs.

    For inputs X of the layer in the small model and outputs Y of the same layer in `model` before activation, on the same rows and places,
    the new weights are those with the least `|X W + b - Y|^2 + ridge |W|^2`, the ridge being 1e-6 of the mean of X's squares.

    He et al. 2017, Channel Pruning, arXiv 1707.06168; Luo et al. 2017, ThiNet, arXiv 1707.06342.

    Args:
        model: before; it is only read.
        small: after; a private copy.
        channels: of `model`.
        twins: what stands in `small` for each layer of `model`, by `id`.
        gone: the removed channels.
        data: calibration rows are those of its training split.
        rows: how many at most.

    Returns:
        Paths of the layers that were fitted.
    """
    stays, done = channels.stay(gone), []
    for member in channels.members.values():
        layer = member.layer
        plain = type(layer) in KINDS and getattr(layer, "groups", 1) == 1 and id(layer) in twins  # not inside a wrapper
        if plain and "in" in member.slots and not stays(member.slots["in"]).all():
            _fit(model, small, member, twins[id(layer)], stays(member.slots["out"]), data, rows)
            done.append(member.path)
    return done


def solve(products: np.ndarray, answers: np.ndarray, ridge: np.ndarray) -> np.ndarray:
    """Weights W of the least `|X W - Y|^2 + sum ridge * W^2` from `X'X` and `X'Y`."""
    solution: np.ndarray = np.linalg.lstsq(products + np.diag(ridge), answers, rcond=None)[0]
    return solution


def _fit(model: Any, small: Any, member: Member, twin: Any, kept: np.ndarray, data: Data, rows: int) -> None:
    size = int(np.prod(twin.kernel.shape[:-1]))
    has_bias = twin.bias is not None
    products, answers = np.zeros((size + 1, size + 1)), np.zeros((size + 1, int(kept.sum())))
    for x, _, _ in calibration(data, rows):
        given = tensors(x)
        # The same calls in both, in the same order: a layer may be used several times.
        pairs = zip(_inputs(model, member.layer, given), _inputs(small, twin, given), strict=True)
        for before, now in pairs:
            with _linear(member.layer) as layer:
                made = keras.ops.cast(layer(before), "float32")
            wanted = keras.ops.convert_to_numpy(_channels_last(member.layer, made)).reshape(-1, len(kept))[:, kept]
            seen = _patches(twin, keras.ops.cast(now, "float32"))
            wide = np.concatenate([seen, np.ones((len(seen), 1)) * has_bias], axis=1)
            products += wide.T @ wide
            answers += wide.T @ wanted
    ridge = np.full(size + 1, RIDGE * np.trace(products[:size, :size]) / size)
    ridge[size] = 0.0 if has_bias else 1.0
    solution = solve(products, answers, ridge)
    twin.kernel.assign(solution[:size].reshape(twin.kernel.shape))
    if has_bias:
        twin.bias.assign(solution[size])


def _inputs(model: Any, layer: Any, given: Any) -> list[Any]:
    with watching(model) as calls:
        model(given, training=False)
    return [keras.tree.flatten((call.args, call.kwargs))[0] for call in calls if call.layer is layer]


def _patches(layer: Any, value: Any) -> np.ndarray:
    """What each output place of a layer multiplies with its kernel: `[places, kernel size * channels]`, in the order of the kernel."""
    if type(layer) is keras.layers.Dense:
        return keras.ops.convert_to_numpy(value).astype("float64").reshape(-1, value.shape[-1])
    size = int(np.prod(layer.kernel.shape[:-1]))
    one_by_one = np.eye(size, dtype="float32").reshape(*layer.kernel.shape[:-1], size)
    strides, dilation = list(layer.strides), layer.dilation_rate
    if layer.padding == "causal":
        value, padding = keras.ops.pad(value, layer._compute_causal_padding()), "valid"
    else:
        padding = layer.padding
    found = keras.ops.conv(value, one_by_one, strides=strides, padding=padding, dilation_rate=dilation, data_format=layer.data_format)
    return keras.ops.convert_to_numpy(_channels_last(layer, found)).astype("float64").reshape(-1, size)


def _channels_last(layer: Any, value: Any) -> Any:
    return keras.ops.moveaxis(value, 1, -1) if getattr(layer, "data_format", None) == "channels_first" else value


@contextlib.contextmanager
def _linear(layer: Any) -> Iterator[Any]:
    """Inside, the layer has no activation."""
    before = layer.activation
    layer.activation = None
    try:
        yield layer
    finally:
        layer.activation = before
