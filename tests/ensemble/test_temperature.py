"""A layer that divides logits."""

import numpy as np
import pytest

from kdfuse.ensemble.temperature import Temperature

Z = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")


def test_probabilities_of_divided_logits():
    grown = np.exp(Z / 2)
    np.testing.assert_allclose(Temperature(2.0)(Z), grown / grown.sum(-1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(Temperature(2.0, "sigmoid")(Z), 1 / (1 + np.exp(-Z / 2)), rtol=1e-5)
    assert Temperature.from_config(Temperature(3.0, "sigmoid").get_config()).get_config()["temperature"] == 3.0
    with pytest.raises(ValueError, match="head"):
        Temperature(1.0, "regression")
