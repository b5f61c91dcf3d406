"""One Keras 3 layer as its twin of tf_keras: the same settings and the same weights."""

from typing import Any

import keras

from kdfuse.bridge.families import ACTIVATIONS, IGNORED, INITIAL, INSIDE, TWINS
from kdfuse.bridge.imports import guests
from kdfuse.graph.copy import is_functional, is_sequential


class NoTwin(ValueError):
    """A layer has no twin in tf_keras; the message says why, as the end of a sentence about the layer."""


def translate(layer: keras.Layer, name: str) -> tuple[list[Any], Any]:
    """The twin of a layer, without its weights.

    Args:
        layer: a built layer; it is only read.
        name: of the twin.

    Returns:
        The tf_keras layers, to be called one after another, and the Keras 3 function that must be called on their output because
        TFMOT takes no such activation inside a layer (None where the twin does it).

    Raises:
        NoTwin: tf_keras has no such layer, or not with these settings.
    """
    layers, kind = guests().tf_keras.layers, type(layer).__name__
    if not keras_own(layer) or kind not in (*TWINS, "Bidirectional", "TimeDistributed"):
        raise NoTwin("is no layer that tf_keras has")
    if kind in ("Bidirectional", "TimeDistributed"):
        return [_wrapper(layer, kind, name)], None
    if getattr(layer, "quantization_mode", None) is not None or getattr(layer, "lora_enabled", False):
        raise NoTwin("is quantized in place or has LoRA weights, which tf_keras lacks")
    if getattr(layer, "stateful", False):
        raise NoTwin("is stateful, and its state would not travel")
    settings, after = _settings(layer, kind), None
    if isinstance(layer, keras.layers.RNN):
        settings.update({key: _inside(getattr(layer, key)) for key in ("activation", "recurrent_activation") if hasattr(layer, key)})
    elif hasattr(layer, "activation"):
        known = _activation_name(layer.activation)
        alone = kind == "Activation"
        if known is None and alone:
            raise NoTwin(f"has the activation {_called(layer.activation)}, which tf_keras lacks")
        settings["activation"] = known if alone or known in INSIDE else "linear"
        after = None if settings["activation"] == known else layer.activation
    if kind == "SeparableConv2D":
        return _split(settings, name), after
    return [getattr(layers, kind)(name=name, **settings)], after


def keras_own(layer: Any) -> bool:
    """Whether Keras made the class, and did not only the base of a user's class."""
    return type(layer).__module__.split(".")[0] == "keras"


def copy_weights(layer: keras.Layer, twins: list[Any]) -> list[tuple[Any, Any]]:
    """Copy a layer's weights to its built twins.

    Returns:
        The pairs of Keras 3 variable and tf.Variable.

    Raises:
        NoTwin: they have other shapes.
    """
    given, taken = layer.weights, [weight for twin in twins for weight in twin.weights]
    if [tuple(weight.shape) for weight in given] != [tuple(weight.shape) for weight in taken]:
        shapes = [[tuple(weight.shape) for weight in weights] for weights in (taken, given)]
        raise NoTwin(f"has other weights in tf_keras: {shapes[0]} instead of {shapes[1]}")
    for weight, other in zip(given, taken, strict=True):
        other.assign(keras.ops.convert_to_numpy(weight))
    return list(zip(given, taken, strict=True))


def _settings(layer: keras.Layer, kind: str) -> dict[str, Any]:
    names = dict(entry.partition("=")[::2] for entry in TWINS[kind].split())
    settings: dict[str, Any] = {}
    for key, value in layer.get_config().items():
        if key in names:
            settings[names[key] or key] = value
        elif not (key in IGNORED or key.endswith(INITIAL) or value in (None, False)):
            raise NoTwin(f"has `{key}={value!r}`, which tf_keras lacks")
    if not isinstance(layer, keras.layers.RNN):
        settings.pop("seed", None)
    if kind == "Reshape":
        # LiteRT takes a -1 for a size that is open, and then leaves a 1D convolution after it in float.
        shapes = {tuple(node.output_tensors[0].shape[1:]) for node in layer._inbound_nodes}
        if len(shapes) == 1 and None not in (shape := shapes.pop()):
            settings["target_shape"] = shape
    return settings


def _split(settings: dict[str, Any], name: str) -> list[Any]:
    """A separable convolution as the two that it is: TFMOT would do it too, under names of its own."""
    layers = guests().tf_keras.layers
    across = {key: settings.pop(key) for key in ("filters", "use_bias", "activation")}
    return [
        layers.DepthwiseConv2D(name=f"{name}_depthwise", use_bias=False, **settings),
        layers.Conv2D(kernel_size=1, data_format=settings["data_format"], name=f"{name}_pointwise", **across),
    ]


def _inside(function: Any) -> str:
    name = _activation_name(function)
    if name is None:
        raise NoTwin(f"has the activation {_called(function)}, which tf_keras lacks in a recurrent layer")
    return name


def _activation_name(function: Any) -> str | None:
    if function is None:
        return "linear"
    name = next((name for name in ACTIVATIONS if function is getattr(keras.activations, name)), None)
    return "swish" if name == "silu" else name


def _called(function: Any) -> str:
    return str(getattr(function, "__name__", function))


def _wrapper(layer: Any, kind: str, name: str) -> Any:
    layers = guests().tf_keras.layers
    if kind == "TimeDistributed":
        if is_functional(layer.layer) or is_sequential(layer.layer):
            raise NoTwin("holds a model, which tf_keras would count twice")
        return layers.TimeDistributed(_inner(layer.layer), name=name)
    return layers.Bidirectional(
        _inner(layer.forward_layer), merge_mode=layer.merge_mode, backward_layer=_inner(layer.backward_layer), name=name
    )


def _inner(layer: keras.Layer) -> Any:
    twins, after = translate(layer, layer.name)
    if after is not None or len(twins) > 1:
        raise NoTwin(f"holds {layer.name!r} ({type(layer).__name__}), which tf_keras has in parts only")
    return twins[0]
