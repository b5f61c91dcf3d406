"""Run a Keras 3 graph over tf_keras inputs, each operation exchanged for its twin."""

import re
from collections.abc import Iterable
from typing import Any

import keras

from kdfuse.bridge.families import AS_THEY_ARE
from kdfuse.bridge.imports import guests
from kdfuse.bridge.opaque import opaque
from kdfuse.bridge.translate import NoTwin, copy_weights, keras_own, translate
from kdfuse.graph.copy import is_functional, is_sequential

Pair = tuple[Any, Any]


class Replay:
    """Builds a tf_keras model from a functional graph; nested models become part of the one graph.

    Args:
        opaque: paths or names of layers that are run as they are; `"auto"` for every layer that has no twin.

    Attributes:
        pairs: Keras 3 variable and tf.Variable, each pair once.
        opaque_layers: paths of the layers that are run as they are although they hold weights or are named in `opaque`.
        made: the twins by the paths of the layers.
        notes: sentences a reader should know.
    """

    def __init__(self, opaque: Iterable[str] | str) -> None:
        self.auto = opaque == "auto"
        self.named = () if isinstance(opaque, str) else tuple(opaque)
        self.pairs: list[Pair] = []
        self.opaque_layers: list[str] = []
        self.made: dict[str, tuple[Any, ...]] = {}
        self.notes: list[str] = []
        self._twins: dict[int, tuple[list[Any], Any]] = {}
        self._names: set[str] = set()
        self._asked: set[str] = set()

    def run(self, model: Any) -> Any:
        """The tf_keras model of a functional or sequential model."""
        tf_keras, graph = guests().tf_keras, graph_of(model)
        inputs = [self._input(tensor) for tensor in graph.inputs]
        outputs = self._graph(graph, inputs, "")
        known = {id(tensor) for tensor in inputs}
        outputs = [tf_keras.layers.Identity(name=self._name("output"))(one) if id(one) in known else one for one in outputs]
        unused = [name for name in self.named if name not in self._asked]
        if unused:
            raise ValueError(f"`opaque`: expected names of layers. Received: {unused}. The model has: {sorted(self.made)}.")
        return tf_keras.Model(inputs, outputs, name=self._name(model.name))

    def _input(self, tensor: Any) -> Any:
        if tensor.sparse or getattr(tensor, "ragged", False):
            raise ValueError(f"`model`: its input {tensor.name!r} is sparse or ragged, which TFMOT does not take. Make it dense.")
        shape = tuple(tensor.shape)
        return guests().tf_keras.Input(shape[1:], batch_size=shape[0], dtype=tensor.dtype, name=self._name(tensor.name))

    def _graph(self, graph: Any, inputs: list[Any], path: str) -> list[Any]:
        values = {id(tensor): value for tensor, value in zip(graph.inputs, inputs, strict=True)}
        for node in _needed(graph):
            args, kwargs = _arguments(node)
            args, kwargs = keras.tree.map_structure(lambda value: values[id(value)] if _symbolic(value) else value, (args, kwargs))
            outputs = self._call(node.operation, args, kwargs, path)
            values.update({id(tensor): value for tensor, value in zip(node.outputs, outputs, strict=True)})
        return [values[id(tensor)] for tensor in graph.outputs]

    def _call(self, operation: Any, args: Any, kwargs: dict[str, Any], path: str) -> list[Any]:
        where = f"{path}{operation.name}"
        asked = where in self.named or operation.name in self.named
        if asked:
            self._asked |= {where, operation.name}
        if not asked and (is_functional(operation) or is_sequential(operation)):
            return self._graph(graph_of(operation), keras.tree.flatten((args, kwargs)), f"{where}/")
        if not isinstance(operation, keras.Layer):
            made = None if asked else _merge(operation, args, kwargs, self._name)
            return [made] if made is not None else self._opaque(operation, args, kwargs, where)
        if not asked and type(operation).__name__ not in AS_THEY_ARE:
            try:
                return keras.tree.flatten(self._translated(operation, args, kwargs, where))
            except NoTwin as error:
                plain = keras_own(operation) and not operation.weights  # nothing is lost by running it as it is
                if not self.auto and not plain:
                    raise ValueError(refusal(where, operation, str(error))) from error
                if not plain:
                    self.notes.append(f"{where!r} ({type(operation).__name__}) {error}: it runs as it is, in float.")
        if asked or (operation.weights and type(operation).__name__ not in AS_THEY_ARE):
            self.opaque_layers.append(where)
        return self._opaque(operation, args, kwargs, where)

    def _translated(self, layer: keras.Layer, args: Any, kwargs: dict[str, Any], where: str) -> Any:
        if isinstance(layer, keras.layers.MultiHeadAttention):
            kwargs = self._one_mask(kwargs, where)
        if id(layer) not in self._twins:
            _check_dtype(layer, where)
            name = self._name(where)
            try:
                twins, after = translate(layer, name)
                outputs = _in_turn(twins, args, kwargs)
                pairs = copy_weights(layer, twins)
            except NoTwin:
                self._names.discard(name)
                raise
            for twin in twins:
                twin.trainable = layer.trainable
            self.pairs += pairs
            self._twins[id(layer)] = (twins, after)
            self.made[where] = tuple(twins)
            if layer.activity_regularizer is not None:
                self.notes.append(f"{where!r}: its activity regularizer does not count on the bridge.")
        else:
            twins, after = self._twins[id(layer)]
            outputs = _in_turn(twins, args, kwargs)
        if after is None:
            return outputs
        return self._opaque(_Function(after), (outputs,), {}, f"{where}_{getattr(after, '__name__', 'activation')}")[0]

    def _one_mask(self, kwargs: dict[str, Any], where: str) -> dict[str, Any]:
        """tf_keras's attention takes one mask `[batch, queries, values]` in the place of one for each of its inputs."""
        kinds = [name for name in ("query_mask", "value_mask", "key_mask", "attention_mask") if kwargs.get(name) is not None]
        if kinds in ([], ["attention_mask"]):
            return kwargs
        rest = {name: value for name, value in kwargs.items() if not name.endswith("_mask") or name == "use_causal_mask"}
        joined = _Function(lambda *masks: _joined_mask(kinds, masks))
        return {**rest, "attention_mask": self._opaque(joined, [kwargs[name] for name in kinds], {}, f"{where}_mask")[0]}

    def _opaque(self, operation: Any, args: Any, kwargs: dict[str, Any], where: str) -> list[Any]:
        layer, tensors = opaque(operation, args, kwargs, _is_tensor, self._name(where))
        outputs = layer(tensors if len(tensors) > 1 else tensors[0])
        if isinstance(operation, keras.Layer):
            known = {id(weight) for weight, _ in self.pairs}
            self.pairs += [(weight, weight.value) for weight in operation.weights if id(weight) not in known]
            layer.trainable = operation.trainable
            self.made.setdefault(where, (layer,))
        return list(keras.tree.flatten(outputs))

    def _name(self, wanted: str) -> str:
        """A name that tf_keras takes and that no other layer has."""
        plain = re.sub(r"[^A-Za-z0-9_.-]", "_", wanted)
        plain = plain if re.match(r"[A-Za-z0-9.]", plain) else f"layer{plain}"
        name, count = plain, 1
        while name in self._names:
            name, count = f"{plain}_{count}", count + 1
        self._names.add(name)
        return name


