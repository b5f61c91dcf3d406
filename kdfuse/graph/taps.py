"""Read what layers inside a model give, during an ordinary forward pass, without editing or rebuilding the model."""

import dataclasses
import functools
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import keras
import tensorflow as tf
from keras.src.backend import compute_output_spec

from kdfuse.graph.nodes import graph_of
from kdfuse.graph.trace import Call, layer_calls, watching
from kdfuse.settings import suggest

UNROLLED = re.compile(r"(^|/)loop_body(_\d+)?/")  # where TensorFlow traces the body of a vectorized loop, in the graph around it

UNCALLED = "was not called: is it used only in training? Call the model after `start()`, or name the layer around it or another one."
LOOPED = "runs inside a loop, whose tensors cannot be had outside. Name what holds it: the recurrent layer of a cell, TimeDistributed."

_Part = tuple[str, Any, tuple[Any, ...]]
_WATCHES: "dict[int, _Watch]" = {}
_LOCK = threading.Lock()


class Taps:
    """The values at named places of a model, as recorded in its last forward pass.

    Inside `with taps:` a forward pass between `start()` and `values()` is recorded, eager and while a `tf.function` or a step
    of Keras's `fit` is traced. Each thread, so each replica of a `tf.distribute` strategy, sees its own pass. A graph that
    was traced before the `with` runs no Python and reports nothing.

        with Taps(model, ["conv2", "backbone/stage1/add", None]) as taps:
            taps.start()
            outputs = model(x, training=True)
            conv2, add, before_head = taps.values()

    A name is that of a layer, or of a plain Keras operation in a functional graph; where it is not unique, a path through nested
    models and layers or the end of one. After it, `":k"` takes the k-th call of what is called several times in a pass (`":-1"`:
    the last), and `".input"` what goes in (the first tensor argument) instead of what comes out: `"dense:0"`, `"head.input"`. None:
    the input of the last layer behind the model's first output that has a kernel, weights of two or more axes (Dense, Conv).

    Args:
        model: a Functional, Sequential or subclassed model. Its layers' `call` is wrapped inside the `with` alone.
        names: the places.
        example: a batch of inputs. A model that is not built is built by it; for None, a subclassed model is called on it.

    Raises:
        ValueError: a name is unknown or ambiguous, or no gradient would flow through what it gives (`keras.RematScope`).
        RuntimeError: `start()` is called outside the `with`, or `values()` in a thread that has not called `start()` in it.
    """

    def __init__(self, model: keras.Model, names: Sequence[str | None], example: Any = None) -> None:
        if isinstance(names, str) or not all(isinstance(name, str | None) for name in names):
            raise ValueError(f"`names`: expected a list of layers' names, or None for the features before the head. Received: {names!r}.")
        if example is not None and not model.built:
            model(example, training=False)
        self.names = tuple(names)
        parts = list(_parts(model))
        self._taps = [_head(model, example, parts) if name is None else _find(model, name, parts) for name in self.names]
        self._layers = list({id(tap.layer): tap.layer for tap in self._taps}.values())
        self._entered = 0
        self._local = threading.local()

    def __enter__(self) -> Self:
        with _LOCK:
            self._entered += 1
            for layer in self._layers if self._entered == 1 else []:
                (_WATCHES.get(id(layer)) or _Watch(layer)).taps.append(self)
        return self

    def __exit__(self, *raised: object) -> None:
        with _LOCK:
            self._entered -= 1
            if self._entered == 0:
                self._local = threading.local()  # lets go of the tensors
                for layer in self._layers:
                    _WATCHES[id(layer)].leave(self)

    @tf.autograph.experimental.do_not_convert
    def start(self) -> None:
        """Forget what this thread recorded; called right before the forward pass, inside `with taps:`."""
        if not self._entered:
            raise RuntimeError("Taps record inside `with taps:` alone. Start the forward pass inside it.")
        self._local.calls = {}

    @tf.autograph.experimental.do_not_convert
    def values(self) -> list[Any]:
        """The tensor of each name, in order, as recorded by this thread since `start()`; a Keras mask it had is in `_keras_mask`.

        Raises:
            ValueError: a layer was not called, or several times and the name does not say which, or has no single tensor there
                or one of an inner graph (a loop).
        """
        calls = getattr(self._local, "calls", None)
        if calls is None:
            raise RuntimeError("Taps: call `start()` right before the forward pass, in the same thread and inside `with taps:`.")
        return [tap.value(calls.get(id(tap.layer), [])) for tap in self._taps]


def shapes(model: keras.Model, names: Sequence[str | None], example: Any) -> list[tuple[int, ...]]:
    """The shape of what each name gives when `model` is called on `example` in inference mode, batch axis included."""
    with Taps(model, names, example) as taps:
        taps.start()
        model(example, training=False)
        return [tuple(value.shape) for value in taps.values()]


