"""Taylor: units by how much the loss would change without them, to first order."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdfuse.compress.calibration import calibration, tensors
from kdfuse.compress.criteria.units import Material, UnitCriterion, check_integers, combined
from kdfuse.graph.channels import rows
from kdfuse.settings import choose, settings

FORMS = ("gate", "weights")


@settings
class Taylor(UnitCriterion):
    """The square of the first-order change of the loss when a unit is removed, averaged over batches of calibration rows.

    With the gradient g of the batch's loss, over the incoming weights w of the unit (kernels and biases, and BatchNorm's scale and shift as
    layers of their own): `gate` is `(sum g w)^2`, which is that of a factor on the unit's output; `weights` is `sum (g w)^2`.

    Molchanov et al. 2019, Importance Estimation for Neural Network Pruning, arXiv 1906.10771, equations 8 to 11.

    Attributes:
        form: `gate` or `weights`.
        rows: calibration rows, at least 1.
        batch_size: rows of a batch.
        seed: of the draw of rows.
    """

    form: str = "gate"
    rows: int = 512
    batch_size: int = 32
    seed: int = 0

    needs_labels = True

    def __post_init__(self) -> None:
        choose("form", self.form, FORMS)
        check_integers(rows=self.rows, batch_size=self.batch_size, seed=self.seed)

    def scores(self, material: Material) -> np.ndarray:
        channels, found = material.channels, []
        for place, member in enumerate(channels.members.values()):
            for weight in member.weights:
                for axis, kind in weight.axes.items():
                    if kind.role in ("out", "own") and "moving" not in weight.variable.name:
                        found.append(((place, kind.slot), weight, axis))
        variables = list({id(weight.variable): weight.variable for _, weight, _ in found}.values())
        x, y, weights = (part if part is None else tensors(part) for part in material.data.train.head(2))
        material.model.compute_loss(x, y, material.model(x, training=False), weights)  # makes the states of losses, which no graph may
        step, count = _gradients(material.model, variables), 0
        sums: dict[tuple[int, str], np.ndarray] = {}
        for x, y, weights in calibration(material.data, self.rows, self.seed, self.batch_size):
            given = [tensors(part) if part is not None else None for part in (x, y, weights)]
            products = dict(zip(map(id, variables), step(*given), strict=True))
            batch: dict[tuple[int, str], np.ndarray] = {}
            for key, weight, axis in found:
                ids, values = rows(weight, axis, products[id(weight.variable)].numpy().astype("float64"))
                change = values.sum(axis=1) if self.form == "gate" else (values**2).sum(axis=1)
                np.add.at(batch.setdefault(key, np.zeros(len(channels))), channels.roots(ids), change)
            for key, change in batch.items():
                sums[key] = sums.get(key, 0.0) + (change**2 if self.form == "gate" else change)
            count += 1
        pieces = []
        for key, total in sums.items():
            here = np.unique(np.concatenate([channels.roots(weight.axes[axis].ids).ravel() for one, weight, axis in found if one == key]))
            pieces.append((key, here, total[here] / count))
        return combined(channels, pieces)


def _gradients(model: keras.Model, variables: list[Any]) -> Any:
    """A function from a batch to gradient times value of each variable."""

    def products(x: Any, y: Any, weights: Any) -> list[Any]:
        values = [variable.value for variable in variables]
        with tf.GradientTape() as tape:
            tape.watch(values)  # also those of frozen layers
            loss = model.compute_loss(x, y, model(x, training=False), weights)
        gradients = tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [tf.convert_to_tensor(gradient) * value for gradient, value in zip(gradients, values, strict=True)]

    return tf.function(products, reduce_retracing=True, autograph=False)
