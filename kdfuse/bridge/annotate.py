"""Which layers of a tf_keras model are quantized in training, and how: what TFMOT knows, and what it must be told."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from kdfuse.bridge.configs import kernel_config, nothing_config, output_config, registry
from kdfuse.bridge.families import RANDOM
from kdfuse.bridge.imports import guests
from kdfuse.bridge.opaque import opaque_class

# Layers whose output alone is quantized: LiteRT has an int8 form of them, and TFMOT's own table leaves them out.
OUTPUT_ONLY = (
    "BatchNormalization", "LayerNormalization", "Rescaling", "Multiply", "Subtract", "Average", "Maximum", "Minimum", "ELU", "PReLU",
    "MaxPooling1D", "RepeatVector", "UpSampling1D",
)  # fmt: skip
# Operations of Keras 3, run as they are, that LiteRT has in int8.
OPERATIONS = (
    "Add", "Subtract", "Multiply", "Maximum", "Minimum", "Relu", "Relu6", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish", "HardSilu",
    "HardSigmoid", "Gelu", "Silu", "Elu", "Mean", "Concatenate", "Pad", "Clip", "Normalization", "Activation", "Function",
)  # fmt: skip
# They hand on the numbers they get: what comes in quantized goes out so.
HAND_ON = (*RANDOM, "Identity", "InputLayer", "ActivityRegularization", "Masking")
# What LiteRT makes one operation of with a BatchNorm after it; of a 1D convolution it does not, for a reshape stands between. A Dense
# kernel has one scale for all units: with a BatchNorm in it, it would be written in float.
LINEAR = ("Conv2D", "DepthwiseConv2D")
# Whose clusters TFMOT can keep.
CLUSTERED = ("Conv1D", "Conv2D", "Dense")
KNOWN_ACTIVATIONS = ("relu", "swish", "linear", "softmax", "sigmoid", "tanh")


class Kept(NamedTuple):
    """What a layer's kernel has that quantization must keep.

    Attributes:
        clusters: it has few values, which are to stay shared.
        sparsity: some of its values are zeros, which are to stay.
    """

    clusters: bool = False
    sparsity: bool = False


def annotate(model: Any, kept: Mapping[str, Kept], skip: frozenset[str] = frozenset()) -> tuple[Any, dict[str, str]]:
    """A tf_keras model with each layer that can be quantized annotated.

    Args:
        model: from `to_tf_keras`. Its layers go into the new model: it is not to be used afterwards.
        kept: by layer name, what its kernel has to keep.
        skip: names of layers that stay in float.

    Returns:
        The annotated model, and the layers that stay in float, by name with their class.
    """
    tf_keras, tfmot = guests()
    left: dict[str, str] = {}

    def wrap(layer: Any) -> Any:
        config = False if layer.name in skip else _config(layer, kept)
        if config is False:
            if kind_of(layer) not in HAND_ON:
                left[layer.name] = kind_of(layer)
            return layer
        return tfmot.quantization.keras.quantize_annotate_layer(layer, config)

    return tf_keras.models.clone_model(model, clone_function=wrap), left


def kind_of(layer: Any) -> str:
    """The class of a layer; of an opaque one that of what it runs."""
    if type(layer) is opaque_class():
        return type(layer.held.operation).__name__.lstrip("_")
    return type(layer).__name__


def _config(layer: Any, kept: Mapping[str, Kept]) -> Any:
    """A QuantizeConfig, None for TFMOT's own choice, False for a layer that stays in float."""
    kind, own, is_opaque = kind_of(layer), kept.get(layer.name, Kept()), isinstance(layer, opaque_class())
    output, nothing = output_config(), nothing_config()
    if is_opaque:
        return output() if kind in OPERATIONS and not layer.trainable_weights and _one_float(layer) else False
    if kind == "Conv1D" or (kind in CLUSTERED and own.clusters):
        return kernel_config()("kernel", kind == "Conv2D", own.clusters, own.clusters and own.sparsity, not _joined(layer))
    if kind == "BatchNormalization":
        before, after = _before(layer), _after(layer)
        if before is None or len(before._outbound_nodes) > 1 or kind_of(before) not in LINEAR or _activation(before) != "linear":
            return output()
        if not kept.get(before.name, Kept()).clusters:
            return None
        return nothing() if after is not None and _is_relu(after) else output()
    if kind == "Activation":
        return None if _activation(layer) in KNOWN_ACTIVATIONS else output()
    if kind in OUTPUT_ONLY:
        return output()
    return None if registry().supports(layer) else False


def _joined(layer: Any) -> bool:
    """Whether LiteRT makes one operation of this layer and the one after it, so that nothing is rounded between."""
    after = _after(layer)
    if after is None or _activation(layer) != "linear":
        return False
    return _is_relu(after) or (kind_of(after) == "BatchNormalization" and kind_of(layer) in LINEAR)


def _before(layer: Any) -> Any:
    """The one layer that a layer reads, None where there are more, or where it is called more than once."""
    found = [one for node in layer._inbound_nodes for one in _flat(node.inbound_layers)]
    return found[0] if len(found) == 1 else None


def _after(layer: Any) -> Any:
    """The one layer that reads a layer, None where there are more or none."""
    return layer._outbound_nodes[0].outbound_layer if len(layer._outbound_nodes) == 1 else None


def _flat(layers: Any) -> list[Any]:
    return list(layers) if isinstance(layers, list | tuple) else [layers]


def _activation(layer: Any) -> str:
    return str(getattr(getattr(layer, "activation", None), "__name__", "linear"))


def _is_relu(layer: Any) -> bool:
    return kind_of(layer) == "ReLU" or (kind_of(layer) == "Activation" and _activation(layer) == "relu")


def _one_float(layer: Any) -> bool:
    output = layer.output if len(layer._inbound_nodes) == 1 else None
    return output is not None and hasattr(output, "dtype") and output.dtype.is_floating