def _joined_mask(kinds: list[str], masks: Any) -> Any:
    joined: Any = True
    for kind, mask in zip(kinds, masks, strict=True):
        axes = {"query_mask": -1, "attention_mask": None}.get(kind, -2)
        mask = keras.ops.cast(mask, "bool")
        joined = keras.ops.logical_and(joined, mask if axes is None else keras.ops.expand_dims(mask, axes))
    return joined


def _in_turn(twins: list[Any], args: Any, kwargs: dict[str, Any]) -> Any:
    outputs = twins[0](*args, **kwargs)
    for twin in twins[1:]:
        outputs = twin(outputs)
    return outputs


class _Function:
    """A function in the place of an operation."""

    def __init__(self, function: Any) -> None:
        self.call = function


def graph_of(model: Any) -> Any:
    """The functional graph that calling `model` runs.

    Raises:
        ValueError: there is none.
    """
    if is_functional(model):
        return model
    if is_sequential(model) and model._functional is not None:
        return model._functional
    if is_sequential(model):
        raise ValueError(f"`model`: {model.name!r} is not built. Begin it with keras.Input(shape), or call it on data once.")
    raise ValueError(refusal(model.name, model, "is a subclassed model without a graph of layers"))


def refusal(where: str, layer: Any, why: str) -> str:
    """What to say of a layer that cannot cross the bridge: which, why, and the ways on."""
    settings = {key: value for key, value in _config(layer).items() if key not in ("name", "dtype", "trainable") and value is not None}
    shown = ", ".join(f"{key}={value!r}" for key, value in list(settings.items())[:6] if isinstance(value, bool | int | float | str))
    return (
        f"`model`: {where!r} of class {type(layer).__name__}({shown}) {why}. Ways on: opaque=({where!r},) or opaque='auto' runs a layer "
        "as it is, in float; Prune and Shrink work on Keras 3 models without the bridge; Quantize quantizes after training."
    )