@dataclasses.dataclass(frozen=True, eq=False)
class _Tap:
    path: str
    layer: Any
    above: tuple[Any, ...]
    index: int | None
    input: bool

    def __post_init__(self) -> None:
        for mode, holder in ((getattr(holder, "_remat_mode", None), holder.name) for holder in self.above):
            if mode and (mode.mode in ("full", "larger_than") or (mode.mode == "list_of_layers" and holder in mode.layer_names)):
                raise ValueError(
                    f"`names`: {self.path!r} lies inside {holder!r}, which keras.RematScope runs anew for the gradient, so none would "
                    f"flow through what is recorded. Name {holder!r}, or build it outside of the scope."
                )

    def value(self, calls: "list[tuple[_Seen, _Seen]]") -> Any:
        where = f"Taps: {self.path!r}"
        seen = [given if self.input else gave for given, gave in calls]
        own = [one for one in seen if not any(map(_thrown_away, one.tensors))]
        if not own or not all(_in_reach(tensor) for one in own for tensor in one.tensors):
            raise ValueError(f"{where} {LOOPED if own else UNCALLED}")
        index = 0 if self.index is None and len(own) == 1 else self.index
        if index is None or not -len(own) <= index < len(own):
            ways = [repr(f"{self.path}:{k}{'.input' if self.input else ''}") for k in range(len(own))]
            shown = " or ".join(ways if len(ways) < 5 else [ways[0], "...", ways[-1]])
            raise ValueError(f"{where} was called {len(own)} times; say which: {shown}. Received: call {self.index}.")
        tensors, mask = own[index].tensors, own[index].mask
        if len(tensors) != 1 or not keras.ops.is_tensor(tensors[0]):
            what = "takes" if self.input else "gives"
            raise ValueError(f"{where} {what} {len(tensors)} values, not one tensor. Name a layer before or after it that {what} one.")
        if mask is None or getattr(tensors[0], "_keras_mask", None) is not None:
            return tensors[0]
        twin = tf.identity(tensors[0])  # MultiHeadAttention takes the mask off what it is called on; the model's tensor stays so
        twin._keras_mask = mask
        return twin


def _parts(owner: Any, prefix: str = "", above: tuple[Any, ...] = ()) -> Iterator[_Part]:
    """Each layer and operation inside: its path, itself, and what holds it, outermost first."""
    above = (*above, owner)
    inside = owner._flatten_layers(include_self=False, recursive=False) if isinstance(owner, keras.Layer) else []
    plain = [operation for operation in getattr(owner, "_operations", None) or [] if not isinstance(operation, keras.Layer)]
    for part in [*inside, *plain]:
        if not isinstance(part, keras.layers.InputLayer) and not any(part is one for one in above):
            yield prefix + part.name, part, above
            yield from _parts(part, f"{prefix}{part.name}/", above)


def _find(model: keras.Model, name: str, parts: list[_Part]) -> _Tap:
    bare = name.removesuffix(".input")
    call = re.fullmatch(r"(.+):(-?\d+)", bare)
    # A layer may have a dot or a colon in its own name, so the longest reading comes first.
    readings: list[tuple[str, int | None, bool]] = [(name, None, False), (bare, None, bare != name)]
    readings += [(call[1], int(call[2]), bare != name)] if call else []
    for path, index, into in readings:
        found = [part for part in parts if part[0] == path] or [part for part in parts if part[0].endswith(f"/{path}")]
        if len({id(part) for _, part, _ in found}) > 1:
            ways = " or ".join(dict.fromkeys(repr(way) for way, _, _ in found))
            raise ValueError(f"`names`: {name!r} is ambiguous: {ways}. Give the whole path, or each layer a name of its own.")
        if found:
            return _Tap(*found[0], index, into)
    near = suggest(readings[-1][0], dict.fromkeys(known for way, part, _ in parts for known in (way, part.name)))
    unbuilt = "" if model.built else " The model is not built, so layers may be missing: call it once, or give `example`."
    raise ValueError(f"`names`: {model.name!r} has no layer {name!r}. {near}{unbuilt}")


def _head(model: keras.Model, example: Any, parts: list[_Part]) -> _Tap:
    """The features before the head."""
    *calls, root = _called(model, example)
    tensor, *others = keras.tree.flatten(root.outputs)
    # The innermost layer that gave this very tensor ended first.
    while (head := next((call for call in calls if call.outputs is tensor), None)) is not None and not _has_kernel(head):
        given = keras.tree.flatten(_given(head.args, head.kwargs))
        tensor = given[0] if len(given) == 1 and given[0] is not tensor else None
    if head is None and graph_of(model) is None and not others:
        # The plain operations of a `call` are not seen, so the way back is lost at the first of them.
        head = next((call for call in reversed(calls) if _has_kernel(call) and not call.layer._layers), None)
    if head is None:
        raise ValueError("`names`: None needs one last layer with a kernel (Dense, Conv) behind the first output. Name the layer instead.")
    raw = {id(tensor) for tensor in keras.tree.flatten(_given(root.args, root.kwargs))}
    before = [call for call in calls[: calls.index(head)] if _has_kernel(call) and not _within(call, head)]
    if not before or any(id(tensor) in raw for tensor in keras.tree.flatten(_given(head.args, head.kwargs))):
        raise ValueError(f"`names`: None: the last layer, {head.layer.name!r}, takes the model's own input. Name a layer.")
    return _Tap(*next(part for part in parts if part[1] is head.layer), None, True)


