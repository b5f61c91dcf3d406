"""Multi-layer perceptron."""

from typing import Any

import keras

from kdfuse.models.activations import Activation
from kdfuse.models.blocks.dense import dense_block
from kdfuse.models.blocks.pieces import Pieces
from kdfuse.models.builder import builder
from kdfuse.models.checks import depth, flag, number, per_layer, positive, rate
from kdfuse.models.heads import finish
from kdfuse.models.inputs import make_inputs


@builder
def mlp(
    data: Any,
    *,
    units: int | tuple[int, ...] | None = None,
    layers: int | None = None,
    activation: str = "relu",
    negative_slope: float | None = None,
    threshold: float = 0.0,
    max_value: float | None = None,
    dropout: float | tuple[float, ...] = 0.0,
    input_dropout: float = 0.0,
    batch_norm: bool = False,
    skip: bool = False,
    max_norm: float | None = None,
    kernel_initializer: str = "auto",
    head: str | tuple[str, ...] = "auto",
    seed: int = 0,
    name: str | None = None,
) -> keras.Model:
    """A multi-layer perceptron for `data`.

    Inputs with several axes are flattened; several inputs are flattened and joined; several outputs get one head each. It is made
    of plain Keras layers, so that its file loads without kdfuse.

    Args:
        data: says `input_shape`, `task` and `classes`, as `kdfuse.Data` does.
        units: widths of the hidden layers, or one width for all of them; 128 if not given. `()` for a linear model.
        layers: number of hidden layers: 1 if not given and `units` is one width, 2 if neither is given; else as many as `units` has.
        activation: of the hidden layers: relu, leaky_relu, prelu, elu, selu, gelu, silu (swish), mish, softplus, softsign, sigmoid,
            tanh or linear.
        negative_slope: slope of relu (0 if not given) or leaky_relu (0.2) below zero; where prelu (0.25) starts. At least 0.
        threshold: below it relu is `negative_slope * (x - threshold)`. At least 0.
        max_value: the limit of relu; `None` for none. Above `threshold`.
        dropout: share of each hidden layer's outputs dropped in training, or one share for each layer. From 0 to below 1.
        input_dropout: share of the inputs dropped in training.
        batch_norm: batch normalization between each dense layer and its activation, in place of the dense layer's bias.
        skip: adds each hidden layer's input to its activated output; where the widths differ (so mostly in the first layer)
            through a linear projection without bias, which has weights of its own.
        max_norm: limit of the L2 norm of the weights into each hidden unit, held after every step. Above 0; `None` for none.
        kernel_initializer: of the hidden layers. "auto": he_normal for the relu family, lecun_normal for selu, glorot_uniform for
            sigmoid, tanh, softsign and linear. The head's is glorot_uniform.
        head: "auto" (logits for classification, sigmoid for binary and multilabel, linear for regression), "logits", "softmax",
            "sigmoid" or "regression", or a tuple with one for each output.
        seed: of the weights and of dropout. The same seed gives the same weights, in any process.
        name: of the model; "mlp" if not given.

    Raises:
        ValueError: a setting out of range, settings that do not fit each other, or data that is not for this model.
        TypeError: an unknown setting; the message names the near ones.

    Reference: dropout and the weight limit, Srivastava et al. 2014 (JMLR 15); skips, He et al. 2016 (arXiv 1512.03385).
    """
    count = depth("layers", layers, 2 if units is None else 1, units=units)
    units = 128 if units is None else units
    widths = per_layer("units", units, count, positive)
    rates = per_layer("dropout", dropout, count, rate)
    limit = None if max_norm is None else number("max_norm", max_norm, above=True)
    batch_norm, skip = flag("batch_norm", batch_norm), flag("skip", skip)
    pieces = Pieces(Activation(activation, negative_slope, threshold, max_value), kernel_initializer, seed)
    inputs, x = _flat(data.input_shape)
    x = pieces.dropout(x, rate("input_dropout", input_dropout), "input_dropout")
    for index, (width, share) in enumerate(zip(widths, rates, strict=True), start=1):
        x = dense_block(x, width, index, pieces=pieces, dropout=share, batch_norm=batch_norm, skip=skip, max_norm=limit)
    return finish(inputs, x, data, head=head, pieces=pieces, name=name or "mlp")


def _flat(input_shape: Any) -> tuple[Any, Any]:
    inputs, tensors = make_inputs(input_shape)
    flat = []
    for name, x in tensors.items():
        shape = tuple(x.shape[1:])
        if None in shape:
            raise ValueError(
                f"`data`: expected inputs of a fixed size for mlp. Received: {shape} for {name!r}. Pad the data to one size, or use "
                f"kdfuse.models.convnet with global_pooling='average'."
            )
        if len(shape) != 1:
            suffix = f"_{name}" if len(tensors) > 1 else ""
            x = keras.layers.Flatten(name=f"flatten{suffix}", data_format="channels_last")(x)
        flat.append(x)
    return inputs, flat[0] if len(flat) == 1 else keras.layers.Concatenate(name="concatenate")(flat)