def _config(layer: Any) -> dict[str, Any]:
    if not keras_own(layer) or isinstance(layer, keras.Model):
        return {}
    return dict(layer.get_config())


def _needed(graph: Any) -> list[Any]:
    """The nodes that the outputs depend on, in the order of a run, without those that only make an implicit mask."""
    nodes = [node for depth in sorted(graph._nodes_by_depth, reverse=True) for node in graph._nodes_by_depth[depth]]
    wanted = {id(tensor) for tensor in graph.outputs}
    found = []
    for node in reversed(nodes):
        if node.is_input or not any(id(tensor) in wanted for tensor in node.outputs):
            continue
        wanted |= {id(value) for value in keras.tree.flatten(_arguments(node)) if _symbolic(value)}
        found.append(node)
    return found[::-1]


def _arguments(node: Any) -> tuple[Any, dict[str, Any]]:
    """A node's arguments without what tf_keras finds by itself: whether it trains, and masks that travel with a tensor.

    `training` must go, or dropout freezes as it was when the graph was built. A mask that the user gave stays.
    """
    args, kwargs = node.arguments.args, dict(node.arguments.kwargs)
    if isinstance(node.operation, keras.Layer):
        kwargs.pop("training", None)
        travelling = [getattr(value, "_keras_mask", None) for value in keras.tree.flatten((args, kwargs)) if _symbolic(value)]
        for key in [key for key in kwargs if key == "mask" or key.endswith("_mask")]:
            flat = keras.tree.flatten(kwargs[key])
            if all(value is None or any(value is mask for mask in travelling) for value in flat):
                del kwargs[key]
    return args, kwargs


def _symbolic(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)


def _is_tensor(value: Any) -> bool:
    return bool(guests().tf_keras.backend.is_keras_tensor(value)) if hasattr(value, "shape") and hasattr(value, "dtype") else False


def _check_dtype(layer: keras.Layer, where: str) -> None:
    if layer.compute_dtype != "float32" and "int" not in layer.compute_dtype:
        raise ValueError(
            f"`model`: {where!r} computes in {layer.compute_dtype}; on the bridge all is float32. Build the model in float32, or set "
            "the dtype_policy of its layers to 'float32'."
        )


def _merge(operation: Any, args: Any, kwargs: dict[str, Any], name: Any) -> Any:
    """The sum, product ... of tensors of equal shape as a layer, which TFMOT can quantize; None for any other operation."""
    layers, kind, flat = guests().tf_keras.layers, type(operation).__name__, list(keras.tree.flatten((args, kwargs)))
    alike = (
        len(flat) == 2 and all(map(_is_tensor, flat)) and tuple(flat[0].shape) == tuple(flat[1].shape) and flat[0].dtype == flat[1].dtype
    )
    if kind in ("Add", "Subtract", "Multiply", "Maximum", "Minimum") and alike:
        return getattr(layers, kind)(name=name(operation.name))(flat)
    if kind == "Concatenate" and len(flat) > 1 and all(map(_is_tensor, flat)):
        return layers.Concatenate(axis=operation.axis, name=name(operation.name))(flat)
    return None