def _called(model: keras.Model, example: Any) -> list[Call]:
    """What one call of the model calls, itself last; in a graph that is thrown away where its inputs are known."""
    graph = graph_of(model)
    if graph is None:
        if example is None:
            raise ValueError(f"`names`: None cannot be told of {model.name!r}, which has no graph. Name a layer, or give `example`.")
        return layer_calls(model, example)[1]
    with watching(model) as calls:
        compute_output_spec(lambda inputs: model(inputs, training=False), graph.input)
    model._clear_losses()  # they belong to that graph
    return calls


def _has_kernel(call: Call) -> bool:
    return isinstance(call.layer, keras.Layer) and any(len(weight.shape) >= 2 for weight in call.layer.weights)


def _within(call: Call | None, holder: Call) -> bool:
    return call is not None and (call is holder or _within(call.parent, holder))


class _Seen:
    def __init__(self, tensors: list[Any]) -> None:
        self.tensors = tensors
        self.mask = getattr(tensors[0], "_keras_mask", None) if len(tensors) == 1 else None


class _Watch:
    """What stands in for some methods of one layer while any `Taps` read it; several share one, so they may end in any order."""

    def __init__(self, layer: Any) -> None:
        self.layer, self.taps = layer, list[Taps]()
        if getattr(layer, "_remat_mode", None) is None:
            method = "call" if getattr(layer, "quantization_mode", None) is None else "quantized_call"
            self.wrapped = {method: self._recording(getattr(layer, method))}
        else:  # what is recorded inside a call that is run anew would have no gradient
            make = layer.rematerialized_call
            self.wrapped = {"rematerialized_call": lambda call, *args, **kwargs: self._recording(make(call, *args, **kwargs))}
        if isinstance(layer, keras.Layer):
            self.wrapped["compute_mask"] = self._masking(layer.compute_mask)
        self.before = {name: vars(layer)[name] for name in self.wrapped if name in vars(layer)}
        vars(layer).update(self.wrapped)
        _WATCHES[id(layer)] = self

    def leave(self, taps: Taps) -> None:
        self.taps.remove(taps)
        if not self.taps:
            del _WATCHES[id(self.layer)]
            for name, function in self.wrapped.items():
                if vars(self.layer).get(name) is function:  # else another wrapped it since, and will put back this one, idle by then
                    del vars(self.layer)[name]
            vars(self.layer).update({name: call for name, call in self.before.items() if name not in vars(self.layer)})

    def _records(self) -> list[list[tuple[_Seen, _Seen]]]:
        threads = [vars(taps._local).get("calls") for taps in self.taps]
        return [calls.setdefault(id(self.layer), []) for calls in threads if calls is not None]

    def _recording(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            given = _Seen(next(iter(_given(args, kwargs)), []))
            outputs = function(*args, **kwargs)
            for record in self._records():
                record.append((given, _Seen(keras.tree.flatten(outputs))))
            return outputs

        return call

    def _masking(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def compute_mask(*args: Any, **kwargs: Any) -> Any:
            mask = function(*args, **kwargs)  # Keras asks for it after the call, where that has set none
            for _, gave in (record[-1] for record in self._records() if record):
                gave.mask = mask if gave.mask is None and keras.ops.is_tensor(mask) else gave.mask
            return mask

        return compute_mask


def _given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[list[Any]]:
    """The tensors in each argument that holds any."""
    arguments = [*args, *(value for name, value in kwargs.items() if not name.endswith("mask"))]
    return list(filter(None, ([leaf for leaf in keras.tree.flatten(value) if keras.ops.is_tensor(leaf)] for value in arguments)))


def _in_reach(tensor: Any) -> bool:
    """Whether a tensor may be used here: an eager one, or one of the present graph or a graph around it."""
    graph = getattr(tensor, "graph", None)  # an eager tensor raises AttributeError
    present = [] if tf.executing_eagerly() else _with_those_around(tf.compat.v1.get_default_graph())
    return graph is None or (graph in present and not UNROLLED.search(tensor.name))


def _thrown_away(tensor: Any) -> bool:
    """Whether a tensor comes from the graph in which Keras calls an unbuilt layer, to see the shapes it gives."""
    return any(getattr(graph, "name", "").startswith("scratch_graph") for graph in _with_those_around(getattr(tensor, "graph", None)))


def _with_those_around(graph: Any) -> list[Any]:
    return [] if graph is None else [graph, *_with_those_around(getattr(graph, "outer_graph", None))]
