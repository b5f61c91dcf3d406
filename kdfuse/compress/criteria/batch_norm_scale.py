"""BatchNorm scale: units by what their normalization multiplies them with."""

import keras
import numpy as np

from kdfuse.compress.criteria.units import Material, UnitCriterion, combined
from kdfuse.settings import settings


@settings
class BatchNormScale(UnitCriterion):
    """`|gamma|` of the BatchNorm layers behind a unit, as it is, so that layers can be compared.

    Made for models that were trained with an L1 penalty on gamma. Units without BatchNorm have no score and stay.

    Liu et al. 2017, Learning Efficient Convolutional Networks through Network Slimming, arXiv 1708.06519.
    """

    def scores(self, material: Material) -> np.ndarray:
        pieces = []
        for place, member in enumerate(material.channels.members.values()):
            if isinstance(member.layer, keras.layers.BatchNormalization) and member.layer.gamma is not None:
                gamma = keras.ops.convert_to_numpy(member.layer.gamma)
                pieces.append(((place, "in"), member.slots["in"], np.abs(gamma)))
        if not pieces:
            raise ValueError(
                "`criterion`: BatchNormScale needs BatchNormalization layers with `scale=True`. The model has none. Give another "
                "criterion, such as kdfuse.L2()."
            )
        return combined(material.channels, pieces, normalize=False)
